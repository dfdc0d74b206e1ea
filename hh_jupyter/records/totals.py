"""What spans add up to: calls, tokens, cost, tools, errors, each counted once however many spans tell of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import fsum
from typing import TYPE_CHECKING, Any, Final

from hh_jupyter.conventions.facts import SpanFacts, Usage
from hh_jupyter.records import cost
from hh_jupyter.records.calls import KINDS, Call, find_calls
from hh_jupyter.records.failures import count_errors, find_echoes, http_status
from hh_jupyter.records.parents import Parents, SpanKey, by_identity, key_of
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.record_of import record_of
from hh_jupyter.records.tools import ToolRun, find_tool_runs
from hh_jupyter.records.twins import by_place, within

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_DATE: Final = re.compile(r"[-@](?:20\d\d-\d\d-\d\d|20\d{6})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over spans. Token sums cover the calls whose usage is known; the others are counted.

    Attributes:
        models_requested: names asked for, sorted; where spans do not tell, the answering model's without its date.
        models_served: names that answered, sorted.
        llm_calls: requests to a model, failed ones included.
        http_requests: calls of models and of embeddings. A request that was retried below one call is one.
        prompt_tokens: includes cached ones. `completion_tokens` includes reasoning. Embeddings are apart.
        tool_calls_requested: tool calls that models asked for.
        tool_spans: operations that a span of kind tool was made for.
        tools_run: the same without hand-offs from agent to agent, and without the extra span that the official SDK
            makes for an error.
        error_statuses: HTTP statuses of failed calls, as text, sorted.
        errors: failures, each counted where it began, caught ones included.
        unknown_usage_calls: calls that did not fail and whose tokens are not known.
        cost: US dollars, as far as known; None if nothing is known.
        cost_complete: every call that used tokens has a cost, and every token of it has a price. Otherwise the cost is
            a lower bound.
        cost_estimated: some of it comes from the price table and not from a span.
        prices: that table and its date, "genai-prices 0.2.3 of 2026-10-14"; None if nothing is estimated.
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
    prices: str | None = None

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
    by_key = by_identity(span if isinstance(span, SpanRecord) else record_of(span) for span in spans)
    records, parents = list(by_key.values()), Parents(by_key)
    calls = _merged(find_calls(records, parents, "llm"))
    embeddings = _merged(find_calls(records, parents, "embedding"))
    sums = _runs_without_calls(records, parents)
    echoes = find_echoes(records)
    every_call = [call for call, _ in (*calls, *embeddings)]
    return Totals(
        spans=len(records),
        embedding_models=_names(facts.model for _, facts in embeddings),
        embedding_calls=len(embeddings),
        embedding_tokens=sum(_tokens(facts.usage) for _, facts in embeddings),
        http_requests=len(every_call),
        errors=count_errors(records, every_call, echoes),
        **_call_sums(calls),
        **_token_sums([facts.usage for facts in (*(facts for _, facts in calls), *sums) if facts.usage is not None]),
        **_tool_sums(find_tool_runs(records, parents), echoes),
        **_cost_sums([*calls, *embeddings], sums, prices),
    )


Merged = tuple[Call, SpanFacts]
"""A call, and what its spans tell together."""


def _merged(calls: Iterable[Call]) -> list[Merged]:
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
    """The alias of a model's version: "gpt-4o" for "gpt-4o-2024-08-06"."""
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
    for failed, facts in [*((call.failed, facts) for call, facts in calls), *((False, facts) for facts in sums)]:
        price, guessed = cost.cost_of(facts, prices)
        if price is not None:
            known.append(price)
            estimated = estimated or guessed
            complete = complete and not (guessed and facts.usage is not None and facts.usage.unexplained)
        elif not failed or facts.usage is not None:
            complete = False
    return {
        "cost": fsum(known) if known else None,
        "cost_complete": complete,
        "cost_estimated": estimated,
        "prices": cost.table() if estimated else None,
    }


def _runs_without_calls(records: Sequence[SpanRecord], parents: Parents) -> list[SpanFacts]:
    """Usage that agent and chain spans carry for their run, where no span below says it: the outermost of each run."""
    carriers = [r for r in records if r.facts.usage is not None and r.facts.kind not in KINDS]
    if not carriers:
        return []
    above_calls: set[SpanKey] = set()
    around_calls: set[SpanKey] = set()
    for record in records:
        if record.facts.usage is not None and record.facts.kind in KINDS:
            top, above = record, parents.of(record)
            while above is not None and key_of(above) not in above_calls:
                above_calls.add(key_of(above))
                top, above = above, parents.of(above)
            if above is None and top.parent_id is not None:
                # A span between is missing: what runs meanwhile in the same trace may well be above it.
                around_calls.update(key_of(carrier) for carrier in carriers if _encloses(carrier, top))
    alone = {key_of(record) for record in carriers} - above_calls - around_calls
    outer = parents.nearest(lambda record: key_of(record) not in alone)
    return [r.facts for r in sorted(carriers, key=by_place) if key_of(r) in alone and outer(r) is None]


def _encloses(outer: SpanRecord, inner: SpanRecord) -> bool:
    return outer.trace_id == inner.trace_id and outer.start_ns <= inner.start_ns and within(inner, outer)


def _tool_sums(runs: Sequence[ToolRun], echoes: set[SpanKey]) -> dict[str, Any]:
    run = [tool for tool in runs if not tool.handoff and key_of(tool.record) not in echoes]
    return {
        "tool_spans": len(runs),
        "tools_run": len(run),
        "tools_run_names": _names(tool.name for tool in run),
    }
