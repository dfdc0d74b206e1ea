"""`hh_jupyter.spans(...)`: the recorded spans of this process as a list that can be shown, counted and handed on."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, overload

from hh_jupyter.conventions import content
from hh_jupyter.conventions.facts import SpanContent, SpanFacts
from hh_jupyter.records import cost
from hh_jupyter.records.export_state import ExportState, combined
from hh_jupyter.records.record import SpanDetails, SpanRecord
from hh_jupyter.records.totals import Totals, summarize
from hh_jupyter.records.tree import SpanTree
from hh_jupyter.tracing import registry
from hh_jupyter.tracing.default import current_tracer
from hh_jupyter.tracing.recorded import detail_store, session_titles, span_log

if TYPE_CHECKING:
    import pandas as pd

    from hh_jupyter.display.view import CellView

KINDS: Final = (
    "llm", "embedding", "tool", "agent", "chain", "retriever", "reranker", "guardrail", "evaluator", "decision", "http",
    "db", "other",
)  # fmt: skip
SEAL_SECONDS: Final = 2.0
LAST: Final = "last"


class SpanList(Sequence[SpanRecord]):
    """Spans in the order in which they ended. It stays as it is when more are recorded.

    A slice is a `SpanList` again. A notebook shows it as a tree; its text is that of `%hh show`.
    """

    def __init__(self, records: Iterable[SpanRecord] = ()) -> None:
        self._records = tuple(records)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> SpanRecord: ...
    @overload
    def __getitem__(self, index: slice) -> SpanList: ...
    def __getitem__(self, index: int | slice) -> SpanRecord | SpanList:
        return SpanList(self._records[index]) if isinstance(index, slice) else self._records[index]

    def __iter__(self) -> Iterator[SpanRecord]:
        return iter(self._records)

    def __eq__(self, other: object) -> bool:
        return self._records == other._records if isinstance(other, SpanList) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # As a list.

    def __repr__(self) -> str:
        from hh_jupyter.display import text

        return text.render(self._view()) if self._records else "no spans"

    @property
    def totals(self) -> Totals:
        """What they add up to: `summarize` of them. Loads the price table if a cost is to be estimated."""
        if any(cost.needs_table(record.facts) for record in self._records):
            cost.load()
        return summarize(self._records)

    @property
    def tree(self) -> SpanTree:
        """The spans as they called each other."""
        return SpanTree.build(self._records)

    def details(self, span: SpanRecord) -> SpanDetails | None:
        """All attributes, events and links of a span, as they were delivered; None when they are no longer kept."""
        return span_log().details(span)

    def content(self, span: SpanRecord) -> SpanContent | None:
        """Messages, tool calls, inputs and outputs of a span; None when they are no longer kept."""
        details = self.details(span)
        return None if details is None else content(details.attributes, details.events)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One flat dict for each span; ids in hexadecimal, times as datetimes in UTC, durations in milliseconds."""
        return [_flat(record) for record in self._records]

    def to_pandas(self) -> pd.DataFrame:
        """A row for each span, with the columns of `to_dicts`.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas. pip install 'hh_jupyter[pandas]'") from error
        return pd.DataFrame(self.to_dicts(), columns=list(_COLUMNS))

    def to_otlp_json(self) -> str:
        """The spans as lines of OTLP JSON, which OpenTelemetry's Collector reads (`otlpjsonfile`).

        They are complete and as they were delivered. Those that are no longer kept are left out, with a warning.
        """
        from hh_jupyter.delivery.sealing import otlp_file

        wanted = {record.trace_id.to_bytes(16, "big") + record.span_id.to_bytes(8, "big") for record in self._records}
        written = list(otlp_file.lines(detail_store().bodies_of(self._records), wanted))
        missing = len(wanted) - sum(len(ids) for _, ids in written)
        if missing:
            warnings.warn(f"{missing} of {len(wanted)} spans are no longer kept and are left out.", stacklevel=2)
        return b"".join(line for line, _ in written).decode()

    def _repr_html_(self) -> str:
        """The tree, static and complete by itself; what a span says is only ever shown as text."""
        from hh_jupyter.display import html

        return html.render(self._view()) if self._records else "<p>no spans</p>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Text and HTML, those of them that are asked for."""
        bundle = {"text/plain": repr(self), "text/html": self._repr_html_()}
        return {
            mime: data
            for mime, data in bundle.items()
            if (not include or mime in include) and not (exclude and mime in exclude)
        }

    def _view(self) -> CellView:
        from hh_jupyter.display.view import CellView

        return CellView(
            view_id=f"hh-spans-{id(self):x}",
            label="all",
            tree=self.tree,
            totals=self.totals,
            export=_export(self._records),
            mode="tree",
        )


def spans(
    cell: int | str | None = None,
    session: str | None = None,
    name: str | None = None,
    kind: str | None = None,
    errors: bool = False,
) -> SpanList:
    """The spans that this process has recorded, in the order in which they ended: those that meet every condition.

    Args:
        cell: the number in `In [4]`, or "last" for the last cell with spans.
        session: name, id, or the beginning of an id that no other session's has.
        name: the span's name, or a part of it, in any case.
        kind: llm, tool, agent, embedding and so on.
        errors: only spans in error.

    Raises:
        TypeError: a value of another type.
        ValueError: a kind that there is none of, or a beginning that several sessions' ids have.
    """
    _check(cell=cell, session=session, name=name, kind=kind)
    registry.seal_all(SEAL_SECONDS)
    log = span_log()
    found: Iterable[SpanRecord] = log.records(cell=_cell_key(cell)) if cell is not None else log.records()
    if session is not None:
        ids = _sessions(session, {record.session_id for record in log.records() if record.session_id})
        found = [record for record in found if record.session_id in ids]
    if name is not None:
        found = [record for record in found if name.lower() in record.name.lower()]
    if kind is not None:
        found = [record for record in found if record.facts.kind == kind]
    return SpanList(record for record in found if not errors or record.status == "error")


def _export(records: Sequence[SpanRecord]) -> ExportState:
    """What became of these spans, as far as the cells they belong to tell."""
    tracer = current_tracer()
    states = [registry.cell_state(cell) for cell in {record.cell for record in records} if cell is not None]
    if any(record.cell is None for record in records) and tracer is not None:
        states.append(tracer.export_state())
    told = [state for state in states if state.told]
    return combined(told) if told else ExportState(None, made=len(records))


def _check(cell: object, session: object, name: object, kind: object) -> None:
    if isinstance(cell, bool) or not isinstance(cell, int | str | None):
        raise TypeError(f"spans(cell=...) takes the number of a cell or 'last', not {cell!r}")
    for argument, value in {"session": session, "name": name, "kind": kind}.items():
        if not isinstance(value, str | None):
            raise TypeError(f"spans({argument}=...) takes text, not {value!r}")
    if kind is not None and kind not in KINDS:
        raise ValueError(f"spans(kind={kind!r}): there is no such kind. It is one of {', '.join(KINDS)}.")


def _cell_key(cell: int | str) -> str:
    """The key of the latest run of a cell; of a cell without spans one that no row has."""
    keys = {record.cell: None for record in span_log().records() if record.cell is not None}
    matching = [key for key in keys if cell == LAST or key.rpartition("-")[0] == str(cell)]
    return matching[-1] if matching else ""


def _sessions(session: str, ids: Iterable[str]) -> set[str]:
    """The ids that a name or the beginning of an id means."""
    titles = session_titles()
    named = {found for found, title in titles.items() if session in (title, title.rpartition(" #")[0])}
    if named:
        return named
    begun = {found for found in ids if found.startswith(session.lower())} if session else set()
    if len(begun) > 1 and session.lower() not in begun:
        raise ValueError(f"spans(session={session!r}): the ids of {len(begun)} sessions begin so.")
    return {session.lower()} if session.lower() in begun else begun


def _flat(record: SpanRecord) -> dict[str, Any]:
    """The columns of a span."""
    facts, usage = record.facts, record.facts.usage
    dollars, estimated = cost.cost_of(facts)
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
        "session_id": record.session_id,
        "cell": record.cell.rpartition("-")[0] if record.cell else None,
        "scope": record.scope,
        "trace_id": f"{record.trace_id:032x}",
        "span_id": f"{record.span_id:016x}",
        "parent_id": None if record.parent_id is None else f"{record.parent_id:016x}",
    }


_TOKENS: Final = ("prompt", "completion", "total", "cached", "cache_write", "reasoning")
_COLUMNS: Final = tuple(_flat(SpanRecord(0, 0, None, "", 0, 0, "ok", SpanFacts())))
