"""Spans that our tracer did not record: from a file, another process's spool, or the OpenTelemetry SDK in memory.

Each span becomes a row with a reference to its content. Spans are redacted when they are added, so displays and writers
only get redacted spans. Limits and session attributes are not applied. The encoded spans stay in memory, where they
take less space than in the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from hh_jupyter import attributes as keys
from hh_jupyter.export import otlp
from hh_jupyter.records.calls import SpanKey, by_identity, key_of
from hh_jupyter.records.record import ForeignRecord, SpanDetails, SpanRecord
from hh_jupyter.values import plain_values

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span
    from opentelemetry.sdk.trace import ReadableSpan

    from hh_jupyter.redaction import Redactor, RedactorWithFunction

SPANS_OF_BODY: Final = 500


class ForeignSpans:
    """The content of spans from one source.

    Args:
        redactor: redacts every span, its resource and its scope.
        file: path of the file; None for spans from memory.
    """

    def __init__(self, redactor: Redactor | RedactorWithFunction, file: str | None = None) -> None:
        self.file = file
        self._redactor = redactor
        self._groups: dict[bytes, int] = {}
        self._last: tuple[ResourceSpans, int] | None = None
        self._spans: dict[SpanKey, tuple[int, bytes]] = {}

    def add(self, group: ResourceSpans, span: Span, cell: str | None = None) -> ForeignRecord:
        """Add a span and return its row.

        Args:
            group: resource and scope of the span, without spans. Consecutive spans may share the same object.
            span: the span; redaction changes it in place.
            cell: key of the notebook cell's run that the span belongs to.
        """
        if self._last is None or self._last[0] is not group:
            self._last = group, self._place_of(group)
        if redacted := _redact(span, self._redactor):
            _count_redacted(span, redacted)
        row = otlp.row_of(span, group.scope_spans[0].scope.name, cell=cell)
        values = {one.name: getattr(row, one.name) for one in fields(row)}
        record = ForeignRecord(**values, source=self)
        if record.end_ns is not None or key_of(record) not in self._spans:
            self._spans[key_of(record)] = self._last[1], span.SerializeToString()
        return record

    def details(self, record: SpanRecord) -> SpanDetails | None:
        """Return the details of a row; None if this source does not hold the span."""
        from opentelemetry.proto.trace.v1.trace_pb2 import Span

        found = self._spans.get(key_of(record))
        return None if found is None else otlp.details_of(Span.FromString(found[1]))

    def bodies(self, records: Iterable[SpanRecord]) -> Iterator[bytes]:
        """Yield encoded requests with the spans of these rows, each with its resource and scope."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        groups = list(self._groups)
        by_group: dict[int, list[bytes]] = {}
        for record in records:
            group, data = self._spans[key_of(record)]
            by_group.setdefault(group, []).append(data)
        for group, spans in by_group.items():
            left = iter(spans)
            while part := list(islice(left, SPANS_OF_BODY)):
                request = ExportTraceServiceRequest()
                resource = request.resource_spans.add()
                resource.MergeFromString(groups[group])
                for data in part:
                    resource.scope_spans[0].spans.add().MergeFromString(data)
                yield request.SerializeToString()

    def _place_of(self, group: ResourceSpans) -> int:
        for pairs in (group.resource.attributes, group.scope_spans[0].scope.attributes):
            _redact_attributes(pairs, self._redactor)
        return self._groups.setdefault(group.SerializeToString(), len(self._groups))


def read_file(path: str | os.PathLike[str], redactor: Redactor | RedactorWithFunction) -> list[SpanRecord]:
    """Return the rows of an OTLP JSON file, each span once, sorted by end time; see `json_lines.read`.

    Raises:
        OSError: the file cannot be read.
        SpanFileError: the content is not OTLP JSON.
    """
    from hh_jupyter.otlp_files.json_lines import read

    source = ForeignSpans(redactor, os.fspath(path))
    rows = by_identity(source.add(group, span) for group, span in read(path))
    return sorted(rows.values(), key=_end)


def rows_of_requests(
    requests: Iterable[tuple[bytes, str | None]],
    redactor: Redactor | RedactorWithFunction,
    wanted: Callable[[bytes], bool] = lambda _: True,
) -> list[SpanRecord]:
    """Return the rows of the spans in encoded requests, each span once, sorted by start.

    Args:
        requests: each with the key of the cell's run that its spans belong to, or None.
        redactor: redacts every span.
        wanted: tells of each encoded span whether to return it.
    """
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    source, rows = ForeignSpans(redactor), []
    for body, cell in requests:
        try:
            request = ExportTraceServiceRequest.FromString(body)
        except DecodeError:
            continue
        for group, span in _with_groups(request.resource_spans):
            if wanted(span.SerializeToString()):
                rows.append(source.add(group, span, cell))
    return sorted(by_identity(rows).values(), key=lambda row: row.start_ns)


def _with_groups(resources: Iterable[ResourceSpans]) -> Iterator[tuple[ResourceSpans, Span]]:
    """Yield each span with its resource and scope as a message without spans."""
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

    for resource in resources:
        for scope in resource.scope_spans:
            bare = ScopeSpans(scope=scope.scope, schema_url=scope.schema_url)
            group = ResourceSpans(resource=resource.resource, scope_spans=[bare], schema_url=resource.schema_url)
            for span in scope.spans:
                yield group, span


def rows_of(spans: Iterable[ReadableSpan], redactor: Redactor | RedactorWithFunction) -> list[SpanRecord]:
    """Return the rows of spans of the OpenTelemetry SDK, in the same order.

    Raises:
        ValueError: a span has no ids or no start time, so it was not recorded.
    """
    source = ForeignSpans(redactor)
    return [source.add(*_encoded(span)) for span in spans]


def rows_of_bodies(bodies: Iterable[bytes], redactor: Redactor | RedactorWithFunction) -> list[ForeignRecord]:
    """Return the rows of serialised requests, each span once, sorted by end time. Other bytes are skipped."""
    source = ForeignSpans(redactor)
    rows = by_identity(source.add(group, span) for body in bodies for group, span in _spans_of_body(body))
    return sorted((row for row in rows.values() if isinstance(row, ForeignRecord)), key=_end)


def _spans_of_body(body: bytes) -> Iterator[tuple[ResourceSpans, Span]]:
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        return
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            group = ResourceSpans(resource=resource.resource, schema_url=resource.schema_url)
            group.scope_spans.add(scope=scope.scope, schema_url=scope.schema_url)
            for span in scope.spans:
                yield group, span


def _end(row: SpanRecord) -> tuple[bool, int]:
    return row.end_ns is None, row.end_ns or row.start_ns


def _encoded(span: ReadableSpan) -> tuple[ResourceSpans, Span]:
    """Encode a span with protobuf. Returns its resource and scope, and the span, as separate messages."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from hh_jupyter.export.final_span import encodable, unchanged

    context = span.get_span_context()
    if context is None or span.start_time is None:
        raise ValueError(f"span {span.name!r} has no ids or no start time")
    plain = unchanged(span, context)
    try:
        request = ExportTraceServiceRequest.FromString(otlp.encode([plain]))
    except (ValueError, TypeError, RecursionError, DecodeError):  # Protobuf cannot hold a value.
        request = ExportTraceServiceRequest.FromString(otlp.encode([encodable(plain)]))
    group = request.resource_spans[0]
    return group, group.scope_spans[0].spans.pop()


def _redact(span: Span, redactor: Redactor | RedactorWithFunction) -> int:
    """Redact a span in place and return the number of changed values."""
    total = _redact_text(span, "name", redactor)
    if span.status.message:
        total += _redact_text(span.status, "message", redactor)
    for pairs in (
        span.attributes,
        *(event.attributes for event in span.events),
        *(one.attributes for one in span.links),
    ):
        total += _redact_attributes(pairs, redactor)
    return total + sum(_redact_text(event, "name", redactor) for event in span.events)


def _redact_text(message: Any, name: str, redactor: Redactor | RedactorWithFunction) -> int:
    text, number = redactor.text(getattr(message, name))
    if number:
        setattr(message, name, text)
    return number


def _redact_attributes(pairs: Any, redactor: Redactor | RedactorWithFunction) -> int:
    """Redact attributes in place and return the number of changed values.

    An object or bytes value that contains a secret becomes text, as in finalizing.
    """
    given = otlp.values_of(pairs)
    read = plain_values(given)
    kept, number = redactor.attributes(read)
    if number:
        from hh_jupyter.export.final_span import with_ids

        kept = with_ids(read, kept)
        whole = {key: given[key] if key in read and read[key] is value else value for key, value in kept.items()}
        del pairs[:]
        otlp.write_attributes(pairs, whole)
    return number


def _count_redacted(span: Span, number: int) -> None:
    """Add to the span's count of redacted values, as finalizing does."""
    for pair in span.attributes:
        if pair.key == keys.REDACTED:
            pair.value.int_value += number
            return
    span.attributes.add(key=keys.REDACTED).value.int_value = number
