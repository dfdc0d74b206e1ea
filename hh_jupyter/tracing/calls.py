"""One call of a decorated function as a span: its arguments, its result, its time, its failure."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from hh_jupyter import attributes as keys
from hh_jupyter.tracing.failure import record_failure
from hh_jupyter.tracing.scope import leave, with_tracer
from hh_jupyter.tracing.serialize import flatten, scalar
from hh_jupyter.tracing.session_baggage import moved
from hh_jupyter.tracing.span_writing import write

if TYPE_CHECKING:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

LEFT_OUT: Final = frozenset({"self", "cls", "tracer"})
_RESULT: Final = f"{keys.OUTPUTS}.{keys.RESULT}"


class CallPlan(NamedTuple):
    """What the decorator knows before any call.

    A tuple, as other plain values that a tracer starts with: Python takes four times as long to make the class of a
    frozen dataclass, at each import.

    Attributes:
        attributes: those that the decorator's own parameters become.
        baggage: session, project or source that the decorator moves the span to.
        capture_result: False when `outputs=` was given, or the decorator says so.
    """

    name: str
    tracer: HoneyHiveTracer | None
    attributes: Mapping[str, Any]
    baggage: Mapping[str, str]
    arguments: Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]
    capture_inputs: bool | None
    capture_result: bool | None


class Call:
    """A running call; its span is current between `resume` and `pause`, or inside `with`."""

    __slots__ = ("_context", "_start", "_token", "result_wanted", "span")

    def __init__(
        self,
        plan: CallPlan,
        tracer: HoneyHiveTracer,
        context: Context,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        settings = tracer.settings
        attributes = plan.attributes
        if plan.capture_inputs if plan.capture_inputs is not None else settings.capture_inputs:
            attributes = {**attributes, **plan.arguments(args, kwargs)}
        self.result_wanted = plan.capture_result if plan.capture_result is not None else settings.capture_outputs
        context = with_tracer(context, tracer)
        if plan.baggage:
            context = moved(context, plan.baggage)
        self._start = time.perf_counter_ns()
        source = tracer.span_source
        if source.starts_bare:
            self.span: Span = source.otel_tracer.start_span(plan.name, context, SpanKind.INTERNAL)
            write(self.span, attributes)
        else:
            self.span = source.otel_tracer.start_span(plan.name, context, SpanKind.INTERNAL, attributes)
        self._context = set_span_in_context(self.span, context)
        self._token: Token[Context] | None = None

    def resume(self) -> None:
        """Make the span current."""
        self._token = otel_context.attach(self._context)

    def pause(self) -> None:
        """Make what was current before current again."""
        if self._token is not None:
            leave(self._token)
            self._token = None

    def __enter__(self) -> None:
        self.resume()

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._context = otel_context.get_current()  # A generator goes on in the session and span it was in.
        self.pause()

    def finish(self, result: Any) -> None:
        """End the span after a success; a result of None leaves no output."""
        found: dict[str, Any] = {keys.DURATION_MS: (time.perf_counter_ns() - self._start) / 1e6}
        if result is not None and self.result_wanted:
            kind = type(result)  # Compared one by one: a class may refuse to be hashed.
            if kind is str or kind is bool or kind is int or kind is float:
                found[_RESULT] = scalar(result)
            else:
                found.update(flatten(_RESULT, result))
        write(self.span, found)
        self.span.end()

    def fail(self, error: BaseException) -> None:
        """End the span after an exception. SystemExit and KeyboardInterrupt are no failures of the function."""
        if isinstance(error, Exception):
            record_failure(self.span, error)
        self.span.end()


def argument_reader(function: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]:
    """A function from a call's arguments to attributes; the signature is looked at once, here.

    Defaults are filled in, `self`, `cls` and `tracer` left out, arguments that are None absent.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # Some builtins have none.
        return lambda args, kwargs: {}
    parameters = signature.parameters.values()
    variadic = {p.name for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    if all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters):
        return _plain_reader(tuple(parameters))

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # The call itself is about to fail with the same error.
            return {}
        bound.apply_defaults()
        return {
            f"{keys.INPUTS}.{name}": scalar(value)
            for name, value in bound.arguments.items()
            if name not in LEFT_OUT and value is not None and (name not in variadic or value)
        }

    return read


def _plain_reader(
    parameters: tuple[inspect.Parameter, ...],
) -> Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]:
    """For signatures without `*`, `**` and markers, which are most: no binding, a third of the cost."""
    order = tuple(p.name for p in parameters)
    rows = tuple(
        (p.name, f"{keys.INPUTS}.{p.name}", None if p.default is p.empty else p.default)
        for p in parameters
        if p.name not in LEFT_OUT
    )
    by_position = tuple(None if name in LEFT_OUT else f"{keys.INPUTS}.{name}" for name in order)

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if len(args) == len(by_position) and not kwargs:
            pairs = zip(by_position, args, strict=True)
            return {key: scalar(value) for key, value in pairs if value is not None and key is not None}
        given = dict(zip(order, args, strict=False))
        if kwargs:
            given.update(kwargs)
        found = {}
        for name, key, default in rows:
            value = given.get(name, default)
            if value is not None:
                found[key] = scalar(value)
        return found

    return read
