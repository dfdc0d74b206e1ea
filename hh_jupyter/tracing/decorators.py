"""`@trace`, `@atrace` and `@trace_class`: functions of every kind as spans."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextvars import Token
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar, overload

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from hh_jupyter import attributes as keys
from hh_jupyter.errors import SettingTypeError
from hh_jupyter.tracing.context import SESSION_KEYS, TracerLike, current_tracer, leave, moved, session_uuid, with_tracer
from hh_jupyter.tracing.spans import record_exception, set_span_attributes, span_attributes
from hh_jupyter.tracing.validation import (
    check_decoration,
    event_type_text,
    is_kind,
    refuse,
    unknown_parameter,
    without_partial,
)
from hh_jupyter.values import flatten, plain, scalar, text_of

# One call of a decorated function as a span: its arguments, its result, its time, its failure.

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
    tracer: TracerLike | None
    attributes: Mapping[str, Any]
    baggage: Mapping[str, str]
    arguments: Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]
    capture_inputs: bool | None
    capture_result: bool | None


class TracedCall:
    """A running call; its span is current between `resume` and `pause`, or inside `with`."""

    __slots__ = ("_context", "_start", "_token", "result_wanted", "span")

    def __init__(
        self,
        plan: CallPlan,
        tracer: TracerLike,
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
        source = tracer.provider_binding
        if source.can_set_attributes_after_start:
            self.span: Span = source.otel_tracer.start_span(plan.name, context, SpanKind.INTERNAL)
            set_span_attributes(self.span, attributes)
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
        set_span_attributes(self.span, found)
        self.span.end()

    def fail(self, error: BaseException) -> None:
        """End the span after an exception. SystemExit and KeyboardInterrupt are no failures of the function."""
        if isinstance(error, Exception):
            record_exception(self.span, error)
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


# What the parameters of `@trace` mean for each call: they are read once, when the function is decorated.

_FIELDS: Final = {
    "event_type": keys.EVENT_TYPE,
    "event_id": keys.EVENT_ID,
    "user_id": keys.USER_ID,
    "session_name": keys.SESSION_NAME,
    "source": keys.EVENT_SOURCE,
    "project": keys.EVENT_PROJECT,
    "session_id": keys.EVENT_SESSION_ID,
}
_PARAMETERS: Final = frozenset({*_FIELDS, *keys.NAMESPACES, "span_config", "error", "tags"})


def plan_maker(
    given: Mapping[str, Any],
    event_name: str | None,
    tracer: TracerLike | None,
    outputs: Mapping[str, Any] | None,
    capture_inputs: bool | None,
    capture_outputs: bool | None,
) -> Callable[[Callable[..., Any]], CallPlan]:
    """What makes the plan of a function that is decorated with these parameters.

    Args:
        given: the parameters that are not among the following, by name.

    Raises:
        SettingTypeError: one of them is unknown.
    """
    unknown = [name for name in given if name not in _PARAMETERS]
    if unknown:
        known = (*_PARAMETERS, "event_name", "tracer", "capture_inputs", "capture_outputs")
        raise SettingTypeError(unknown_parameter("trace", unknown[0], known))
    moves, moved_to = _moves(given)
    attributes = {**_attributes(given, event_name, outputs), **moved_to}

    def make(function: Callable[..., Any]) -> CallPlan:
        return CallPlan(
            name=text_of(event_name or _name_of(function)),
            tracer=tracer,
            attributes=attributes,
            baggage=moves,
            arguments=argument_reader(function),
            capture_inputs=capture_inputs,
            capture_result=False if outputs is not None else capture_outputs,
        )

    return make


def _attributes(given: Mapping[str, Any], event_name: str | None, outputs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The attributes that the parameters become."""
    found = {_FIELDS[name]: text_of(value) for name, value in given.items() if name in _FIELDS and value is not None}
    if event_name:
        found[keys.EVENT_NAME] = text_of(event_name)
    namespaces = {name: given.get(name) for name in keys.NAMESPACES if name != "outputs"}
    namespaces["config"] = given.get("config") or given.get("span_config")
    tags = {"tags": given["tags"]} if given.get("tags") is not None else {}
    return {
        **found,
        **span_attributes(namespaces, error=given.get("error"), extra=tags),
        **(flatten(keys.OUTPUTS, outputs) if outputs is not None else {}),
    }


def _moves(given: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Where a call is moved to, session, source or project: entries of the baggage, and attributes that say so."""
    # The parameters are called as the entries of the baggage are.
    moves = {name: text_of(given[name]) for name in SESSION_KEYS if given.get(name) is not None}
    if keys.BAGGAGE_SESSION_ID not in moves:
        return moves, {}
    final_id, text = session_uuid(moves[keys.BAGGAGE_SESSION_ID])
    moves[keys.BAGGAGE_SESSION_ID] = final_id
    said = {keys.EVENT_SESSION_ID: final_id}
    return moves, said if text is None else {**said, keys.SESSION_ID_GIVEN: text}


def _name_of(function: Any) -> str:
    function = without_partial(function)
    module, name = getattr(function, "__module__", None), getattr(function, "__name__", type(function).__name__)
    return f"{module}.{name}" if module else name


# `@trace` on generators: the span lasts until the iteration ends, and is current only while the generator runs.

MAX_YIELDED: Final = 100
"""Items that are kept as the output; all are counted."""

Begin = Callable[[tuple[Any, ...], dict[str, Any]], TracedCall | None]


def generator_wrapper(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """A generator function that does what `function` does, as one span."""

    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = begin(args, kwargs)
        inner = function(*args, **kwargs)
        return (yield from inner if call is None else _iterate(inner, call))

    return wrapper


def async_generator_wrapper(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """The same for async generator functions."""

    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = begin(args, kwargs) or _Untraced()
        inner: AsyncGenerator[Any, Any] = function(*args, **kwargs)
        step: Callable[[], Any] = inner.__anext__
        with _Iteration(call) as iteration:
            while True:
                try:
                    with call:
                        item = await step()
                except StopAsyncIteration:
                    return
                iteration.yielded(item)
                try:
                    sent = yield item
                except GeneratorExit:
                    with call:
                        await inner.aclose()
                    raise
                except BaseException as error:  # Thrown in by the consumer: the generator's to handle.
                    step = functools.partial(inner.athrow, error)
                else:
                    step = functools.partial(inner.asend, sent)

    return wrapper


class _Iteration:
    """Ends the call's span when the iteration ends; to be closed by its consumer is no failure."""

    __slots__ = ("_call", "_count", "_items")

    def __init__(self, call: TracedCall) -> None:
        self._call = call
        self._items: list[Any] = []
        self._count = 0

    def yielded(self, item: Any) -> None:
        self._count += 1
        if self._count <= MAX_YIELDED and self._call.result_wanted:
            self._items.append(plain(item))  # Now: what was yielded may change, and need not be kept alive.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, GeneratorExit):
            self._call.fail(error)
            return
        more = self._count - len(self._items) if self._items else 0
        self._call.finish([*self._items, f"... {more} more"] if more else self._items)


def _iterate(inner: Generator[Any, Any, Any], call: TracedCall) -> Generator[Any, Any, Any]:
    step: Callable[[], Any] = functools.partial(next, inner)
    with _Iteration(call) as iteration:
        while True:
            try:
                with call:
                    item = step()
            except StopIteration as stop:
                return stop.value
            iteration.yielded(item)
            try:
                sent = yield item
            except GeneratorExit:
                with call:
                    inner.close()
                raise
            except BaseException as error:  # Thrown in by the consumer: the generator's to handle.
                step = functools.partial(inner.throw, error)
            else:
                step = functools.partial(inner.send, sent)


class _Untraced(TracedCall):
    """Stands in where nothing is traced; async generators have no `yield from`."""

    def __init__(self) -> None:
        self.result_wanted = False

    def resume(self) -> None:
        pass

    def pause(self) -> None:
        pass

    def finish(self, result: Any) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        pass


F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)


@overload
def trace(event_type: F) -> F: ...
@overload
def trace(
    event_type: str | None = None,
    event_name: str | None = None,
    *,
    tracer: TracerLike | None = None,
    source: str | None = None,
    project: str | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    session_name: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    feedback: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    span_config: Mapping[str, Any] | None = None,
    user_properties: Mapping[str, Any] | None = None,
    tags: Any = None,
    error: Any = None,
    event_id: str | None = None,
    capture_inputs: bool | None = None,
    capture_outputs: bool | None = None,
) -> Callable[[F], F]: ...
def trace(
    event_type: Any = None,
    event_name: str | None = None,
    *,
    tracer: TracerLike | None = None,
    outputs: Mapping[str, Any] | None = None,
    capture_inputs: bool | None = None,
    capture_outputs: bool | None = None,
    **fields: Any,
) -> Any:
    """Make each call of a function a span, with its arguments, result, time and failure.

    Works on functions, coroutine functions, generators and async generators (the span lasts until the iteration
    ends), bare or with parameters. The function itself runs exactly once, whatever happens to tracing.

    Example:
        >>> @trace(event_type="tool")
        ... def search(query: str, limit: int = 3) -> list[str]: ...

    Args:
        event_type: model, tool or chain; without it the type is told from name and attributes.
        event_name: name of the span; default: module and function name.
        tracer: default: the current tracer, looked up at each call.
        source, project, session_id: move the span, and what runs inside it, there.
        inputs, outputs, metadata, metrics, feedback, config, user_properties: dicts of the field of that name;
            `outputs` replaces the result.
        error, event_id, user_id, session_name: text of the field of that name.
        capture_inputs, capture_outputs: record arguments and result; default: the tracer's setting.

    Raises:
        SettingTypeError: an unknown keyword.
    """
    if callable(event_type) or isinstance(event_type, staticmethod | classmethod | property):
        return _decorated(event_type, plan_maker({"event_type": "tool"}, None, None, None, None, None))
    given = {"event_type": event_type, **fields}
    named = {"event_name": event_name, "tracer": tracer, "outputs": outputs}
    captures = {"capture_inputs": capture_inputs, "capture_outputs": capture_outputs}
    check_decoration("trace", {**given, **named, **captures})
    if event_type is not None:
        event_type_text("trace", event_type, " The first argument is event_type; for the span's name: event_name=...")
    make = plan_maker(given, event_name, tracer, outputs, capture_inputs, capture_outputs)
    return lambda function: _decorated(function, make)


atrace = trace
"""The older name for coroutine functions; `trace` tells by itself."""


def trace_class(cls: C) -> C:
    """Trace every public method of a class, each as `Class.method`, type tool; properties stay as they are.

    Raises:
        SettingTypeError: it is no class.
    """
    if not inspect.isclass(cls):
        refuse("trace_class", "cls", cls, "a class", "For a function: trace.")
    for name, member in list(vars(cls).items()):
        if name.startswith("_"):
            continue
        decorate = trace(event_type="tool", event_name=f"{cls.__name__}.{name}")
        if isinstance(member, staticmethod | classmethod):
            setattr(cls, name, type(member)(decorate(member.__func__)))
        elif inspect.isfunction(member):
            setattr(cls, name, decorate(member))
    return cls


def _begin(plan: CallPlan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TracedCall | None:
    """The call's span, or None where nothing is traced."""
    context = otel_context.get_current()  # Looked up once: this runs on the caller's time.
    tracer = plan.tracer or current_tracer(context)
    return (
        TracedCall(plan, tracer, context, args, kwargs) if tracer is not None and tracer.provider_binding.on else None
    )


def _decorated(function: Any, make: Callable[[Callable[..., Any]], CallPlan]) -> Any:
    if isinstance(function, staticmethod | classmethod):
        return type(function)(_decorated(function.__func__, make))
    if isinstance(function, property):
        return property(_decorated(function.fget, make), function.fset, function.fdel, function.__doc__)
    if inspect.isclass(function) or not callable(function):
        from hh_jupyter.redaction import shown  # Not at import: see `tracing.validation`.

        what = f"the class {function.__name__}" if inspect.isclass(function) else shown("function", function)
        raise SettingTypeError(f"trace: decorates functions; got {what}. For all methods of a class: trace_class.")
    plan = make(function)
    begin = functools.partial(_begin, plan)
    if is_kind(function, inspect.isasyncgenfunction):
        wrapper: Any = async_generator_wrapper(function, begin)
    elif is_kind(function, inspect.isgeneratorfunction):
        wrapper = generator_wrapper(function, begin)
    elif is_kind(function, inspect.iscoroutinefunction):
        wrapper = _coroutine_wrapper(function, plan)
    else:
        wrapper = _function_wrapper(function, plan)
    return functools.wraps(function)(wrapper)


def _function_wrapper(function: Callable[..., Any], plan: CallPlan) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True  # IPython leaves this frame out of the user's traceback.
        call = _begin(plan, args, kwargs)
        if call is None:
            return function(*args, **kwargs)
        call.resume()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            call.pause()
            call.fail(error)
            raise
        call.pause()
        call.finish(result)
        return result

    return wrapper


def _coroutine_wrapper(function: Callable[..., Any], plan: CallPlan) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        call = _begin(plan, args, kwargs)
        if call is None:
            return await function(*args, **kwargs)
        call.resume()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            call.pause()
            call.fail(error)
            raise
        call.pause()
        call.finish(result)
        return result

    return wrapper
