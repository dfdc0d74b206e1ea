"""A span as a block: started and made current on entry, ended on exit, its failure recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, set_span_in_context

from hh_jupyter.tracing.arguments import switch
from hh_jupyter.tracing.callables import each_call_in
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

    A class and not a generator: the generator form costs as much as the span itself. Entered again, nested or in
    another task, it is another span.
    """

    __slots__ = (
        "_again",
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
        self._again: list[SpanBlock] | None = None

    def __call__(self, function: F) -> F:
        """As a decorator: each call of `function` is a span of its own. `trace` records arguments and result as well.

        Raises:
            SettingTypeError: it is no function, or an async generator function.
        """
        return each_call_in(CALLED, function, self._another)

    def _another(self) -> SpanBlock:
        """A block like this one: one block is one span, and calls may overlap."""
        made = SpanBlock.__new__(SpanBlock)
        made._tracer, made._options, made._event, made._status = self._tracer, self._options, self._event, self._status
        made._span = made._token = made._again = None
        return made

    def __enter__(self) -> Span:
        if self._span is not None:
            self._again = [*(self._again or ()), self._another()]
            return self._again[-1].__enter__()
        name, kind, attributes, links, start_time = self._options
        otel_tracer = self._tracer.span_source.otel_tracer
        span = self._span = otel_tracer.start_span(name, None, kind, attributes, links, start_time)
        self._context = set_span_in_context(span, with_tracer(otel_context.get_current(), self._tracer))
        self._token = otel_context.attach(self._context)
        return span

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._again:
            current = otel_context.get_current()
            block = next((block for block in self._again if block._context is current), self._again[-1])
            if self._context is not current:
                self._again.remove(block)
                block.__exit__(exc_type, error, traceback)
                return
        span, token = self._span, self._token
        if span is None or token is None:
            return
        self._span = self._token = None
        if isinstance(error, Exception):
            record_failure(span, error, event=self._event, status=self._status)
        leave_span(token, self._context)
        span.end()
