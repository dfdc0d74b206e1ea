"""Work for executors: threads, processes, Dask, and whatever else has the interface of `concurrent.futures.Executor`.

    pool.submit(traced(answer), question)
    pool.map(traced(answer), questions)

Context and session go along with the call. In a thread that is all. In another process the spans are kept, travel back
with the result, or with the exception, and are taken in as if they had been made here: in the calling cell, its
session, its backend (`Outgoing`). Dask leaves results in its workers, so from there they come as events
(`to`).
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
    entries_for,
    leave,
    with_cell,
    with_tracer,
    withdraw_default,
)
from hh_jupyter.tracing.tracer import HoneyHiveTracer
from hh_jupyter.tracing.validation import is_kind, refuse, tracer_or_none, without_partial
from hh_jupyter.values import evict_oldest, text_of, type_name

__all__ = ["traced"]

# Both ends of work that another process does: what goes along with it, and what is done with what comes back.

logger = logging.getLogger(__name__)

SETTINGS: Final = ("capture_inputs", "capture_outputs", "span_name_filters", "source", "project")
"""Those that matter where a span is made. Key and address stay at home, and so do the rules that sealing uses."""

REMEMBERED: Final = 10_000
"""Parcels whose second coming is noticed."""


class Handle(NamedTuple):
    """A tracer of some process, by name.

    Attributes:
        process: see `process_name`.
        tracer: random; no address in memory, which another tracer may have later.
        settings: those of `SETTINGS`, as JSON.
    """

    process: str
    tracer: str
    settings: str


@dataclass(frozen=True, slots=True)
class Carried:
    """What goes along with a piece of work.

    Attributes:
        cell: id of the notebook cell's run that sent it.
        span: trace id, span id, flags and state of the span that is the parent of its spans; None for a new trace.
        baggage: with the session in force, whoever set it.
    """

    handle: Handle
    cell: str | None
    span: tuple[int, int, int, str] | None
    baggage: Mapping[str, str]

    @property
    def at_home(self) -> bool:
        """Whether this is the process that sent it."""
        return self.handle.process == process_name()

    def context(self, tracer: HoneyHiveTracer) -> Context:
        """The context to do the work in."""
        span: Any = INVALID_SPAN
        if self.span is not None:
            trace_id, span_id, flags, state = self.span
            trace_state = TraceState.from_header([state]) if state else None
            span = NonRecordingSpan(SpanContext(trace_id, span_id, True, TraceFlags(flags), trace_state))
        context = set_span_in_context(span, with_tracer(Context(), tracer))
        for key, value in self.baggage.items():
            context = baggage.set_baggage(key, value, context)
        if self.at_home:
            return context if self.cell is None else with_cell(context, self.cell)
        address = Address(self.handle.process, self.handle.tracer, self.cell).text
        return otel_context.set_value(ADDRESS, address, with_cell(context, address))

    def parcel(self) -> Parcel:
        """Where the spans of the work gather on their way home."""
        return parcel_for(self.handle.process)


def carried_by(tracer: HoneyHiveTracer) -> Carried:
    """What work that is sent from here takes along."""
    context = otel_context.get_current()
    span = get_current_span(context).get_span_context()
    state = span.trace_state.to_header() if span.trace_state else ""
    entries = {key: str(value) for key, value in entries_for(tracer.sessions, context).items()}
    own = tracer.session
    for key, value in zip(SESSION_KEYS, (tracer.current_session_id, own.project, own.source), strict=True):
        if value and not entries.get(key):
            entries[key] = value
    return Carried(
        handle_of(tracer),
        current_cell(),
        (span.trace_id, span.span_id, int(span.trace_flags), state) if span.is_valid else None,
        entries,
    )


_handles: WeakValueDictionary[str, HoneyHiveTracer] = WeakValueDictionary()
_opened: dict[str, object] = {}
_workers: dict[str, HoneyHiveTracer] = {}
"""This process's tracers for work of others, by their settings."""

_making = threading.Lock()


def handle_of(tracer: HoneyHiveTracer) -> Handle:
    """The tracer's name for other processes."""
    # No lock: a pool forks its workers while results come in on another thread.
    _handles.setdefault(tracer.uid, tracer)
    settings = {name: getattr(tracer.settings, name) for name in SETTINGS}
    return Handle(process_name(), tracer.uid, json.dumps(settings, sort_keys=True, default=dict))


def tracer_of(handle: Handle) -> HoneyHiveTracer:
    """The tracer of that name at home; elsewhere one that makes spans and delivers nothing."""
    found = _handles.get(handle.tracer) if handle.process == process_name() else None
    return found or _worker_tracer(handle.settings)


def _worker_tracer(given: str) -> HoneyHiveTracer:

    with _making:
        if given not in _workers:
            made = HoneyHiveTracer.from_settings(_worker_settings(given), name="worker", join=False, register="never")
            withdraw_default(made)  # Only such work is its business.
            _workers[given] = made
        return _workers[given]


def _worker_settings(given: str) -> Settings:
    # A caller of another version may know more settings.
    known = {name: value for name, value in json.loads(given).items() if name in SETTINGS}
    nothing_of_its_own = {
        "test_mode": True,
        "spool": False,
        "disable_batch": False,
        "disable_tracing": False,
        "skip_backend_session_creation": True,
    }
    return settings_table.resolve({**known, **nothing_of_its_own}, called="hh_jupyter.runtimes.workers")


def receive(parcel: bytes) -> Returned | None:
    """Take a parcel that came home; None if it is no parcel for this process, or came before."""
    try:
        found = opened(parcel)
    except (ValueError, KeyError, TypeError, IndexError, zlib.error):
        logger.debug("a parcel of spans cannot be read", exc_info=True)
        return None
    if found.process != process_name() or _came_before(found.id):
        return None
    for name in {*(name for name, _, _ in found.spans), *(name for name, _, _ in found.calls)}:
        tracer = _handles.get(name)
        if tracer is None or tracer.closed:
            logger.debug("spans came back from a worker to a tracer that is gone")
            continue
        spans = (EndedSpan(span, stamp) for to, span, stamp in found.spans if to == name)
        tracer.take(spans, [(call, cell) for to, call, cell in found.calls if to == name])
        if found.dropped:
            tracer.note_lost(f"{found.dropped:,} spans of a worker had no room on their way back and are lost")
    return found


def _came_before(parcel_id: str) -> bool:
    mark = object()
    before = _opened.setdefault(parcel_id, mark) is not mark
    evict_oldest(_opened, REMEMBERED)
    return before


def _after_fork_in_child() -> None:
    global _making
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


# Which calls went to a worker process and came back, so that a lost worker can be told.
#
# A pool that loses a worker tells the caller with an exception, and drops the call. A call that is dropped while a
# copy of it is still out has lost the spans it made there.

FEEDER: Final = "QueueFeederThread"
"""Where the pools of concurrent.futures and loky pickle a call. They hold it until its result is there; other engines
may forget it at once, so that its end tells nothing."""

_waiting: weakref.WeakValueDictionary[str, Receipts] = weakref.WeakValueDictionary()


class Receipts:
    """The copies of one call that are out.

    Args:
        call: the call; when it ends, copies that are still out are lost.
        carried: what goes along with it.
    """

    def __init__(self, call: Any, carried: Carried) -> None:
        self.id = uuid.uuid4().hex
        self._name: str = call.__name__
        self._carried = carried
        self._numbers = itertools.count(1)
        self._out: set[int] = set()
        _waiting[self.id] = self
        weakref.finalize(call, self._tell)

    def another(self) -> _Receipt:
        """To be pickled with one more copy of the call, after the function."""
        return _Receipt(self)

    def sent(self) -> tuple[str, int]:
        """One more copy is on its way."""
        number = next(self._numbers)
        if threading.current_thread().name == FEEDER:
            self._out.add(number)
        return self.id, number

    def came_back(self, number: int) -> None:
        """Something of that copy came back."""
        self._out.discard(number)

    def _tell(self) -> None:
        if self._out and self._carried.at_home:
            calls = "1 call" if len(self._out) == 1 else f"{len(self._out):,} calls"
            lost = f"{calls} of {self._name} went to a worker process and never came back; the spans made there"
            tracer_of(self._carried.handle).note_lost(f"{lost} are lost")


class _Receipt:
    """Becomes a receipt when it is pickled: a function that cannot be pickled is not sent."""

    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._receipts.sent(),)


def came_back(receipt: tuple[str, int]) -> None:
    """A copy of a call, by its receipt, has come back."""
    call, number = receipt
    receipts = _waiting.get(call)
    if receipts is not None:
        receipts.came_back(number)


# How spans travel with a result: whatever pickles it takes them along, and unpickling it at home leaves them there.
#
# So nothing of an engine is known or changed: where it has the interface of an executor and pickles what its workers
# return or raise, the caller gets exactly that, and the spans have arrived before it does.


class Outgoing:
    """What one call sends home.

    Args:
        name: of the function.
        carried: what went along with the call.
        receipt: tells at home which call has come back.
    """

    def __init__(self, name: str, carried: Carried, receipt: tuple[str, int]) -> None:
        self._name, self._process, self._receipt = name, carried.handle.process, receipt
        self._kept = carried.parcel()

    def parcel(self) -> bytes:
        """The spans and calls that are there by now, also late ones of earlier calls."""
        return packed(*self._kept.take(), self._process, self._receipt)

    def result(self, value: Any) -> _Result:
        """A result with the spans.

        Raises:
            PicklingError: it cannot be sent; the error takes the spans along.
        """
        try:
            pickled = _pickled(value)
        except Exception as error:  # Whatever pickle meets: told as what it means here.
            text = f"{self._name} returned a {type_name(type(value))} that cannot be sent back: {text_of(error)}"
            refusal = pickle.PicklingError(text)
            self._load(refusal, pickle.dumps(refusal))
            raise refusal from error
        return _Result(pickled, self.parcel())

    def carry_on(self, error: BaseException) -> None:
        """Put the spans onto an exception that is about to leave the worker.

        Raises:
            WorkerError: it cannot be sent as it is; this one takes the spans along.
        """
        try:
            pickled = pickle.dumps(error)
            pickle.loads(pickled)  # noqa: S301  # Our own. An engine whose manager cannot read one breaks altogether.
        except Exception as reason:  # The same; the original is its cause.
            told = f"{type_name(type(error))}: {text_of(error)}"
            text = f"{told} (raised by {self._name} in a worker; the exception cannot be sent back: {text_of(reason)})"
            substitute = WorkerError(text)
            self._load(substitute, pickle.dumps(substitute))
            raise substitute from error
        self._load(error, pickled)

    def _load(self, error: BaseException, pickled: bytes) -> None:
        # Pickle asks the object, not its class. Past `__setattr__`, since an exception may be a frozen dataclass.
        reduced = functools.partial(_reduced, pickled, self.parcel())
        object.__setattr__(error, "__reduce_ex__", reduced)
        registered = copyreg.dispatch_table.get(type(error))
        if registered is not None and not isinstance(registered, _OwnFirst):
            copyreg.pickle(type(error), _OwnFirst(registered))


class _OwnFirst:
    """A reducer registered for a type, which pickle asks before the object: tblib, and so Dask, has one for exceptions.

    It is passed over for an exception that carries spans.
    """

    def __init__(self, registered: Callable[[Any], Any]) -> None:
        self._registered = registered

    def __call__(self, error: Any) -> Any:
        own = vars(error).get("__reduce_ex__")
        return self._registered(error) if own is None else own(pickle.HIGHEST_PROTOCOL)


class _Result:
    """A result on its way: at home it unpickles as the plain value."""

    __slots__ = ("_parcel", "_pickled")

    def __init__(self, pickled: bytes, parcel: bytes) -> None:
        self._pickled, self._parcel = pickled, parcel

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes, bytes]]:
        return _arrived, (self._pickled, self._parcel)


def _reduced(pickled: bytes, parcel: bytes, _protocol: Any) -> tuple[Callable[..., Any], tuple[bytes, bytes]]:
    return _arrived, (pickled, parcel)


def _arrived(pickled: bytes, parcel: bytes) -> Any:
    take_in(parcel)
    return pickle.loads(pickled)  # noqa: S301  # What the engine would have unpickled itself.


def take_in(parcel: bytes) -> None:
    """Take the spans of a parcel. Never raises: this runs inside the engine."""
    try:
        found = receive(parcel)
        if found is not None:
            came_back(found.receipt)
    except Exception:  # boundary: an engine whose results cannot be unpickled breaks, whatever the result.
        logger.debug("spans that came back from a worker could not be taken in", exc_info=True)


def _pickled(value: Any) -> bytes:
    """The value, by cloudpickle where the engine uses it and pickle does not suffice."""
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:  # Pickle raises what the value's own code raises; without another pickler it is handed on.
        cloudpickle: Any = sys.modules.get("cloudpickle")
        if cloudpickle is None:
            raise
        return bytes(cloudpickle.dumps(value))


# The way home from Dask: results stay in its workers and go on to other tasks there, so spans come as events.
#
# A worker logs them under a topic of the process that sent the work; the scheduler passes them on to that process's
# clients, in order, before it tells them that the task is done. It keeps the latest of each topic
# (`distributed.admin.low-level-log-length`), and a worker that dies takes with it what its running tasks have made.

MOST_RUNNING: Final = 10_000
"""Tasks that are remembered as running somewhere."""

_listening: weakref.WeakSet[Any] = weakref.WeakSet()
_running: dict[str, str] = {}
"""Address of the worker by task."""


def _topic(process: str) -> str:
    return f"hh_jupyter-{process}"


# At home


def listen() -> None:
    """Hear what workers send to this process, through every Dask client that it has by now."""
    module: Any = sys.modules.get("distributed.client")
    if module is None:
        return
    for client in list(module.Client._instances):
        if client not in _listening and client.status in ("running", "connecting", "newly-created"):
            client.subscribe_topic(_topic(process_name()), _heard)
            _listening.add(client)


def _heard(event: tuple[float, Mapping[str, Any]]) -> None:
    _, message = event
    if "parcel" in message:
        _running.pop(message["task"], None)
        take_in(message["parcel"])
        return
    before = _running.get(message["task"])
    _running[message["task"]] = message["worker"]
    evict_oldest(_running, MOST_RUNNING)
    if before is not None and before != message["worker"]:
        lost = f"a Dask worker was lost while it ran {message['name']}; the spans made there until then are lost"
        tracer_of(Handle(*message["handle"])).note_lost(lost)


# In a worker


def to(process: str) -> _Events | None:
    """The way to that process from the Dask task that runs here; None outside of one."""
    module: Any = sys.modules.get("distributed.worker")
    if module is None:
        return None
    try:
        worker = module.get_worker()
    except ValueError:
        return None
    # A process forked from a worker has a copy of it, which serves nobody: its threads are gone.
    if worker.thread_id not in {thread.ident for thread in threading.enumerate()}:
        return None
    return _Events(worker, _topic(process))


class _Events:
    """What one task tells.

    Args:
        worker: that runs it.
        topic: of the process that sent it.
    """

    def __init__(self, worker: Any, topic: str) -> None:
        self._worker, self._topic = worker, topic
        self._task = str(worker.get_current_task())

    def began(self, call: str, name: str, handle: Handle) -> None:
        """The task runs here from now on."""
        self._task = f"{call} {self._task}"
        self._tell({"worker": self._worker.address, "name": name, "handle": list(handle)})

    def send(self, parcel: bytes) -> None:
        """The task has run; these are its spans."""
        self._tell({"parcel": parcel})

    def _tell(self, message: dict[str, Any]) -> None:
        self._worker.log_event(self._topic, {"task": self._task, **message})


def _forget_dask_after_fork() -> None:
    _listening.clear()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_dask_after_fork)


P = ParamSpec("P")
R = TypeVar("R")


def traced(fn: Callable[P, R], tracer: HoneyHiveTracer | None = None) -> Callable[P, R]:
    """A function to hand to an executor: what `fn` does in a worker is traced as if it were done here and now.

    Call it where the work is sent, since it notes the current span, session and notebook cell. `fn` needs no decorator.
    A coroutine function is run to its end. A worker process needs `hh_jupyter` installed, and no key.

    Example:
        >>> from concurrent.futures import ProcessPoolExecutor
        >>> with ProcessPoolExecutor() as pool:  # doctest: +SKIP
        ...     replies = list(pool.map(traced(answer), questions))

    Args:
        fn: whatever the executor can send to its workers.
        tracer: default: the current tracer. Without one, `fn` runs untraced.

    Raises:
        SettingTypeError: `fn` cannot be called.
    """
    if not callable(fn):
        refuse("traced", "fn", fn, "a function", "Its arguments go to the executor: submit(traced(fn), argument).")
    found = tracer_or_none("traced", "tracer", tracer) or current_tracer()
    if found is None or not found.enabled:
        return functools.partial(_run, fn)
    listen()
    return _HomeCall(fn, carried_by(found), with_tracer(otel_context.get_current(), found))


def _run(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    if is_kind(fn, inspect.iscoroutinefunction):
        return asyncio.run(fn(*args, **kwargs))
    return fn(*args, **kwargs)


def _run_in(context: Context, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    token = otel_context.attach(context)
    try:
        return _run(fn, *args, **kwargs)
    finally:
        leave(token)


class _Call(Generic[P, R]):
    """A function and where its spans belong."""

    def __init__(self, fn: Callable[P, R], carried: Carried) -> None:
        self._fn, self._carried = fn, carried
        named: Any = self
        functools.update_wrapper(named, fn, updated=())  # Engines show the name.
        self.__name__ = getattr(without_partial(fn), "__name__", type(fn).__name__)

    def __repr__(self) -> str:
        return f"traced({self._fn!r})"

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """What makes two calls the same to Dask: the function, and who sent it from where."""
        return "hh_jupyter", self._fn, repr(self._carried)


class _HomeCall(_Call[P, R]):
    """The call in the process that made it, or in a fork of it: spans are delivered from right there."""

    def __init__(self, fn: Callable[P, R], carried: Carried, context: Context) -> None:
        super().__init__(fn, carried)
        self._context = context
        self._receipts = Receipts(self, carried)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        found: R = _run_in(self._context, self._fn, args, kwargs)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        listen()  # To a client that was made since.
        return _unpickled, (self._fn, self._carried, self._receipts.another())


class _AwayCall(_Call[P, R]):
    """The call in a worker process, or on its way there."""

    def __init__(self, fn: Callable[P, R], carried: Carried, receipt: tuple[str, int]) -> None:
        super().__init__(fn, carried)
        self._receipt = receipt

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        carried = self._carried
        outgoing = Outgoing(self.__name__, carried, self._receipt)
        context = carried.context(tracer_of(carried.handle))
        events = to(carried.handle.process)
        if events is not None:
            events.began(self._receipt[0], self.__name__, carried.handle)
            try:
                found: R = _run_in(context, self._fn, args, kwargs)
                return found
            finally:
                events.send(outgoing.parcel())
        try:
            result = _run_in(context, self._fn, args, kwargs)
        except BaseException as error:
            outgoing.carry_on(error)
            raise
        going_home: Any = outgoing.result(result)  # Once it is there, it is what `fn` returned.
        return cast(R, going_home)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._fn, self._carried, self._receipt)


def _unpickled(fn: Callable[P, R], carried: Carried, receipt: tuple[str, int]) -> _Call[P, R]:
    if carried.at_home:
        return _HomeCall(fn, carried, carried.context(tracer_of(carried.handle)))
    return _AwayCall(fn, carried, receipt)
