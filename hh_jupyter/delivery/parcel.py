"""Encode unsealed spans and calls as bytes that return to another process with a result.

The format is JSON, not pickle: worker and caller may have different versions, and reading JSON runs no code. The
receiving process seals the spans once, with its own settings.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import socket
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from hh_jupyter.delivery.away import Kept
from hh_jupyter.delivery.sealing.resource import OwnResource
from hh_jupyter.delivery.sealing.stamp import Stamp
from hh_jupyter.delivery.sending.item import Call
from hh_jupyter.values import copy_attributes, plain_values

logger = logging.getLogger(__name__)

MOST_BYTES: Final = 64 * 1024 * 1024
"""Size limit of one parcel before compression. Spans and calls above it are dropped and counted."""

WORTH_COMPRESSING: Final = 8 * 1024
"""Size in bytes up to which compression does not pay off; most calls create a few small spans."""


class Returned(NamedTuple):
    """A decoded parcel.

    Attributes:
        id: random; used to process a parcel once even if it arrives twice.
        process: name of the process that it is addressed to.
        receipt: the piece of work that returned it: the id of the call and the number of its copy.
        spans, calls: each with the handle of its tracer.
        dropped: number of spans and calls that were dropped.
    """

    id: str
    process: str
    receipt: tuple[str, int]
    spans: list[tuple[str, ReadableSpan, Stamp]]
    calls: list[tuple[str, Call, str | None]]
    dropped: int


def packed(kept: Sequence[Kept], dropped: int, process: str, receipt: tuple[str, int]) -> bytes:
    """Encode spans and calls as a parcel."""
    tables = _Tables()
    texts: dict[str, list[str]] = {"spans": [], "calls": []}
    room = MOST_BYTES
    for entry, address in kept:
        kind = "calls" if isinstance(entry, Call) else "spans"
        try:
            fields = entry._asdict() if isinstance(entry, Call) else _fields(*entry, tables)
            text = json.dumps({**fields, "tracer": address.tracer, "cell": address.cell})
        except Exception:  # boundary: a span that cannot be encoded must not prevent the others from being returned.
            logger.debug("a span could not be written for its way home", exc_info=True)
            dropped += 1
            continue
        room -= len(text)
        if room < 0:
            dropped += 1
        else:
            texts[kind].append(text)
    head = {"id": uuid.uuid4().hex, "process": process, "receipt": receipt, "dropped": dropped}
    parts = [f'"{kind}": [{", ".join(found)}]' for kind, found in texts.items()]
    parts += [f'"{name}": {json.dumps(value)}' for name, value in {**head, **tables.document()}.items()]
    document = f"{{{', '.join(parts)}}}".encode("utf-8", "surrogatepass")
    return zlib.compress(document, 1) if len(document) > WORTH_COMPRESSING else document


def opened(parcel: bytes) -> Returned:
    """Decode a parcel.

    Raises:
        ValueError, KeyError, TypeError, zlib.error: the bytes are not a parcel.
    """
    text = parcel if parcel.startswith(b"{") else zlib.decompress(parcel)
    document = json.loads(text.decode("utf-8", "surrogatepass"))
    resources = [_resource(own, _frozen(found), url) for own, found, url in document["resources"]]
    scopes = [None if scope is None else _scope(*scope[:3], _frozen(scope[3])) for scope in document["scopes"]]
    return Returned(
        document["id"],
        document["process"],
        (document["receipt"][0], document["receipt"][1]),
        [_span(fields, resources, scopes) for fields in document["spans"]],
        [_call(fields) for fields in document["calls"]],
        document["dropped"],
    )


class _Tables:
    """Resources and scopes, written once because many spans share them."""

    def __init__(self) -> None:
        self._resources: dict[int, tuple[int, Resource]] = {}
        self._scopes: dict[int, tuple[int, InstrumentationScope | None]] = {}

    def number_of(self, span: ReadableSpan) -> tuple[int, int]:
        """Return the positions of the span's resource and scope in the tables, adding them if needed."""
        resource, scope = span.resource, span.instrumentation_scope
        return (
            self._resources.setdefault(id(resource), (len(self._resources), resource))[0],
            self._scopes.setdefault(id(scope), (len(self._scopes), scope))[0],
        )

    def document(self) -> dict[str, Any]:
        """Return both tables; each resource includes the worker's host name and process id."""
        here = {"host.name": socket.gethostname(), "process.pid": os.getpid()}
        return {
            "resources": [
                (isinstance(each, OwnResource), {**here, **plain_values(dict(each.attributes))}, each.schema_url)
                for _, each in self._resources.values()
            ],
            "scopes": [
                each and (each.name, each.version, each.schema_url, plain_values(copy_attributes(each.attributes)))
                for _, each in self._scopes.values()
            ],
        }


def _fields(span: ReadableSpan, stamp: Stamp, tables: _Tables) -> dict[str, Any]:
    status = span.status
    return {
        "name": span.name,
        "context": _context_fields(span.context),
        "parent": span.parent and _context_fields(span.parent),
        "kind": span.kind.value,
        "times": (span.start_time, span.end_time),
        "attributes": plain_values(copy_attributes(span.attributes)),
        "events": [
            (e.name, e.timestamp, plain_values(copy_attributes(e.attributes))) for e in (*span.events, *stamp.events)
        ],
        "links": [
            (_context_fields(link.context), plain_values(copy_attributes(link.attributes))) for link in span.links
        ],
        "status": (status.status_code.value, status.description),
        "shared": tables.number_of(span),
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "baggage": {key: str(value) for key, value in stamp.baggage.items()},
        "parent_id": stamp.parent_id,
    }


def _context_fields(context: SpanContext) -> tuple[int, int, bool, int, str]:
    state = context.trace_state.to_header() if context.trace_state else ""
    return context.trace_id, context.span_id, context.is_remote, int(context.trace_flags), state


class _ReturnedSpan(ReadableSpan):
    """A span that ended in another process."""

    def __init__(self, dropped: tuple[int, int, int], **fields: Any) -> None:
        super().__init__(**fields)
        self._dropped = dropped

    @property
    def dropped_attributes(self) -> int:
        return self._dropped[0]

    @property
    def dropped_events(self) -> int:
        return self._dropped[1]

    @property
    def dropped_links(self) -> int:
        return self._dropped[2]


def _span(
    fields: Mapping[str, Any], resources: Sequence[Resource], scopes: Sequence[InstrumentationScope | None]
) -> tuple[str, ReadableSpan, Stamp]:
    code, description = fields["status"]
    resource, scope = fields["shared"]
    start, end = fields["times"]
    span = _ReturnedSpan(
        tuple(fields["dropped"]),
        name=fields["name"],
        context=_context(fields["context"]),
        parent=fields["parent"] and _context(fields["parent"]),
        resource=resources[resource],
        attributes=_with_tuples(fields["attributes"]),
        events=[Event(name, _with_tuples(found), time) for name, time, found in fields["events"]],
        links=[Link(_context(context), _with_tuples(found)) for context, found in fields["links"]],
        kind=SpanKind(fields["kind"]),
        status=Status(StatusCode(code), description if code == StatusCode.ERROR.value else None),
        start_time=start,
        end_time=end,
        instrumentation_scope=scopes[scope],
    )
    return fields["tracer"], span, Stamp(fields["baggage"], None, fields["cell"], fields["parent_id"])


def _call(fields: Mapping[str, Any]) -> tuple[str, Call, str | None]:
    call = Call(fields["kind"], fields["session_id"], fields["document"], fields["defer"])
    return fields["tracer"], call, fields["cell"]


def _context(fields: Sequence[Any]) -> SpanContext:
    trace_id, span_id, is_remote, flags, state = fields
    trace_state = TraceState.from_header([state]) if state else None
    return SpanContext(trace_id, span_id, is_remote, TraceFlags(flags), trace_state)


def _with_tuples(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in attributes.items()}


def _frozen(attributes: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(_with_tuples(attributes).items()))


# Return the same object for the same worker: sealing keeps every resource and scope that it has seen.
@functools.lru_cache(maxsize=1024)
def _resource(own: bool, attributes: tuple[tuple[str, Any], ...], schema_url: str) -> Resource:
    return (OwnResource if own else Resource)(dict(attributes), schema_url)


@functools.lru_cache(maxsize=1024)
def _scope(
    name: str, version: str | None, schema_url: str | None, attributes: Iterable[tuple[str, Any]]
) -> InstrumentationScope:
    return InstrumentationScope(name, version, schema_url, dict(attributes))
