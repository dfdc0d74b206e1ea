"""`start_span` and `enrich_span`: a span as a block, and fields onto a span or an event."""

from __future__ import annotations

import datetime
import itertools
import logging
import math
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, set_span_in_context

from hh_jupyter import attributes as keys
from hh_jupyter.tracing.context import TracerLike, current_tracer, leave_span, random_uuid, with_tracer
from hh_jupyter.tracing.validation import each_call_in, fits, is_given, switch, tell, tracer_or_none
from hh_jupyter.values import INT64, Scalar, as_object, flatten, plain, scalar, text_of

# What `start_span` was given, as OpenTelemetry takes it. Total: a wrong argument is told once and does without.

CALLED: Final = "start_span"
MAX_LINKS: Final = 10_000
"""Looked at in what was given, which may have no end; how many a span keeps is a setting."""

_ELEMENTS: Final = (str, bool, int, float)


def span_kind(value: Any) -> SpanKind:
    """OpenTelemetry's kind; also from its name in any case, and internal for None."""
    if value is None:
        return SpanKind.INTERNAL
    if type(value) is SpanKind:
        return value
    if fits(value, str) and value.strip().upper() in SpanKind.__members__:
        return SpanKind[value.strip().upper()]
    words = ", ".join(word.lower() for word in SpanKind.__members__)
    tell(CALLED, "kind", value, f"an opentelemetry.trace.SpanKind, or one of {words}", "The kind is internal.")
    return SpanKind.INTERNAL


def start_attributes(value: Any, called: str = CALLED) -> dict[str, Any] | None:
    """Attributes that a span can hold: scalars and lists of one scalar type as they are, everything else as text.

    OpenTelemetry itself would drop the others.
    """
    if value is None:
        return None
    if type(value) is not dict and not fits(value, Mapping):
        tell(called, "attributes", value, "a dict", "The span has none; enrich_span(metadata=...) takes any value.")
        return None
    try:
        items = list(value.items())
    except Exception:  # boundary: a user's mapping may do anything when it is read; the span starts anyhow.
        items = []
    return {
        key if type(key) is str else text_of(key): item if _is_array(item) else scalar(item)
        for key, item in items
        if item is not None
    }


def _is_array(value: Any) -> bool:
    container = type(value)  # Not `isinstance`, which asks the value: a proxy may raise.
    if (container is not list and container is not tuple) or not value:
        return False
    kind = type(value[0])
    if not any(kind is one for one in _ELEMENTS):
        return False
    return all(type(item) is kind and (kind is not int or -INT64 <= item < INT64) for item in value)


def span_links(value: Any) -> list[Link] | None:
    """The links among what was given; a span's context is one as well."""
    if value is None:
        return None
    try:
        given = list(itertools.islice(value, MAX_LINKS))
    except Exception:  # boundary: one that is no iterable, or a user's iterable that fails; the span starts anyhow.
        given = [value]
    links = [Link(item) if fits(item, SpanContext) else item for item in given if fits(item, SpanContext, Link)]
    if len(links) < len(given):
        tell(CALLED, "links", value, "a list of opentelemetry.trace.Link", "What is no link is left out.")
    return links


def start_time_ns(value: Any) -> int | None:
    """Unix nanoseconds; also from a datetime, and None, which is now, for anything else."""
    if value is None:
        return None
    if fits(value, datetime.datetime):
        value = int(value.timestamp() * 1e9)
    if fits(value, int) and not fits(value, bool) and 0 <= value < INT64:
        return value  # type: ignore[no-any-return]
    tell(CALLED, "start_time", value, "Unix nanoseconds, as time.time_ns() gives them", "The span starts now.")
    return None


# An exception on a span: recorded once, and left exactly as it was.

logger = logging.getLogger(__name__)

_OWN_CODE: Final = f"{Path(__file__).parent}{os.sep}"

MAX_FRAMES: Final = 50
"""Innermost frames of a stack that are written; a recursion error has a thousand equal ones."""


def record_exception(span: Span, error: BaseException, *, event: bool = True, status: bool = True) -> None:
    """Write what OpenTelemetry's semantic conventions for exceptions ask for.

    Args:
        span: still running.
        error: neither its traceback nor its cause is touched.
        event: add the `exception` event.
        status: set the status to ERROR with "Type: message".
    """
    kind = type(error)
    message = text_of(error)
    try:
        _record(span, error, message, event=event)
    except Exception:  # boundary: reading a user's exception may raise; the one that is under way must come through.
        logger.debug("an exception could not be recorded", exc_info=True)
    if status:
        span.set_status(Status(StatusCode.ERROR, f"{kind.__name__}: {message}"))


def _record(span: Span, error: BaseException, message: str, *, event: bool) -> None:
    kind = type(error)
    if event:
        module = kind.__module__
        name = kind.__qualname__ if module in ("builtins", None) else f"{module}.{kind.__qualname__}"
        frames = _without_own(error.__traceback__)
        stack = "".join(traceback.format_exception(kind, error, frames, limit=-MAX_FRAMES))
        span.add_event(
            "exception", {"exception.type": name, "exception.message": message, "exception.stacktrace": stack}
        )


def _without_own(frames: TracebackType | None) -> TracebackType | None:
    """The frames below the decorator's, which the exception passed last; all where there are no others.

    To the reader they are noise, and each costs a tenth of the whole failure.
    """
    inner = frames
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(_OWN_CODE):
        inner = inner.tb_next
    return inner if inner is not None else frames


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
        otel_tracer = self._tracer.provider_binding.otel_tracer
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
            record_exception(span, error, event=self._event, status=self._status)
        leave_span(token, self._context)
        span.end()


# Attributes onto a running span at a quarter of what `Span.set_attributes` costs.
#
# The SDK checks every value's type once more, one by one, though `values` made all of them; for a call with three
# arguments that is a quarter of all time on the caller. So they are put into the span's mapping directly. That
# mapping is private to the SDK: where it is not exactly what this module knows, or has limits to apply, or the span
# has ended, the public way is taken. tests/tracing/test_span_writing.py fails when an SDK changes it.


def set_span_attributes(span: Span, attributes: Mapping[str, Scalar]) -> None:
    """Set attributes of a span.

    Args:
        span: of any provider.
        attributes: made by `values`: keys are texts that are not empty, values need no cleaning.
    """
    target = getattr(span, "_attributes", None)
    # One expression and no function of its own: this runs twice for every call that is traced.
    try:
        if (
            type(target) is BoundedAttributes
            and target.maxlen is None
            and target.max_value_len is None
            and not target._immutable
        ):
            with target._lock:
                target._dict.update(attributes)
            return
    except AttributeError:  # The mapping of another SDK.
        pass
    span.set_attributes(attributes)


# Fields added to the span that is running now, or to an event that exists already.

EVENT_FIELDS: Final = ("metadata", "metrics", "feedback", "outputs", "config", "user_properties")
"""What an event that exists takes; all are objects (contract, section 1)."""

_REQUIRED: Final = frozenset({"inputs", "config"})
"""What a new event must have, if only as an empty object."""

_CREATED_TYPES: Final = (*keys.EVENT_TYPES, "session")
"""The backend takes no others here, while a span's type may be any text."""

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


def span_attributes(
    fields: Mapping[str, Any],
    *,
    attributes: Any = None,
    error: Any = None,
    event_id: Any = None,
    extra: Mapping[str, Any] = _EMPTY,
) -> dict[str, Any]:
    """Attributes for enriching fields (contract, section 3).

    Args:
        fields: value by namespace: inputs, outputs, metadata, ...
        attributes: goes to metadata, like every unknown keyword in `extra`.
        error: text of `honeyhive_error`.
        event_id: text of `honeyhive_event_id`.
    """
    found: dict[str, Any] = {}
    for value in (attributes, dict(extra)):
        found.update(flatten(keys.METADATA, value) if is_given(value) else {})
    for name, value in fields.items():
        if value is not None:
            found.update(flatten(keys.NAMESPACES[name], value))
    if error is not None:
        found[keys.ERROR] = scalar(error)
    if event_id is not None:
        found[keys.EVENT_ID] = text_of(event_id)
    return found


def enrich_current_span(values: Mapping[str, Any]) -> bool:
    """Write attributes onto the running span; False if there is none."""
    span = otel_trace.get_current_span()
    if not span.is_recording():
        return False
    span.set_attributes(values)
    return True


def event_fields(
    *,
    inputs: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] = _EMPTY,
    **fields: Any,
) -> dict[str, Any]:
    """Fields of an update of an existing event: empty ones are left out, `inputs` and unknown ones go to metadata.

    Of the unknown ones `duration` is a field of its own, if it is a number (of milliseconds).
    """
    duration = extra.get("duration")
    more = {
        name: plain(value)
        for name, value in {"inputs": inputs, **extra}.items()
        if value is not None and not (name == "duration" and _is_number(value))
    }
    metadata = {name: value for name, value in more.items() if name != "inputs" or not _empty(value)}
    found = {name: value for name, given in fields.items() if not _empty(value := plain(given))}
    if metadata:
        found["metadata"] = {**as_object(found.get("metadata", {})), **metadata}
    found = {name: as_object(value) for name, value in found.items()}
    if _is_number(duration):
        found["duration"] = duration
    return found


def new_event(name: str | Mapping[str, Any], defaults: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of a new event.

    Args:
        name: the event's name, or a dict of all its fields, which then beat the others; `name` in it is the name too.
        defaults: the documented fields; those that the backend requires are filled in.
        more: any other field.
    """
    given: Any = plain(name) if fits(name, Mapping) else name
    if not fits(given, dict):
        given = {"event_name": given}
    elif given.get("event_name") is None and "name" in given:
        given = {**given, "event_name": given["name"]}
        del given["name"]
    found = {**defaults, **more, **given}
    for field in ("event_name", "event_type", "source", "project"):
        found[field] = None if found.get(field) is None else text_of(found[field])
    if found["event_type"] not in _CREATED_TYPES:
        tell("create_event", "event_type", found["event_type"], f"one of {', '.join(_CREATED_TYPES)}", "It is a tool.")
        found["event_type"] = "tool"
    for field in ("inputs", "config", *EVENT_FIELDS):
        value = found.get(field)
        found[field] = None if value is None and field not in _REQUIRED else as_object(plain(value))
    found["duration"] = _milliseconds(found.get("duration"))
    found["event_id"] = random_uuid() if found.get("event_id") is None else text_of(found["event_id"])
    return found


def _milliseconds(duration: Any) -> float:
    if _is_number(duration):
        return float(duration)
    if duration is not None:
        tell("create_event", "duration", duration, "a number of milliseconds", "It is sent as 0.")
    return 0.0


def _is_number(value: Any) -> bool:
    """A number that JSON can hold."""
    if fits(value, int) and not fits(value, bool):
        return bool(-INT64 <= value < INT64)
    return fits(value, float) and math.isfinite(value)


def _empty(value: Any) -> bool:
    """Whether there is nothing in plain data; False and 0 are something."""
    return value is None or (isinstance(value, str | dict | list) and not value)


class EnrichResult:
    """What the free `enrich_span` returns: true if there was a span, and usable in `with`, yielding that span."""

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
    """Add fields to the running span; with `event_id`, to that event instead.

    Example:
        >>> enrich_span(metrics={"score": 0.9}, feedback={"rating": 5})  # doctest: +SKIP

    Args:
        attributes: a dict for the metadata; unknown keywords go there as well.
        event_id: update this existing event through the backend, not the span.
        update_event_id: id that the span's event is to have.
        tracer: sends the update of `event_id`; default: the current tracer.

    Returns:
        true if there was something to enrich.
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
        found = tracer_or_none("enrich_span", "tracer", tracer) or current_tracer()
        if found is None:
            return EnrichResult(False)
        more = {**as_object(plain(attributes)), **({"error": error} if error is not None else {}), **extra}
        found.update_event(text_of(event_id), event_fields(**fields, extra=more))
        return EnrichResult(True)
    return EnrichResult(
        enrich_current_span(
            span_attributes(fields, attributes=attributes, error=error, event_id=update_event_id, extra=extra)
        )
    )
