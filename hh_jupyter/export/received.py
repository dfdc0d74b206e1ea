"""Spans that ended in another process: from OTLP messages to what the pipeline finalizes.

The messages may come from any program, so nothing of them is taken for granted.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from hh_jupyter import attributes as keys
from hh_jupyter import values
from hh_jupyter.export import otlp
from hh_jupyter.redaction import length_without_files
from hh_jupyter.values import plain_values

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

T = TypeVar("T")

_IS_REMOTE: Final = 0x200  # SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK

_KINDS: Final = {kind.value + 1: kind for kind in SpanKind}  # 0 is "unspecified" on the wire.
_CODES: Final = {code.value: code for code in StatusCode}

_KEY: Final = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER: Final = _KEY + r"=[!-+\--<>-~]{1,256}"
_TRACE_STATE: Final = re.compile(rf"{_MEMBER}(?:,{_MEMBER}){{0,31}}")
"""What W3C allows. OpenTelemetry logs a warning that quotes anything else."""


MAX_NAME: Final = 10_000
"""Characters of the name of a span, which its row holds, or of a scope."""

MAX_TEXT: Final = values.MAX_TEXT
"""Characters of one text, images and other files not counted: a search for secrets in a longer one would stop all other
threads. It ends with its length then, as other values do, and the rules know what a cut leaves of a secret."""

MAX_SHARED: Final = 64 * 1024
"""Size limit of a resource or scope, in bytes: some are remembered. The rest of its attributes is left out."""


class ReceivedSpan(ReadableSpan):
    """A span that ended in another process."""

    dropped_attributes = dropped_events = dropped_links = 0

    def pop_attribute(self, key: str) -> Any:
        """Remove an attribute and return its value; None if there is none."""
        return cast("dict[str, Any]", self._attributes).pop(key, None)


class InvalidSpanError(ValueError):
    """A span message lacks what every span has. The message says what; it quotes nothing."""


def spans_of(request: ExportTraceServiceRequest, *, own: bool = False) -> Iterator[ReceivedSpan | InvalidSpanError]:
    """Yield the spans of a request in its order, decoded one at a time; for a message that is no span, the error.

    Args:
        request: the decoded request.
        own: the resource is that of this package, so it is named by the settings of the tracer.
    """
    for group in request.resource_spans:
        resource = _remembered(_resource, group.resource.SerializeToString(), group.schema_url, own)
        for part in group.scope_spans:
            scope = _remembered(_scope, part.scope.SerializeToString(), part.schema_url)
            for message in part.spans:
                try:
                    yield _span(message, resource, scope, own=own)
                except InvalidSpanError as error:
                    yield error


def _remembered(make: _lru_cache_wrapper[T], data: bytes, *args: Any) -> T:
    """Return what `make` makes of a message; the same object again unless it is large.

    The finalizer keeps resources by identity.
    """
    return make(data, *args) if len(data) <= MAX_SHARED else make.__wrapped__(data, *args)


@functools.lru_cache(maxsize=1024)
def _resource(data: bytes, schema_url: str, own: bool) -> Resource:
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource as Message

    from hh_jupyter.export.resource import OwnResource

    return (OwnResource if own else Resource)(_shared_attributes(Message.FromString(data)), schema_url[:MAX_NAME])


@functools.lru_cache(maxsize=1024)
def _scope(data: bytes, schema_url: str) -> InstrumentationScope | None:
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope as Message

    found = Message.FromString(data)
    name, version, schema_url = (text[:MAX_NAME] for text in (found.name, found.version, schema_url))
    return InstrumentationScope(name, version, schema_url, _shared_attributes(found)) if data else None


def _shared_attributes(message: Any) -> dict[str, Any]:
    """Return the attributes of a resource or scope that fit; the number of others is an attribute as well."""
    kept, left = [], MAX_SHARED
    for pair in message.attributes:
        if pair.ByteSize() <= left:
            left -= pair.ByteSize()
            kept.append(pair)
    found = _plain_attributes(kept)
    cut = len(message.attributes) - len(kept)
    return {**found, keys.TRUNCATED: f"{cut} attributes"} if cut else found


def _span(message: Span, resource: Resource, scope: InstrumentationScope | None, *, own: bool) -> ReceivedSpan:
    def attributes_of(part: Any) -> dict[str, Any]:
        found = _plain_attributes(part.attributes)
        return found if own else {key: _cut(value) for key, value in found.items()}

    context = _context(message.trace_id, message.span_id, False, message.trace_state)
    if context is None:
        raise InvalidSpanError("a span needs a trace id of 16 bytes and a span id of 8 bytes, not all zero")
    start, end = message.start_time_unix_nano, message.end_time_unix_nano
    if not (start or end):
        raise InvalidSpanError("a span needs a start time and an end time")
    code = _CODES.get(message.status.code, StatusCode.UNSET)
    events = [
        Event(_cut(each.name), attributes_of(each), each.time_unix_nano or start or end) for each in message.events
    ]
    linked = [(_context(each.trace_id, each.span_id, _is_remote(each)), each) for each in message.links]
    span = ReceivedSpan(
        name=message.name[:MAX_NAME],
        context=context,
        parent=_context(message.trace_id, message.parent_span_id, _is_remote(message)),
        resource=resource,
        attributes=attributes_of(message),
        events=events,
        links=[Link(context, attributes_of(each)) for context, each in linked if context is not None],
        kind=_KINDS.get(message.kind, SpanKind.INTERNAL),
        status=Status(code, _cut(message.status.message) or None if code is StatusCode.ERROR else None),
        start_time=start or end,
        end_time=end or start,
        instrumentation_scope=scope,
    )
    span.dropped_attributes = message.dropped_attributes_count
    span.dropped_events = message.dropped_events_count
    span.dropped_links = message.dropped_links_count + len(linked) - len(span.links)
    return span


def _is_remote(message: Any) -> bool:
    return bool(message.flags & _IS_REMOTE)


def _context(trace_id: bytes, span_id: bytes, is_remote: bool, state: str = "") -> SpanContext | None:
    """Return a span context; None if one of the ids is not an id."""
    if len(trace_id) != 16 or len(span_id) != 8 or not any(trace_id) or not any(span_id):
        return None
    trace_state = TraceState.from_header([state]) if _TRACE_STATE.fullmatch(state) else None
    flags = TraceFlags(TraceFlags.SAMPLED)  # Other spans are not exported.
    return SpanContext(int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big"), is_remote, flags, trace_state)


def _cut(value: Any) -> Any:
    """Return a value whose texts are cut to `MAX_TEXT`."""
    if type(value) is tuple:
        return tuple(map(_cut, value))
    if type(value) is str and len(value) > MAX_TEXT and length_without_files(value) > MAX_TEXT:
        return values.clean(value)
    return value


def _plain_attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    """Return attributes as OpenTelemetry takes them. It would log a warning that quotes any other key or value."""
    found = plain_values(otlp.values_of(pairs))
    return {key: tuple(value) if type(value) is list else value for key, value in found.items() if key}
