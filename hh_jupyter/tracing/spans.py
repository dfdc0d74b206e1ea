"""A span as a block: started and made current on entry, ended on exit, its failure recorded."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, set_span_in_context

from hh_jupyter.tracing.arguments import refuse, switch
from hh_jupyter.tracing.failure import record_failure
from hh_jupyter.tracing.scope import leave_span, with_tracer
from hh_jupyter.tracing.serialize import text_of
from hh_jupyter.tracing.span_arguments import CALLED, span_kind, span_links, start_attributes, start_time_ns

if TYPE_CHECKING:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

F = TypeVar("F", bound=Callable[..., Any])


def _switch(name: str, value: Any) -> bool:
    return value if type(value) is bool else switch(CALLED, name, value, default=True)


class SpanBlock:
    """`with tracer.start_span(...) as span`. Exceptions pass through, the same object with the same traceback.

    A class and not a generator: the generator form costs as much as the span itself.
    """

    __slots__ = (
        "_context",
        "_event",
        "_options",
        "_span",
        "_status",
        "_token",
        "_tracer",
    )

    def __init__(
        self,
        tracer: HoneyHiveTracer,
        name: str,
        *,
        kind: SpanKind | None = None,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> None:
        self._tracer = tracer
        self._options = (
            text_of(name),
            span_kind(kind),
            start_attributes(attributes),
            span_links(links),
            start_time_ns(start_time),
        )
        self._event = _switch("record_exception", record_exception)
        self._status = _switch("set_status_on_exception", set_status_on_exception)
        self._span: Span | None = None
        self._token: Token[Context] | None = None

    def __call__(self, function: F) -> F:
        """As a decorator: each call of `function` is a span of its own. `trace` records arguments and result as well.

        Raises:
            SettingTypeError: it is no function.
        """
        given: Any = function
        if inspect.isclass(given) or not callable(given):
            refuse(CALLED, "function", function, "a function", "As a block: with tracer.start_span(...).")

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self._another():
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def coroutine_wrapper(*args: Any, **kwargs: Any) -> Any:
            with self._another():
                return await function(*args, **kwargs)

        return cast(F, coroutine_wrapper if inspect.iscoroutinefunction(function) else wrapper)

    def _another(self) -> SpanBlock:
        """A block like this one: one block is one span, and calls may overlap."""
        made = SpanBlock.__new__(SpanBlock)
        made._tracer, made._options, made._event, made._status = self._tracer, self._options, self._event, self._status
        made._span = made._token = None
        return made

    def __enter__(self) -> Span:
        name, kind, attributes, links, start_time = self._options
        span = self._span = self._tracer.otel_tracer.start_span(name, None, kind, attributes, links, start_time)
        self._context = set_span_in_context(span, with_tracer(otel_context.get_current(), self._tracer))
        self._token = otel_context.attach(self._context)
        return span

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        span, token = self._span, self._token
        if span is None or token is None:
            return
        self._span = self._token = None
        if isinstance(error, Exception):
            record_failure(span, error, event=self._event, status=self._status)
        leave_span(token, self._context)
        span.end()
