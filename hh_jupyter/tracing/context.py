"""The OpenTelemetry context: current session, tracer and cell, and the scopes that undo what they changed.

The session is in baggage, over the tracer's own value.
"""

from __future__ import annotations

import functools
import os
import random
import threading
import uuid
from collections.abc import Callable, Mapping
from contextvars import Token
from types import MappingProxyType, TracebackType
from typing import Any, Final, NamedTuple, Protocol, TypeVar, cast

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Tracer, get_current_span, set_span_in_context

from hh_jupyter import attributes as keys
from hh_jupyter.delivery.sealing.stamp import Session
from hh_jupyter.delivery.sending.outage import told_by_host
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.validation import A_TRACER, each_call_in, fits, is_given, is_tracer, once, refuse
from hh_jupyter.values import text_of

# The session in baggage, and whose it is: a tracer of another backend must not file its spans under it.
#
# Baggage is one for all tracers of a process, and it travels to other services; whose session stands in it is noted
# beside it, under a key of our own that never leaves the process.

# Baggage is an immutable mapping under this key; `baggage.get_all` would wrap it once more for every span.
_BAGGAGE: Final = baggage._BAGGAGE_KEY
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_OWNER: Final = otel_context.create_key("hh_jupyter-session-owner")
SESSION_KEYS: Final = (keys.BAGGAGE_SESSION_ID, keys.BAGGAGE_PROJECT, keys.BAGGAGE_SOURCE)
"""In the order in which they stand in headers."""


class Owner(Protocol):
    """Whoever makes sessions; `address` is where they are registered."""

    @property
    def address(self) -> object: ...


class SessionOwner(Owner, Protocol):
    """The sessions of a tracer, as far as they are asked here."""

    def current_id(self) -> str | None: ...


class SpanMaker(Protocol):
    """Where a tracer's spans come from; see `tracing.processor.ProviderBinding`."""

    @property
    def on(self) -> bool: ...

    @property
    def can_set_attributes_after_start(self) -> bool: ...

    @property
    def otel_tracer(self) -> Tracer: ...


class TracerLike(Protocol):
    """What the modules below `HoneyHiveTracer` use of it."""

    @property
    def settings(self) -> Settings: ...

    @property
    def session(self) -> Session: ...

    @property
    def sessions(self) -> SessionOwner: ...

    @property
    def provider_binding(self) -> SpanMaker: ...

    def update_event(self, event_id: str, fields: Mapping[str, Any]) -> None: ...


class _Owned(NamedTuple):
    """Whose session is in force, and what the others last had: one entry for each, so that it stays small."""

    owner: Owner
    session_id: str
    others: tuple[tuple[Owner | None, Mapping[str, object]], ...]


def with_session_baggage(session: Session, owner: Owner, context: Context | None = None) -> Context:
    """`context` (default: the current one) in which spans belong to `session`; an outer session's source ends here."""
    context = otel_context.get_current() if context is None else context
    others = _others(context, owner)
    context = baggage.set_baggage(keys.BAGGAGE_SESSION_ID, session.id, context)
    for key, value in ((keys.BAGGAGE_SOURCE, session.source), (keys.BAGGAGE_PROJECT, session.project)):
        if value:
            context = baggage.set_baggage(key, value, context)
        elif baggage.get_baggage(key, context) is not None:
            context = baggage.remove_baggage(key, context)
    return otel_context.set_value(_OWNER, _Owned(owner, session.id, others), context)


def moved(context: Context, entries: Mapping[str, str]) -> Context:
    """`context` with these entries; into another session, the source and project of the one in force do not come."""
    to, session = entries.get(keys.BAGGAGE_SESSION_ID), baggage.get_baggage(keys.BAGGAGE_SESSION_ID, context)
    if to is not None and session is not None and to != session:
        for key in (keys.BAGGAGE_SOURCE, keys.BAGGAGE_PROJECT):
            context = baggage.remove_baggage(key, context)
    for key, value in entries.items():
        context = baggage.set_baggage(key, value, context)
    return context


def entries_for(owner: Owner, context: Context) -> Mapping[str, object]:
    """The baggage as one tracer sees it: without a session that was made for another backend."""
    entries = cast("Mapping[str, object]", context.get(_BAGGAGE, _NOTHING))
    owned = cast("_Owned | None", context.get(_OWNER))
    if owned is None or owned.owner is owner:  # Asked for every span: the usual answers come first.
        return entries
    if owned.session_id != entries.get(keys.BAGGAGE_SESSION_ID):
        return entries  # Set by hand, or by a request, since then.
    if owned.owner.address == owner.address:
        return entries
    seen = {key: value for key, value in entries.items() if key not in SESSION_KEYS}
    for other, own in reversed(owned.others):
        if other is None or other is owner or other.address == owner.address:
            return {**seen, **own}
    return seen


def restored(current: Context, before: Context) -> Context:
    """`current` with the session, and nothing else, as it was in `before`."""
    for key in SESSION_KEYS:
        value = baggage.get_baggage(key, before)
        current = baggage.remove_baggage(key, current) if value is None else baggage.set_baggage(key, value, current)
    return otel_context.set_value(_OWNER, before.get(_OWNER), current)


def _others(context: Context, owner: Owner) -> tuple[tuple[Owner | None, Mapping[str, object]], ...]:
    """What every other tracer has in `context`; under None, what came in with a request or was set by hand."""
    entries = cast("Mapping[str, object]", context.get(_BAGGAGE, _NOTHING))
    session = {key: entries[key] for key in SESSION_KEYS if key in entries}
    owned = cast("_Owned | None", context.get(_OWNER))
    if owned is None or owned.session_id != entries.get(keys.BAGGAGE_SESSION_ID):
        return ((None, session),) if session else ()
    kept = tuple(pair for pair in owned.others if pair[0] is not owner and pair[0] is not owned.owner)
    return kept if owned.owner is owner else (*kept, (owned.owner, session))


# What this package keeps in the OpenTelemetry context, besides baggage: cell, tracer and session scope.
#
# Own keys, never baggage: baggage travels to other services, and none of this means anything there.

SCOPE: Final = otel_context.create_key("hh_jupyter-session-scope")
"""The innermost open `tracing.context.Scope`."""

CELL: Final = otel_context.create_key("hh_jupyter-cell")
TRACER: Final = otel_context.create_key("hh_jupyter-tracer")


def with_cell(context: Context, cell_id: str) -> Context:
    """`context` with the id of a notebook cell's run: spans started in it belong to that run."""
    return otel_context.set_value(CELL, cell_id, context)


def current_cell() -> str | None:
    """Id of the cell's run that the current context belongs to."""
    return cast("str | None", otel_context.get_value(CELL))


def context_tracer(context: Context | None = None) -> TracerLike | None:
    """The tracer that a context (default: the current one) got from `start_span`, `with_session` or `evaluate`."""
    context = otel_context.get_current() if context is None else context
    return cast("TracerLike | None", context.get(TRACER))


def with_tracer(context: Context, tracer: TracerLike) -> Context:
    """`context` in which an undecided `@trace` uses this tracer."""
    return context if context.get(TRACER) is tracer else Context({**context, TRACER: tracer})


def leave(token: Token[Any]) -> None:
    """Undo an attach, and do nothing where the token is not of this context (a coroutine closed by another task).

    OpenTelemetry's own detach would log an error with a traceback there, into the user's cell.
    """
    try:
        token.var.reset(token)
    except (ValueError, RuntimeError):
        pass


def leave_span(token: Token[Context], attached: Context) -> None:
    """Undo the attach of a span's context, with whatever was attached inside: a new session, baggage, a link.

    Where a session scope was entered or left inside and not undone, as generators do that their consumer closes, only
    the span is taken out: the scope's own end finds its way back.
    """
    current = otel_context.get_current()
    if current is attached:
        leave(token)
    elif get_current_span(current) is get_current_span(attached):
        # In a new thread nothing was attached before.
        before = Context() if token.old_value is Token.MISSING else cast(Context, token.old_value)
        if current.get(SCOPE) is attached.get(SCOPE):
            otel_context.attach(before)
            return
        current = set_span_in_context(get_current_span(before), current)
        if before.get(TRACER) is not attached.get(TRACER):
            current = otel_context.set_value(TRACER, before.get(TRACER), current)
        otel_context.attach(current)


# Random ids: those of spans and traces, and UUIDs. `random.seed(...)` in a user's program does not repeat them.

UUID_BYTES: Final = 16
DRAWN_AT_ONCE: Final = 256
"""UUIDs for which the system is asked once: it answers without the interpreter's lock, which a busy thread then has."""

# One for all providers: a hook that runs after a fork stays for the life of the process, and holds what it calls.
_random: Final = random.Random()
_drawn: Final[list[bytes]] = []


def random_uuid() -> str:
    """The text of a UUID (version 4), as `uuid.uuid4` makes it, without asking the system each time."""
    while True:
        try:
            return str(uuid.UUID(bytes=_drawn.pop(), version=4))
        except IndexError:  # Nothing left, or another thread took what this one has drawn.
            drawn = os.urandom(DRAWN_AT_ONCE * UUID_BYTES)
            _drawn.extend(drawn[start : start + UUID_BYTES] for start in range(0, len(drawn), UUID_BYTES))


def _after_fork_in_child() -> None:
    """The parent goes on with the same numbers."""
    _random.seed()
    _drawn.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class PrivateIds(IdGenerator):
    """Random ids from a generator of our own; OpenTelemetry's draws from the global one, which experiments seed."""

    def generate_span_id(self) -> int:
        """64 bits, never 0."""
        return _random.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        """128 bits, never 0."""
        return _random.getrandbits(128) or 1

    def is_trace_id_random(self) -> bool:
        """True: the flag of W3C trace context, level 2."""
        return True


F = TypeVar("F", bound=Callable[..., Any])


def session_uuid(text: Any) -> tuple[str, str | None]:
    """A session id from what the caller gave.

    Args:
        text: a UUID, any other text, or None or nothing for a new random id.

    Returns:
        the id in lower case, and the given text if a name-based UUID (v5) stands in for it: the backend files only
        under UUIDs, and every service that is given the same text derives the same id.
    """
    if not is_given(text):
        return random_uuid(), None
    # Not as `text_of` has it: all bytes of one length would be one session.
    text = text.decode("utf-8", "replace") if fits(text, bytes) else text_of(text)
    try:
        return str(uuid.UUID(text)), None
    except ValueError:
        return _name_based(text), text


@functools.lru_cache(maxsize=1024)  # Every span of a conversation may ask.
def _name_based(text: str) -> str:
    made = str(uuid.uuid5(uuid.NAMESPACE_URL, f"honeyhive-session:{text}"))
    # Not for each: a server with ids of its own would fill its log with them.
    then = f"the name-based {made} stands in for it. So with every other; said once"
    once("session_id", f"session id {{}} is no UUID: {then}", text)
    return made


class Scope:
    """One block with another OpenTelemetry context; on exit the one of before is back, with nothing of the block.

    Also where exits come in another order than entries, as with generators that their consumer closes: an inner scope
    that is still open stays in force, and leads back to what was before this one.
    """

    def __init__(self) -> None:
        self._outer: Scope | None = None
        self._before: Context | None = None
        self._inside: Context | None = None

    def attach(self, before: Context, inside: Context) -> None:
        """Be in `inside` from now on."""
        self._before, self._outer = before, cast("Scope | None", before.get(SCOPE))
        self._inside = otel_context.set_value(SCOPE, self, inside)
        otel_context.attach(self._inside)

    def exit(self) -> None:
        """End the scope. A second call, and a call where the scope is not in force, do nothing."""
        before, inside = self._before, self._inside
        self._before = self._inside = None
        if before is None:
            return
        current = otel_context.get_current()
        innermost = cast("Scope | None", current.get(SCOPE))
        # Contexts are set, not reset by token: a token is refused in another task, which OpenTelemetry would log.
        if current is inside:
            otel_context.attach(before)
        elif innermost is self:
            otel_context.attach(self._left(current, before))
        elif (inner := self._inside_of_this(innermost)) is not None and inner._before is not None:
            inner._outer, inner._before = self._outer, self._left(inner._before, before)

    def _inside_of_this(self, scope: Scope | None) -> Scope | None:
        """The scope that was entered right inside this one, looking outwards from `scope`."""
        while scope is not None and scope._outer is not self:
            scope = scope._outer
        return scope

    def _left(self, current: Context, before: Context) -> Context:
        """What `current` becomes without this scope."""
        return before


class SessionScope(Scope):
    """A session for exactly one block: `with` or `async with`; gives the session's id.

    On exit the session of before is back, whatever happened inside: nested scopes, exceptions, a generator that is
    closed elsewhere. Nothing else of the context is touched. Entered again, nested or in another task, it is another
    block; as a decorator, each call is one.

    Args:
        tracer: undecided `@trace` functions inside use it.
        session: the one to be in, or what makes one for each block.
    """

    def __init__(self, tracer: TracerLike, session: Session | Callable[[], Session]) -> None:
        super().__init__()
        self._tracer = tracer
        self._session = session
        self._again: list[SessionScope] = []

    def __call__(self, function: F) -> F:
        """As a decorator.

        Raises:
            SettingTypeError: it is no function, or an async generator function.
        """
        return each_call_in("with_session", function, lambda: SessionScope(self._tracer, self._session))

    def enter(self) -> str:
        """Start the scope; returns the session's id."""
        if self._before is not None:
            self._again.append(SessionScope(self._tracer, self._session))
            return self._again[-1].enter()
        before = otel_context.get_current()
        session = self._session if isinstance(self._session, Session) else self._session()
        self.attach(before, with_tracer(with_session_baggage(session, self._tracer.sessions, before), self._tracer))
        return session.id

    def exit(self) -> None:
        """End the scope; of several entries, the one that this task is in."""
        if self._again:
            scope = cast("Scope | None", otel_context.get_current().get(SCOPE))
            while scope is not None and scope is not self and scope not in self._again:
                scope = scope._outer
            if scope is not self:
                inner = scope if isinstance(scope, SessionScope) else self._again[-1]
                self._again.remove(inner)
                inner.exit()
                return
        super().exit()

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

    def _left(self, current: Context, before: Context) -> Context:
        """`current` with the session and its tracer, and nothing else, as they were in `before`."""
        current = otel_context.set_value(TRACER, before.get(TRACER), restored(current, before))
        return otel_context.set_value(SCOPE, before.get(SCOPE), current)


# Which tracer is meant when nobody says: the context's, else the default one.

Host = Callable[[dict[str, Any]], TracerLike | None]

_default: TracerLike | None = None
_host: Host | None = None
default_lock = threading.RLock()


def current_tracer(context: Context | None = None) -> TracerLike | None:
    """The tracer of the OpenTelemetry context (default: the current one), else the default one; None if neither is."""
    return context_tracer(context) or _default


def set_default_tracer(tracer: TracerLike | None) -> None:
    """Make `tracer` the one that undecided calls use; None leaves them untraced.

    Raises:
        SettingTypeError: it is no tracer.
    """
    if tracer is not None and not is_tracer(tracer):
        refuse("set_default_tracer", "tracer", tracer, A_TRACER, "HoneyHiveTracer.init() makes one.")
    global _default
    _default = tracer


def default_tracer() -> TracerLike | None:
    """The tracer that undecided calls use outside any context's own; None if there is none."""
    return _default


def offer_default(tracer: TracerLike) -> None:
    """Make `tracer` the default if there is none: the first one made."""
    with default_lock:
        if _default is None:
            set_default_tracer(tracer)


def tell_unsent(settings: Settings) -> None:
    """Say once that nothing is sent because there is no key; a host says so itself, and some asked for it."""
    asked = settings.test_mode or settings.disable_tracing or not settings.otlp_enabled or settings.exporter == "none"
    if _host is None and settings.local and not asked:
        where = "on this machine" if settings.spool else "in this process"
        once("no key", f"no api_key (HH_API_KEY): spans stay {where} and are not sent")


def withdraw_default(tracer: TracerLike) -> None:
    """Stop being the default, after a shutdown."""
    with default_lock:
        if _default is tracer:
            set_default_tracer(None)


def set_host(host: Host | None) -> None:
    """Let a host that has a tracer already, the notebook, answer `HoneyHiveTracer.init`; None: nobody does."""
    global _host
    _host = host
    told_by_host(host is not None)


def hosted(settings: dict[str, Any]) -> TracerLike | None:
    """The host's tracer with these settings applied, or None if there is no host or the settings ask for another."""
    return None if _host is None else _host(settings)
