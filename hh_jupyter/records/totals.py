"""What spans add up to: calls, tokens, cost, tools, errors, each counted once however many spans tell of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import fsum
from typing import TYPE_CHECKING, Any, Final

from hh_jupyter.conventions.facts import SpanFacts, Usage
from hh_jupyter.records import cost
from hh_jupyter.records.calls import Call, SpanKey, find_calls, key_of, parent_of
from hh_jupyter.records.failures import count_errors, find_echoes, http_statuses, short_name
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.record_of import record_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_CALL_KINDS: Final = ("llm", "embedding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over spans. Token sums cover the calls whose usage is known; the others are counted.

    Attributes:
        models_requested: names asked for, sorted, where spans tell.
        models_served: names that answered, sorted.
        llm_calls: requests to a model, failed ones included.
        prompt_tokens: includes cached ones. `completion_tokens` includes reasoning. Embeddings are apart.
        tool_calls_requested: tool calls that models asked for.
        tool_spans: operations that a span of kind tool was made for.
        tools_run: the same without the extra span that the official SDK makes for an error.
        error_statuses: HTTP statuses of failed calls, as text, sorted.
        errors: failures, each counted where it began, caught ones included.
        unknown_usage_calls: calls that did not fail and whose tokens are not known.
        cost: US dollars, as far as known; None if nothing is known.
        cost_complete: every call that used tokens has a cost.
        cost_estimated: some of it comes from the price table and not from a span.
    """

    spans: int = 0
    models_requested: tuple[str, ...] = ()
    models_served: tuple[str, ...] = ()
    embedding_models: tuple[str, ...] = ()
    llm_calls: int = 0
    llm_calls_failed: int = 0
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

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data, lists for tuples."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def summarize(
    spans: Iterable[SpanRecord | ReadableSpan], *, prices: Callable[[SpanFacts], float | None] = cost.estimate
) -> Totals:
    """Add up spans in any order; a span that is given twice counts once, as it was last.

    Args:
        spans: rows, or spans of the OpenTelemetry SDK.
        prices: US dollars for a call whose span does not tell; None is unknown. By default the price table, which
            knows nothing before `cost.load()`.

    Raises:
        ValueError: a span of the SDK has no ids or no start.
    """
    rows = [span if isinstance(span, SpanRecord) else record_of(span) for span in spans]
    by_key = {key_of(record): record for record in rows}
    records = list(by_key.values())
    calls = find_calls(records, by_key, "llm")
    embeddings = find_calls(records, by_key, "embedding")
    sums = _runs_without_calls(records, by_key)
    echoes = find_echoes(records)
    return Totals(
        spans=len(records),
        embedding_models=_names(call.facts.model for call in embeddings),
        embedding_calls=len(embeddings),
        embedding_tokens=sum(_tokens(call.facts.usage) for call in embeddings),
        errors=count_errors(records, [*calls, *embeddings], echoes),
        **_call_sums(calls),
        **_token_sums([f.usage for f in (*(call.facts for call in calls), *sums) if f.usage is not None]),
        **_tool_sums(_tool_operations(records, by_key), echoes),
        **_cost_sums([*calls, *embeddings], sums, prices),
    )


def _call_sums(calls: Sequence[Call]) -> dict[str, Any]:
    each = [(call, call.facts) for call in calls]
    return {
        "models_requested": _names(facts.model_requested for _, facts in each),
        "models_served": _names(facts.model for call, facts in each if not call.failed),
        "llm_calls": len(calls),
        "llm_calls_failed": sum(call.failed for call in calls),
        "streamed_calls": sum(facts.streamed for _, facts in each),
        "tool_calls_requested": sum(len(facts.tools_asked) for _, facts in each),
        "tool_call_names": _names(name for _, facts in each for name in facts.tools_asked),
        "error_statuses": _names(status for call in calls for status in http_statuses(call)),
        "unknown_usage_calls": sum(not call.failed and not _known(facts.usage) for call, facts in each),
    }


def _names(found: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({name for name in found if name}))


def _known(usage: Usage | None) -> bool:
    return usage is not None and (usage.total is not None or None not in (usage.prompt, usage.completion))


def _tokens(usage: Usage | None) -> int:
    """Prompt and completion, else the total where no more is told."""
    if usage is None:
        return 0
    if usage.prompt is None and usage.completion is None:
        return usage.total or 0
    return (usage.prompt or 0) + (usage.completion or 0)


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
    calls: Sequence[Call], sums: Sequence[SpanFacts], prices: Callable[[SpanFacts], float | None]
) -> dict[str, Any]:
    known: list[float] = []
    complete, estimated = True, False
    for failed, facts in [*((call.failed, call.facts) for call in calls), *((False, facts) for facts in sums)]:
        said = facts.cost
        price = said if said is not None else prices(facts)
        if price is not None:
            known.append(price)
            estimated = estimated or said is None
        elif not failed or facts.usage is not None:
            complete = False
    return {"cost": fsum(known) if known else None, "cost_complete": complete, "cost_estimated": estimated}


def _runs_without_calls(records: Sequence[SpanRecord], by_key: Mapping[SpanKey, SpanRecord]) -> list[SpanFacts]:
    """Usage that agent and chain spans carry for their run, where no span below says it: the outermost of each run."""
    carriers = [r for r in records if r.facts.usage is not None and r.facts.kind not in _CALL_KINDS]
    if not carriers:
        return []
    explained: set[SpanKey] = set()
    for record in records:
        if record.facts.usage is not None and record.facts.kind in _CALL_KINDS:
            above = parent_of(record, by_key)
            while above is not None and key_of(above) not in explained:
                explained.add(key_of(above))
                above = parent_of(above, by_key)
    counted: list[SpanFacts] = []
    taken: set[SpanKey] = set()
    for record in sorted(carriers, key=lambda r: (r.start_ns, -r.duration_ns)):
        if key_of(record) in explained:
            continue
        above = parent_of(record, by_key)
        while above is not None and key_of(above) not in taken:
            above = parent_of(above, by_key)
        if above is None:
            taken.add(key_of(record))
            counted.append(record.facts)
    return counted


def _tool_operations(records: Sequence[SpanRecord], by_key: Mapping[SpanKey, SpanRecord]) -> list[SpanRecord]:
    """Tool spans, one for each operation: a traced function that a framework calls as a tool has two."""
    found = []
    for record in records:
        if record.facts.kind == "tool":
            outer = parent_of(record, by_key)
            doubled = outer is not None and outer.facts.kind == "tool" and outer.scope != record.scope
            if not (doubled and outer is not None and short_name(outer.name) == short_name(record.name)):
                found.append(record)
    return found


def _tool_sums(operations: Sequence[SpanRecord], echoes: set[SpanKey]) -> dict[str, Any]:
    run = [record for record in operations if key_of(record) not in echoes]
    return {
        "tool_spans": len(operations),
        "tools_run": len(run),
        "tools_run_names": _names(record.name for record in run),
    }
