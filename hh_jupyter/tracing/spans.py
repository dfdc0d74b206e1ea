"""`start_span` and `enrich_span`: spans as `with` blocks, and fields added to a span or an existing event."""

from __future__ import annotations

import datetime
import itertools
import logging
import os
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from hh_jupyter import attributes as keys
from hh_jupyter.tracing.context import TracerLike, current_tracer, detach_span, with_span
from hh_jupyter.tracing.events import event_fields
from hh_jupyter.tracing.validation import (
    checked_bool,
    is_given,
    safe_isinstance,
    tracer_or_none,
    warn_argument_once,
)
from hh_jupyter.tracing.wrappers import wrap_each_call
from hh_jupyter.values import INT64, Scalar, as_object, flatten, plain, scalar, text_of

logger = logging.getLogger(__name__)

_START_SPAN: Final = "start_span"

F = TypeVar("F", bound=Callable[..., Any])


class SpanBlock:
    """The context manager that `start_span` returns. It records exceptions and lets them propagate unchanged.

    A class, because a generator-based context manager costs as much as the span itself. If it is entered again, nested
    or in another task, it starts another span.
    """

    __slots__ = (
        "_context",
        "_event",
        "_options",
        "_reentered",
        "_span",
        "_status",
        "_token",
        "_tracer",
    )

    def __init__(
        self,
        tracer: TracerLike,
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
        self._event = checked_bool(_START_SPAN, "record_exception", record_exception, default=True)
        self._status = checked_bool(_START_SPAN, "set_status_on_exception", set_status_on_exception, default=True)
        self._span: Span | None = None
        self._token: Token[Context] | None = None
        self._reentered: list[SpanBlock] | None = None

    def __call__(self, function: F) -> F:
        """Decorate a function, so that each call is a span. Use `trace` to record arguments and result as well.

        Raises:
            SettingTypeError: `function` is not a function, or is an async generator function.
        """
        return wrap_each_call(_START_SPAN, function, self._copy)

    def _copy(self) -> SpanBlock:
        """Return a block with the same options; one block holds one span, and calls may overlap."""
        copy = SpanBlock.__new__(SpanBlock)
        copy._tracer, copy._options, copy._event, copy._status = self._tracer, self._options, self._event, self._status
        copy._span = copy._token = copy._reentered = None
        return copy

    def __enter__(self) -> Span:
        if self._span is not None:
            self._reentered = [*(self._reentered or ()), self._copy()]
            return self._reentered[-1].__enter__()
        name, kind, attributes, links, start_time = self._options
        otel_tracer = self._tracer.provider_binding.otel_tracer
        span = self._span = otel_tracer.start_span(name, None, kind, attributes, links, start_time)
        self._context = with_span(otel_context.get_current(), span, self._tracer)
        self._token = otel_context.attach(self._context)
        return span

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._reentered:
            current = otel_context.get_current()
            block = next((block for block in self._reentered if block._context is current), self._reentered[-1])
            if self._context is not current:
                self._reentered.remove(block)
                block.__exit__(exc_type, error, traceback)
                return
        span, token = self._span, self._token
        if span is None or token is None:
            return
        self._span = self._token = None
        try:
            if error is not None:
                record_exception(span, error, event=self._event, status=self._status)
        finally:  # Ctrl-C while it is recorded must not leave the span current.
            detach_span(token, self._context)
            span.end()


class EnrichResult:
    """Returned by the function `enrich_span`: true if something was enriched. In `with`, it yields the current span."""

    def __init__(self, done: bool) -> None:
        self._done = done
        self._span = otel_trace.get_current_span()

    def __bool__(self) -> bool:
        return self._done

    def __repr__(self) -> str:
        return "<enriched>" if self._done else "<no span to enrich>"

    def __enter__(self) -> Span:
        return self._span

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


def enrich_span(
    attributes: Any = None,
    metadata: Any = None,
    metrics: Any = None,
    feedback: Any = None,
    inputs: Any = None,
    outputs: Any = None,
    config: Any = None,
    error: Any = None,
    event_id: str | None = None,
    tracer: TracerLike | None = None,
    user_properties: Any = None,
    update_event_id: str | None = None,
    **extra: Any,
) -> EnrichResult:
    """Add fields to the current span, or to the event `event_id`.

    Example:
        >>> enrich_span(metrics={"score": 0.9}, feedback={"rating": 5})  # doctest: +SKIP

    Args:
        attributes: a dict that is added to the metadata, like unknown keywords.
        event_id: id of an existing event to update at the backend, instead of the span.
        update_event_id: the id that the span's event gets.
        tracer: sends the update of `event_id`; default: the current tracer.

    Returns:
        An object that is true if there was a span to enrich, or the event's id is valid.
    """
    fields = {
        "metadata": metadata,
        "metrics": metrics,
        "feedback": feedback,
        "inputs": inputs,
        "outputs": outputs,
        "config": config,
        "user_properties": user_properties,
    }
    if event_id is not None:
        sender = tracer_or_none("enrich_span", "tracer", tracer) or current_tracer()
        if sender is None:
            return EnrichResult(False)
        if not _is_uuid(event_id):
            warn_argument_once("enrich_span", "event_id", event_id, "the UUID of an event", "Nothing is updated.")
            return EnrichResult(False)
        more = {**as_object(plain(attributes)), **({"error": error} if error is not None else {}), **extra}
        sender.update_event(text_of(event_id), event_fields(**fields, extra=more))
        return EnrichResult(True)
    return EnrichResult(
        enrich_current_span(
            span_attributes(fields, attributes=attributes, error=error, event_id=update_event_id, extra=extra)
        )
    )


def _is_uuid(value: Any) -> bool:
    text = text_of(value).lower()
    try:
        found = uuid.UUID(text)
    except ValueError:
        return False
    return text in (str(found), found.hex)  # Not in braces or as a URN.


# The arguments of `start_span`, converted for OpenTelemetry. A wrong argument is logged once and replaced by a default.

MAX_LINKS: Final = 10_000
"""Number of items that are read from `links`, which may be endless. A setting limits the links of a span."""

_ARRAY_TYPES: Final = (str, bool, int, float)


def span_kind(value: Any) -> SpanKind:
    """Return the kind for a `SpanKind` or its name in any case; INTERNAL for None and anything else."""
    if value is None:
        return SpanKind.INTERNAL
    if type(value) is SpanKind:
        return value
    if safe_isinstance(value, str) and value.strip().upper() in SpanKind.__members__:
        return SpanKind[value.strip().upper()]
    words = ", ".join(word.lower() for word in SpanKind.__members__)
    warn_argument_once(
        _START_SPAN, "kind", value, f"an opentelemetry.trace.SpanKind, or one of {words}", "Using internal."
    )
    return SpanKind.INTERNAL


def start_attributes(value: Any, called: str = _START_SPAN) -> dict[str, Any] | None:
    """Return the attributes in a form that a span can hold.

    Scalars and lists of one scalar type stay as they are. Everything else, which OpenTelemetry drops, becomes text.
    """
    if value is None:
        return None
    if type(value) is not dict and not safe_isinstance(value, Mapping):
        warn_argument_once(
            called, "attributes", value, "a dict", "Ignoring it; enrich_span(metadata=...) accepts any value."
        )
        return None
    try:
        items = list(value.items())
    except Exception:  # boundary: reading a user's mapping may raise; the span starts without it.
        items = []
    return {
        key if type(key) is str else text_of(key): item if _is_array(item) else scalar(item)
        for key, item in items
        if item is not None
    }


def _is_array(value: Any) -> bool:
    container = type(value)  # Not `isinstance`, which reads `__class__`: a proxy may raise.
    if (container is not list and container is not tuple) or not value:
        return False
    kind = type(value[0])
    if not any(kind is one for one in _ARRAY_TYPES):
        return False
    return all(type(item) is kind and (kind is not int or -INT64 <= item < INT64) for item in value)


def span_links(value: Any) -> list[Link] | None:
    """Return the links among the items; a `SpanContext` becomes a link."""
    if value is None:
        return None
    try:
        items = list(itertools.islice(value, MAX_LINKS))
    except Exception:  # boundary: not an iterable, or a user's iterable that raises; the span starts without it.
        items = [value]
    links = [
        Link(item) if safe_isinstance(item, SpanContext) else item
        for item in items
        if safe_isinstance(item, SpanContext, Link)
    ]
    if len(links) < len(items):
        warn_argument_once(
            _START_SPAN, "links", value, "a list of opentelemetry.trace.Link", "Ignoring the other items."
        )
    return links


def start_time_ns(value: Any) -> int | None:
    """Return Unix nanoseconds for a number of them or a datetime; None, which means now, for anything else."""
    if value is None:
        return None
    if safe_isinstance(value, datetime.datetime):
        value = int(value.timestamp() * 1e9)
    if safe_isinstance(value, int) and not safe_isinstance(value, bool) and 0 <= value < INT64:
        return value  # type: ignore[no-any-return]
    warn_argument_once(
        _START_SPAN, "start_time", value, "Unix nanoseconds, as returned by time.time_ns()", "Using the current time."
    )
    return None


# Exceptions.

_OWN_FOLDER: Final = f"{Path(__file__).parents[1]}{os.sep}"
_PASSED_FOLDERS: Final = tuple(f"{Path(os.__file__).parent / name}{os.sep}" for name in ("asyncio", "concurrent"))
"""Between two frames of this package, where it calls a function on another thread or loop."""

MAX_FRAMES: Final = 50
"""Number of innermost frames that are recorded of a stack trace; a RecursionError has a thousand similar ones."""


def record_exception(span: Span, error: BaseException, *, event: bool = True, status: bool = True) -> None:
    """Record an exception as OpenTelemetry's semantic conventions require.

    A `BaseException` that is no `Exception`, such as a cancellation, also marks the span as cancelled. `GeneratorExit`
    and `sys.exit(0)` are not recorded: a generator that its consumer closes has not failed.

    Args:
        span: a span that has not ended.
        error: is not changed, and neither are its traceback and cause.
        event: add the `exception` event.
        status: set the status to ERROR with "Type: message".
    """
    if isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and _is_success(error.code)):
        return
    cancelled = not isinstance(error, Exception)
    message = text_of(error)
    try:
        if event:
            span.add_event("exception", exception_attributes(error, message))
    except Exception:  # boundary: reading a user's exception may raise; the original one must propagate.
        logger.debug("could not record an exception", exc_info=True)
    if status:
        name = type(error).__name__
        span.set_status(Status(StatusCode.ERROR, name if cancelled and not message else f"{name}: {message}"))
        if cancelled:
            span.set_attribute(keys.CANCELLED, True)


def _is_success(code: Any) -> bool:
    """Whether an exit code means success. It may be any object of the user's."""
    return code is None or (type(code) is int and code == 0)


def exception_attributes(error: BaseException, message: str) -> dict[str, str]:
    """Return the attributes of the `exception` event of an exception."""
    kind = type(error)
    module = kind.__module__
    name = kind.__qualname__ if module in ("builtins", None) else f"{module}.{kind.__qualname__}"
    frames = _without_own_frames(error.__traceback__)
    stack = "".join(traceback.format_exception(kind, error, frames, limit=-MAX_FRAMES))
    return {"exception.type": name, "exception.message": message, "exception.stacktrace": stack}


def _without_own_frames(frames: TracebackType | None) -> TracebackType | None:
    """Return the frames without this package's outer ones, or all frames if there are no others.

    Our frames do not help the reader, and formatting one takes a tenth of the time of recording an exception.
    """
    inner = frame = frames
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if file.startswith(_OWN_FOLDER):
            inner = frame.tb_next
        elif not file.startswith(_PASSED_FOLDERS):
            break
        frame = frame.tb_next
    return inner if inner is not None else frames


# Setting attributes, at a quarter of the cost of `Span.set_attributes`.
#
# The SDK would check the type of each value, although `values` has made all of them; for a call with three arguments
# that is a quarter of the tracing time. Attributes are therefore written to the span's mapping directly. The mapping is
# private to the SDK: if it has another type or a limit, or the span has ended, `Span.set_attributes` is used.
# tests/tracing/test_span_writing.py fails if an SDK changes the mapping.


def set_span_attributes(span: Span, attributes: Mapping[str, Scalar]) -> None:
    """Set attributes of a span.

    Args:
        span: a span of any provider.
        attributes: made by `values`: keys are non-empty strings, and values need no check.
    """
    mapping = getattr(span, "_attributes", None)
    # Inlined, because it runs twice for every traced call.
    try:
        if (
            type(mapping) is BoundedAttributes
            and mapping.maxlen is None
            and mapping.max_value_len is None
            and not mapping._immutable
        ):
            with mapping._lock:
                mapping._dict.update(attributes)
            return
    except AttributeError:  # The SDK's mapping has changed.
        pass
    span.set_attributes(attributes)


# The fields of the current span.

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


def span_attributes(
    fields: Mapping[str, Any],
    *,
    attributes: Any = None,
    error: Any = None,
    event_id: Any = None,
    extra: Mapping[str, Any] = _EMPTY,
) -> dict[str, Any]:
    """Return the span attributes for the arguments of `enrich_span`.

    Args:
        fields: values by namespace: inputs, outputs, metadata, ...
        attributes: added to the metadata, like the unknown keywords in `extra`.
        error: value of `honeyhive_error`.
        event_id: value of `honeyhive_event_id`.
    """
    result: dict[str, Any] = {}
    for value in (attributes, dict(extra)):
        result.update(flatten(keys.METADATA, value) if is_given(value) else {})
    for name, value in fields.items():
        if value is not None:
            result.update(flatten(keys.NAMESPACES[name], value))
    if error is not None:
        result[keys.ERROR] = scalar(error)
    if event_id is not None:
        result[keys.EVENT_ID] = text_of(event_id)
    return result


def enrich_current_span(values: Mapping[str, Any]) -> bool:
    """Set attributes of the current span. Returns False if no span is recording."""
    span = otel_trace.get_current_span()
    if not span.is_recording():
        return False
    span.set_attributes(values)
    return True
