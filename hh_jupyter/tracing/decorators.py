"""`@trace`, `@atrace` and `@trace_class`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from opentelemetry import context as otel_context

from hh_jupyter.errors import SettingTypeError
from hh_jupyter.tracing import iteration
from hh_jupyter.tracing.arguments import check_decoration, event_type_text, refuse
from hh_jupyter.tracing.call_plans import plan_maker
from hh_jupyter.tracing.callables import is_kind
from hh_jupyter.tracing.calls import Call, CallPlan
from hh_jupyter.tracing.default import current_tracer

if TYPE_CHECKING:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)


@overload
def trace(event_type: F) -> F: ...
@overload
def trace(
    event_type: str | None = None,
    event_name: str | None = None,
    *,
    tracer: HoneyHiveTracer | None = None,
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
    tracer: HoneyHiveTracer | None = None,
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


def _begin(plan: CallPlan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """The call's span, or None where nothing is traced."""
    context = otel_context.get_current()  # Looked up once: this runs on the caller's time.
    tracer = plan.tracer or current_tracer(context)
    return Call(plan, tracer, context, args, kwargs) if tracer is not None and tracer.span_source.on else None


def _decorated(function: Any, make: Callable[[Callable[..., Any]], CallPlan]) -> Any:
    if isinstance(function, staticmethod | classmethod):
        return type(function)(_decorated(function.__func__, make))
    if isinstance(function, property):
        return property(_decorated(function.fget, make), function.fset, function.fdel, function.__doc__)
    if inspect.isclass(function) or not callable(function):
        from hh_jupyter.redaction import shown  # Not at import: see `tracing.arguments`.

        what = f"the class {function.__name__}" if inspect.isclass(function) else shown("function", function)
        raise SettingTypeError(f"trace: decorates functions; got {what}. For all methods of a class: trace_class.")
    plan = make(function)
    begin = functools.partial(_begin, plan)
    if is_kind(function, inspect.isasyncgenfunction):
        wrapper: Any = iteration.async_generator_wrapper(function, begin)
    elif is_kind(function, inspect.isgeneratorfunction):
        wrapper = iteration.generator_wrapper(function, begin)
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
