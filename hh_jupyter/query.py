"""`spans()` and `SpanList`: spans as a list that can be shown, totalled, converted and exported.

`hh_jupyter.spans(...)` returns spans that this process recorded, `SpanList(exporter.get_finished_spans())` takes any
spans of the OpenTelemetry SDK, `SpanList.from_otlp("trace.jsonl")` reads a file.
"""

from __future__ import annotations

import os
import re
import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, cast, overload

from opentelemetry.sdk.trace import ReadableSpan

from hh_jupyter import attributes as keys
from hh_jupyter.conventions import content, honeyhive
from hh_jupyter.conventions.facts import Message, SpanContent, SpanFacts
from hh_jupyter.display import html, text
from hh_jupyter.display.format import clean, span_name
from hh_jupyter.display.view import CellView
from hh_jupyter.export.finalize import redactor_of
from hh_jupyter.otlp_files import json_lines
from hh_jupyter.otlp_files.foreign_spans import read_file, rows_of
from hh_jupyter.records import prices
from hh_jupyter.records.calls import SpanKey, by_identity, key_of
from hh_jupyter.records.dataset_rows import DatasetRows, datapoint_of
from hh_jupyter.records.export_state import ExportState, combined
from hh_jupyter.records.record import ForeignRecord, SpanDetails, SpanRecord
from hh_jupyter.records.selection import Candidate, SelectionError, cell_number, choose, latest_run, matching
from hh_jupyter.records.totals import Totals, error_spans, summarize, tool_name, tools_run
from hh_jupyter.records.tree import SpanTree
from hh_jupyter.redaction import Redactor, RedactorWithFunction
from hh_jupyter.settings import resolve
from hh_jupyter.tracing import registry
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.context import has_host
from hh_jupyter.tracing.runs import run_history
from hh_jupyter.tracing.span_store import detail_store, session_titles, span_log
from hh_jupyter.values import flatten

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import TypeVar

    from hh_jupyter.display.search import Hits, SearchText
    from hh_jupyter.export.spool import Spool
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

    # `SpanList` alone means a list of records. Python's own type variables have defaults from 3.13 on.
    Span_co = TypeVar("Span_co", bound=SpanRecord, default=SpanRecord, covariant=True)
else:
    from typing import TypeVar

    Span_co = TypeVar("Span_co", covariant=True)

KINDS: Final = (
    "llm", "embedding", "tool", "agent", "chain", "retriever", "reranker", "guardrail", "evaluator", "decision", "http",
    "db", "other",
)  # fmt: skip

MAX_TITLE: Final = 40
MAX_STORED_BYTES: Final = 32 * 1024 * 1024
"""Encoded spans from disk that are read for one question, the latest first."""

_FEEDBACK: Final = keys.FEEDBACK.encode()
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class SpanList(Sequence[Span_co]):
    """An immutable list of spans in the order in which they ended.

    A slice is a `SpanList`, too. A notebook displays the list as a tree; its `repr` is the text of `%hh show`.

    Spans of the OpenTelemetry SDK and of files are redacted when they are added, with the settings of the current
    tracer or, without a tracer, of the environment. The size limits of the settings do not apply. Everything that the
    list shows, returns and writes is redacted; the SDK's span objects are not changed.

    Args:
        spans: records from `spans()` or another list, and spans of the OpenTelemetry SDK, such as those of an
            `InMemorySpanExporter`, in any mixture. Of a span that occurs twice, the last one is used.

    Raises:
        TypeError: an item is neither.
        ValueError: a span of the SDK has no ids or no start time.
    """

    def __init__(self, spans: Iterable[SpanRecord | ReadableSpan] = ()) -> None:
        by_key = cast("dict[SpanKey, Span_co]", by_identity(_records_of(spans)))
        self._spans = by_key, tuple(by_key.values())

    def _now(self) -> tuple[Mapping[SpanKey, Span_co], tuple[Span_co, ...]]:
        """The spans, by key and in order. A list that grows overrides it."""
        return self._spans

    @property
    def _by_key(self) -> Mapping[SpanKey, Span_co]:
        return self._now()[0]

    @property
    def _records(self) -> tuple[Span_co, ...]:
        return self._now()[1]

    @classmethod
    def from_otlp(cls, path: str | os.PathLike[str]) -> SpanList:
        """Read a file of OTLP JSON. The spans are redacted; see the class.

        The file holds one export request per line, as written by the Collector's `file` exporter, `%hh save` and
        `to_otlp_json`, or a single document, and may be compressed with gzip; or it is a page of `%hh save`. Ids are
        hexadecimal or base64. Logs and metrics are ignored.

        Args:
            path: path of the file.

        Raises:
            OSError: the file cannot be read.
            SpanFileError: the content is not OTLP JSON; the message names the line and what is expected.
        """
        return cls(read_file(path, _redactor()))

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Span_co: ...
    @overload
    def __getitem__(self, index: slice) -> SpanList[Span_co]: ...
    def __getitem__(self, index: int | slice) -> Span_co | SpanList[Span_co]:
        return SpanList(self._records[index]) if isinstance(index, slice) else self._records[index]

    def __iter__(self) -> Iterator[Span_co]:
        return iter(self._records)

    def __eq__(self, other: object) -> bool:
        return self._records == other._records if isinstance(other, SpanList) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # Like list.

    def __repr__(self) -> str:
        return text.render(self._view()) if self._records else "no spans"

    @property
    def totals(self) -> Totals:
        """Totals of the spans. Loads the price table if a cost has to be estimated."""
        if any(prices.needs_table(record.facts) for record in self._records):
            prices.load()
        return summarize(self._records)

    @property
    def tools(self) -> list[str]:
        """Names of the tools that ran, by start; each run counts once, as in `totals.tools_run`.

        Example:
            >>> assert spans("last").tools == ["search", "search", "refund"]  # doctest: +SKIP
        """
        return [run.name for run in tools_run(self._records)]

    @property
    def errors(self) -> list[str]:
        """The errors that `totals.errors` counts, each with the span in which it began, by start.

        Example:
            >>> assert spans("last").errors == ["refund: ConnectionError: the bank is closed"]  # doctest: +SKIP
        """
        return [_error_line(record) for record in error_spans(self._records)]

    @property
    def tree(self) -> SpanTree:
        """The spans as a tree."""
        return SpanTree.build(self._records)

    def details(self, span: SpanRecord | ReadableSpan) -> SpanDetails | None:
        """Return all attributes, events and links of a span, as exported; None when they are no longer kept.

        Args:
            span: a record of this list, or a span of the SDK that this list was made from.

        Raises:
            ValueError: the span of the SDK is not in this list.
        """
        if isinstance(span, SpanRecord):
            return span_log().details(self._by_key.get(key_of(span), span))
        context = span.get_span_context()
        record = self._by_key.get((context.trace_id, context.span_id)) if context is not None else None
        if record is None:
            raise ValueError(f"span {span.name!r} is not in this list")
        return span_log().details(record)

    def content(self, span: SpanRecord | ReadableSpan) -> SpanContent | None:
        """Return messages, tool calls, inputs and outputs of a span (see `details`); None when no longer kept."""
        details = self.details(span)
        return None if details is None else content(details.attributes, details.events)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one flat dict per span: ids in hexadecimal, times as UTC datetimes, durations in milliseconds."""
        return [_flat(record) for record in self._records]

    def to_pandas(self) -> pd.DataFrame:
        """Return a DataFrame with one row per span and the keys of `to_dicts` as columns.

        Raises:
            ImportError: pandas is not installed.
        """
        return data_frame(self.to_dicts(), _COLUMNS)

    def to_otlp_json(self) -> str:
        """Return the spans as lines of OTLP JSON, which OpenTelemetry's Collector reads (`otlpjsonfile`).

        Spans are written as exported; those of the SDK and of files complete and redacted. Spans that are no longer
        kept are omitted with a warning.
        """
        wanted = {record.trace_id.to_bytes(16, "big") + record.span_id.to_bytes(8, "big") for record in self._records}
        written = list(json_lines.lines(detail_store().bodies_of(self._records), wanted))
        missing = len(wanted) - sum(len(ids) for _, ids in written)
        if missing:
            warnings.warn(f"{missing} of {len(wanted)} spans are no longer kept and were omitted.", stacklevel=2)
        return b"".join(line for line, _ in written).decode()

    def to_dataset(self, ground_truth: Literal["feedback", "output"] = "feedback") -> DatasetRows:
        """Return a row for each span, for `evaluate`: its inputs, what was expected, and where it comes from.

        The inputs are the arguments of a function, or the messages of a model call under `messages`. The span of a row
        that `evaluate` ran gives that row. Spans without inputs, or whose content is no longer kept, are omitted with a
        warning.

        Example:
            >>> spans(feedback=...).to_dataset().save("bad-answers.jsonl")  # doctest: +SKIP

        Args:
            ground_truth: `feedback` takes the entry `ground_truth` of the span's feedback, if there is one; `output`
                takes the span's output, for answers that were right.

        Raises:
            ValueError: `ground_truth` is neither.
        """
        if ground_truth not in ("feedback", "output"):
            raise ValueError(f"to_dataset(ground_truth={ground_truth!r}): expected 'feedback' or 'output'.")
        rows = DatasetRows(filter(None, (dataset_row(record, ground_truth) for record in self._records)))
        if missing := len(self) - len(rows):
            text = f"{missing} of {len(self)} spans have no inputs, or are no longer kept, and were omitted."
            warnings.warn(text, stacklevel=2)
        return rows

    def _repr_html_(self) -> str:
        """Return static, self-contained HTML of the tree; span content is escaped."""
        return html.render(self._view()) if self._records else "<p>no spans</p>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return text and HTML, as far as included."""
        return html.requested({"text/plain": repr(self), "text/html": self._repr_html_()}, include, exclude)

    def _view(self) -> CellView:
        foreign = [record for record in self._records if isinstance(record, ForeignRecord)]
        own = [record for record in self._records if not isinstance(record, ForeignRecord)]
        files = {record.source.file for record in foreign} if not own else set()
        file = files.pop() if len(files) == 1 else None
        source = None if own else "Read from files" if files and None not in files else "From memory"
        return CellView(
            view_id=f"hh-spans-{id(self):x}",
            label=_label(own, file) if has_host() and not (own and foreign) else "",
            tree=self.tree,
            totals=self.totals,
            export=_export(own),
            mode="tree",
            source="Read from file" if file is not None else source,
            file=file,
        )


def _error_line(record: SpanRecord) -> str:
    name, error = tool_name(record) if record.facts.kind == "tool" else span_name(record.name), record.error
    return name if error is None else f"{name}: {error.type}: {error.message}".removesuffix(": ")


def dataset_row(record: SpanRecord, ground_truth: str = "feedback") -> dict[str, Any] | None:
    """Return the row that `to_dataset` makes of a span; None if it has no inputs, or they are no longer kept."""
    details = span_log().details(record)
    found = None if details is None else content(details.attributes, details.events)
    inputs = found and _given(found.input, found.input_messages)
    if found is None or inputs is None:
        return None
    expected = found.feedback.get("ground_truth")
    if ground_truth == "output":
        expected = _answer(found.output_messages) or found.output
    columns = _flat(record)
    origin = {name: columns[name] for name in ("name", "session_id", "trace_id", "span_id")}
    apart = {} if expected is None else {"ground_truth": expected}
    if (point := datapoint_of(inputs)) is not None:
        return {"id": columns["span_id"], **point, **apart, "span": origin}
    return {"id": columns["span_id"], "inputs": inputs, **apart, "span": origin}


def _given(value: Any, messages: Sequence[Message]) -> dict[str, Any] | None:
    """The inputs of a row: the arguments of a function, or the messages of a model call. None without any."""
    if messages:
        return {"messages": [_message(message) for message in messages]}
    if value is None:
        return None
    return dict(value) if isinstance(value, Mapping) else {"input": value}


def _message(message: Message) -> dict[str, Any]:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]
    content = [*([{"type": "text", "text": message.text}] if message.text else []), *message.parts]
    return {
        "role": message.role,
        "content": content if message.parts else message.text,
        **({"tool_calls": calls} if calls else {}),
        **({"tool_call_id": message.tool_call_id} if message.tool_call_id else {}),
    }


def _answer(messages: Sequence[Message]) -> str | None:
    return "\n".join(message.text for message in messages if message.text) or None


def data_frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return rows as a DataFrame.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("to_pandas() needs pandas. pip install 'hh_jupyter[pandas]'") from error
    return pd.DataFrame(rows, columns=list(columns))


def _records_of(spans: Any) -> list[SpanRecord]:
    """Convert the items to records, in their order."""
    is_path = isinstance(spans, str | os.PathLike)
    items: list[Any] = [spans] if is_path else list(spans)
    for span in items:
        if not isinstance(span, SpanRecord | ReadableSpan):
            hint = " SpanList.from_otlp(path) reads a file." if is_path else ""
            what = f"SpanRecords and the OpenTelemetry SDK's ReadableSpans, not {type(span).__qualname__}"
            raise TypeError(f"SpanList(spans) expects {what}.{hint}")
    foreign = [span for span in items if isinstance(span, ReadableSpan)]
    if not foreign:
        return items
    converted = iter(rows_of(foreign, _redactor()))
    return [span if isinstance(span, SpanRecord) else next(converted) for span in items]


def _redactor() -> Redactor | RedactorWithFunction:
    """Return the redactor of the current tracer or, without a tracer, of the environment's settings."""
    tracer = current_tracer()
    return redactor_of(tracer.settings if tracer is not None else resolve({}))


def spans(
    cell: int | str | None = None,
    session: str | None = None,
    name: str | None = None,
    kind: str | None = None,
    errors: bool = False,
    *,
    text: str | None = None,
    feedback: bool | str | Mapping[str, Any] | None = None,
    on_disk: bool = False,
) -> SpanList:
    """Return the spans that this process recorded and that meet every condition, in the order in which they ended.

    Args:
        cell: number of a cell, as in `In [4]`, or "last" for the last cell with spans; "4~1" for its run before.
        session: title, name or id of a session, or at least the first 4 characters of its id.
        name: name of the spans or a part of it, case-insensitive.
        kind: kind of the spans: llm, tool, agent, embedding and so on.
        errors: only spans in error.
        text: a text in the name or the content: messages, inputs, outputs, attributes; case-insensitive, as `%hh find`.
        feedback: True for spans with feedback, False for those without, a name that the feedback has, such as "stars",
            or a dict of names and values, such as {"ok": False}, which must all be equal.
        on_disk: also the spans that earlier kernels left on disk, and those of this process that are no longer in
            memory. The latest 32 MB of encoded spans are read; a warning says if there are more.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the kind or, in a notebook, the session is unknown, an id prefix matches several sessions, the
            text is empty, or `cell` is combined with `on_disk`.
    """
    _check(cell=cell, session=session, name=name, kind=kind, text=text)
    if on_disk and cell is not None:
        raise ValueError(
            f"spans(cell={cell!r}, on_disk=True): cells are those of this kernel. Take session=... instead."
        )
    has_feedback = _feedback_condition(feedback)
    wanted = None if text is None else _search_text(text)
    registry.wait_all_processed()
    records, tracer = span_log().records(), current_tracer()
    spool = _opened_spool(tracer) if on_disk else None
    conditions: list[Callable[[SpanRecord], bool]] = []
    if session is not None:
        stored = spool.sessions() if spool is not None else ()
        names = {one.session_id: one.name for one in stored if one.session_id and one.name}
        ids = _sessions(session, {*names, *(record.session_id for record in records if record.session_id)}, names)
        conditions.append(lambda record: record.session_id in ids)
    if name is not None:
        conditions.append(lambda record: name.lower() in record.name.lower())
    if kind is not None:
        conditions.append(lambda record: record.facts.kind == kind)
    if errors:
        conditions.append(lambda record: record.status == "error")
    if has_feedback is not None:
        conditions.append(has_feedback)

    def meets(record: SpanRecord) -> bool:
        return all(condition(record) for condition in conditions)

    here = span_log().records(cell=_cell_key(cell)) if cell is not None else records
    found = [record for record in here if meets(record)]
    if wanted is not None:
        found = [hits.record for hits in find_text(found, wanted)]
    if spool is not None:
        known = {key_of(record) for record in records}
        found += [
            record
            for record, details in _stored_spans(spool, wanted, with_feedback=feedback not in (None, False))
            if key_of(record) not in known and meets(record) and (wanted is None or wanted.hits(record, details))
        ]
        found.sort(key=lambda record: record.end_ns or 0)
    return SpanList(found)


def _opened_spool(tracer: HoneyHiveTracer | None) -> Spool | None:
    """Return the spool of the tracer; warn if there is none."""
    if tracer is not None and tracer.spool is not None:
        return tracer.spool
    why = "there is no tracer" if tracer is None else "the setting spool is off"
    remedy = "HoneyHiveTracer.init(spool=True) opens the folder, as HH_SPOOL=1 does for every tracer of a program."
    warnings.warn(f"spans(on_disk=True) has not read the disk: {why}. {remedy}", stacklevel=3)
    return None


def _stored_spans(
    spool: Spool, wanted: SearchText | None, *, with_feedback: bool
) -> Iterator[tuple[SpanRecord, SpanDetails]]:
    """Yield the spans on disk, except those that cannot have the text or feedback; warn if not all are read."""
    from hh_jupyter.export import otlp

    def may_match(body: bytes) -> bool:
        return (wanted is None or wanted.may_be_in(body)) and (not with_feedback or _FEEDBACK in body)

    rows, left_out = spool.search(may_match, MAX_STORED_BYTES)
    if left_out:
        warnings.warn(f"spans(on_disk=True) has not read {left_out:,} older groups of spans on disk", stacklevel=4)
    for row in rows:
        yield from otlp.spans_of(row.body, may_match)


def find_text(records: Sequence[SpanRecord], wanted: SearchText) -> list[Hits]:
    """Return the hits of a text in spans that this process recorded, in the order of the records.

    Spans whose content is no longer kept are searched by name and error only.
    """
    found = detail_store().candidates(records, wanted.may_be_in)
    hits = (wanted.hits(one, read() if (read := found.get(key_of(one))) is not None else None) for one in records)
    return [one for one in hits if one is not None]


def _search_text(text: str) -> SearchText:
    from hh_jupyter.display.search import SearchText

    try:
        return SearchText(text)
    except ValueError as error:
        raise ValueError(f"spans(text={text!r}): {error}.") from None


def _export(records: Sequence[SpanRecord]) -> ExportState:
    """Return the export state of these spans, from the counts of their cells."""
    tracer = current_tracer()
    states = [registry.cell_export_state(cell) for cell in {record.cell for record in records} if cell is not None]
    if any(record.cell is None for record in records) and tracer is not None:
        states.append(tracer.export_state())
    with_spans = [state for state in states if state.has_spans]
    return combined(with_spans) if with_spans else ExportState(None, made=len(records))


def _label(own: Sequence[SpanRecord], file: str | None) -> str:
    """Return the narrowest argument of `%hh show` that shows spans of this process, or of a file, again.

    Empty, if no command shows them.
    """
    if not own:
        return shlex.quote(file) if file is not None else ""
    cells, sessions = {record.cell for record in own}, {record.session_id for record in own}
    here = {key_of(record) for record in span_log().records()}
    if any(key_of(record) not in here for record in own):  # From disk, where only sessions are found.
        return (sessions.pop() if len(sessions) == 1 else None) or ""
    if len(cells) == 1:
        key = cells.pop()
        if key is None:
            return "background"
        number = cell_number(key)
        if _cell_key(number) == key:  # Else it was run again.
            return number
    return (sessions.pop() if len(sessions) == 1 else None) or "all"


def _check(cell: object, session: object, name: object, kind: object, text: object) -> None:
    if isinstance(cell, bool) or not isinstance(cell, int | str | None):
        raise TypeError(f"spans(cell=...) expects a cell number or 'last', not {cell!r}")
    for argument, value in {"session": session, "name": name, "kind": kind, "text": text}.items():
        if not isinstance(value, str | None):
            raise TypeError(f"spans({argument}=...) expects a string, not {value!r}")
    if kind is not None and kind not in KINDS:
        raise ValueError(f"spans(kind={kind!r}): unknown kind {kind!r}; expected one of {', '.join(KINDS)}.")


def _feedback_condition(wanted: Any) -> Callable[[SpanRecord], bool] | None:
    """Return whether a record has the feedback that `spans(feedback=...)` asks for; None without a condition."""
    if wanted is None:
        return None
    if isinstance(wanted, bool):
        return lambda record: bool(record.facts.feedback) is wanted
    if isinstance(wanted, str):
        # A dict given as feedback has the names of its entries below its own: by.team, by.user.
        return lambda record: any(f"{name}.".startswith(f"{wanted}.") for name, _ in record.facts.feedback)
    if not isinstance(wanted, Mapping):
        raise TypeError(f"spans(feedback=...) expects True, False, a name or a dict, not {wanted!r}")
    pairs = honeyhive.feedback(flatten(keys.FEEDBACK, wanted))
    if not pairs:
        raise ValueError(f"spans(feedback={wanted!r}): expected a name with a value, such as {{'ok': False}}.")
    return lambda record: all(any(_same(given, pair) for given in record.facts.feedback) for pair in pairs)


def _same(given: tuple[str, Any], wanted: tuple[str, Any]) -> bool:
    """Whether name and value are equal; True and 1 are not."""
    return given == wanted and isinstance(given[1], bool) is isinstance(wanted[1], bool)


def _cell_key(cell: int | str) -> str:
    """Return the key of the latest run of a cell; empty, which matches no record, if the cell has no spans."""
    keys = {record.cell: None for record in span_log().records() if record.cell is not None}
    return latest_run(cell, keys, run_history().same_cell) or ""


def _sessions(session: str, ids: Iterable[str], names: Mapping[str, str]) -> set[str]:
    """Return the ids of the sessions that are meant, `names` for those on disk. In a program there may be none."""
    titles, tracer = session_titles(), current_tracer()
    known = [Candidate(found, (title, title.rpartition(" #")[0])) for found, title in titles.items()]
    for found in sorted({*ids} - titles.keys()):
        name = tracer and (tracer.session_name if found == tracer.session_id else tracer.sessions.name_of(found))
        name = name or names.get(found)
        known.append(Candidate(found, (name,) if name else ()))
    if not matching(session, known) and (not has_host() or _UUID.fullmatch(session)):
        return set()
    try:
        return {one.id for one in choose(session, known, lambda title: clean(title, MAX_TITLE))}
    except SelectionError as error:
        raise ValueError(f"spans(session={session!r}): {error}") from None


def _flat(record: SpanRecord) -> dict[str, Any]:
    """Return the columns of a span."""
    facts, usage = record.facts, record.facts.usage
    dollars, estimated = prices.cost_of(facts)
    tokens = asdict(usage) if usage is not None else dict.fromkeys(_TOKENS)
    return {
        "name": record.name,
        "kind": facts.kind,
        "status": record.status,
        "start": datetime.fromtimestamp(record.start_ns / 1e9, tz=UTC),
        "duration_ms": None if record.end_ns is None else record.duration_ns / 1e6,
        "model": facts.model,
        "model_requested": facts.model_requested,
        "provider": facts.provider,
        **{f"{name}_tokens": tokens[name] for name in _TOKENS},
        "cost": dollars,
        "cost_estimated": estimated,
        "first_token_ms": None if facts.first_token_ns is None else facts.first_token_ns / 1e6,
        "tool": facts.tool_name,
        "tools_asked": list(facts.tools_asked),
        "error_type": record.error.type if record.error else None,
        "error_message": record.error.message if record.error else None,
        "event_type": facts.event_type,
        "feedback": dict(facts.feedback) or None,
        "session_id": record.session_id,
        "cell": cell_number(record.cell) if record.cell else None,
        "scope": record.scope,
        "trace_id": f"{record.trace_id:032x}",
        "span_id": f"{record.span_id:016x}",
        "parent_id": None if record.parent_id is None else f"{record.parent_id:016x}",
    }


_TOKENS: Final = ("prompt", "completion", "total", "cached", "cache_write", "reasoning")
_COLUMNS: Final = tuple(_flat(SpanRecord(0, 0, None, "", 0, 0, "ok", SpanFacts())))
