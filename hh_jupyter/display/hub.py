"""The hub: one widget model per kernel, never displayed, which makes static outputs interactive while the kernel runs.

Its front end (`static/hub.js`) finds the outputs in the page and requests their data in custom messages:

    page -> kernel                                  kernel -> page
    {type: rows, view, have: version or null}       {type: rows, view, header or null} + columns, unless it has them
    {type: details, number, view, span}             {type: answer, number, value: details or null} + images
    {type: python, number, view, span}              {type: answer, number, value: code or null}
    {type: diff, number, view, old, new}            {type: answer, number, value: diff, pending or null}
    {type: diff_span, number, diff, row}            {type: answer, number, value: texts, pending or null}
    {type: previews, number, view, spans}           {type: answer, number, value: text by span}
    {type: search, number, view, text}              {type: answer, number, value: hits by span and rest, or null}
    {type: feedback, number, view, span, given}     {type: answer, number, value: text if it failed, else null}
    {type: send | save, number, view}               {type: answer, number, value: text}
    {type: dataset, number, view, file}             {type: answer, number, value: text}
    {type: again, number, view, span, action, ...}  {type: answer, number, value}
    {type: order, number, view, query, key, down}   {type: answer, number, value: {notes}} + numbers of rows
    {type: page, number, view, rows}                {type: answer, number, value: cells of each row}
    {type: row, number, view, row}                  {type: answer, number, value: everything about a row}
    {type: visibility, visible}
    {type: reopen}
                                                    {type: changed, view}
                                                    {type: running, view, source, header} + columns, unless it has them
                                                    {type: ended, view}
                                                    {type: variant, view, span, variant, spent, raise}

`static/kernel.js` is the page's side. Header and columns of a view: `columns.py`. A diff of two runs (`old` and `new`
are their keys, or null for the last two) and the texts of a span in it: `diff_columns.py`; the value `{pending: true}`
means that the page is to ask again. A report is a view whose rows are sorted, filtered and opened by `order`, `page`
and `row`: `live_report.py`. `header: null` means that this kernel does not know the view; another kernel may. A view
has at most one open request for its rows, and only a few are open in total. `reopen`: the page received no messages;
create another model. Messages arrive on the main thread if the kernel is idle, and while a cell runs on a subshell's
thread, with an empty context.

`again` is about a model call that the user changes and makes again; `arguments` are those of the client's method:

    action              value
    open                the request for editing, its answer and its variants, or null
    estimate, arguments what the call probably costs, in words
    code, arguments     its code
    run, arguments      {number} of the variant that was started, or {problem}; `variant` follows while its answer is
                        streamed, and when it has ended
    stop                whether a variant was running

Only `run` sends anything to a model, and the page requests it only on a click.
"""

from __future__ import annotations

import json
import logging
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final, Protocol

from hh_jupyter.display.columns import encode_header, encode_rows
from hh_jupyter.display.live_report import LiveReport
from hh_jupyter.display.media import ImageCollector
from hh_jupyter.display.view import CellView
from hh_jupyter.records.tree import SpanNode

# The front end for anywidget: one ES module, with the style sheet in it.

MODULES = (
    "dom",
    "trace",
    "search",
    "list",
    "tree",
    "content",
    "detail",
    "summary",
    "words",
    "diff",
    "again",
    "view",
    "table",
    "page",
    "running",
    "widgets",
    "kernel",
    "hub",
)
"""Static modules in the order of their imports: each imports only modules before it."""

STYLES = ("spans.css", "report.css")

LOADER: Final = """let unpacked;
async function unpack(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const url = URL.createObjectURL(new Blob([await new Response(stream).text()], { type: "text/javascript" }));
  const module = await import(url);
  URL.revokeObjectURL(url);
  document.querySelector("style.hh-style")?.remove();
  const style = document.createElement("style");
  document.head.append(Object.assign(style, { className: "hh-style", textContent: module.style }));
  return module.default;
}
const later = (name) => (context) => {
  let closed = false;
  unpacked ??= unpack(context.model.get("packed"));
  const started = unpacked.then((module) => (closed ? undefined : module[name](context)));
  return async () => {
    closed = true;
    (await started)?.();
  };
};
export default { initialize: later("initialize"), render: later("render") };
"""
"""The module of a widget that unpacks its trait `packed` in the browser, and runs it.

The unpacked code is loaded from a blob, as anywidget does itself. `initialize` does not wait for it: anywidget drops a
model that has not started within 2 s, and a page that renders 200 outputs exceeds that (tests/browser/test_big_lab.py).
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
def file_script() -> str:
    """Return the front end of an HTML file: the joined module, and the data in the page in place of the kernel."""
    return f"{front_end_module()}\n{_minified(_read('file.js'))}"


@cache
def packed_front_end() -> bytes:
    """Return the joined module and the style, compressed: less than a third of the size on the socket."""
    code = f"{front_end_module()}\nexport const style = {json.dumps(front_end_style())};"
    return zlib.compress(code.encode(), 9)


@cache
def front_end_style() -> str:
    """Return the style sheet of the interactive view, without comments and redundant spaces."""
    code = re.sub(r"/\*.*?\*/", "", "".join(map(_read, STYLES)), flags=re.DOTALL)
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

MAX_PREVIEWS: Final = 100
"""Maximum number of rows in one request; a page shows about 30."""

MAX_SEARCHED: Final = 1_000
MAX_NOTE: Final = 2_000
MAX_FILE_NAME: Final = 255
"""Characters of a text to search for, and of a note."""

Reply = tuple[dict[str, Any], list[bytes]]


class ViewSource(Protocol):
    """Provides the data for the hub's replies. Thread safety: all methods may be called on any thread."""

    def view_of(self, view_id: str) -> CellView | None:
        """Return the view with this id; None if it is unknown."""

    def report_of(self, view_id: str) -> LiveReport | None:
        """Return the displayed report with this id; None if there is none."""

    def details(self, view_id: str, span_id: str, images: ImageCollector | None = None) -> dict[str, Any] | None:
        """Return JSON-safe details of a span; None if they are no longer in memory.

        Args:
            view_id: id of the view.
            span_id: id of the span, in hexadecimal.
            images: collects the images to draw; without it, images are shown by type and size only.
        """

    def python(self, view_id: str, span_id: str) -> str | None:
        """Return Python code that fetches the span; None if it is unknown."""

    def diff(self, view_id: str, old: str | None, new: str | None) -> dict[str, Any] | None:
        """Return the difference of two runs of a cell; None if there is no run before. Does not wait for it.

        Args:
            view_id: id of the view.
            old, new: keys of the runs; None: the run before, and the one of the view.
        """

    def diff_span(self, diff_id: str, row: int) -> dict[str, Any] | None:
        """Return what differs of a span; None if the difference is no longer kept.

        Args:
            diff_id: id of the difference.
            row: index of the span's row.
        """

    def previews(self, view_id: str, span_ids: Sequence[str]) -> dict[str, str]:
        """Return what the rows of some spans show of their content, by span id in hexadecimal."""

    def search(self, view_id: str, text: str) -> dict[str, Any] | None:
        """Return `hits`, their number by span id in hexadecimal, and `left`, how many spans are still to be read.

        None if the view is unknown.

        Args:
            view_id: id of the view.
            text: plain text.
        """

    def feedback(self, view_id: str, span_id: str, given: Mapping[str, Any]) -> str:
        """Give feedback to a span. Returns why it could not be saved; empty if it was.

        Args:
            view_id: id of the view.
            span_id: id of the span, in hexadecimal.
            given: values by name; None takes back what was given.
        """

    def make_again(self, message: Mapping[str, Any], push: Callable[[Mapping[str, Any]], None]) -> Any:
        """Handle a message about a model call that is made again. Returns JSON-safe data; None if it is unknown.

        Args:
            message: of type `again`.
            push: sends a variant to the page, as it arrives and when it has ended. Any thread.
        """

    def send(self) -> str:
        """Try to send pending spans. Returns one sentence about the outcome."""

    def save(self, view_id: str) -> str:
        """Write the spans of a view to a file. Returns one sentence that names the file."""

    def add_to_dataset(self, view_id: str, file: str) -> str:
        """Append the row whose spans a view shows to a dataset. Returns one sentence about the outcome.

        Args:
            view_id: id of the view.
            file: name of the file.
        """


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
            if model is not None:
                model.on_msg(self._receive)
            self._model = model or _new_model(self._receive)
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
        if kind in _ANSWERS:
            return _answer(content, _ANSWERS[kind](source, content))
        if kind == "again":
            return _answer(content, source.make_again(content, partial(self._push_variant, str(content["view"]))))
        if kind in ("order", "page", "row"):
            report = source.report_of(str(content["view"]))
            return _answer(content, None) if report is None else _reply_of_report(report, content)
        self._note(content)
        return None

    def _note(self, content: Mapping[str, Any]) -> None:
        """Take note of a message that needs no reply."""
        kind = content["type"]
        if kind == "visibility":
            self.page_visible = bool(content["visible"])
            self.visibility_reports += 1
            self._running_versions.clear()
        elif kind == "reopen":
            self._reopen()
        else:
            raise ValueError(f"unknown message {kind!r}")

    def _push_variant(self, view_id: str, variant: Mapping[str, Any]) -> None:
        if self._model is not None:
            send(self._model, {"type": "variant", "view": view_id, **variant})

    def _reopen(self) -> None:
        """Create another model for a page that can send but receives no messages.

        anywidget (0.11) delivers no messages to a model whose start took more than 2 s, which happens in a page that
        computes for long without a pause (tests/browser/test_live_lab.py).
        """
        if self._displayed or self._reopened == MAX_REOPENS:
            return
        self._reopened += 1
        self.close()
        self.open()

    def _reply_rows(self, view_id: str, have: str | None) -> Reply:
        view = self._source.view_of(view_id)
        if view is None and (report := self._source.report_of(view_id)) is not None:
            described, heights = report.header(with_rows=have != report.version)
            return {"type": "rows", "view": view_id, "header": described}, heights
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


_RUNS: Final = ("old", "new")
_ANSWERS: Final[Mapping[str, Callable[[ViewSource, Mapping[str, Any]], Any]]] = {
    "python": lambda source, of: source.python(str(of["view"]), str(of["span"])),
    "diff": lambda source, of: source.diff(
        str(of["view"]), *(None if of[run] is None else str(of[run]) for run in _RUNS)
    ),
    "diff_span": lambda source, of: source.diff_span(str(of["diff"]), int(of["row"])),
    "previews": lambda source, of: source.previews(str(of["view"]), [*map(str, of["spans"][:MAX_PREVIEWS])]),
    "search": lambda source, of: source.search(str(of["view"]), str(of["text"])[:MAX_SEARCHED]),
    "feedback": lambda source, of: source.feedback(str(of["view"]), str(of["span"]), _feedback(of["given"])),
    "send": lambda source, of: source.send(),
    "save": lambda source, of: source.save(str(of["view"])),
    "dataset": lambda source, of: source.add_to_dataset(str(of["view"]), str(of["file"])[:MAX_FILE_NAME]),
}
"""Requests that are answered by a value, and how the source gives it."""


def _feedback(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the feedback that a page may give: `ok` and `note`."""
    found: dict[str, Any] = {}
    if "ok" in given:
        found["ok"] = given["ok"] if isinstance(given["ok"], bool) else None
    if "note" in given:
        found["note"] = str(given["note"] or "").strip()[:MAX_NOTE] or None
    return found


def _answer(content: Mapping[str, Any], value: Any, buffers: Sequence[bytes] = ()) -> Reply:
    return {"type": "answer", "number": content["number"], "value": value}, list(buffers)


def _reply_of_report(report: LiveReport, content: Mapping[str, Any]) -> Reply:
    kind = content["type"]
    if kind == "order":
        notes, numbers = report.order(str(content["query"]), str(content["key"]), descending=bool(content["down"]))
        return _answer(content, notes, numbers)
    if kind == "page":
        return _answer(content, report.rows([int(number) for number in content["rows"]]))
    return _answer(content, report.row(int(content["row"])))


def _new_model(receive: Callable[[Any, Any, Any], None]) -> Any:
    """An anywidget model with the front end in it.

    Args:
        receive: gets every message of the page.
    """
    import anywidget  # Late: ipywidgets and anywidget take 0.3 s to import.
    import traitlets

    class HubModel(anywidget.AnyWidget):
        _esm = LOADER
        packed = traitlets.Bytes(packed_front_end(), read_only=True).tag(sync=True)

        def open(self) -> None:
            self.on_msg(receive)  # Before the page knows the model: its first message is lost otherwise.
            super().open()

    return HubModel()
