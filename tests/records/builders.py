"""Rows made by hand, and the two agents that the expected texts are about."""

from __future__ import annotations

from typing import Any

from hh_jupyter.conventions.facts import SpanFacts, Usage
from hh_jupyter.records.record import SpanError, SpanRecord

MS = 1_000_000
START = 1_700_000_000_000_000_000


def span(
    number: int,
    parent: int | None,
    start: float,
    end: float | None,
    name: str = "",
    **facts: Any,
) -> SpanRecord:
    """A row; times in milliseconds after `START`.

    `error=` (False for one without text) and `trace=` are the row's, the rest are its facts.
    """
    error = facts.pop("error", None)
    trace = facts.pop("trace", 1)
    tokens = facts.pop("tokens", None)
    usage = None if tokens is None else Usage(prompt=tokens[0], completion=tokens[1], total=sum(tokens))
    return SpanRecord(
        trace_id=trace,
        span_id=number,
        parent_id=parent,
        name=name or f"span {number}",
        start_ns=START + round(start * MS),
        end_ns=None if end is None else START + round(end * MS),
        status="running" if end is None else "error" if error is not None else "ok",
        facts=SpanFacts(usage=usage, **facts),
        error=error or None,
    )


UNAVAILABLE = SpanError("HTTPError", "503 Service Unavailable", "payments.py:41", 503)


def agent_rows(*, failing: bool) -> list[SpanRecord]:
    """An agent that refunds an order, or whose payment service is down; rows in the order in which they ended."""
    error = UNAVAILABLE if failing else None
    rows = [
        span(1, None, 0, 2384 if failing else 2842, "support_agent", kind="agent", error=error),
        span(2, 1, 12, 352, "plan", kind="llm", model="gpt-4.1-mini", tokens=(412, 38), cost=0.000226),
        span(3, 1, 360, 702, "search_policy", kind="retriever", model="faiss"),
        *(
            span(
                100 + index,
                3,
                372 + index * 17 + index % 3 * 3,
                372 + index * 17 + 42 + index * 7 % 5 * 9,
                "embed_chunk",
                kind="embedding",
                tokens=(118 + index * 3, 0),
                cost=0.0000024,
            )
            for index in range(12)
        ),
        span(4, 3, 630, 698, "vector_query", kind="retriever"),
        span(5, 1, 364, 910, "get_order", kind="tool"),
        span(6, 5, 392, 896, "GET /orders/48213", kind="http"),
        span(7, 1, 918, 1710, "decide", kind="llm", model="gpt-4.1", tokens=(1836, 61), cost=0.00416),
        span(8, 1, 1718, 2371 if failing else 2041, "issue_refund", kind="tool", error=error),
    ]
    if failing:
        rows += [
            span(9, 8, 1724, 1934, "POST /refunds", kind="http", error=error),
            span(10, 8, 2136, 2366, "POST /refunds", kind="http", error=error),
        ]
    else:
        rows.append(
            span(9, 1, 2049, 2836, "write_reply", kind="llm", model="gpt-4.1", tokens=(1988, 94), cost=0.004728)
        )
    return sorted(rows, key=lambda row: row.end_ns or 0)
