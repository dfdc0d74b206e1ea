"""One implementation in one process: `python -m tests.benchmarks.worker ours URL` prints its numbers as JSON."""

from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.benchmarks.implementations import IMPLEMENTATIONS, Implementation

CALLS: Final = 1_000
"""Calls in one measurement: fewer than plain OpenTelemetry's queue holds, which drops what does not fit."""

REPEATS: Final = 5
ATTRIBUTES: Final = {
    "gen_ai.system": "openai",
    "llm.model_name": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 812,
    "gen_ai.usage.output_tokens": 93,
    "input.value": "Where is my order A-1001? It should have been here by last Monday.",
    "output.value": "It was sent on Monday and arrives tomorrow: https://shop.example/orders/A-1001",
    "honeyhive_metadata.step": "look up",
    "tool.name": "look_up_order",
    "llm.temperature": 0.2,
    "honeyhive.session_id": "5f0a1f1c-7a98-4138-b2a2-db681abd885f",
}
KERNEL: Final = ("ipykernel.kernelapp", "ipykernel.ipkernel")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
_MEMORY: Final = Path("/proc/self/statm")


def numbers(name: str, url: str) -> dict[str, float]:
    """Every row of the table: microseconds a call; milliseconds and megabytes for the start."""
    for module in KERNEL:
        importlib.import_module(module)
    tracing = IMPLEMENTATIONS[name]()
    memory, began = _megabytes(), time.perf_counter()
    tracing.start(url)
    found = {"import + ready": (time.perf_counter() - began) * 1e3, "memory": _megabytes() - memory}
    found["four threads, wall"] = _four_threads(tracing)
    for row, (work, flush) in _workloads(tracing).items():
        work()  # The first call imports and fills caches.
        tracing.flush()
        found[row] = statistics.median(_measure(work, flush) for _ in range(REPEATS))
    # Last: a backend is told of each with a request, and spans wait for the request of their session.
    found["create_session, caller"] = statistics.median(_measure(tracing.session, _nothing) for _ in range(REPEATS))
    return found


def _workloads(tracing: Implementation) -> dict[str, tuple[Callable[[], object], Callable[[], None]]]:
    """What is called by row; `flush` is in the measurement where all CPU time counts."""

    def small(a: int, b: str, c: float) -> dict[str, object]:
        return {"x": a, "y": b, "z": c}

    def failing(a: int, b: str, c: float) -> None:
        raise ValueError("no")

    def caught(function: Callable[..., object]) -> Callable[[], object]:
        def call() -> None:
            try:
                function(1, "two", 3.0)
            except ValueError:
                pass

        return call

    def block() -> None:
        with tracing.span():
            pass

    traced, captured, redact = tracing.traced(small), tracing.captured(small), tracing.redactor()
    flush = tracing.flush
    return {
        "@trace, caller": (lambda: traced(1, "two", 3.0), _nothing),
        "start_span, caller": (block, _nothing),
        "exception, caller": (caught(tracing.traced(failing)), _nothing),
        "@trace, all": (lambda: captured(1, "two", 3.0), flush),
        "redaction, a span": (lambda: redact(ATTRIBUTES), _nothing),
        "exception, all": (caught(tracing.captured(failing)), flush),
    }


def _measure(work: Callable[[], object], flush: Callable[[], None]) -> float:
    gc.collect()
    clock = time.thread_time_ns if flush is _nothing else time.process_time_ns
    began = clock()
    for _ in range(CALLS):
        work()
    flush()
    return (clock() - began) / CALLS / 1e3


def _four_threads(tracing: Implementation) -> float:
    """One burst, the first work of the process."""
    traced = tracing.traced(lambda a, b, c: a)

    def work() -> None:
        for _ in range(CALLS // 2):
            traced(1, "two", 3.0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    began = time.perf_counter_ns()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = (time.perf_counter_ns() - began) / (2 * CALLS) / 1e3
    tracing.flush()
    return took


def _nothing() -> None:
    """In place of a flush."""


def _megabytes() -> float:
    """Resident memory; 0 where the system has no such file."""
    return int(_MEMORY.read_text().split()[1]) * _PAGE / 2**20 if _MEMORY.exists() else 0.0


if __name__ == "__main__":
    print(json.dumps(numbers(sys.argv[1], sys.argv[2])), flush=True)
    os._exit(0)  # What is still in a queue is not part of any row.
