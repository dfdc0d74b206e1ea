"""Writes and reads OTLP JSON files, in which each line is one `ExportTraceServiceRequest`.

The format is that of OpenTelemetry's file exporter ("OpenTelemetry Protocol File Exporter" of the specification). The
Collector's `file` exporter writes it and its `otlpjsonfile` receiver reads it. The reader also accepts a file that is a
single document, on one line or several, and files compressed with gzip.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Collection, Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, Final

from hh_jupyter.delivery.sealing import otlp
from hh_jupyter.delivery.sealing.otlp_json import EXPECTED, NotOtlpError, spans_of
from hh_jupyter.errors import SpanFileError

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

GZIP: Final = b"\x1f\x8b"
"""The first bytes of every gzip file."""

_OPENING: Final = ("{", "[")


def read(path: str | os.PathLike[str]) -> Iterator[tuple[ResourceSpans, Span]]:
    """Yield each span of a file, with its resource and scope; see `otlp_json.spans_of`. Reads one line at a time.

    Raises:
        OSError: the file cannot be opened or read.
        SpanFileError: the content is not OTLP JSON.
    """
    name, line = os.fspath(path), 1
    with open(os.path.expanduser(name), "rb") as file:  # noqa: PTH111,PTH123  # An unknown home must not raise.
        packed = file.read(len(GZIP)) == GZIP
        file.seek(0)
        try:
            for number, document in _documents(gzip.GzipFile(fileobj=file) if packed else file):
                line = number
                yield from spans_of(document)
        except _TextError as error:
            raise SpanFileError(f"{name}, line {error.line}: {error}") from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SpanFileError(f"{name}, after line {line}: the compressed data is damaged or cut ({error})") from None
        except NotOtlpError as error:
            raise SpanFileError(f"{name}, line {line}: {error}") from None


class _TextError(ValueError):
    """A line is not valid JSON."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"{text}; expected OTLP JSON: {EXPECTED} on each line, or one document")
        self.line = line


def _documents(file: IO[bytes] | gzip.GzipFile) -> Iterator[tuple[int, Any]]:
    """Yield the JSON documents of a file, each with its line number."""
    first = True
    for number, data in enumerate(file, 1):
        text = _decoded(data, number)
        if not text.strip():
            continue
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            if not first or not text.lstrip().startswith(_OPENING) or isinstance(error, RecursionError):
                raise _broken(error, number) from None
            yield from _over_lines(text + "".join(_decoded(rest, number) for rest in file), number)
            return
        first = False
        yield number, document


def _over_lines(text: str, number: int) -> Iterator[tuple[int, Any]]:
    """Yield the documents of a text that starts at line `number`. A document may span several lines."""
    decoder, line, end = json.JSONDecoder(), number, 0
    while (start := _next(text, end)) < len(text):
        line += text.count("\n", end, start)
        try:
            document, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            raise _broken(error, number) from None
        yield line, document
        line += text.count("\n", start, end)


def _next(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _broken(error: ValueError | RecursionError, number: int) -> _TextError:
    if isinstance(error, json.JSONDecodeError):
        return _TextError(number + error.lineno - 1, f"no JSON at column {error.colno} ({error.msg})")
    return _TextError(number, "nested too deeply" if isinstance(error, RecursionError) else f"no JSON ({error})")


def _decoded(data: bytes, number: int) -> str:
    try:
        return data.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise _TextError(number, "no UTF-8 text") from None


def lines(bodies: Iterable[bytes], wanted: Collection[bytes] | None = None) -> Iterator[tuple[bytes, list[int]]]:
    """Yield a line for each body with spans that no earlier body held, and the ids of those spans.

    Args:
        bodies: serialised requests; bytes that are not a request are skipped.
        wanted: concatenated trace and span ids of the spans to write; None writes all.
    """
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    seen: set[bytes] = set()
    for body in bodies:
        try:
            request = ExportTraceServiceRequest.FromString(body)
        except DecodeError:
            continue
        if new := _take_new(request, seen, wanted):
            yield otlp.to_json(request.SerializeToString()) + b"\n", [int.from_bytes(span_id, "big") for span_id in new]


def _take_new(request: ExportTraceServiceRequest, seen: set[bytes], wanted: Collection[bytes] | None) -> list[bytes]:
    """Remove the spans that are not wanted or were already seen, and return the ids of the rest."""
    new: list[bytes] = []
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            ids = [span.trace_id + span.span_id for span in scope.spans]
            kept = [
                span
                for span, found in zip(scope.spans, ids, strict=True)
                if found not in seen and (wanted is None or found in wanted)
            ]
            new += [span.span_id for span in kept]
            seen.update(span.trace_id + span.span_id for span in kept)
            if len(kept) < len(scope.spans):
                copies = [type(span).FromString(span.SerializeToString()) for span in kept]
                del scope.spans[:]
                scope.spans.extend(copies)
        _keep_those_with(resource.scope_spans, "spans")
    _keep_those_with(request.resource_spans, "scope_spans")
    return new


def _keep_those_with(messages: Any, content: str) -> None:
    """Remove the groups that are empty."""
    for place in reversed(range(len(messages))):
        if not getattr(messages[place], content):
            del messages[place]
