"""Spans and requests of work that this process does for another one: kept apart until they return with the result.

A span is kept if its origin names the process that sent the work; the span processor takes that from the context (key
`REMOTE`). This includes the spans of an instrumentor that uses a tracer inherited from the parent process.

They return as a payload of OTLP bytes and a JSON header, not as pickled objects: worker and caller may have different
versions, and decoding runs no code. The calling process finalizes the spans once, with its own settings.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
import zlib
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

from opentelemetry import context as otel_context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext

from hh_jupyter.export.model import EndedSpan, Origin, RemoteOrigin, Request
from hh_jupyter.threads import copied, evict_oldest
from hh_jupyter.values import copy_attributes, plain_values

if TYPE_CHECKING:
    from hh_jupyter.export.otlp import FinalSpan

logger = logging.getLogger(__name__)

T = TypeVar("T")

REMOTE: Final = otel_context.create_key("hh_jupyter-remote")
"""Context key of the `RemoteOrigin` of the current work."""

MAX_KEPT: Final = 10_000
"""Limit of spans, and of requests, kept for one process until a result returns; others are dropped and counted."""

MAX_PROCESSES: Final = 1_000
"""Number of processes to keep late spans for, of all that have sent work to this one."""

MAX_BYTES: Final = 64 * 1024 * 1024
"""Size limit of one payload before compression; spans and requests above it are dropped and counted."""

MIN_COMPRESSED: Final = 8 * 1024
"""Size in bytes from which compression pays off; most calls make a few small spans."""


class Returned(NamedTuple):
    """A decoded payload.

    Attributes:
        id: random; used to receive a payload once even if it arrives twice.
        process: name of the process that it is for.
        receipt: the piece of work that returned it: the id of the call and the number of its copy.
        spans, requests: each with the id of its tracer. The origin of a span, or the third item of a request, names
            the process to pass it on to, if this one had received the work from another.
        dropped: number of spans and requests that were dropped.
    """

    id: str
    process: str
    receipt: tuple[str, int]
    spans: list[tuple[str, EndedSpan]]
    requests: list[tuple[str, Request, RemoteOrigin | None]]
    dropped: int


class RemoteBuffer:
    """Spans and requests to return to one process with its next result."""

    def __init__(self, process: str) -> None:
        # No lock: a span may end anywhere, including in a destructor.
        self._spans: deque[EndedSpan] = deque()
        self._requests: deque[tuple[RemoteOrigin, Request]] = deque()
        self._dropped = 0
        self._process = process

    def add_span(self, span: ReadableSpan, origin: Origin) -> None:
        """Add an ended span, or count it as dropped if there are too many."""
        self._add(self._spans, EndedSpan(span, origin))

    def add_request(self, request: Request, remote: RemoteOrigin) -> None:
        """Add a request, or count it as dropped if there are too many."""
        self._add(self._requests, (remote, request))

    def spans_of(self, trace_id: int) -> list[ReadableSpan]:
        """The spans of a trace that wait here."""
        spans = (entry.span for entry in copied(self._spans))
        return [span for span in spans if span.context is not None and span.context.trace_id == trace_id]

    def _add(self, queue: deque[T], entry: T) -> None:
        if len(queue) < MAX_KEPT:
            queue.append(entry)
        else:
            self._dropped += 1

    def take_payload(self, receipt: tuple[str, int]) -> bytes:
        """Remove everything and return it encoded; see `unpack`."""
        dropped, self._dropped = self._dropped, 0
        room, requests, groups, bodies = MAX_BYTES, [], [], []
        for remote, request in _emptied(self._requests):
            try:
                text = json.dumps((remote.tracer, request, remote.outer))
            except Exception:  # boundary: a request that cannot be encoded must not prevent the others from returning.
                logger.debug("a request (%s) could not be encoded", request.kind, exc_info=True)
                text = None
            if text is None or len(text) > room:
                dropped += 1
            else:
                room -= len(text)
                requests.append(text)
        found: dict[tuple[Any, ...], list[FinalSpan]] = {}
        resources: dict[int, Resource] = {}
        for entry in _emptied(self._spans):
            try:
                group, span = _prepared(entry, resources)
                found.setdefault(group, []).append(span)
            except Exception:  # boundary: as above.
                logger.debug("a span could not be prepared", exc_info=True)
                dropped += 1
        for group, spans in found.items():
            body, lost = _encoded(spans, room)
            room, dropped = room - len(body), dropped + lost
            groups.append((*group, len(body)))
            bodies.append(body)
        header = {"id": uuid.uuid4().hex, "process": self._process, "receipt": receipt, "dropped": dropped}
        text = json.dumps({**header, "requests": requests, "groups": groups})
        payload = b"".join((len(text).to_bytes(4, "big"), text.encode("ascii"), *bodies))
        return zlib.compress(payload, 1 if len(payload) > MIN_COMPRESSED else 0)


def _emptied(queue: deque[T]) -> list[T]:
    return [queue.popleft() for _ in range(len(queue))]


_buffers: dict[str, RemoteBuffer] = {}
"""Buffers by process name. Empty in a process that has never worked for another one."""

_process = uuid.uuid4().hex


def process_name() -> str:
    """Return the random name of this process; a forked child has a different one."""
    return _process


def buffer_for(process: str) -> RemoteBuffer:
    """Return the buffer of a process, creating it if needed; from now on that process's spans are kept in it."""
    buffer = _buffers.setdefault(process, RemoteBuffer(process))
    evict_oldest(_buffers, MAX_PROCESSES)
    return buffer


def keep_span(span: ReadableSpan, origin: Origin) -> bool:
    """Keep an ended span if it belongs to another process's work; return False if it does not."""
    buffer = None if origin.remote is None else _buffers.get(origin.remote.process)
    if buffer is None:
        return False
    buffer.add_span(span, origin)
    return True


def keep_request(request: Request, remote: RemoteOrigin | None = None) -> bool:
    """Keep a request if it belongs to another process's work; return False if it does not.

    Args:
        remote: the origin of a request that was made elsewhere; default: that of the current context.
    """
    remote = remote or cast("RemoteOrigin | None", otel_context.get_value(REMOTE))
    buffer = None if remote is None else _buffers.get(remote.process)
    if remote is None or buffer is None:
        return False
    buffer.add_request(request, remote)
    return True


def kept_spans(trace_id: int) -> list[ReadableSpan]:
    """The spans of a trace that wait to be returned to other processes."""
    return [span for buffer in list(_buffers.values()) for span in buffer.spans_of(trace_id)]


def reset_in_child() -> None:
    """Give a forked child its own name and empty buffers: the parent returns what it has collected."""
    global _process
    _process = uuid.uuid4().hex
    for process in _buffers:
        _buffers[process] = RemoteBuffer(process)


def _prepared(entry: EndedSpan, resources: dict[int, Resource]) -> tuple[tuple[Any, ...], FinalSpan]:
    """Return the span for the encoder, and what OTLP cannot express: origin, baggage, and whether the resource is ours.

    Args:
        resources: the resources with this process's host name and id, by identity of the given ones.
    """
    from hh_jupyter.export.final_span import unchanged
    from hh_jupyter.export.resource import OwnResource

    span, origin = entry
    given, remote, parent = span.resource, cast(RemoteOrigin, origin.remote), span.parent
    resource = resources.get(id(given))  # The encoder groups by identity.
    if resource is None:
        import platform

        here: dict[str, Any] = {"host.name": platform.node(), "process.pid": os.getpid()}
        resource = resources[id(given)] = Resource({**here, **given.attributes}, given.schema_url)
    if parent is not None and parent.span_id != origin.parent_id:
        parent = SpanContext(parent.trace_id, origin.parent_id, is_remote=False) if origin.parent_id else None
    baggage = tuple((key, str(value)) for key, value in origin.baggage.items())
    group = remote.tracer, remote.cell, remote.outer, baggage, isinstance(given, OwnResource)
    copy = unchanged(span, span.context)
    return group, copy._replace(
        parent=parent,
        resource=resource,
        attributes=plain_values(cast("dict[str, Any]", copy.attributes)),
        events=[Event(each.name, _plain(each), each.timestamp) for each in (*span.events, *origin.events)],
        links=[Link(each.context, _plain(each)) for each in span.links],
    )


def _plain(part: Event | Link) -> dict[str, Any]:
    return plain_values(copy_attributes(part.attributes))


def _encoded(spans: Sequence[FinalSpan], room: int) -> tuple[bytes, int]:
    """Return an OTLP body of at most `room` bytes, and the number of spans that are not in it.

    The spans are halved until each part can be encoded and fits; the concatenation of two bodies is a body.
    """
    from hh_jupyter.export import otlp
    from hh_jupyter.export.final_span import encodable

    body: bytes | None = None
    try:
        try:
            body = otlp.encode(spans)
        except (ValueError, TypeError):  # Protobuf rejects a value.
            body = otlp.encode([encodable(span) for span in spans])
    except Exception:  # boundary: a span that cannot be encoded must not prevent the others from returning.
        logger.debug("spans of another process's work could not be encoded", exc_info=True)
    if body is not None and len(body) <= room:
        return body, 0
    if len(spans) == 1:
        return b"", 1
    middle = len(spans) // 2
    first, lost = _encoded(spans[:middle], room)
    second, more = _encoded(spans[middle:], room - len(first))
    return first + second, lost + more


def unpack(payload: bytes) -> Returned:
    """Decode a payload; its spans are sorted by end time.

    Raises:
        ValueError, KeyError, TypeError, IndexError, zlib.error, DecodeError: the bytes are not a payload.
    """
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from hh_jupyter.export.received import InvalidSpanError, spans_of  # Late: both load much that a start needs not.

    data = memoryview(zlib.decompress(payload))
    position = 4 + int.from_bytes(data[:4], "big")
    header = json.loads(bytes(data[4:position]))
    requests = [
        (tracer, Request(*fields), _remote(outer)) for tracer, fields, outer in map(json.loads, header["requests"])
    ]
    spans: list[tuple[str, EndedSpan]] = []
    dropped = header["dropped"]
    for tracer, cell, outer, baggage, own, size in header["groups"]:
        entries, remote = dict(baggage), _remote(outer)
        request = ExportTraceServiceRequest.FromString(bytes(data[position : position + size]))
        for span in spans_of(request, own=own):
            if isinstance(span, InvalidSpanError):
                dropped += 1
                continue
            parent_id = span.parent.span_id if span.parent else None
            spans.append((tracer, EndedSpan(span, Origin(entries, None, cell, parent_id, remote=remote))))
        position += size
    spans.sort(key=lambda entry: entry[1].span.end_time or 0)
    receipt = header["receipt"][0], header["receipt"][1]
    return Returned(header["id"], header["process"], receipt, spans, requests, dropped)


def _remote(fields: Sequence[Any] | None) -> RemoteOrigin | None:
    return None if fields is None else RemoteOrigin(fields[0], fields[1], fields[2], _remote(fields[3]))
