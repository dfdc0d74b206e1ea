"""`@trace`, `@atrace` and `@trace_class`: each call of a function becomes a span."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import time
import weakref
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Any, Final, NamedTuple, TypeVar, overload

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind

from hh_jupyter import attributes as keys
from hh_jupyter.errors import SettingTypeError
from hh_jupyter.tracing.context import (
    SESSION_KEYS,
    TracerLike,
    current_tracer,
    detach,
    with_session_overrides,
    with_span,
)
from hh_jupyter.tracing.sessions import session_uuid
from hh_jupyter.tracing.spans import record_exception, set_span_attributes, span_attributes
from hh_jupyter.tracing.validation import (
    check_decorator_arguments,
    checked_event_type,
    raise_argument_error,
    unknown_parameter_message,
    unwrap_partial,
)
from hh_jupyter.tracing.wrappers import Wrapped, is_wrapper, wrap
from hh_jupyter.values import flatten, scalar, text_of

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
    """Record each call of a function as a span, with its arguments, result, duration and exception.

    Works on functions, coroutine functions, generators and async generators (the span lasts until the iteration
    ends), with or without parameters. The function itself runs exactly once, even if tracing fails.

    Example:
        >>> @trace(event_type="tool")
        ... def search(query: str, limit: int = 3) -> list[str]: ...

    Args:
        event_type: model, tool or chain; default: derived from the span's name and attributes.
        event_name: name of the span; default: module and function name.
        tracer: default: the current tracer, looked up at each call.
        source, project, session_id: used for the span and its children, instead of the current ones.
        inputs, outputs, metadata, metrics, feedback, config, user_properties: a dict for the field of that name;
            `outputs` replaces the result.
        error, event_id, user_id, session_name: the text of the field of that name.
        capture_inputs, capture_outputs: record arguments and result; default: the tracer's setting.

    Raises:
        SettingTypeError: a keyword is unknown, or has a value of the wrong type.
    """
    if callable(event_type) or isinstance(event_type, staticmethod | classmethod | property):
        return _decorated(event_type, _call_plan_factory({"event_type": "tool"}, None, None, None, None, None))
    parameters = {"event_type": event_type, **fields}
    named = {"event_name": event_name, "tracer": tracer, "outputs": outputs}
    captures = {"capture_inputs": capture_inputs, "capture_outputs": capture_outputs}
    check_decorator_arguments("trace", {**parameters, **named, **captures})
    if event_type is not None:
        checked_event_type(
            "trace", event_type, " The first argument is event_type; pass the span's name as event_name=..."
        )
    make_plan = _call_plan_factory(parameters, event_name, tracer, outputs, capture_inputs, capture_outputs)
    return lambda function: _decorated(function, make_plan)


atrace = trace
"""An older name, for coroutine functions; `trace` accepts them as well."""


def trace_class(cls: C) -> C:
    """Trace every public method of a class as `Class.method`, with event type tool. Properties are not traced.

    Raises:
        SettingTypeError: `cls` is not a class.
    """
    if not inspect.isclass(cls):
        raise_argument_error("trace_class", "cls", cls, "a class", "To trace a function, use trace.")
    _trace_methods(cls, lambda method: True)
    _classes.add(cls)
    return cls


_classes: Final[weakref.WeakSet[type]] = weakref.WeakSet()


def trace_reloaded_methods() -> None:
    """Trace the methods that autoreload has changed in traced classes, or added to them.

    IPython 9 replaces a changed method by running its `def` alone, without the decorators of its class.
    """
    for cls in list(_classes):

        def is_reloaded(method: Callable[..., Any], cls: type = cls) -> bool:
            return not is_wrapper(method) and method.__module__ == cls.__module__ != "__main__"

        if any(is_reloaded(method) for _, _, method in _methods(cls)) and _is_decorated(cls):
            _trace_methods(cls, is_reloaded)


def _trace_methods(cls: type, wanted: Callable[[Callable[..., Any]], bool]) -> None:
    for name, member, method in _methods(cls):
        if wanted(method):
            traced = trace(event_type="tool", event_name=f"{cls.__name__}.{name}")(method)
            setattr(cls, name, traced if member is method else type(member)(traced))


def _methods(cls: type) -> list[tuple[str, Any, Callable[..., Any]]]:
    """Return the public methods of a class: name, what the class has of that name, and the function in it."""
    members = [(name, member) for name, member in vars(cls).items() if not name.startswith("_")]
    functions = [
        (name, member, member.__func__ if isinstance(member, staticmethod | classmethod) else member)
        for name, member in members
    ]
    return [row for row in functions if row[1] is not row[2] or inspect.isfunction(row[2])]


def _is_decorated(cls: type) -> bool:
    """Whether the class has the decorator `trace_class` in its source."""
    try:
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        names = [ast.unparse(decorator) for decorator in getattr(node, "decorator_list", ())]
    except (OSError, TypeError, SyntaxError, ValueError, SystemError):  # The last one: see `conventions.literals`.
        return False
    module = sys.modules.get(cls.__module__)
    for name in names:
        found: Any = module
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is trace_class:
            return True
    return False


# The parameters of `@trace`. They are read once, when the function is decorated.

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
_NOT_RECORDED: Final = frozenset({"self", "cls", "tracer"})


class CallPlan(NamedTuple):
    """What is the same for every call of a decorated function.

    A NamedTuple, because Python takes four times as long at import to create the class of a frozen dataclass.

    Attributes:
        attributes: set on each span; made from the decorator's parameters.
        baggage: session, project or source that the decorator sets for the span and its children.
        arguments: returns the attributes for the arguments of a call.
        capture_inputs: None to use the tracer's setting.
        capture_result: None to use the tracer's setting; False if `outputs=` replaces the result.
    """

    name: str
    tracer: TracerLike | None
    attributes: Mapping[str, Any]
    baggage: Mapping[str, str]
    arguments: Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]
    capture_inputs: bool | None
    capture_result: bool | None


def _call_plan_factory(
    parameters: Mapping[str, Any],
    event_name: str | None,
    tracer: TracerLike | None,
    outputs: Mapping[str, Any] | None,
    capture_inputs: bool | None,
    capture_outputs: bool | None,
) -> Callable[[Callable[..., Any]], CallPlan]:
    """Return a function that makes the `CallPlan` of a function decorated with these parameters.

    Args:
        parameters: all other parameters, by name.

    Raises:
        SettingTypeError: a parameter is unknown.
    """
    unknown = [name for name in parameters if name not in _PARAMETERS]
    if unknown:
        known = (*_PARAMETERS, "event_name", "tracer", "capture_inputs", "capture_outputs")
        raise SettingTypeError(unknown_parameter_message("trace", unknown[0], known))
    baggage, session_attributes = _session_baggage(parameters)
    attributes = {**_attributes(parameters, event_name, outputs), **session_attributes}

    def make(function: Callable[..., Any]) -> CallPlan:
        return CallPlan(
            name=text_of(event_name or _name_of(function)),
            tracer=tracer,
            attributes=attributes,
            baggage=baggage,
            arguments=_argument_reader(function),
            capture_inputs=capture_inputs,
            capture_result=False if outputs is not None else capture_outputs,
        )

    return make


def _attributes(
    parameters: Mapping[str, Any], event_name: str | None, outputs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the attributes for the parameters."""
    fields = {
        _FIELDS[name]: text_of(value) for name, value in parameters.items() if name in _FIELDS and value is not None
    }
    if event_name:
        fields[keys.EVENT_NAME] = text_of(event_name)
    namespaces = {name: parameters.get(name) for name in keys.NAMESPACES if name != "outputs"}
    namespaces["config"] = parameters.get("config") or parameters.get("span_config")
    tags = {"tags": parameters["tags"]} if parameters.get("tags") is not None else {}
    return {
        **fields,
        **span_attributes(namespaces, error=parameters.get("error"), extra=tags),
        **(flatten(keys.OUTPUTS, outputs) if outputs is not None else {}),
    }


def _session_baggage(parameters: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Return baggage for the parameters `session_id`, `source` and `project`, and the attributes for the session id."""
    # The baggage keys have the same names as the parameters.
    baggage = {name: text_of(parameters[name]) for name in SESSION_KEYS if parameters.get(name) is not None}
    if keys.BAGGAGE_SESSION_ID not in baggage:
        return baggage, {}
    final_id, text = session_uuid(baggage[keys.BAGGAGE_SESSION_ID])
    baggage[keys.BAGGAGE_SESSION_ID] = final_id
    attributes = {keys.EVENT_SESSION_ID: final_id}
    return baggage, attributes if text is None else {**attributes, keys.SESSION_ID_GIVEN: text}


def _name_of(function: Any) -> str:
    function = unwrap_partial(function)
    module, name = getattr(function, "__module__", None), getattr(function, "__name__", type(function).__name__)
    return f"{module}.{name}" if module else name


def _argument_reader(function: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]:
    """Return a function that makes attributes of a call's arguments. The signature is inspected only once, here.

    Defaults are filled in; `self`, `cls`, `tracer` and arguments that are None are left out.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # Some builtins have none.
        return lambda args, kwargs: {}
    parameters = signature.parameters.values()
    variadic = {p.name for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    if all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters):
        return _positional_or_keyword_reader(tuple(parameters))

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # The call itself will fail with the same error.
            return {}
        bound.apply_defaults()
        return {
            f"{keys.INPUTS}.{name}": scalar(value)
            for name, value in bound.arguments.items()
            if name not in _NOT_RECORDED and value is not None and (name not in variadic or value)
        }

    return read


def _positional_or_keyword_reader(
    parameters: tuple[inspect.Parameter, ...],
) -> Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]:
    """The reader for signatures without `*`, `**` and `/`, which are most. It costs a third, as it need not bind."""
    order = tuple(p.name for p in parameters)
    rows = tuple(
        (p.name, f"{keys.INPUTS}.{p.name}", None if p.default is p.empty else p.default)
        for p in parameters
        if p.name not in _NOT_RECORDED
    )
    by_position = tuple(None if name in _NOT_RECORDED else f"{keys.INPUTS}.{name}" for name in order)

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if len(args) == len(by_position) and not kwargs:
            pairs = zip(by_position, args, strict=True)
            return {key: scalar(value) for key, value in pairs if value is not None and key is not None}
        arguments = dict(zip(order, args, strict=False))
        if kwargs:
            arguments.update(kwargs)
        attributes = {}
        for name, key, default in rows:
            value = arguments.get(name, default)
            if value is not None:
                attributes[key] = scalar(value)
        return attributes

    return read


# One call of a decorated function.

_RESULT: Final = f"{keys.OUTPUTS}.{keys.RESULT}"


class TracedCall:
    """A running call. Its span is current from `attach` to `suspend` or its end."""

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
        if plan.baggage:
            context = with_session_overrides(context, plan.baggage)
        self._start = time.perf_counter_ns()
        source = tracer.provider_binding
        if source.can_set_attributes_after_start:
            self.span: Span = source.otel_tracer.start_span(plan.name, context, SpanKind.INTERNAL)
            set_span_attributes(self.span, attributes)
        else:
            self.span = source.otel_tracer.start_span(plan.name, context, SpanKind.INTERNAL, attributes)
        self._context = with_span(context, self.span, tracer)
        self._token: Token[Context] | None = None

    def attach(self) -> None:
        """Make the span current."""
        self._token = otel_context.attach(self._context)

    def suspend(self) -> None:
        """Restore the previous context until the next `attach`, which continues in the session and span of now."""
        self._context = otel_context.get_current()
        self._detach()

    def _detach(self) -> None:
        token = self._token
        if token is not None:
            self._token = None
            detach(token)

    def finish(self, result: Any) -> None:
        """Restore the previous context, record the result, unless it is None, and end the span."""
        self._detach()
        attributes: dict[str, Any] = {keys.DURATION_MS: (time.perf_counter_ns() - self._start) / 1e6}
        if result is not None and self.result_wanted:
            kind = type(result)  # Compared one by one: a class may be unhashable.
            if kind is str or kind is bool or kind is int or kind is float:
                attributes[_RESULT] = scalar(result)
            else:
                attributes.update(flatten(_RESULT, result))
        set_span_attributes(self.span, attributes)
        self.span.end()

    def fail(self, error: BaseException) -> None:
        """Restore the previous context, record an exception and end the span."""
        self._detach()
        try:
            record_exception(self.span, error)
        finally:  # Also after Ctrl-C while it is recorded.
            self.span.end()


class TracedFunction(Wrapped):
    """A decorated function with its plan."""

    __slots__ = ("plan",)

    def __init__(self, function: Callable[..., Any], plan: CallPlan) -> None:
        super().__init__(function)
        self.plan = plan

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TracedCall | None:
        """Start the span of a call. Returns None if tracing is off."""
        plan = self.plan
        context = otel_context.get_current()  # Looked up only once, since the caller waits.
        tracer = plan.tracer or current_tracer(context)
        if tracer is None or not tracer.provider_binding.on:
            return None
        return TracedCall(plan, tracer, context, args, kwargs)


def _decorated(function: Any, make_plan: Callable[[Callable[..., Any]], CallPlan]) -> Any:
    if isinstance(function, staticmethod | classmethod):
        return type(function)(_decorated(function.__func__, make_plan))
    if isinstance(function, property):
        return property(_decorated(function.fget, make_plan), function.fset, function.fdel, function.__doc__)
    if inspect.isclass(function) or not callable(function):
        from hh_jupyter.redaction import shown  # Not at import: see `tracing.validation`.

        what = f"the class {function.__name__}" if inspect.isclass(function) else shown("function", function)
        raise SettingTypeError(
            f"trace: expected a function; got {what}. To trace all methods of a class, use trace_class."
        )
    return wrap(TracedFunction(function, make_plan(function)))
