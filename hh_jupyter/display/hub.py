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

import base64
import logging
import re
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from typing import Any, Final, Protocol

from hh_jupyter.display.format import NAME_LENGTH, clean, span_name
from hh_jupyter.display.media import Images
from hh_jupyter.display.view import COMMAND_LENGTH, CellView, error_tag, summarize_view
from hh_jupyter.records.tree import SpanNode

# A cell's view as the page takes it: a JSON header and one binary column per fact.
#
# Columns keep 10,000 spans under 500 kB on the socket, where JSON took 880. Names, kinds and models are sent once
# each.

UNKNOWN_TOKENS = 0xFFFFFFFF
ERROR_ROLES = ("", "uncaught", "caught", "propagated")
"""Bits 0 and 1 of the column `state`. Bit 2: the span runs; bit 3: all of it is on the critical path; bit 4: all of its
own time is."""

Columns = list[tuple[str, str, "array[Any]"]]
"""Name, type as the page names it (f8, f4, u8, u4, u2, u1: kind and bytes), items."""


class Words:
    """Texts that repeat, each sent once and named by its place."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, word: str) -> int:
        """Where the word is in `texts`."""
        return self._places.setdefault(word, len(self._places))

    @property
    def texts(self) -> list[str]:
        """The words in the order of their places."""
        return list(self._places)


def view_version(view: CellView) -> str:
    """Changes whenever the columns would: with the number of spans, what runs, and the end."""
    tree = view.tree
    running = sum(node.record.end_ns is None for node in tree.nodes)
    return f"{len(tree.nodes)}-{running}-{tree.end_ns}"


def view_header(view: CellView) -> dict[str, Any]:
    """What the summary bar, the notice and the first look need. Texts are those of the other displays."""
    summary = summarize_view(view)
    url = view.session_url if view.session_url and view.session_url.startswith("https://") else None
    deepest = view.tree.deepest_error
    return {
        "version": view_version(view),
        "label": view.label,
        "file": clean(view.file, COMMAND_LENGTH) if view.file is not None else None,
        "open": view.open,
        "errors_only": view.errors_only,
        **asdict(summary),
        "delivery_state": _delivery_state(view),
        "session": {"id": view.session_id, "name": view.session_name, "url": url} if view.session_id else None,
        "notice": asdict(view.notice) if view.notice else None,
        "can_send": view.notice is not None and view.notice.kind == "error" and view.export.destination is not None,
        "selected": f"{deepest.record.span_id:016x}" if deepest else None,
    }


def view_rows(view: CellView) -> tuple[dict[str, Any], list[bytes]]:
    """The spans, depth first: what describes the columns, and the columns' bytes.

    Times are milliseconds after the tree's start.
    """
    start_ns, nodes = view.tree.start_ns, view.tree.nodes
    names, kinds, models = Words(), Words(), Words()
    facts = [node.record.facts for node in nodes]
    columns: Columns = [
        ("id", "u8", array("Q", (node.record.span_id for node in nodes))),
        ("start", "f8", array("d", (_millis(node.start_ns - start_ns) for node in nodes))),
        ("duration", "f4", array("f", (_millis(node.end_ns - node.start_ns) for node in nodes))),
        ("depth", "u2", array("H", (min(node.depth, 0xFFFF) for node in nodes))),
        _places("name", [names.place(span_name(n.record.name)) for n in nodes]),
        _places("kind", [kinds.place(fact.kind) for fact in facts]),
        _places("model", [models.place(clean(fact.model or "", NAME_LENGTH)) for fact in facts]),
        ("tokens", "u4", array("I", (_tokens(node) for node in nodes))),
        ("first", "f4", array("f", (-1.0 if f.first_token_ns is None else _millis(f.first_token_ns) for f in facts))),
        ("state", "u1", array("B", (_state(node) for node in nodes))),
        # A leaf's own time is all of it, which needs no saying; so it mostly is with its part of the critical path.
        *_intervals("own", start_ns, (node.own if node.children else () for node in nodes)),
        *_intervals("critical", start_ns, (() if _is_told(node) else node.critical for node in nodes)),
    ]
    described = {
        "columns": [(name, kind) for name, kind, _ in columns],
        "names": names.texts,
        "kinds": kinds.texts,
        "models": models.texts,
        "tags": {str(index): tag for index, node in enumerate(nodes) if (tag := error_tag(node))},
    }
    return described, [_little_endian(items) for _, _, items in columns]


def _places(name: str, places: list[int]) -> tuple[str, str, array[Any]]:
    """Places of words in the narrowest type that holds them."""
    if max(places, default=0) < 0x100:
        return name, "u1", array("B", places)
    return (name, "u2", array("H", places)) if max(places) < 0x10000 else (name, "u4", array("I", places))


def _all_critical(node: SpanNode) -> bool:
    return node.critical == ((node.start_ns, node.end_ns),)


def _own_critical(node: SpanNode) -> bool:
    """The rule where one thing is done after the other."""
    return bool(node.children) and node.critical == node.own


def _is_told(node: SpanNode) -> bool:
    """A bit says where its part of the critical path is."""
    return _all_critical(node) or _own_critical(node)


def _intervals(name: str, start_ns: int, per_span: Iterable[tuple[tuple[int, int], ...]]) -> Columns:
    flat = [(index, start, end) for index, intervals in enumerate(per_span) for start, end in intervals]
    return [
        (f"{name}_span", "u4", array("I", (index for index, _, _ in flat))),
        (f"{name}_start", "f4", array("f", (_millis(start - start_ns) for _, start, _ in flat))),
        (f"{name}_end", "f4", array("f", (_millis(end - start_ns) for _, _, end in flat))),
    ]


def _little_endian(items: array[Any]) -> bytes:
    if sys.byteorder == "big":
        items.byteswap()
    return items.tobytes()


def _millis(nanoseconds: int) -> float:
    return nanoseconds / 1e6


def _tokens(node: SpanNode) -> int:
    return UNKNOWN_TOKENS if node.tokens is None else max(0, min(node.tokens, UNKNOWN_TOKENS - 1))


def _state(node: SpanNode) -> int:
    critical = _all_critical(node) << 3 | _own_critical(node) << 4
    return ERROR_ROLES.index(node.error) | (node.record.end_ns is None) << 2 | critical


def _delivery_state(view: CellView) -> str:
    """How the delivery word is shown: sent, sending, failed or local, which is for what is not sent from here."""
    export = view.export
    if export.destination is None or export.left_to_others:
        return "local"
    if export.sent >= export.made:
        return "sent"
    return "failed" if export.failing or export.parked or export.dropped else "sending"


# The front end as the two texts that anywidget takes: one ES module and one style sheet.

MODULES = (
    "dom",
    "rows",
    "waterfall",
    "clipboard",
    "content",
    "detail",
    "tree",
    "summary",
    "legend",
    "view",
    "running",
    "theme",
    "outputs",
    "pulse",
    "questions",
    "kernel",
    "hub",
)
"""Static modules in the order of their imports: each uses only those before it."""

_LOADER = """const packed = "{packed}";
async function unpack() {{
  const bytes = Uint8Array.from(atob(packed), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const url = URL.createObjectURL(new Blob([await new Response(stream).text()], {{ type: "text/javascript" }}));
  const module = await import(url);
  URL.revokeObjectURL(url);
  return module.default;
}}
const unpacked = unpack();
const later = (name) => (context) => {{
  let over = false;
  const started = unpacked.then((module) => (over ? undefined : module[name](context)));
  return async () => {{
    over = true;
    (await started)?.();
  }};
}};
export default {{ initialize: later("initialize"), render: later("render") }};
"""
_IMPORT = re.compile(r"^import \{[^}]*\} from \"\./\w+\.js\";\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)
_TYPE_COMMENT = re.compile(r"/\*\* @type [^\n]*?\*/ ")
_DOC_COMMENT = re.compile(r"^[ \t]*/\*\*.*?\*/\n", re.MULTILINE | re.DOTALL)
_LINE_COMMENT = re.compile(r"^[ \t]*//.*\n", re.MULTILINE)
_INDENT = re.compile(r"\n\s+")


@cache
def front_end_script() -> str:
    """One ES module from the static ones, without their comments and indentation.

    There is no build step: the modules run as they are in node and in a browser, and joined they may not share a
    top-level name. No string in them spans lines, so that taking the indentation away changes nothing.
    """
    return "\n".join(_bare(_read(f"{name}.js")) for name in MODULES)


@cache
def packed_front_end() -> str:
    """The same module, unpacked by the browser: a third of the size, since a kernel's socket does not compress.

    It is loaded from a blob, as anywidget itself loads what it is given. Nothing waits for that: anywidget gives up for
    good a model that has not started after 2 s, which are soon over in a page that draws 200 outputs [measured].
    """
    return _LOADER.format(packed=base64.b64encode(zlib.compress(front_end_script().encode(), 9)).decode())


@cache
def front_end_style() -> str:
    """The style sheet of the interactive view, without comments and spaces that mean nothing."""
    bare = re.sub(r"/\*.*?\*/", "", _read("spans.css"), flags=re.DOTALL)
    tight = re.sub(r"\s*([{};,])\s*", r"\1", re.sub(r"\s+", " ", bare)).strip()
    # A colon with a space behind it is one of a declaration, never one of a selector.
    return tight.replace(": ", ":").replace(";}", "}")


def _read(name: str) -> str:
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


def _bare(source: str) -> str:
    for pattern in (_TYPE_COMMENT, _DOC_COMMENT, _LINE_COMMENT, _IMPORT, _EXPORT):
        source = pattern.sub("", source)
    return _INDENT.sub("\n", source).strip() + "\n"


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
        header = view_header(view)
        buffers: list[bytes] = []
        if self._told.get(view.view_id) != header["version"]:
            described, buffers = view_rows(view)
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
        header = view_header(view)
        buffers: list[bytes] = []
        if have != header["version"]:
            described, buffers = view_rows(view)
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
        _esm = packed_front_end()
        _css = front_end_style()

    return HubModel()
