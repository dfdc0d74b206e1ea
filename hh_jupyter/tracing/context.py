"""The current session: baggage in the OpenTelemetry context, over the tracer's own value; and scopes that undo it."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from hh_jupyter.delivery.sealing.stamp import Session
from hh_jupyter.tracing.arguments import fits, is_given, once
from hh_jupyter.tracing.callables import each_call_in
from hh_jupyter.tracing.ids import random_uuid
from hh_jupyter.tracing.scope import SCOPE, TRACER, with_tracer
from hh_jupyter.tracing.serialize import text_of
from hh_jupyter.tracing.session_baggage import restored, with_session_baggage

if TYPE_CHECKING:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

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

    def __init__(self, tracer: HoneyHiveTracer, session: Session | Callable[[], Session]) -> None:
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
