"""The hub: one widget model per kernel, never displayed, which makes static outputs interactive while the kernel lives.

Its front end (`static/hub.js`) finds the outputs in the page and asks; everything goes as custom messages:

    page -> kernel                                  kernel -> page
    {type: rows, view, have: version or null}       {type: rows, view, header or null} + columns, unless it has them
    {type: details, number, view, span}             {type: answer, number, value: details or null}
    {type: send, number, view}                      {type: answer, number, value: text}
                                                    {type: changed, view}

`header: null` says that the view is not this kernel's: another one may know it. Messages arrive on the main thread when
the kernel is idle, on a subshell's thread while a cell runs, there with an empty context.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hh_jupyter.display import assets, columns

if TYPE_CHECKING:
    from hh_jupyter.display.view import CellView

logger = logging.getLogger(__name__)

Reply = tuple[dict[str, Any], list[bytes]]


class Hub:
    """Answers the page. All callables given to it may be called on any thread.

    Args:
        rows: the view with this id, or None when it is not known here.
        details: JSON-safe details of a span, by view id and span id in hexadecimal; None when they are no longer kept.
        send: tries to deliver what waits and says in one sentence what happened.
    """

    def __init__(
        self,
        rows: Callable[[str], CellView | None],
        details: Callable[[str, str], dict[str, Any] | None],
        send: Callable[[], str],
    ) -> None:
        self._rows = rows
        self._details = details
        self._send = send
        self._model: Any = None

    def open(self) -> None:
        """Create the model; its code goes to the page once. Does nothing when it is open.

        Raises:
            ImportError: anywidget is not installed.
        """
        if self._model is None:
            self._model = _new_model()
            self._model.on_msg(self._receive)

    def changed(self, view_id: str) -> None:
        """Tell the page that the view's rows or its delivery state changed; it asks if it shows them. Any thread."""
        if self._model is not None:
            self._model.send({"type": "changed", "view": view_id})

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
            reply, buffers = self.reply(content)
        except Exception:  # boundary
            # An error here would land as an error output in whichever cell runs now.
            logger.exception("the display could not be brought up to date")
            reply, buffers = {"type": "answer", "number": number, "value": None}, []
        model.send(reply, buffers)

    def reply(self, content: Mapping[str, Any]) -> Reply:
        """The answer to one message of the page: JSON-safe content and binary buffers.

        Raises:
            KeyError: the message lacks a field.
            ValueError: it is of no known type.
        """
        kind = content["type"]
        if kind == "rows":
            return self._reply_rows(str(content["view"]), content.get("have"))
        if kind == "details":
            return _answer(content, self._details(str(content["view"]), str(content["span"])))
        if kind == "send":
            return _answer(content, self._send())
        raise ValueError(f"unknown message {kind!r}")

    def _reply_rows(self, view_id: str, have: str | None) -> Reply:
        view = self._rows(view_id)
        if view is None or not view.tree.nodes:
            return {"type": "rows", "view": view_id, "header": None}, []
        header = columns.header(view)
        buffers: list[bytes] = []
        if have != header["version"]:
            described, buffers = columns.rows(view)
            header.update(described)
        return {"type": "rows", "view": view_id, "header": header}, buffers


def _answer(content: Mapping[str, Any], value: Any) -> Reply:
    return {"type": "answer", "number": content["number"], "value": value}, []


def _new_model() -> Any:
    """An anywidget model with the front end in it."""
    import anywidget  # Late: ipywidgets and anywidget take 0.3 s to import.

    class HubModel(anywidget.AnyWidget):
        _esm = assets.packed_script()
        _css = assets.style()

    return HubModel()
