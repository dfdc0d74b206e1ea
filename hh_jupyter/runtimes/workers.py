"""Trace functions that run on executors: threads, processes, Dask, and any other `concurrent.futures.Executor`.

    pool.submit(traced(answer), question)
    pool.map(traced(answer), questions)

Context and session are pickled with the call (`RemoteContext`). In a thread, nothing else is needed. In another
process, spans are buffered and pickled with the result or the exception (`WorkerResult`). The calling process receives
them as if it had made them: in the calling cell, session and backend. Dask keeps results in its workers, so spans from
there are sent as Dask events (`DaskTransport`).
"""

from __future__ import annotations

import asyncio
import copyreg
import functools
import inspect
import itertools
import json
import logging
import os
import pickle
import sys
import threading
import uuid
import weakref
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, ParamSpec, TypeVar, cast
from weakref import WeakValueDictionary

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from hh_jupyter import settings as settings_table
from hh_jupyter.delivery.away import ADDRESS, Address, Parcel, parcel_for, process_name
from hh_jupyter.delivery.parcel import Returned, opened, packed
from hh_jupyter.delivery.sealing.stamp import EndedSpan
from hh_jupyter.errors import WorkerError
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.context import (
    SESSION_KEYS,
    current_cell,
    detach,
    unset_default,
    visible_baggage,
    with_cell,
    with_tracer,
)
from hh_jupyter.tracing.tracer import HoneyHiveTracer
from hh_jupyter.tracing.validation import callable_matches, raise_argument_error, tracer_or_none, unwrap_partial
from hh_jupyter.values import evict_oldest, text_of, type_name

__all__ = ["traced"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

REMOTE_SETTINGS: Final = ("capture_inputs", "capture_outputs", "span_name_filters", "source", "project")
"""Settings that a worker needs to make spans. API key and URL are not sent, nor are redaction rules."""

MAX_SEEN_PAYLOADS: Final = 10_000
"""Number of payload ids that are remembered to detect duplicates."""


def traced(fn: Callable[P, R], tracer: HoneyHiveTracer | None = None) -> Callable[P, R]:
    """Wrap a function for an executor. Spans made in the worker get the current span, session and notebook cell.

    Call it where you submit the work, since it captures the current context. `fn` needs no decorator. A coroutine
    function is run with `asyncio.run`. A worker process needs `hh_jupyter` installed, but no API key.

    Example:
        >>> from concurrent.futures import ProcessPoolExecutor
        >>> with ProcessPoolExecutor() as pool:  # doctest: +SKIP
        ...     replies = list(pool.map(traced(answer), questions))

    Args:
        fn: a function that the executor can pickle.
        tracer: default: the current tracer. Without one, `fn` runs untraced.

    Raises:
        SettingTypeError: `fn` is not callable.
    """
    if not callable(fn):
        raise_argument_error(
            "traced", "fn", fn, "a function", "Pass its arguments to the executor: submit(traced(fn), argument)."
        )
    found = tracer_or_none("traced", "tracer", tracer) or current_tracer()
    if found is None or not found.enabled:
        return functools.partial(_call, fn)
    subscribe_dask_clients()
    return _LocalFunction(fn, remote_context_of(found), with_tracer(otel_context.get_current(), found))


# Handles and contexts that are sent to workers


class TracerHandle(NamedTuple):
    """Identifies a tracer across processes.

    Attributes:
        process: see `process_name`.
        tracer: the tracer's random id.
        settings: the settings in `REMOTE_SETTINGS`, as JSON.
    """

    process: str
    tracer: str
    settings: str


@dataclass(frozen=True, slots=True)
class RemoteContext:
    """The context of a call, in a form that can be pickled.

    Attributes:
        cell: id of the run of the notebook cell that made the call.
        span: trace id, span id, flags and state of the parent span; None for a new trace.
        baggage: baggage of the calling context, with the current session.
    """

    handle: TracerHandle
    cell: str | None
    span: tuple[int, int, int, str] | None
    baggage: Mapping[str, str]

    @property
    def in_origin_process(self) -> bool:
        """Whether this is the process that made the call."""
        return self.handle.process == process_name()

    def context(self, tracer: HoneyHiveTracer) -> Context:
        """The OpenTelemetry context to run the call in."""
        span: Any = INVALID_SPAN
        if self.span is not None:
            trace_id, span_id, flags, state = self.span
            trace_state = TraceState.from_header([state]) if state else None
            span = NonRecordingSpan(SpanContext(trace_id, span_id, True, TraceFlags(flags), trace_state))
        context = set_span_in_context(span, with_tracer(Context(), tracer))
        for key, value in self.baggage.items():
            context = baggage.set_baggage(key, value, context)
        if self.in_origin_process:
            return context if self.cell is None else with_cell(context, self.cell)
        address = Address(self.handle.process, self.handle.tracer, self.cell).text
        return otel_context.set_value(ADDRESS, address, with_cell(context, address))

    def span_buffer(self) -> Parcel:
        """The buffer of spans that were made here for the calling process."""
        return parcel_for(self.handle.process)


def remote_context_of(tracer: HoneyHiveTracer) -> RemoteContext:
    """The current context, for a call that is sent to a worker."""
    context = otel_context.get_current()
    span = get_current_span(context).get_span_context()
    state = span.trace_state.to_header() if span.trace_state else ""
    entries = {key: str(value) for key, value in visible_baggage(tracer.sessions, context).items()}
    own = tracer.session
    for key, value in zip(SESSION_KEYS, (tracer.current_session_id, own.project, own.source), strict=True):
        if value and not entries.get(key):
            entries[key] = value
    return RemoteContext(
        handle_for(tracer),
        current_cell(),
        (span.trace_id, span.span_id, int(span.trace_flags), state) if span.is_valid else None,
        entries,
    )


_handles: WeakValueDictionary[str, HoneyHiveTracer] = WeakValueDictionary()
_seen_payloads: dict[str, object] = {}
_worker_tracers: dict[str, HoneyHiveTracer] = {}
"""Tracers of this process for calls of other processes, by their settings."""

_worker_tracers_lock = threading.Lock()


def handle_for(tracer: HoneyHiveTracer) -> TracerHandle:
    """The handle of a tracer of this process."""
    # No lock: a pool may fork while another thread receives results, and the child would inherit a held lock.
    _handles.setdefault(tracer.uid, tracer)
    settings = {name: getattr(tracer.settings, name) for name in REMOTE_SETTINGS}
    return TracerHandle(process_name(), tracer.uid, json.dumps(settings, sort_keys=True, default=dict))


def tracer_for_handle(handle: TracerHandle) -> HoneyHiveTracer:
    """The tracer itself in its own process; in another process, a worker tracer that buffers spans."""
    found = _handles.get(handle.tracer) if handle.process == process_name() else None
    return found or _worker_tracer(handle.settings)


def _worker_tracer(settings_json: str) -> HoneyHiveTracer:
    with _worker_tracers_lock:
        if settings_json not in _worker_tracers:
            made = HoneyHiveTracer.from_settings(
                _worker_settings(settings_json), name="worker", join=False, register="never"
            )
            unset_default(made)  # Spans of the worker's own code must not use it.
            _worker_tracers[settings_json] = made
        return _worker_tracers[settings_json]


def _worker_settings(settings_json: str) -> Settings:
    # A caller of another version may send unknown settings.
    known = {name: value for name, value in json.loads(settings_json).items() if name in REMOTE_SETTINGS}
    worker_only = {
        "test_mode": True,
        "spool": False,
        "disable_batch": False,
        "disable_tracing": False,
        "skip_backend_session_creation": True,
    }
    return settings_table.resolve({**known, **worker_only}, called="hh_jupyter.runtimes.workers")


def receive_payload(payload: bytes) -> Returned | None:
    """Receive the spans of a payload. Returns None if it is invalid, for another process, or a duplicate."""
    try:
        found = opened(payload)
    except (ValueError, KeyError, TypeError, IndexError, zlib.error):
        logger.debug("a payload of spans cannot be read", exc_info=True)
        return None
    if found.process != process_name() or _is_duplicate(found.id):
        return None
    for name in {*(name for name, _, _ in found.spans), *(name for name, _, _ in found.calls)}:
        tracer = _handles.get(name)
        if tracer is None or tracer.closed:
            logger.debug("dropping spans of a worker: their tracer is closed")
            continue
        spans = (EndedSpan(span, stamp) for to, span, stamp in found.spans if to == name)
        tracer.add_remote(spans, [(call, cell) for to, call, cell in found.calls if to == name])
        if found.dropped:
            tracer.record_lost(f"{found.dropped:,} spans of a worker were dropped: its buffer was full")
    return found


def _is_duplicate(payload_id: str) -> bool:
    mark = object()
    is_duplicate = _seen_payloads.setdefault(payload_id, mark) is not mark
    evict_oldest(_seen_payloads, MAX_SEEN_PAYLOADS)
    return is_duplicate


# Detection of lost calls. A pool that loses a worker raises in the caller and drops the call. If a call is garbage
# collected while a pickled copy of it has not returned, the spans of that copy are lost.

FEEDER_THREAD: Final = "QueueFeederThread"
"""Thread on which the pools of concurrent.futures and loky pickle calls.

They hold a call until they have its result. Other executors may drop it immediately, so for them its end means nothing.
"""

_pending: weakref.WeakValueDictionary[str, PendingCalls] = weakref.WeakValueDictionary()


class PendingCalls:
    """Pickled copies of one call that have not returned.

    Args:
        call: when it is garbage collected, remaining copies are reported as lost.
        remote_context: context of the call.
    """

    def __init__(self, call: Any, remote_context: RemoteContext) -> None:
        self.id = uuid.uuid4().hex
        self._name: str = call.__name__
        self._remote_context = remote_context
        self._numbers = itertools.count(1)
        self._out: set[int] = set()
        _pending[self.id] = self
        weakref.finalize(call, self._report_lost)

    def new_copy(self) -> _PickledCopyId:
        """An object to pickle with the next copy of the call, after the function."""
        return _PickledCopyId(self)

    def register_copy(self) -> tuple[str, int]:
        """Register a copy and return its id."""
        number = next(self._numbers)
        if threading.current_thread().name == FEEDER_THREAD:
            self._out.add(number)
        return self.id, number

    def mark_returned(self, number: int) -> None:
        """Note that a copy has returned."""
        self._out.discard(number)

    def _report_lost(self) -> None:
        if self._out and self._remote_context.in_origin_process:
            calls = "1 call" if len(self._out) == 1 else f"{len(self._out):,} calls"
            lost = f"{calls} of {self._name} did not return from a worker process; the spans made there are lost"
            tracer_for_handle(self._remote_context.handle).record_lost(lost)


class _PickledCopyId:
    """Pickles as the id of a new copy. Registered only then, since a function that cannot be pickled is not sent."""

    def __init__(self, pending_calls: PendingCalls) -> None:
        self._pending_calls = pending_calls

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._pending_calls.register_copy(),)


def mark_returned(copy_id: tuple[str, int]) -> None:
    """Note that a copy of a call has returned."""
    call, number = copy_id
    calls = _pending.get(call)
    if calls is not None:
        calls.mark_returned(number)


# Spans are pickled with the result, and unpickling it in the calling process receives them. So this works with every
# executor that pickles results and exceptions: the caller gets them unchanged, and the spans before them.


class WorkerResult:
    """Adds the spans of one call in a worker to its result or exception.

    Args:
        name: name of the function.
        remote_context: context of the call.
        copy_id: identifies the call in the calling process.
    """

    def __init__(self, name: str, remote_context: RemoteContext, copy_id: tuple[str, int]) -> None:
        self._name, self._process, self._copy_id = name, remote_context.handle.process, copy_id
        self._buffer = remote_context.span_buffer()

    def payload(self) -> bytes:
        """The buffered spans and requests, including late ones of earlier calls."""
        return packed(*self._buffer.take(), self._process, self._copy_id)

    def wrap(self, value: Any) -> _PickledResult:
        """Add the spans to a result.

        Raises:
            PicklingError: the result cannot be pickled. The error has the spans.
        """
        try:
            pickled = _pickled(value)
        except Exception as error:  # Pickle raises what the value's own code raises.
            text = f"{self._name} returned a {type_name(type(value))} that cannot be sent back: {text_of(error)}"
            failure = pickle.PicklingError(text)
            self._set_reducer(failure, pickle.dumps(failure))
            raise failure from error
        return _PickledResult(pickled, self.payload())

    def attach_to(self, error: BaseException) -> None:
        """Add the spans to an exception that is about to leave the worker.

        Raises:
            WorkerError: the exception cannot be pickled. This error has the spans and replaces it.
        """
        try:
            pickled = pickle.dumps(error)
            pickle.loads(pickled)  # noqa: S301  # Our own bytes. An executor breaks if it cannot unpickle an exception.
        except Exception as reason:  # As above; the original error is the cause.
            original = f"{type_name(type(error))}: {text_of(error)}"
            text = (
                f"{original} (raised by {self._name} in a worker; the exception cannot be sent back: {text_of(reason)})"
            )
            substitute = WorkerError(text)
            self._set_reducer(substitute, pickle.dumps(substitute))
            raise substitute from error
        self._set_reducer(error, pickled)

    def _set_reducer(self, error: BaseException, pickled: bytes) -> None:
        # Pickle looks up `__reduce_ex__` on the instance. An exception may be a frozen dataclass without `__setattr__`.
        reduced = functools.partial(_reduce_error, pickled, self.payload())
        object.__setattr__(error, "__reduce_ex__", reduced)
        registered = copyreg.dispatch_table.get(type(error))
        if registered is not None and not isinstance(registered, _InstanceReducerFirst):
            copyreg.pickle(type(error), _InstanceReducerFirst(registered))


class _InstanceReducerFirst:
    """Wraps a reducer of `copyreg` to use the instance's reducer for an exception with spans.

    Pickle prefers `copyreg` reducers. tblib, and so Dask, registers them for exceptions.
    """

    def __init__(self, registered: Callable[[Any], Any]) -> None:
        self._registered = registered

    def __call__(self, error: Any) -> Any:
        own = vars(error).get("__reduce_ex__")
        return self._registered(error) if own is None else own(pickle.HIGHEST_PROTOCOL)


class _PickledResult:
    """A result with spans. In the calling process it unpickles as the plain value."""

    __slots__ = ("_payload", "_pickled")

    def __init__(self, pickled: bytes, payload: bytes) -> None:
        self._pickled, self._payload = pickled, payload

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes, bytes]]:
        return _unpickle_result, (self._pickled, self._payload)


def _reduce_error(pickled: bytes, payload: bytes, _protocol: Any) -> tuple[Callable[..., Any], tuple[bytes, bytes]]:
    return _unpickle_result, (pickled, payload)


def _unpickle_result(pickled: bytes, payload: bytes) -> Any:
    receive_spans(payload)
    return pickle.loads(pickled)  # noqa: S301  # The executor would have unpickled the same bytes.


def receive_spans(payload: bytes) -> None:
    """Receive a payload and mark its call as returned. Never raises, since it runs inside the executor."""
    try:
        found = receive_payload(payload)
        if found is not None:
            mark_returned(found.receipt)
    except Exception:  # boundary: an executor breaks if unpickling a result raises.
        logger.debug("spans of a worker could not be received", exc_info=True)


def _pickled(value: Any) -> bytes:
    """Pickle a value, with cloudpickle if pickle fails and the program uses cloudpickle."""
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:  # Re-raised without cloudpickle.
        cloudpickle: Any = sys.modules.get("cloudpickle")
        if cloudpickle is None:
            raise
        return bytes(cloudpickle.dumps(value))


# Dask: results stay in its workers and may be used by other tasks there, so spans are sent as events.
#
# A worker logs events under a topic of the calling process. The scheduler forwards them to the clients of that process,
# in order, before it reports that the task is done. It keeps the latest events of each topic
# (`distributed.admin.low-level-log-length`). If a worker dies, the spans of its running tasks are lost.

MAX_RUNNING_TASKS: Final = 10_000
"""Number of running tasks that are remembered."""

_subscribed_clients: weakref.WeakSet[Any] = weakref.WeakSet()
_worker_of_task: dict[str, str] = {}
"""Address of the worker, by task."""


def _topic(process: str) -> str:
    return f"hh_jupyter-{process}"


def subscribe_dask_clients() -> None:
    """Subscribe to events of workers with every Dask client of this process."""
    module: Any = sys.modules.get("distributed.client")
    if module is None:
        return
    for client in list(module.Client._instances):
        if client not in _subscribed_clients and client.status in ("running", "connecting", "newly-created"):
            client.subscribe_topic(_topic(process_name()), _on_event)
            _subscribed_clients.add(client)


def _on_event(event: tuple[float, Mapping[str, Any]]) -> None:
    _, message = event
    if "payload" in message:
        _worker_of_task.pop(message["task"], None)
        receive_spans(message["payload"])
        return
    before = _worker_of_task.get(message["task"])
    _worker_of_task[message["task"]] = message["worker"]
    evict_oldest(_worker_of_task, MAX_RUNNING_TASKS)
    if before is not None and before != message["worker"]:
        lost = f"a Dask worker was lost while running {message['name']}; the spans made there are lost"
        tracer_for_handle(TracerHandle(*message["handle"])).record_lost(lost)


def dask_transport(process: str) -> DaskTransport | None:
    """The transport from the current Dask task to the calling process; None outside a Dask task."""
    module: Any = sys.modules.get("distributed.worker")
    if module is None:
        return None
    try:
        worker = module.get_worker()
    except ValueError:
        return None
    # In a process forked from a worker, its threads do not run.
    if worker.thread_id not in {thread.ident for thread in threading.enumerate()}:
        return None
    return DaskTransport(worker, _topic(process))


class DaskTransport:
    """Sends the spans of one Dask task as events.

    Args:
        worker: runs the task.
        topic: topic of the calling process.
    """

    def __init__(self, worker: Any, topic: str) -> None:
        self._worker, self._topic = worker, topic
        self._task = str(worker.get_current_task())

    def task_started(self, call: str, name: str, handle: TracerHandle) -> None:
        """Report that the task has started on this worker."""
        self._task = f"{call} {self._task}"
        self._log_event({"worker": self._worker.address, "name": name, "handle": list(handle)})

    def send_spans(self, payload: bytes) -> None:
        """Send the spans of the finished task."""
        self._log_event({"payload": payload})

    def _log_event(self, message: dict[str, Any]) -> None:
        self._worker.log_event(self._topic, {"task": self._task, **message})


# The traced function


def _call(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    if callable_matches(fn, inspect.iscoroutinefunction):
        return asyncio.run(fn(*args, **kwargs))
    return fn(*args, **kwargs)


def _call_in_context(context: Context, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    token = otel_context.attach(context)
    try:
        return _call(fn, *args, **kwargs)
    finally:
        detach(token)


class _TracedFunction(Generic[P, R]):
    """A function and the context of its spans."""

    def __init__(self, fn: Callable[P, R], remote_context: RemoteContext) -> None:
        self._fn, self._remote_context = fn, remote_context
        wrapper: Any = self
        functools.update_wrapper(wrapper, fn, updated=())  # Executors display the name.
        self.__name__ = getattr(unwrap_partial(fn), "__name__", type(fn).__name__)

    def __repr__(self) -> str:
        return f"traced({self._fn!r})"

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Dask treats two calls as equal if function and context are equal."""
        return "hh_jupyter", self._fn, repr(self._remote_context)


class _LocalFunction(_TracedFunction[P, R]):
    """The function in the calling process or a fork of it, where spans are exported directly."""

    def __init__(self, fn: Callable[P, R], remote_context: RemoteContext, context: Context) -> None:
        super().__init__(fn, remote_context)
        self._context = context
        self._pending_calls = PendingCalls(self, remote_context)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        found: R = _call_in_context(self._context, self._fn, args, kwargs)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        subscribe_dask_clients()  # A client may have been created since.
        return _unpickled, (self._fn, self._remote_context, self._pending_calls.new_copy())


class _RemoteFunction(_TracedFunction[P, R]):
    """The function in a worker process, where spans are buffered for the calling process."""

    def __init__(self, fn: Callable[P, R], remote_context: RemoteContext, copy_id: tuple[str, int]) -> None:
        super().__init__(fn, remote_context)
        self._copy_id = copy_id

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        remote_context = self._remote_context
        worker_result = WorkerResult(self.__name__, remote_context, self._copy_id)
        context = remote_context.context(tracer_for_handle(remote_context.handle))
        dask = dask_transport(remote_context.handle.process)
        if dask is not None:
            dask.task_started(self._copy_id[0], self.__name__, remote_context.handle)
            try:
                found: R = _call_in_context(context, self._fn, args, kwargs)
                return found
            finally:
                dask.send_spans(worker_result.payload())
        try:
            result = _call_in_context(context, self._fn, args, kwargs)
        except BaseException as error:
            worker_result.attach_to(error)
            raise
        wrapped: Any = worker_result.wrap(result)  # Unpickles as `result`.
        return cast(R, wrapped)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._fn, self._remote_context, self._copy_id)


def _unpickled(fn: Callable[P, R], remote_context: RemoteContext, copy_id: tuple[str, int]) -> _TracedFunction[P, R]:
    if remote_context.in_origin_process:
        return _LocalFunction(fn, remote_context, remote_context.context(tracer_for_handle(remote_context.handle)))
    return _RemoteFunction(fn, remote_context, copy_id)


def _after_fork_in_child() -> None:
    global _worker_tracers_lock
    _worker_tracers_lock = threading.Lock()  # It may be held by a thread that does not exist in the child.
    _subscribed_clients.clear()
    _worker_of_task.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
