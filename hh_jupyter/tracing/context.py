"""Current session, tracer and cell in the OpenTelemetry context, and the scopes that set and restore them.

A session in the context's baggage overrides the tracer's own.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Mapping
from contextvars import Token
from types import MappingProxyType, TracebackType
from typing import Any, Final, NamedTuple, Protocol, TypeVar, cast

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span, Tracer, get_current_span, set_span_in_context
from opentelemetry.trace.propagation import _SPAN_KEY

from hh_jupyter import attributes as keys
from hh_jupyter.export.follow_ups import set_log_quiet
from hh_jupyter.export.model import Session
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.validation import (
    A_TRACER,
    is_tracer,
    raise_argument_error,
    warn_once,
)
from hh_jupyter.tracing.wrappers import wrap_each_call

# The session in baggage. All tracers of a process share it, but a session exists only at the backend of the tracer that
# created it. The owner of the session is therefore kept under a context key of our own, which never leaves the process.

# Baggage is an immutable mapping under this key. `baggage.get_all` would wrap it again for every span.
_BAGGAGE: Final = baggage._BAGGAGE_KEY
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_OWNER: Final = otel_context.create_key("hh_jupyter-session-owner")
SESSION_KEYS: Final = (keys.BAGGAGE_SESSION_ID, keys.BAGGAGE_PROJECT, keys.BAGGAGE_SOURCE)
"""Baggage keys of a session, in the order in which they are written to headers."""


class SessionOwner(Protocol):
    """An object that creates sessions; `destination` is the backend that they are registered with."""

    @property
    def destination(self) -> object: ...

    def with_budget(self, session_id: str, context: Context) -> Context:
        """`context` with the budget of a session; unchanged if the session has none."""
        ...


class SessionsLike(SessionOwner, Protocol):
    """The sessions of a tracer; see `tracing.sessions.TracerSessions`."""

    def current_id(self) -> str | None: ...

    def keep_budget(self, session_id: str) -> Callable[[], None] | None:
        """Keep the budget of a session in force, and return what ends that; None if the session has none."""
        ...


class ProviderBindingLike(Protocol):
    """The provider that creates a tracer's spans; see `tracing.processor.ProviderBinding`."""

    @property
    def on(self) -> bool: ...

    @property
    def can_set_attributes_after_start(self) -> bool: ...

    @property
    def otel_tracer(self) -> Tracer: ...


class TracerLike(Protocol):
    """The part of `HoneyHiveTracer` that the modules below it use."""

    @property
    def settings(self) -> Settings: ...

    @property
    def session(self) -> Session: ...

    @property
    def sessions(self) -> SessionsLike: ...

    @property
    def provider_binding(self) -> ProviderBindingLike: ...

    def update_event(self, event_id: str, fields: Mapping[str, Any]) -> None: ...


class _SessionOwnership(NamedTuple):
    """The owner of the current session, and the latest session of every other owner (at most one entry each)."""

    owner: SessionOwner
    session_id: str
    others: tuple[tuple[SessionOwner | None, Mapping[str, object]], ...]


def with_session_baggage(session: Session, owner: SessionOwner, context: Context | None = None) -> Context:
    """`context` (default: the current one) with `session` as the session of its spans.

    The source and project of an outer session do not apply to it.
    """
    context = otel_context.get_current() if context is None else context
    before = cast("Mapping[str, object]", context.get(_BAGGAGE, _NOTHING))
    entries = {key: value for key, value in before.items() if key not in SESSION_KEYS}
    own = zip(SESSION_KEYS, (session.id, session.project, session.source), strict=True)
    entries.update((key, value) for key, value in own if value)
    ownership = _SessionOwnership(owner, session.id, _others(context, owner))
    return owner.with_budget(session.id, Context({**context, _BAGGAGE: entries, _OWNER: ownership}))


def with_session_overrides(context: Context, entries: Mapping[str, str]) -> Context:
    """`context` with these baggage entries; if they change the session, its source and project do not carry over."""
    new = entries.get(keys.BAGGAGE_SESSION_ID)
    current = baggage.get_baggage(keys.BAGGAGE_SESSION_ID, context)
    if new is not None and current is not None and new != current:
        for key in (keys.BAGGAGE_SOURCE, keys.BAGGAGE_PROJECT):
            context = baggage.remove_baggage(key, context)
    for key, value in entries.items():
        context = baggage.set_baggage(key, value, context)
    return context


def visible_baggage(owner: SessionOwner, context: Context) -> Mapping[str, object]:
    """The baggage that applies to one tracer: without a session that exists only at another backend."""
    entries = cast("Mapping[str, object]", context.get(_BAGGAGE, _NOTHING))
    owned = cast("_SessionOwnership | None", context.get(_OWNER))
    if owned is None or owned.owner is owner:  # Runs for every span, so the common cases come first.
        return entries
    if owned.session_id != entries.get(keys.BAGGAGE_SESSION_ID):
        return entries  # Set by hand or by a request afterwards.
    if owned.owner.destination == owner.destination:
        return entries
    visible = {key: value for key, value in entries.items() if key not in SESSION_KEYS}
    for other, own in reversed(owned.others):
        if other is None or other is owner or other.destination == owner.destination:
            return {**visible, **own}
    return visible


def with_session_of(current: Context, before: Context) -> Context:
    """`current` with the session of `before`; everything else is unchanged."""
    for key in SESSION_KEYS:
        value = baggage.get_baggage(key, before)
        current = baggage.remove_baggage(key, current) if value is None else baggage.set_baggage(key, value, current)
    if current.get(keys.CONTEXT_BUDGET) is not before.get(keys.CONTEXT_BUDGET):
        current = otel_context.set_value(keys.CONTEXT_BUDGET, before.get(keys.CONTEXT_BUDGET), current)
    return otel_context.set_value(_OWNER, before.get(_OWNER), current)


def _others(context: Context, owner: SessionOwner) -> tuple[tuple[SessionOwner | None, Mapping[str, object]], ...]:
    """The session of every other owner in `context`; None stands for a session from a request or set by hand."""
    entries = cast("Mapping[str, object]", context.get(_BAGGAGE, _NOTHING))
    session = {key: entries[key] for key in SESSION_KEYS if key in entries}
    owned = cast("_SessionOwnership | None", context.get(_OWNER))
    if owned is None or owned.session_id != entries.get(keys.BAGGAGE_SESSION_ID):
        return ((None, session),) if session else ()
    others = tuple(pair for pair in owned.others if pair[0] is not owner and pair[0] is not owned.owner)
    return others if owned.owner is owner else (*others, (owned.owner, session))


# Cell, tracer and scope. They have context keys of our own, because baggage is sent to other services.

SCOPE: Final = otel_context.create_key("hh_jupyter-session-scope")
"""The innermost open `ContextScope`."""

CELL: Final = otel_context.create_key("hh_jupyter-cell")
TRACER: Final = otel_context.create_key("hh_jupyter-tracer")


def with_cell(context: Context, cell_id: str) -> Context:
    """`context` with the id of a cell's run; spans started in it belong to that run."""
    return otel_context.set_value(CELL, cell_id, context)


def current_cell() -> str | None:
    """Id of the cell's run in the current context; None outside a cell."""
    return cast("str | None", otel_context.get_value(CELL))


def tracer_in_context(context: Context | None = None) -> TracerLike | None:
    """The tracer that `start_span`, `with_session` or `evaluate` put into a context (default: the current one)."""
    context = otel_context.get_current() if context is None else context
    return cast("TracerLike | None", context.get(TRACER))


def with_tracer(context: Context, tracer: TracerLike) -> Context:
    """`context` with the tracer for `@trace` functions that name none."""
    return context if context.get(TRACER) is tracer else Context({**context, TRACER: tracer})


def with_span(context: Context, span: Span, tracer: TracerLike) -> Context:
    """`context` with a current span, and the tracer that started it."""
    return Context({**context, _SPAN_KEY: span, TRACER: tracer})


def detach(token: Token[Any]) -> None:
    """Undo an attach; does nothing if the token belongs to another context (a coroutine closed by another task).

    OpenTelemetry's own `detach` would log an error with a traceback into the user's cell.
    """
    try:
        token.var.reset(token)
    except (ValueError, RuntimeError):
        pass


def detach_span(token: Token[Context], attached: Context) -> None:
    """Detach a span's context, and what was attached inside it: a new session, baggage, a link.

    If a scope was entered or exited inside and is still so, as happens with a generator that its consumer closes, only
    the span is removed: the exit of the scope restores the rest.
    """
    current = otel_context.get_current()
    if current is attached:
        detach(token)
    elif get_current_span(current) is get_current_span(attached):
        # A new thread has no previous context.
        before = Context() if token.old_value is Token.MISSING else cast(Context, token.old_value)
        if current.get(SCOPE) is attached.get(SCOPE):
            otel_context.attach(before)
            return
        current = set_span_in_context(get_current_span(before), current)
        if before.get(TRACER) is not attached.get(TRACER):
            current = otel_context.set_value(TRACER, before.get(TRACER), current)
        otel_context.attach(current)


# Random ids of spans, traces and sessions. `random.seed(...)` in the user's program does not make them repeat.

UUID_BYTES: Final = 16
DRAWN_AT_ONCE: Final = 256
"""UUIDs per call to `os.urandom`: the call releases the GIL, and waits for it if another thread is busy."""

# Shared by all providers, because a fork hook can never be removed and keeps alive what it refers to.
_random: Final = random.Random()
_drawn: Final[list[bytes]] = []


def random_uuid() -> str:
    """The text of a random UUID (version 4), like `uuid.uuid4` without a system call each time."""
    while True:
        try:
            text = _drawn.pop().hex()
            variant = "89ab"[int(text[16], 16) & 3]
            return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"
        except IndexError:  # Empty, or another thread took the last one.
            drawn = os.urandom(DRAWN_AT_ONCE * UUID_BYTES)
            _drawn.extend(drawn[start : start + UUID_BYTES] for start in range(0, len(drawn), UUID_BYTES))


def _after_fork_in_child() -> None:
    """Reseed: otherwise parent and child would draw the same ids."""
    _random.seed()
    _drawn.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class UnseededIdGenerator(IdGenerator):
    """Random ids from a generator of our own; OpenTelemetry's uses the global one, which experiments seed."""

    def generate_span_id(self) -> int:
        """64 bits, never 0."""
        return _random.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        """128 bits, never 0."""
        return _random.getrandbits(128) or 1

    def is_trace_id_random(self) -> bool:
        """True: sets the random flag of W3C trace context, level 2."""
        return True


F = TypeVar("F", bound=Callable[..., Any])


class ContextScope:
    """One block with another OpenTelemetry context; restores the previous one on exit.

    Scopes may exit in another order than they were entered, as with generators that their consumer closes: an inner
    scope that is still open stays current, and later restores the context from before this one.
    """

    def __init__(self) -> None:
        self._outer: ContextScope | None = None
        self._before: Context | None = None
        self._inside: Context | None = None

    def attach(self, before: Context, inside: Context) -> None:
        """Make `inside` the current context."""
        self._before, self._outer = before, cast("ContextScope | None", before.get(SCOPE))
        self._inside = otel_context.set_value(SCOPE, self, inside)
        otel_context.attach(self._inside)

    def exit(self) -> None:
        """End the scope. Does nothing on a second call, or if the scope is not in the current context."""
        before, inside = self._before, self._inside
        self._before = self._inside = None
        if before is None:
            return
        current = otel_context.get_current()
        innermost = cast("ContextScope | None", current.get(SCOPE))
        # Not by token: it is invalid in another task, where OpenTelemetry would log an error.
        if current is inside:
            otel_context.attach(before)
        elif innermost is self:
            otel_context.attach(self._without_this(current, before))
        elif (inner := self._direct_child(innermost)) is not None and inner._before is not None:
            inner._outer, inner._before = self._outer, self._without_this(inner._before, before)

    def _direct_child(self, scope: ContextScope | None) -> ContextScope | None:
        """The scope that was entered directly inside this one, searching outwards from `scope`."""
        while scope is not None and scope._outer is not self:
            scope = scope._outer
        return scope

    def _without_this(self, current: Context, before: Context) -> Context:
        """`current` without the changes of this scope."""
        return before


class SessionScope(ContextScope):
    """A session for one block, `with` or `async with`, which yields the session's id.

    Restores the previous session on exit, also after an exception, with nested scopes, or in a generator that another
    task closes. The rest of the context is unchanged. Entering the scope again, nested or in another task, starts
    another block; as a decorator, it starts one for each call.

    Args:
        tracer: the tracer for `@trace` functions inside that name none.
        session: the session, or a function that creates one for each block.
    """

    def __init__(self, tracer: TracerLike, session: Session | Callable[[], Session]) -> None:
        super().__init__()
        self._tracer = tracer
        self._session = session
        self._let_budget_go: Callable[[], None] | None = None
        self._reentries: list[SessionScope] = []

    def __call__(self, function: F) -> F:
        """Decorate a function: each call runs in the session.

        Raises:
            SettingTypeError: `function` is not a function, or is an async generator function.
        """
        return wrap_each_call("with_session", function, lambda: SessionScope(self._tracer, self._session))

    def enter(self) -> str:
        """Start the scope and return the session's id."""
        if self._before is not None:
            self._reentries.append(SessionScope(self._tracer, self._session))
            return self._reentries[-1].enter()
        before = otel_context.get_current()
        session = self._session
        if not isinstance(session, Session):
            session = session()
            self._let_budget_go = self._tracer.sessions.keep_budget(session.id)
        self.attach(before, with_tracer(with_session_baggage(session, self._tracer.sessions, before), self._tracer))
        return session.id

    def exit(self) -> None:
        """End the scope; if it was entered several times, the entry of this task."""
        if self._reentries:
            scope = cast("ContextScope | None", otel_context.get_current().get(SCOPE))
            while scope is not None and scope is not self and scope not in self._reentries:
                scope = scope._outer
            if scope is not self:
                inner = scope if isinstance(scope, SessionScope) else self._reentries[-1]
                self._reentries.remove(inner)
                inner.exit()
                return
        super().exit()
        let_go, self._let_budget_go = self._let_budget_go, None
        if let_go is not None:
            let_go()

    def __enter__(self) -> str:
        return self.enter()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.exit()

    async def __aenter__(self) -> str:
        return self.enter()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.exit()

    def _without_this(self, current: Context, before: Context) -> Context:
        """`current` with the session and tracer of `before`; everything else is unchanged."""
        current = otel_context.set_value(TRACER, before.get(TRACER), with_session_of(current, before))
        return otel_context.set_value(SCOPE, before.get(SCOPE), current)


# The tracer for calls that name none: the context's, else the default.

Host = Callable[[dict[str, Any]], TracerLike | None]

_default: TracerLike | None = None
_host: Host | None = None
default_lock = threading.RLock()


def current_tracer(context: Context | None = None) -> TracerLike | None:
    """The tracer of a context (default: the current one), else the default tracer; None if there is neither."""
    return tracer_in_context(context) or _default


def set_default_tracer(tracer: TracerLike | None) -> None:
    """Set the tracer for calls that name none; with None, they are not traced.

    Raises:
        SettingTypeError: `tracer` is not a HoneyHiveTracer.
    """
    if tracer is not None and not is_tracer(tracer):
        raise_argument_error(
            "set_default_tracer", "tracer", tracer, A_TRACER, "Create one with HoneyHiveTracer.init()."
        )
    global _default
    _default = tracer


def default_tracer() -> TracerLike | None:
    """The tracer used where neither the call nor the context names one; None if there is none."""
    return _default


def set_default_if_unset(tracer: TracerLike) -> None:
    """Make `tracer` the default tracer if there is none yet."""
    with default_lock:
        if _default is None:
            set_default_tracer(tracer)


def warn_not_sending(settings: Settings) -> None:
    """Warn once that nothing is sent for lack of an API key, unless the settings ask for that or a host reports it."""
    chosen = settings.test_mode or settings.disable_tracing or not settings.otlp_enabled or settings.exporter == "none"
    if _host is None and settings.local and not chosen:
        where = "on this machine" if settings.spool else "in this process"
        warn_once("no key", f"no api_key (HH_API_KEY): spans stay {where} and are not sent")


def unset_default(tracer: TracerLike) -> None:
    """Unset the default tracer if it is `tracer`."""
    with default_lock:
        if _default is tracer:
            set_default_tracer(None)


def set_host(host: Host | None) -> None:
    """Set the host, such as the notebook, whose tracer `HoneyHiveTracer.init` returns; None removes it."""
    global _host
    _host = host
    set_log_quiet(host is not None)


def has_host() -> bool:
    """Whether there is a host: the extension is loaded, so that its magics can be used."""
    return _host is not None


def from_host(settings: dict[str, Any]) -> TracerLike | None:
    """The host's tracer with these settings applied; None if there is no host or the settings need another tracer."""
    return None if _host is None else _host(settings)
