"""What reading spans costs: `python -m tests.benchmarks.reading`. Time a span for row, tree and totals; bytes a row.

Recorded spans of real instrumentors, repeated with ids of their own. Times are the least of three, since others use the
machine too.
"""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from hh_jupyter.conventions import content
from hh_jupyter.records.record import record_of
from hh_jupyter.records.totals import summarize
from hh_jupyter.records.tree import SpanTree
from tests.spans import RECORDINGS, recorded

SIZES: Final = (1_000, 10_000, 100_000)


def repeated(number: int) -> list[ReadableSpan]:
    """So many spans: the recordings again and again, each time as traces of their own."""
    every = [span for name in RECORDINGS if "big-prompt" not in name for span in recorded(name)]
    chance = random.Random(0)
    made: list[ReadableSpan] = []
    while len(made) < number:
        traces: dict[int, int] = {}
        shift = len(made) * 1_000_000
        for span in every:
            trace_id = traces.setdefault(span.context.trace_id, chance.getrandbits(128))
            made.append(_copy(span, trace_id, shift))
    return made[:number]


def _copy(span: ReadableSpan, trace_id: int, shift: int) -> ReadableSpan:
    def context(of: SpanContext | None) -> SpanContext | None:
        return of and SpanContext(trace_id, of.span_id, is_remote=False, trace_flags=TraceFlags(1))

    return ReadableSpan(
        name=span.name,
        context=context(span.context),
        parent=context(span.parent),
        kind=span.kind,
        resource=span.resource,
        attributes=span.attributes,
        events=span.events,
        status=span.status,
        start_time=(span.start_time or 0) + shift,
        end_time=(span.end_time or 0) + shift,
        instrumentation_scope=span.instrumentation_scope,
    )


def _micros(number: int, do: Callable[[], Any]) -> float:
    best = min(_seconds(do) for _ in range(3))
    return best / number * 1e6


def _seconds(do: Callable[[], Any]) -> float:
    start = time.process_time()
    do()
    return time.process_time() - start


def _bytes(number: int, do: Callable[[], Any]) -> float:
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = do()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return (after - before) / number


def main() -> None:
    """Print one line for each size."""
    print("   spans   row us  tree us  rows us  totals us  detail us  row B  tree B")
    for number in SIZES:
        print(_line(number))


def _line(number: int) -> str:
    spans = repeated(number)
    rows = [record_of(span) for span in spans]
    tree, sample = SpanTree.build(rows), spans[:1_000]
    micros = (
        _micros(number, lambda: [record_of(span) for span in spans]),
        _micros(number, lambda: SpanTree.build(rows)),
        _micros(number, tree.rows),
        _micros(number, lambda: summarize(rows)),
        _micros(len(sample), lambda: [content(dict(span.attributes or {}), span.events) for span in sample]),
    )
    kept = _bytes(number, lambda: [record_of(span) for span in spans]), _bytes(number, lambda: SpanTree.build(rows))
    return f"{number:>8,}" + "".join(f"{value:>10.1f}" for value in micros) + "".join(f"{size:>7.0f}" for size in kept)


if __name__ == "__main__":
    main()
