"""The hub: one widget model per kernel, never displayed, which makes static outputs interactive while the kernel lives.

Its front end (`static/hub.js`) finds the outputs in the page and asks; everything goes as custom messages:

    page -> kernel                                  kernel -> page
    {type: rows, view, have: version or null}       {type: rows, view, header or null} + columns, unless it has them
    {type: details, number, view, span}             {type: answer, number, value: details or null} + images
    {type: python, number, view, span}              {type: answer, number, value: code or null}
    {type: send | save, number, view}               {type: answer, number, value: text}
    {type: sight, visible}
    {type: deaf}
                                                    {type: changed, view}
                                                    {type: running, view, source, header} + columns, unless it has them
                                                    {type: ended, view}

`header: null` says that the view is not this kernel's: another one may know it. The page asks about each view at most
once at a time, and about a few in all. `deaf` says that the page never heard anything: it gets another model. Messages
arrive on the main thread when the kernel is idle, on a subshell's thread while a cell runs, there in an empty context.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from hh_jupyter.display import assets, columns
from hh_jupyter.display.media import Images

if TYPE_CHECKING:
    from hh_jupyter.display.view import CellView

logger = logging.getLogger(__name__)

MOST_REOPENED: Final = 5
"""Models made anew for a page that does not hear."""

Reply = tuple[dict[str, Any], list[bytes]]


class Source(Protocol):
    """What the hub answers from. All of it may be called on any thread."""

    def view_of(self, view_id: str) -> CellView | None:
        """The view with this id, or None when it is not known here."""

    def details(self, view_id: str, span_id: str, images: Images) -> dict[str, Any] | None:
        """JSON-safe details of a span, whose id is given in hexadecimal; None when they are no longer kept.

        `images` takes those that are drawn.
        """

    def python(self, view_id: str, span_id: str) -> str | None:
        """Code that gets the span; None when it is not known here."""

    def send(self) -> str:
        """Try to deliver what waits; one sentence about what happened."""

    def save(self, view_id: str) -> str:
        """Write the spans of a view to a file; one sentence about where they are."""


class Hub:
    """Answers the page.

    Attributes:
        seen: somebody looks at the page, as far as it has said.
        looks: how often it has said so; more than before is maybe a new page, that has no rows yet.
    """

    def __init__(self, source: Source) -> None:
        self.seen = True
        self.looks = 0
        self._source = source
        self._model: Any = None
        self._displayed = False
        self._reopened = 0
        self._told: dict[str, str] = {}

    def open(self, model: Any = None) -> None:
        """Create the model; its code goes to the page once. Does nothing when it is open.

        Args:
            model: one that is displayed and shows a single view, instead.

        Raises:
            ImportError: anywidget is not installed.
        """
        if self._model is None:
            self._displayed = model is not None
            self._model = model if self._displayed else _new_model()
            self._model.on_msg(self._receive)
            _let_page_choose_shell(self._model)

    def changed(self, view_id: str) -> None:
        """Tell the page that the view's rows or its delivery state changed; it asks if it shows them. Any thread."""
        if self._model is not None:
            send(self._model, {"type": "changed", "view": view_id})

    def running(self, view: CellView, source: str, elapsed_ms: float) -> None:
        """Tell the page what a cell that still runs has done so far. Any thread.

        Args:
            view: of the cell.
            source: its code, by which the page finds it.
            elapsed_ms: milliseconds since its first span started.
        """
        if self._model is None:
            return
        header = columns.header(view)
        buffers: list[bytes] = []
        if self._told.get(view.view_id) != header["version"]:
            described, buffers = columns.rows(view)
            header.update(described)
            self._told[view.view_id] = header["version"]
        header["elapsed_ms"] = elapsed_ms
        send(self._model, {"type": "running", "view": view.view_id, "source": source, "header": header}, buffers)

    def ended(self, view_id: str) -> None:
        """Tell the page that a cell has ended: its output takes over. Any thread."""
        if self._model is not None and self._told.pop(view_id, None) is not None:
            send(self._model, {"type": "ended", "view": view_id})

    def close(self) -> None:
        """Take the model away: the page shows the static outputs again."""
        model, self._model = self._model, None
        if model is not None:
            model.on_msg(self._receive, remove=True)
            # A widget's layout is a widget of its own, which closing the widget leaves behind.
            model.layout.close()
            model.close()

    def _receive(self, model: Any, content: Any, _buffers: Any) -> None:
        number = content.get("number") if isinstance(content, Mapping) else None
        try:
            answered = self.reply(content)
        except Exception:  # boundary
            # An error here would land as an error output in whichever cell runs now.
            logger.exception("the display could not be brought up to date")
            answered = {"type": "answer", "number": number, "value": None}, []
        if answered is not None:
            send(model, *answered)

    def reply(self, content: Mapping[str, Any]) -> Reply | None:
        """The answer to one message of the page: JSON-safe content and binary buffers; None if it wants none.

        Raises:
            KeyError: the message lacks a field.
            ValueError: it is of no known type.
        """
        kind, source = content["type"], self._source
        if kind == "rows":
            return self._reply_rows(str(content["view"]), content.get("have"))
        if kind == "details":
            images = Images()
            details = source.details(str(content["view"]), str(content["span"]), images)
            return _answer(content, details, images.taken)
        if kind == "python":
            return _answer(content, source.python(str(content["view"]), str(content["span"])))
        if kind == "send":
            return _answer(content, source.send())
        if kind == "save":
            return _answer(content, source.save(str(content["view"])))
        if kind == "sight":
            self.seen = bool(content["visible"])
            self.looks += 1
            self._told.clear()
            return None
        if kind == "deaf":
            self._reopen()
            return None
        raise ValueError(f"unknown message {kind!r}")

    def _reopen(self) -> None:
        """Make another model for a page that sends and hears nothing.

        anywidget delivers no message to a model whose start took more than 2 s, as it may in a busy page [measured].
        """
        if self._displayed or self._reopened == MOST_REOPENED:
            return
        self._reopened += 1
        self.close()
        self.open()

    def _reply_rows(self, view_id: str, have: str | None) -> Reply:
        view = self._source.view_of(view_id)
        if view is None or not view.tree.nodes:
            return {"type": "rows", "view": view_id, "header": None}, []
        header = columns.header(view)
        buffers: list[bytes] = []
        if have != header["version"]:
            described, buffers = columns.rows(view)
            header.update(described)
        return {"type": "rows", "view": view_id, "header": header}, buffers


def send(model: Any, content: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
    """Send a custom message to the page.

    ipykernel 7.4 routes what comes next from the page to the shell that spoke last, and the page's own wish is lost: a
    question would wait for the cell that runs [measured]. Where there is no such note the page's wish counts.
    """
    model.send(content, list(buffers))
    _let_page_choose_shell(model)


def _let_page_choose_shell(model: Any) -> None:
    getattr(model.comm, "__dict__", {}).pop("_reply_subshell_id", None)


def _answer(content: Mapping[str, Any], value: Any, buffers: Sequence[bytes] = ()) -> Reply:
    return {"type": "answer", "number": content["number"], "value": value}, list(buffers)


def _new_model() -> Any:
    """An anywidget model with the front end in it."""
    import anywidget  # Late: ipywidgets and anywidget take 0.3 s to import.

    class HubModel(anywidget.AnyWidget):
        _esm = assets.packed_script()
        _css = assets.style()

    return HubModel()
