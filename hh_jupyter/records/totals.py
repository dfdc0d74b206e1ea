"""Totals over spans: calls, tokens, cost, tools and errors, each counted once even if several spans describe it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import fsum
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from hh_jupyter.conventions.facts import SpanFacts, Usage
from hh_jupyter.records import prices as price_table
from hh_jupyter.records.calls import (
    ModelCall,
    Parents,
    SpanKey,
    by_identity,
    duplicate_spans,
    ends_within,
    find_calls,
    key_of,
    start_order,
)
from hh_jupyter.records.record import CALL_KINDS, SpanRecord, record_of
from hh_jupyter.records.tree import SpanNode, SpanTree

# Tool runs: one for each operation, even if several spans describe it.

_HANDOFF: Final = "handoff to "
_QUALIFIED = re.compile(r"(?:(?:[^\W\d]\w*|<locals>)\.)+([^\W\d]\w*)")


@dataclass(frozen=True, slots=True)
class ToolRun:
    """One operation of a tool.

    Attributes:
        record: the outermost span that describes it.
        handoff: whether it is a hand-off between agents, which the OpenAI Agents instrumentor records as a tool span.
    """

    record: SpanRecord
    name: str
    handoff: bool


def find_tool_runs(records: Sequence[SpanRecord], parents: Parents) -> list[ToolRun]:
    """The tool runs, ordered by start.

    A traced function that a framework calls as a tool has a span of the framework and one of its own, and counts once.
    """
    tools = sorted((record for record in records if record.facts.kind == "tool"), key=start_order)
    scopes_of = {key_of(record): {record.scope} for record in tools}
    duplicates: set[SpanKey] = set()
    for outer, inner in duplicate_spans(
        tools, lambda record: (tool_name(record),), partial(_may_be_same_run, scopes_of)
    ):
        scopes_of[key_of(outer)].add(inner.scope)
        duplicates.add(key_of(inner))
    for record in tools:
        above = parents.of(record)
        duplicate = above is not None and above.facts.kind == "tool" and above.scope != record.scope
        if above is not None and duplicate and tool_name(above) == tool_name(record):
            duplicates.add(key_of(record))
    runs = [record for record in tools if key_of(record) not in duplicates]
    return [ToolRun(record, tool_name(record), _is_handoff(record)) for record in runs]


def _may_be_same_run(scopes_of: Mapping[SpanKey, set[str]], outer: SpanRecord, inner: SpanRecord) -> bool:
    return inner.scope not in scopes_of[key_of(outer)]


def tool_name(record: SpanRecord) -> str:
    """The tool's name from the span's attributes, else the span's name, without the module of a function."""
    if record.facts.tool_name:
        return record.facts.tool_name
    qualified = _QUALIFIED.fullmatch(record.name)
    return qualified[1] if qualified else record.name


def _is_handoff(record: SpanRecord) -> bool:
    return record.facts.tool_name is None and record.name.startswith(_HANDOFF)


# Errors, each counted once.

_ERROR_SUFFIX: Final = "_error"


def short_name(name: str) -> str:
    """A function's own name, without its module."""
    return name.rpartition(".")[2]


def sdk_error_duplicates(records: Sequence[SpanRecord]) -> set[SpanKey]:
    """The extra spans `<function>_error` that the official SDK creates for exceptions; they are not tools or errors."""
    failed = [record for record in records if record.status == "error" and record.error is not None]
    originals = {
        (short_name(r.name) + _ERROR_SUFFIX, r.error.type, r.error.message) for r in failed if r.error is not None
    }
    return {
        key_of(record)
        for record in failed
        if record.error is not None
        and record.parent_id is None
        and record.name.endswith(_ERROR_SUFFIX)
        and (record.name, record.error.type, record.error.message) in originals
    }


def http_status(call: ModelCall) -> str | None:
    """HTTP status of a failed call, as text; None if unknown."""
    if not call.failed:
        return None
    return next((str(span.http_status) for span in call.spans if span.http_status is not None), None)


def error_origins(
    records: Sequence[SpanRecord], calls: Sequence[ModelCall], error_duplicates: set[SpanKey]
) -> set[SpanKey]:
    """The spans in which errors began; of several spans of one call, the outermost."""
    if not any(record.status == "error" for record in records):
        return set()
    call_of = {key_of(span): key_of(call.spans[0]) for call in calls for span in call.spans}
    failed = [node for node in SpanTree.build(records).nodes if node.error in ("uncaught", "caught")]
    repeated = _repeated_errors(failed)
    origins = {
        call_of.get(key_of(node.record), key_of(node.record)) for node in failed if key_of(node.record) not in repeated
    }
    return origins - error_duplicates


def _repeated_errors(failed: Sequence[SpanNode]) -> set[SpanKey]:
    """Spans that repeat the error of a span below them if a span between is missing, as in Strands."""
    lost = [node.record for node in failed if node.parent is None and node.record.parent_id is not None]
    if not lost:
        return set()
    roots = [node.record for node in failed if node.record.parent_id is None]
    return {
        key_of(outer)
        for outer in roots
        if outer.error is not None
        and any(
            inner.error == outer.error
            and inner.trace_id == outer.trace_id
            and ends_within(inner, outer)
            and outer.start_ns <= inner.start_ns
            for inner in lost
        )
    }


_DATE: Final = re.compile(r"[-@](?:20\d\d-\d\d-\d\d|20\d{6})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over spans. Token sums cover calls with known usage; `unknown_usage_calls` counts the others.

    Attributes:
        models_requested: names of requested models, sorted; if unknown, the answering model's name without its date.
        models_served: names of the models that answered, sorted.
        llm_calls: requests to a model, including failed ones.
        http_requests: model and embedding calls. Retries within one call count as one request.
        prompt_tokens: including cached tokens. `completion_tokens` includes reasoning. Embeddings are separate.
        tool_calls_requested: tool calls in the responses of models.
        tool_spans: operations with a span of kind tool.
        tools_run: the same without hand-offs between agents and without the official SDK's extra error spans.
        error_statuses: HTTP statuses of failed calls, as text, sorted.
        errors: errors, each counted where it began, including caught ones.
        unknown_usage_calls: successful calls with unknown token counts.
        cost: US dollars as far as known; None if nothing is known.
        cost_complete: whether every call that used tokens has a cost, and every token a price. Otherwise the cost is a
            lower bound.
        cost_estimated: whether part of the cost comes from the price table rather than from a span.
        replayed_calls: model and embedding calls that were answered from a recording; their cost is 0.
        saved_cost: US dollars that these would have cost, as far as known; None if nothing is known.
        saved_estimated: whether part of that comes from the price table.
        prices: price table and its date, "genai-prices 0.2.3 of 2026-10-14"; None if nothing is estimated.
    """

    spans: int = 0
    models_requested: tuple[str, ...] = ()
    models_served: tuple[str, ...] = ()
    embedding_models: tuple[str, ...] = ()
    llm_calls: int = 0
    llm_calls_failed: int = 0
    http_requests: int = 0
    streamed_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    embedding_calls: int = 0
    embedding_tokens: int = 0
    tool_calls_requested: int = 0
    tool_call_names: tuple[str, ...] = ()
    tool_spans: int = 0
    tools_run: int = 0
    tools_run_names: tuple[str, ...] = ()
    error_statuses: tuple[str, ...] = ()
    errors: int = 0
    unknown_usage_calls: int = 0
    cost: float | None = None
    cost_complete: bool = True
    cost_estimated: bool = False
    replayed_calls: int = 0
    saved_cost: float | None = None
    saved_estimated: bool = False
    prices: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data, with tuples as lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def summarize(
    spans: Iterable[SpanRecord | ReadableSpan], *, prices: Callable[[SpanFacts], float | None] = price_table.estimate
) -> Totals:
    """Add up spans in any order. A span that occurs twice counts once, in its last state.

    Args:
        spans: records, or spans of the OpenTelemetry SDK.
        prices: function that estimates the cost of a call in US dollars, None for unknown. By default the price table,
            which has to be loaded before (`hh_jupyter.records.prices.load()`).

    Raises:
        ValueError: a span of the SDK has no ids or no start time.
    """
    by_key = by_identity(span if isinstance(span, SpanRecord) else record_of(span) for span in spans)
    records, parents = list(by_key.values()), Parents(by_key)
    calls = _merged(find_calls(records, parents, "llm"))
    embeddings = _merged(find_calls(records, parents, "embedding"))
    sums = _runs_without_calls(records, parents)
    error_duplicates = sdk_error_duplicates(records)
    every_call = [call for call, _ in (*calls, *embeddings)]
    return Totals(
        spans=len(records),
        embedding_models=_names(facts.model for _, facts in embeddings),
        embedding_calls=len(embeddings),
        embedding_tokens=sum(_tokens(facts.usage) for _, facts in embeddings),
        http_requests=len(every_call),
        errors=len(error_origins(records, every_call, error_duplicates)),
        **_call_sums(calls),
        **_token_sums([facts.usage for facts in (*(facts for _, facts in calls), *sums) if facts.usage is not None]),
        **_tool_sums(find_tool_runs(records, parents), error_duplicates),
        **_cost_sums([*calls, *embeddings], sums, prices),
    )


Merged = tuple[ModelCall, SpanFacts]
"""A call and the merged facts of its spans."""


def _merged(calls: Iterable[ModelCall]) -> list[Merged]:
    return [(call, call.merged()) for call in calls]


def _call_sums(calls: Sequence[Merged]) -> dict[str, Any]:
    return {
        "models_requested": _names(facts.model_requested or _undated(facts.model) for _, facts in calls),
        "models_served": _names(facts.model for call, facts in calls if not call.failed),
        "llm_calls": len(calls),
        "llm_calls_failed": sum(call.failed for call, _ in calls),
        "streamed_calls": sum(facts.streamed for _, facts in calls),
        "tool_calls_requested": sum(len(facts.tools_asked) for _, facts in calls),
        "tool_call_names": _names(name for _, facts in calls for name in facts.tools_asked),
        "error_statuses": _names(http_status(call) for call, _ in calls),
        "unknown_usage_calls": sum(not call.failed and not _known(facts.usage) for call, facts in calls),
    }


def _undated(model: str | None) -> str | None:
    """The model's name without its date: "gpt-4o" for "gpt-4o-2024-08-06"."""
    return _DATE.sub("", model) if model else None


def _names(found: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({name for name in found if name}))


def _known(usage: Usage | None) -> bool:
    return usage is not None and (usage.total is not None or None not in (usage.prompt, usage.completion))


def _tokens(usage: Usage | None) -> int:
    return (usage.tokens or 0) if usage is not None else 0


def _token_sums(each: Sequence[Usage]) -> dict[str, Any]:
    return {
        "prompt_tokens": sum(usage.prompt or 0 for usage in each),
        "completion_tokens": sum(usage.completion or 0 for usage in each),
        "total_tokens": sum(map(_tokens, each)),
        "cached_tokens": sum(usage.cached or 0 for usage in each),
        "cache_write_tokens": sum(usage.cache_write or 0 for usage in each),
        "reasoning_tokens": sum(usage.reasoning or 0 for usage in each),
    }


def _cost_sums(
    calls: Sequence[Merged], sums: Sequence[SpanFacts], prices: Callable[[SpanFacts], float | None]
) -> dict[str, Any]:
    known: list[float] = []
    complete, estimated = True, False
    replayed = [facts for _, facts in calls if facts.replayed]
    saved = [cost for facts in replayed if (cost := price_table.saved_cost(facts, prices))[0] is not None]
    for failed, facts in [*((call.failed, facts) for call, facts in calls), *((False, facts) for facts in sums)]:
        price, is_estimate = price_table.cost_of(facts, prices)
        if price is not None:
            known.append(price)
            estimated = estimated or is_estimate
            complete = complete and not (is_estimate and facts.usage is not None and facts.usage.unexplained)
        elif not failed or facts.usage is not None:
            complete = False
    return {
        "cost": fsum(known) if known else None,
        "cost_complete": complete,
        "cost_estimated": estimated,
        "replayed_calls": len(replayed),
        "saved_cost": fsum(cost or 0 for cost, _ in saved) if saved else None,
        "saved_estimated": any(is_estimate for _, is_estimate in saved),
        "prices": price_table.table() if estimated else None,
    }


def _runs_without_calls(records: Sequence[SpanRecord], parents: Parents) -> list[SpanFacts]:
    """Facts of the outermost agent and chain spans that have the usage of their run, if no span below has it."""
    carriers = [r for r in records if r.facts.usage is not None and r.facts.kind not in CALL_KINDS]
    if not carriers:
        return []
    above_calls: set[SpanKey] = set()
    around_calls: set[SpanKey] = set()
    for record in records:
        if record.facts.usage is not None and record.facts.kind in CALL_KINDS:
            top, above = record, parents.of(record)
            while above is not None and key_of(above) not in above_calls:
                above_calls.add(key_of(above))
                top, above = above, parents.of(above)
            if above is None and top.parent_id is not None:
                # A span between is missing: any span that encloses it in the same trace may be above it.
                around_calls.update(key_of(carrier) for carrier in carriers if _encloses(carrier, top))
    alone = {key_of(record) for record in carriers} - above_calls - around_calls
    outer = parents.nearest(lambda record: key_of(record) not in alone)
    return [r.facts for r in sorted(carriers, key=start_order) if key_of(r) in alone and outer(r) is None]


def _encloses(outer: SpanRecord, inner: SpanRecord) -> bool:
    return outer.trace_id == inner.trace_id and outer.start_ns <= inner.start_ns and ends_within(inner, outer)


def _tool_sums(runs: Sequence[ToolRun], error_duplicates: set[SpanKey]) -> dict[str, Any]:
    run = _without_handoffs(runs, error_duplicates)
    return {
        "tool_spans": len(runs),
        "tools_run": len(run),
        "tools_run_names": _names(tool.name for tool in run),
    }


def _without_handoffs(runs: Sequence[ToolRun], error_duplicates: set[SpanKey]) -> list[ToolRun]:
    return [tool for tool in runs if not tool.handoff and key_of(tool.record) not in error_duplicates]


# The same operations one by one, for those who want more than their number.


def tools_run(records: Sequence[SpanRecord]) -> list[ToolRun]:
    """The operations that `Totals.tools_run` counts, by start."""
    runs = find_tool_runs(records, Parents(by_identity(records)))
    return _without_handoffs(runs, sdk_error_duplicates(records))


def error_spans(records: Sequence[SpanRecord]) -> list[SpanRecord]:
    """The spans that `Totals.errors` counts, in which errors began, by start."""
    by_key = by_identity(records)
    parents = Parents(by_key)
    calls = [call for kind in CALL_KINDS for call in find_calls(records, parents, kind)]
    origins = error_origins(records, calls, sdk_error_duplicates(records))
    return sorted((by_key[key] for key in origins), key=start_order)
