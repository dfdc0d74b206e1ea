"""See what your LLM code did, right under the notebook cell.

In a notebook: `%load_ext hh_jupyter`. Anywhere: `HoneyHiveTracer.init()` and `@trace`. Importing this package loads
no IPython, no widgets and no web framework.
"""

from __future__ import annotations

import copyreg
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hh_jupyter.errors import BackendError, HHError, SettingError, SettingTypeError, WorkerError
from hh_jupyter.tracing.api import (
    enrich_session,
    enrich_span_context,
    extract_context_from_carrier,
    flush,
    get_default_tracer,
    get_tracer,
    inject_context_into_carrier,
    shutdown_tracer,
    with_distributed_trace_context,
)
from hh_jupyter.tracing.context import set_default_tracer
from hh_jupyter.tracing.decorators import atrace, trace, trace_class
from hh_jupyter.tracing.spans import enrich_span
from hh_jupyter.tracing.tracer import HoneyHiveTracer

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from hh_jupyter.conventions.event_type import EventType
    from hh_jupyter.experiments import (
        HoneyHive,
        aevaluate,
        aevaluator,
        compare_runs,
        evaluate,
        evaluator,
        get_run_result,
        judge,
    )
    from hh_jupyter.notebook.span_view import SpanView
    from hh_jupyter.query import SpanList, spans
    from hh_jupyter.recordings import recording
    from hh_jupyter.records.totals import summarize
    from hh_jupyter.span_diff import SpanDiff, diff

__all__ = [
    "BackendError",
    "EventType",
    "HHError",
    "HoneyHive",
    "HoneyHiveTracer",
    "SettingError",
    "SettingTypeError",
    "SpanDiff",
    "SpanList",
    "SpanView",
    "WorkerError",
    "aevaluate",
    "aevaluator",
    "atrace",
    "compare_runs",
    "diff",
    "enrich_session",
    "enrich_span",
    "enrich_span_context",
    "evaluate",
    "evaluator",
    "extract_context_from_carrier",
    "flush",
    "get_default_tracer",
    "get_run_result",
    "get_tracer",
    "inject_context_into_carrier",
    "judge",
    "load_ipython_extension",
    "recording",
    "set_default_tracer",
    "shutdown_tracer",
    "spans",
    "summarize",
    "trace",
    "trace_class",
    "unload_ipython_extension",
    "with_distributed_trace_context",
]


_EXPERIMENTS = (
    "HoneyHive",
    "aevaluate",
    "aevaluator",
    "compare_runs",
    "evaluate",
    "evaluator",
    "get_run_result",
    "judge",
)
_LAZY = {
    **dict.fromkeys(_EXPERIMENTS, "experiments"),
    "EventType": "conventions.event_type",
    "SpanDiff": "span_diff",
    "SpanList": "query",
    "SpanView": "notebook.span_view",
    "diff": "span_diff",
    "recording": "recordings",
    "spans": "query",
    "summarize": "records.totals",
}


def __getattr__(name: str) -> Any:
    """Import a public name that the tracer does not need on its first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    return value


def __dir__() -> list[str]:
    """The public names only, for completion: no submodules and no names that this file imports."""
    return __all__


def _reduce_tracer(tracer: HoneyHiveTracer) -> tuple[Any, ...]:
    """Pickle a tracer as a handle: in a worker process it becomes that worker's tracer. The API key is not pickled."""
    from hh_jupyter.runtimes import workers  # Most tracers are never pickled.

    return workers.tracer_of, workers.tracer_handle(tracer)


copyreg.pickle(HoneyHiveTracer, _reduce_tracer)


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """`%load_ext hh_jupyter`: one tracer for the kernel, the magics, and a summary under each traced cell."""
    from hh_jupyter.notebook import extension

    extension.load(ipython)


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """`%unload_ext hh_jupyter`: undo everything that loading did."""
    from hh_jupyter.notebook import extension

    extension.unload(ipython)
