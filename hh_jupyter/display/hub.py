"""The hub: one widget model per kernel, never displayed, which makes static outputs interactive while the kernel runs.

Its front end (`static/hub.js`) finds the outputs in the page and requests their data in custom messages:

    page -> kernel                                  kernel -> page
    {type: rows, view, have: version or null}       {type: rows, view, header or null} + columns, unless it has them
    {type: details, number, view, span}             {type: answer, number, value: details or null} + images
    {type: python, number, view, span}              {type: answer, number, value: code or null}
    {type: send | save, number, view}               {type: answer, number, value: text}
    {type: visibility, visible}
    {type: reopen}
                                                    {type: changed, view}
                                                    {type: running, view, source, header} + columns, unless it has them
                                                    {type: ended, view}

`header: null` means that this kernel does not know the view; another kernel may. The page has at most one open request
per view, and only a few in total. `reopen`: the page received no messages; create another model. Messages arrive on the
main thread if the kernel is idle, and while a cell runs on a subshell's thread, with an empty context.
"""

from __future__ import annotations

import base64
import json
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
from hh_jupyter.display.media import ImageCollector
from hh_jupyter.display.view import COMMAND_LENGTH, CellView, error_lines, error_tag, summarize_view
from hh_jupyter.records.tree import SpanNode

# Encoding of a view for the page: a JSON header, and one binary column per fact.
#
# 10,000 spans take less than 500 kB as columns and 880 kB as JSON. Names, kinds and models are sent once each.

UNKNOWN_TOKENS = 0xFFFFFFFF
ERROR_ROLES = ("", "uncaught", "caught", "propagated", "cancelled")
"""Bits 0, 1 and 5 of the column `state`. Bit 2: the span is running; bit 3: the whole span is on the critical path; bit
4: its own time is on the critical path; bit 6: the parent failed with the span's error; bit 7: the span describes the
same model call as a span above."""

Columns = list[tuple[str, str, "array[Any]"]]
"""Name, type (f8, f4, u8, u4, u2, u1: kind and bytes), items."""


class StringTable:
    """Repeated strings: each is sent once and referred to by its index."""

    def __init__(self) -> None:
        self._indexes: dict[str, int] = {}

    def index(self, text: str) -> int:
        """Return the index of the string in `texts`, adding it if it is new."""
        return self._indexes.setdefault(text, len(self._indexes))

    @property
    def texts(self) -> list[str]:
        """The strings in the order of their indexes."""
        return list(self._indexes)


def view_version(view: CellView) -> str:
    """Return a version that changes whenever columns or details may: with it the page drops the details it has."""
    tree = view.tree
    running = sum(node.record.end_ns is None for node in tree.nodes)
    return f"{len(tree.nodes)}-{running}-{tree.end_ns}-{view.revision}{'r' if view.running else ''}"


def encode_header(view: CellView) -> dict[str, Any]:
    """Return the data of the summary bar and the notice, with the texts of the other displays."""
    summary = summarize_view(view)
    url = view.session_url if view.session_url and view.session_url.startswith("https://") else None
    return {
        "version": view_version(view),
        "label": view.label,
        "file": clean(view.file, COMMAND_LENGTH) if view.file is not None else None,
        "open": view.open,
        "errors_only": view.errors_only,
        **asdict(summary),
        "raised": _raised_outside(view),
        "delivery_state": _delivery_state(view),
        "session": {"id": view.session_id, "name": view.session_name, "url": url} if view.session_id else None,
        "notice": asdict(view.notice) if view.notice else None,
        "can_send": view.notice is not None and view.notice.kind == "error" and view.export.destination is not None,
    }


def _raised_outside(view: CellView) -> str:
    """Return the error to show first, with its causes, if it began outside of spans: no row shows it. Else empty."""
    if view.tree.failure is None or view.tree.failure.node is not None:
        return ""
    return ", caused by ".join(
        f"{error.what}{f' in {error.name}' if error.name else ''}{f' ({error.location})' if error.location else ''}"
        for error in error_lines(view)
    )


def encode_rows(view: CellView) -> tuple[dict[str, Any], list[bytes]]:
    """Encode the spans, depth first. Returns the description of the columns and the bytes of each column.

    Times are in milliseconds after the tree's start.
    """
    start_ns, nodes = view.tree.start_ns, view.tree.nodes
    names, kinds, models = StringTable(), StringTable(), StringTable()
    facts = [node.record.facts for node in nodes]
    columns: Columns = [
        ("id", "u8", array("Q", (node.record.span_id for node in nodes))),
        ("start", "f8", array("d", (_millis(node.start_ns - start_ns) for node in nodes))),
        ("duration", "f4", array("f", (_millis(node.end_ns - node.start_ns) for node in nodes))),
        ("depth", "u2", array("H", (min(node.depth, 0xFFFF) for node in nodes))),
        _index_column("name", [names.index(span_name(n.record.name)) for n in nodes]),
        _index_column("kind", [kinds.index(fact.kind) for fact in facts]),
        _index_column("model", [models.index(clean(fact.model or "", NAME_LENGTH)) for fact in facts]),
        ("tokens", "u4", array("I", (_tokens(node) for node in nodes))),
        ("first", "f4", array("f", (-1.0 if f.first_token_ns is None else _millis(f.first_token_ns) for f in facts))),
        ("state", "u1", array("B", (_state(node) for node in nodes))),
        # Left out: the own time of leaves, which is their whole duration, and critical parts that `state` encodes.
        *_intervals("own", start_ns, (node.own if node.children else () for node in nodes)),
        *_intervals("critical", start_ns, (() if _state_has_critical(node) else node.critical for node in nodes)),
    ]
    described = {
        "columns": [(name, kind) for name, kind, _ in columns],
        "names": names.texts,
        "kinds": kinds.texts,
        "models": models.texts,
        "tags": {str(index): tag for index, node in enumerate(nodes) if (tag := error_tag(node))},
    }
    return described, [_little_endian(items) for _, _, items in columns]


def _index_column(name: str, indexes: list[int]) -> tuple[str, str, array[Any]]:
    """Return indexes of strings in the narrowest type that can hold them."""
    if max(indexes, default=0) < 0x100:
        return name, "u1", array("B", indexes)
    return (name, "u2", array("H", indexes)) if max(indexes) < 0x10000 else (name, "u4", array("I", indexes))


def _all_critical(node: SpanNode) -> bool:
    return node.critical == ((node.start_ns, node.end_ns),)


def _own_critical(node: SpanNode) -> bool:
    """Usually true for spans whose children run one after the other."""
    return bool(node.children) and node.critical == node.own


def _state_has_critical(node: SpanNode) -> bool:
    """Whether a bit of `state` gives the span's part of the critical path."""
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
    role = ERROR_ROLES.index(node.error)
    running, more = node.record.end_ns is None, (role >> 2) << 5 | node.passed << 6 | node.repeats << 7
    return role & 3 | running << 2 | critical | more


def _delivery_state(view: CellView) -> str:
    """Return how the delivery state is styled: sent, sending, failed, or local for spans not sent from here."""
    export = view.export
    if export.destination is None or export.left_to_others:
        return "local"
    if export.sent >= export.made:
        return "sent"
    return "failed" if export.failing or export.parked or export.dropped else "sending"


# The front end for anywidget: one ES module, with the style sheet in it.

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
    "watchdog",
    "requests",
    "kernel",
    "widgets",
    "hub",
)
"""Static modules in the order of their imports: each imports only modules before it."""

_LOADER = """const packed = "{packed}";
async function unpack() {{
  const bytes = Uint8Array.from(atob(packed), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const url = URL.createObjectURL(new Blob([await new Response(stream).text()], {{ type: "text/javascript" }}));
  const module = await import(url);
  URL.revokeObjectURL(url);
  document.querySelector("style.hh-style")?.remove();
  const style = document.createElement("style");
  document.head.append(Object.assign(style, {{ className: "hh-style", textContent: module.style }}));
  return module.default;
}}
const unpacked = unpack();
const later = (name) => (context) => {{
  let closed = false;
  const started = unpacked.then((module) => (closed ? undefined : module[name](context)));
  return async () => {{
    closed = true;
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
def front_end_module() -> str:
    """Return the static modules joined into one ES module, without comments and indentation.

    There is no build step. The modules also run unchanged in node and in a browser. Their top-level names must be
    unique, and no string may span lines, because indentation is removed.
    """
    return "\n".join(_minified(_read(f"{name}.js")) for name in MODULES)


@cache
def packed_front_end() -> str:
    """Return a module that unpacks the joined module and the style in the browser: a third of the size on the socket.

    The unpacked code is loaded from a blob, as anywidget does itself. `initialize` does not wait for it: anywidget
    drops a model that has not started within 2 s, and a page that renders 200 outputs exceeds that
    (tests/browser/test_big_lab.py).
    """
    code = f"{front_end_module()}\nexport const style = {json.dumps(front_end_style())};"
    return _LOADER.format(packed=base64.b64encode(zlib.compress(code.encode(), 9)).decode())


@cache
def front_end_style() -> str:
    """Return the style sheet of the interactive view, without comments and redundant spaces."""
    code = re.sub(r"/\*.*?\*/", "", _read("spans.css"), flags=re.DOTALL)
    tight = re.sub(r"\s*([{};,])\s*", r"\1", re.sub(r"\s+", " ", code)).strip()
    # A colon followed by a space belongs to a declaration, never to a selector.
    return tight.replace(": ", ":").replace(";}", "}")


def _read(name: str) -> str:
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


def _minified(source: str) -> str:
    for pattern in (_TYPE_COMMENT, _DOC_COMMENT, _LINE_COMMENT, _IMPORT, _EXPORT):
        source = pattern.sub("", source)
    return _INDENT.sub("\n", source).strip() + "\n"


# The connection to the page.

logger = logging.getLogger(__name__)

MAX_SPANS_OF_CALL: Final = 8
"""Maximum number of model spans whose content is compared to select the first one."""

MAX_REOPENS: Final = 5
"""Maximum number of models created again for a page that receives no messages."""

Reply = tuple[dict[str, Any], list[bytes]]


class ViewSource(Protocol):
    """Provides the data for the hub's replies. Thread safety: all methods may be called on any thread."""

    def view_of(self, view_id: str) -> CellView | None:
        """Return the view with this id; None if it is unknown."""

    def details(self, view_id: str, span_id: str, images: ImageCollector | None = None) -> dict[str, Any] | None:
        """Return JSON-safe details of a span; None if they are no longer in memory.

        Args:
            view_id: id of the view.
            span_id: id of the span, in hexadecimal.
            images: collects the images to draw; without it, images are shown by type and size only.
        """

    def python(self, view_id: str, span_id: str) -> str | None:
        """Return Python code that fetches the span; None if it is unknown."""

    def send(self) -> str:
        """Try to send pending spans. Returns one sentence about the outcome."""

    def save(self, view_id: str) -> str:
        """Write the spans of a view to a file. Returns one sentence that names the file."""


class Hub:
    """The kernel's side of the connection to the page.

    Attributes:
        page_visible: the page last reported that it is visible.
        visibility_reports: number of such reports; after a new one the page may be a new one without rows.
    """

    def __init__(self, source: ViewSource) -> None:
        self.page_visible = True
        self.visibility_reports = 0
        self._source = source
        self._model: Any = None
        self._displayed = False
        self._reopened = 0
        self._running_versions: dict[str, str] = {}

    def open(self, model: Any = None) -> None:
        """Create the model, which sends the front end to the page once. Does nothing if it is already open.

        Args:
            model: use this model instead, which is displayed and shows a single view.

        Raises:
            ImportError: anywidget is not installed.
        """
        if self._model is None:
            self._displayed = model is not None
            self._model = model if self._displayed else _new_model()
            self._model.on_msg(self._receive)
            _let_page_choose_shell(self._model)

    def changed(self, view_id: str) -> None:
        """Notify the page that a view's rows or delivery state changed; it requests them if needed. Any thread."""
        if self._model is not None:
            send(self._model, {"type": "changed", "view": view_id})

    def running(self, view: CellView, source: str, elapsed_ms: float) -> None:
        """Send the spans so far of a running cell to the page. Any thread.

        Args:
            view: the cell's view.
            source: the cell's code, by which the page finds the cell.
            elapsed_ms: milliseconds since its first span started.
        """
        if self._model is None:
            return
        header = encode_header(view)
        buffers: list[bytes] = []
        if self._running_versions.get(view.view_id) != header["version"]:
            described, buffers = encode_rows(view)
            header.update(described)
            self._running_versions[view.view_id] = header["version"]
        header["elapsed_ms"] = elapsed_ms
        send(self._model, {"type": "running", "view": view.view_id, "source": source, "header": header}, buffers)

    def ended(self, view_id: str) -> None:
        """Notify the page that a cell has ended and its output replaces the running view. Any thread."""
        if self._model is not None and self._running_versions.pop(view_id, None) is not None:
            send(self._model, {"type": "ended", "view": view_id})

    def close(self) -> None:
        """Close the model: the page shows the static outputs again."""
        model, self._model = self._model, None
        if model is not None:
            model.on_msg(self._receive, remove=True)
            # The layout is a separate widget, which closing the widget does not close.
            model.layout.close()
            model.close()

    def _receive(self, model: Any, content: Any, _buffers: Any) -> None:
        number = content.get("number") if isinstance(content, Mapping) else None
        try:
            reply = self.reply(content)
        except Exception:  # boundary
            # An exception here would become an error output of the cell that is running now.
            logger.exception("could not reply to the page")
            reply = {"type": "answer", "number": number, "value": None}, []
        if reply is not None:
            send(model, *reply)

    def reply(self, content: Mapping[str, Any]) -> Reply | None:
        """Handle one message of the page. Returns JSON-safe content and binary buffers; None if it needs no reply.

        Raises:
            KeyError: a field is missing.
            ValueError: the type is unknown.
        """
        kind, source = content["type"], self._source
        if kind == "rows":
            return self._reply_rows(str(content["view"]), content.get("have"))
        if kind == "details":
            images = ImageCollector()
            details = source.details(str(content["view"]), str(content["span"]), images)
            return _answer(content, details, images.taken)
        if kind == "python":
            return _answer(content, source.python(str(content["view"]), str(content["span"])))
        if kind == "send":
            return _answer(content, source.send())
        if kind == "save":
            return _answer(content, source.save(str(content["view"])))
        if kind == "visibility":
            self.page_visible = bool(content["visible"])
            self.visibility_reports += 1
            self._running_versions.clear()
            return None
        if kind == "reopen":
            self._reopen()
            return None
        raise ValueError(f"unknown message {kind!r}")

    def _reopen(self) -> None:
        """Create another model for a page that can send but receives no messages.

        anywidget delivers no messages to a model whose start took more than 2 s, which happens in a busy page
        (tests/browser/test_live_lab.py).
        """
        if self._displayed or self._reopened == MAX_REOPENS:
            return
        self._reopened += 1
        self.close()
        self.open()

    def _reply_rows(self, view_id: str, have: str | None) -> Reply:
        view = self._source.view_of(view_id)
        if view is None or not view.tree.nodes:
            return {"type": "rows", "view": view_id, "header": None}, []
        header = encode_header(view)
        header["selected"] = f"{self._first_selected(view).record.span_id:016x}"
        buffers: list[bytes] = []
        if have != header["version"]:
            described, buffers = encode_rows(view)
            header.update(described)
        return {"type": "rows", "view": view_id, "header": header}, buffers

    def _first_selected(self, view: CellView) -> SpanNode:
        """Return the span to select first: the deepest error, else the last model call, else the root.

        Several spans may describe one call, such as an instrumentor's and its client's own, or an agent around it: the
        one with the messages is selected, else the one that ends last.
        """
        nodes = view.tree.nodes
        if view.tree.deepest_error is not None:
            return view.tree.deepest_error
        calls = sorted((node for node in nodes if node.record.facts.kind == "llm"), key=lambda node: -node.end_ns)
        if not calls:
            return nodes[0]
        last = [node for node in calls[:MAX_SPANS_OF_CALL] if node.end_ns >= calls[0].start_ns]
        if len(last) == 1:
            return last[0]
        return max(last, key=lambda node: self._content_rank(view, node))  # Of equal ones the first.

    def _content_rank(self, view: CellView, node: SpanNode) -> int:
        details = self._source.details(view.view_id, f"{node.record.span_id:016x}") or {}
        return 2 if "messages" in details else int("output" in details or "input" in details)


def send(model: Any, content: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
    """Send a custom message to the page.

    ipykernel 7.4 routes the page's next message to the shell that sent last, and ignores the subshell that the page
    chose: a request would wait for the running cell (tests/kernel/test_running_cells.py). Removing ipykernel's note of
    that shell restores the page's choice.
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

    return HubModel()
