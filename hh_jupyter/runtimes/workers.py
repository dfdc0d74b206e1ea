"""Trace functions that run on executors: threads, processes, Dask, and any other `concurrent.futures.Executor`.

    pool.submit(traced(answer), question)
    pool.map(traced(answer), questions)

Context and session are pickled with the call (`RemoteContext`). In a thread, nothing else is needed. In another
process, spans are buffered and pickled with the result or the exception. The calling process receives them as if it
had made them: in the calling cell, session and backend. Dask keeps results in its workers, so spans from there are sent
as Dask events.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hh_jupyter import attributes as keys
from hh_jupyter import settings as settings_table
from hh_jupyter.errors import WorkerError
from hh_jupyter.export.model import EndedSpan, RemoteOrigin
from hh_jupyter.export.remote import REMOTE, buffer_for, process_name, unpack
from hh_jupyter.settings import Settings
from hh_jupyter.threads import evict_oldest
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
from hh_jupyter.tracing.validation import (
    callable_matches,
    raise_argument_error,
    tracer_or_none,
    unwrap_partial,
    warn_once,
)
from hh_jupyter.values import text_of, type_name

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
    _subscribe_dask_clients()
    return _TracedFunction(fn, RemoteContext.current(found), with_tracer(otel_context.get_current(), found))


_tracers: weakref.WeakValueDictionary[str, HoneyHiveTracer] = weakref.WeakValueDictionary()
"""Tracers of this process that have sent calls, by their id."""

_worker_tracers: dict[str, HoneyHiveTracer] = {}
"""Tracers of this process for calls of other processes, by their settings."""

_worker_tracers_lock = threading.Lock()


def tracer_handle(tracer: HoneyHiveTracer) -> tuple[str, str, str]:
    """Return what identifies a tracer across processes: process, id, and its `REMOTE_SETTINGS` as JSON."""
    # No lock: a pool may fork while another thread receives results, and the child would inherit a held lock.
    _tracers.setdefault(tracer.uid, tracer)
    settings = {name: getattr(tracer.settings, name) for name in REMOTE_SETTINGS}
    return process_name(), tracer.uid, json.dumps(settings, sort_keys=True, default=dict)


def tracer_of(process: str, uid: str, settings_json: str) -> HoneyHiveTracer:
    """Return the tracer of a handle in its own process; in another process, a worker tracer that buffers spans."""
    found = _tracers.get(uid) if process == process_name() else None
    return found or _worker_tracer(settings_json)


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


@dataclass(frozen=True, slots=True)
class RemoteContext:
    """The context of a call, in a form that can be pickled.

    Attributes:
        origin: the process, tracer and cell that make the call.
        settings: the tracer's `REMOTE_SETTINGS`, as JSON.
        headers: trace context of the parent span; empty for a new trace.
        baggage: baggage of the calling context, with the current session.
    """

    origin: RemoteOrigin
    settings: str
    headers: Mapping[str, str]
    baggage: Mapping[str, str]

    @classmethod
    def current(cls, tracer: HoneyHiveTracer) -> RemoteContext:
        """Return the current context, for a call that is sent to a worker."""
        context = otel_context.get_current()
        headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(headers, context)
        entries = {key: str(value) for key, value in visible_baggage(tracer.sessions, context).items()}
        own = tracer.session
        for key, value in zip(SESSION_KEYS, (tracer.current_session_id, own.project, own.source), strict=True):
            if value and not entries.get(key):
                entries[key] = value
        process, uid, settings = tracer_handle(tracer)
        outer = cast("RemoteOrigin | None", context.get(REMOTE))
        return cls(RemoteOrigin(process, uid, current_cell(), outer), settings, headers, entries)

    @property
    def in_origin_process(self) -> bool:
        """Whether this is the process that made the call."""
        return self.origin.process == process_name()

    def tracer(self) -> HoneyHiveTracer:
        """Return the tracer for the call; see `tracer_of`."""
        return tracer_of(self.origin.process, self.origin.tracer, self.settings)

    def context(self) -> Context:
        """Return the OpenTelemetry context to run the call in."""
        context = TraceContextTextMapPropagator().extract(self.headers, with_tracer(Context(), self.tracer()))
        for key, value in self.baggage.items():
            context = baggage.set_baggage(key, value, context)
        if not self.in_origin_process:
            return otel_context.set_value(REMOTE, self.origin, context)
        context = otel_context.set_value(REMOTE, self.origin.outer, context)
        return context if self.origin.cell is None else with_cell(context, self.origin.cell)


_seen_payloads: dict[str, object] = {}
"""Ids of received payloads."""


def receive_payload(payload: bytes) -> None:
    """Export the spans and requests of a payload for this process, once, and mark its call as returned.

    Never raises: an executor breaks if unpickling a result raises.
    """
    try:
        found, mark = unpack(payload), object()
        if found.process != process_name() or _seen_payloads.setdefault(found.id, mark) is not mark:
            return
        evict_oldest(_seen_payloads, MAX_SEEN_PAYLOADS)
        to = {uid for uid, _ in found.spans} | {uid for uid, _, _ in found.requests}
        calls = _pending.get(found.receipt[0])
        if calls is not None:
            to.add(calls.mark_returned(found.receipt[1]))
        for uid in to:
            tracer = _tracers.get(uid)
            if tracer is None or tracer.closed:
                logger.debug("dropping spans of a worker: their tracer is closed")
                continue
            spans = [_placed(span, tracer) for of, span in found.spans if of == uid]
            tracer.exporter.add_remote(spans, [(request, outer) for of, request, outer in found.requests if of == uid])
            if found.dropped:
                tracer.exporter.note_lost(f"{found.dropped:,} spans of a worker were dropped: its buffer was full")
    except Exception:  # boundary: see above.
        logger.debug("spans of a worker could not be received", exc_info=True)


def _placed(ended: EndedSpan, tracer: HoneyHiveTracer) -> EndedSpan:
    """A span from a worker with the tracer's session, and the parent that it would have here."""
    origin = ended.origin
    parent_id = tracer.processor.nearest_kept(origin.parent_id)
    return EndedSpan(ended.span, origin._replace(session=tracer.session, parent_id=parent_id))


# Detection of lost calls. A pool that loses a worker raises in the caller and drops the call. If a call is garbage
# collected while a pickled copy of it has not returned, the spans of that copy are lost.

FEEDER_THREAD: Final = "QueueFeederThread"
"""Thread on which the pools of concurrent.futures and loky pickle calls.

They hold a call until they have its result. Other executors may drop it immediately, so for them its end means nothing.
"""

_pending: weakref.WeakValueDictionary[str, PendingCalls] = weakref.WeakValueDictionary()


class PendingCalls:
    """Pickled copies of one call that have not returned. Pickles as the id of a new copy.

    Args:
        call: when it is garbage collected, remaining copies are reported as lost.
        remote_context: context of the call.
    """

    def __init__(self, call: Any, remote_context: RemoteContext) -> None:
        self._id = uuid.uuid4().hex
        self._name: str = call.__name__
        self._remote_context = remote_context
        self._numbers = itertools.count(1)
        self._out: set[int] = set()
        _pending[self._id] = self
        weakref.finalize(call, self._report_lost)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled after the function: a function that cannot be pickled is not sent.
        number = next(self._numbers)
        if threading.current_thread().name == FEEDER_THREAD:
            self._out.add(number)
        return tuple, ((self._id, number),)

    def mark_returned(self, number: int) -> str:
        """Note that a copy has returned. Returns the id of the call's tracer."""
        self._out.discard(number)
        return self._remote_context.origin.tracer

    def _report_lost(self) -> None:
        if self._out and self._remote_context.in_origin_process:
            calls = "1 call" if len(self._out) == 1 else f"{len(self._out):,} calls"
            lost = f"{calls} of {self._name} did not return from a worker process; the spans made there are lost"
            self._remote_context.tracer().exporter.note_lost(lost)


# Spans are pickled with the result, and unpickling it in the calling process receives them. So this works with every
# executor that pickles results and exceptions: the caller gets them unchanged, and the spans before them.


class _PickledResult:
    """A result or exception with a payload. In the calling process it unpickles as the plain value."""

    __slots__ = ("_payload", "_pickled")

    def __init__(self, pickled: bytes, payload: bytes) -> None:
        self._pickled, self._payload = pickled, payload

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes, bytes]]:
        return _unpickle_result, (self._pickled, self._payload)


def _unpickle_result(pickled: bytes, payload: bytes) -> Any:
    receive_payload(payload)
    return pickle.loads(pickled)  # noqa: S301  # The executor would have unpickled the same bytes.


def _pickled_result(value: Any, name: str) -> bytes:
    """Pickle the result of a function, with cloudpickle if pickle fails and the program uses cloudpickle.

    Raises:
        PicklingError: the result cannot be pickled.
    """
    try:
        try:
            return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception:  # boundary: whatever the value raises, cloudpickle may manage; re-raised without it.
            cloudpickle: Any = sys.modules.get("cloudpickle")
            if cloudpickle is None:
                raise
            return bytes(cloudpickle.dumps(value))
    except Exception as error:  # boundary: pickle raises what the value's own code raises.
        text = f"{name} returned a {type_name(type(value))} that cannot be sent back: {text_of(error)}"
        raise pickle.PicklingError(text) from error


def _sendable(error: BaseException, name: str) -> tuple[BaseException, bytes]:
    """Return the exception to raise in a worker, and pickled: a `WorkerError` if the given one cannot be pickled."""
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)  # noqa: S301  # Our own bytes. An executor breaks if it cannot unpickle an exception.
    except Exception as reason:  # boundary: pickle runs the code of the exception; the substitute names the reason.
        text = f"{type_name(type(error))}: {text_of(error)} (raised by {name} in a worker; "
        error = WorkerError(f"{text}the exception cannot be sent back: {text_of(reason)})")
        pickled = pickle.dumps(error)
    return error, pickled


def _attach(payload: bytes, error: BaseException, pickled: bytes) -> None:
    """Make an exception pickle with a payload."""
    # Pickle looks up `__reduce_ex__` on the instance. An exception may be a frozen dataclass without `__setattr__`.
    object.__setattr__(error, "__reduce_ex__", _PickledResult(pickled, payload).__reduce_ex__)
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


def _subscribe_dask_clients() -> None:
    """Subscribe to events of workers with every Dask client of this process."""
    module: Any = sys.modules.get("distributed.client")
    for client in list(module.Client._instances) if module is not None else ():
        if client not in _subscribed_clients and client.status in ("running", "connecting", "newly-created"):
            client.subscribe_topic(_topic(process_name()), _on_dask_event)
            _subscribed_clients.add(client)


def _on_dask_event(event: tuple[float, Mapping[str, Any]]) -> None:
    _, message = event
    if "payload" in message:
        _worker_of_task.pop(message["task"], None)
        receive_payload(message["payload"])
        return
    before = _worker_of_task.get(message["task"])
    _worker_of_task[message["task"]] = message["worker"]
    evict_oldest(_worker_of_task, MAX_RUNNING_TASKS)
    tracer = _tracers.get(message["tracer"])
    if tracer is not None and before not in (None, message["worker"]):
        tracer.exporter.note_lost(
            f"a Dask worker was lost while running {message['name']}; the spans made there are lost"
        )


def _dask_worker() -> Any:
    """Return the Dask worker that runs the current task; None outside a Dask task."""
    module: Any = sys.modules.get("distributed.worker")
    try:
        worker = module and module.get_worker()
    except ValueError:
        return None
    # In a process forked from a worker, its threads do not run.
    return worker if worker and worker.thread_id in {thread.ident for thread in threading.enumerate()} else None


# The traced function


def _call(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    if callable_matches(fn, inspect.iscoroutinefunction):
        return asyncio.run(fn(*args, **kwargs))
    return fn(*args, **kwargs)


class _TracedFunction(Generic[P, R]):
    """A function and the context of its spans.

    Args:
        context: the context in the calling process or a fork of it, where spans are exported directly; None in a
            worker process, where they are buffered for the calling process.
        copy_id: identifies the call there, in a worker process.
    """

    def __init__(
        self,
        fn: Callable[P, R],
        remote_context: RemoteContext,
        context: Context | None,
        copy_id: tuple[str, int] | None = None,
    ) -> None:
        self._fn, self._remote_context, self._context = fn, remote_context, context
        wrapper: Any = self
        functools.update_wrapper(wrapper, fn, updated=())  # Executors display the name.
        self.__name__ = getattr(unwrap_partial(fn), "__name__", type(fn).__name__)
        self._copy_id = copy_id or PendingCalls(self, remote_context)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._context is not None:
            return self._call_in(self._context, args, kwargs)
        return self._call_in_worker(cast("tuple[str, int]", self._copy_id), args, kwargs)

    def _call_in(self, context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        token = otel_context.attach(context)
        try:
            return cast(R, _call(self._fn, *args, **kwargs))
        finally:
            detach(token)

    def _call_in_worker(self, copy_id: tuple[str, int], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        origin, context = self._remote_context.origin, self._remote_context.context()
        buffer, worker = buffer_for(origin.process), _dask_worker()
        if worker is not None:
            task = f"{copy_id[0]} {worker.get_current_task()}"
            started = {"task": task, "worker": worker.address, "name": self.__name__, "tracer": origin.tracer}
            worker.log_event(_topic(origin.process), started)
            try:
                return self._call_in(context, args, kwargs)
            finally:
                worker.log_event(_topic(origin.process), {"task": task, "payload": buffer.take_payload(copy_id)})
        try:
            pickled = _pickled_result(self._call_in(context, args, kwargs), self.__name__)
        except BaseException as error:
            sent, pickled = _sendable(error, self.__name__)
            _attach(buffer.take_payload(copy_id), sent, pickled)
            if sent is error:
                raise
            raise sent from error
        result: Any = _PickledResult(pickled, buffer.take_payload(copy_id))  # Unpickles as the plain result.
        return cast(R, result)

    def __repr__(self) -> str:
        return f"traced({self._fn!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._context is not None:
            _subscribe_dask_clients()  # A client may have been created since.
            if self._context.get(keys.CONTEXT_BUDGET) is not None:
                warn_once("limit of workers", "max_cost and max_calls do not limit calls in other processes: {}", self)
        return _unpickled, (self._fn, self._remote_context, self._copy_id)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Dask treats two calls as equal if function and context are equal."""
        return "hh_jupyter", self._fn, repr(self._remote_context)


def _unpickled(fn: Callable[P, R], remote_context: RemoteContext, copy_id: tuple[str, int]) -> _TracedFunction[P, R]:
    if remote_context.in_origin_process:
        return _TracedFunction(fn, remote_context, remote_context.context())
    return _TracedFunction(fn, remote_context, None, copy_id)


def _after_fork_in_child() -> None:
    global _worker_tracers_lock
    _worker_tracers_lock = threading.Lock()  # It may be held by a thread that does not exist in the child.
    _subscribed_clients.clear()
    _worker_of_task.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
