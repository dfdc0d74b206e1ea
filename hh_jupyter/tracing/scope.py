"""What this package keeps in the OpenTelemetry context, besides baggage: cell, tracer and session scope.

Own keys, never baggage: baggage travels to other services, and none of this means anything there.
"""

from __future__ import annotations

from contextvars import Token
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span, set_span_in_context

if TYPE_CHECKING:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

SCOPE: Final = otel_context.create_key("hh_jupyter-session-scope")
"""The innermost open `tracing.session.Scope`."""

CELL: Final = otel_context.create_key("hh_jupyter-cell")
TRACER: Final = otel_context.create_key("hh_jupyter-tracer")


def with_cell(context: Context, cell_id: str) -> Context:
    """`context` with the id of a notebook cell's run: spans started in it belong to that run."""
    return otel_context.set_value(CELL, cell_id, context)


def current_cell() -> str | None:
    """Id of the cell's run that the current context belongs to."""
    return cast("str | None", otel_context.get_value(CELL))


def context_tracer(context: Context | None = None) -> HoneyHiveTracer | None:
    """The tracer that a context (default: the current one) got from `start_span`, `with_session` or `evaluate`."""
    context = otel_context.get_current() if context is None else context
    return cast("HoneyHiveTracer | None", context.get(TRACER))


def with_tracer(context: Context, tracer: HoneyHiveTracer) -> Context:
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
