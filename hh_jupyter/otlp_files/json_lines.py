"""Reads and writes OTLP JSON files, in which each line is one `ExportTraceServiceRequest`.

The format is that of OpenTelemetry's file exporter ("OpenTelemetry Protocol File Exporter" of the specification). The
Collector's `file` exporter writes it and its `otlpjsonfile` receiver reads it. The reader also accepts a file that is a
single document, on one line or several, files compressed with gzip, and HTML pages that hold such lines
(`page_data.py`). It accepts the deviations that occur in practice: ids in base64 as in protobuf's own JSON mapping, the
field names of the `.proto` files, enums by name, numbers for 64-bit integers, and the `instrumentationLibrarySpans` of
OTLP before 0.15. Unknown fields are ignored.

Protobuf's `ParseDict` is not used: it reads ids only as base64, takes several times as long, and its errors name Python
types.
"""

from __future__ import annotations

import base64
import binascii
import errno
import gzip
import io
import json
import os
import secrets
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from hh_jupyter.errors import SpanFileError
from hh_jupyter.export import otlp
from hh_jupyter.otlp_files import page_data
from hh_jupyter.redaction import shown
from hh_jupyter.values import valid_utf8

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

GZIP: Final = b"\x1f\x8b"
"""The first bytes of every gzip file."""

_OPENING: Final = ("{", "[")


def read(path: str | os.PathLike[str]) -> Iterator[tuple[ResourceSpans, Span]]:
    """Yield each span of a file, with its resource and scope; see `spans_of`. Reads one line at a time.

    Raises:
        OSError: the file cannot be opened or read.
        SpanFileError: the content is not OTLP JSON.
    """
    name, line = os.fspath(path), 1
    with open(os.path.expanduser(name), "rb") as file:  # noqa: PTH111,PTH123  # An unknown home must not raise.
        head = file.read(page_data.HEAD_BYTES)
        file.seek(0)
        try:
            for number, document in _documents(_lines_of(file, head)):
                line = number
                yield from spans_of(document)
        except _TextError as error:
            raise SpanFileError(f"{name}, line {error.line}: {error}") from None
        except page_data.NoSpansError as error:
            raise SpanFileError(f"{name}, line {line}: {error}") from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SpanFileError(f"{name}, after line {line}: the compressed data is damaged or cut ({error})") from None
        except NotOtlpError as error:
            raise SpanFileError(f"{name}, line {line}: {error}") from None


def _lines_of(file: IO[bytes], head: bytes) -> IO[bytes] | gzip.GzipFile:
    """Return the file, or what is compressed in it, by its first bytes."""
    if page_data.is_page(head):
        return gzip.GzipFile(fileobj=io.BytesIO(page_data.packed(file.read())))
    return gzip.GzipFile(fileobj=file) if head.startswith(GZIP) else file


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


FILE_MODE: Final = 0o600
"""Only the user may read a file of spans: it contains prompts and answers."""


def write(path: Path, parts: Iterable[tuple[bytes, Iterable[int]]], *, even_without_spans: bool = False) -> set[int]:
    """Write a temporary file in the same folder, then rename it: the file is complete or does not exist.

    Args:
        path: path of the file, which is replaced.
        parts: its parts, each with the ids of the spans in it.
        even_without_spans: else no file is written without spans.

    Returns:
        The ids of the spans in it.

    Raises:
        OSError: the file cannot be written. It names this path.
    """
    temporary = path.with_name(f".hh-{secrets.token_hex(8)}")
    saved: set[int] = set()
    if os.path.exists(path) and not path.is_file():  # noqa: PTH110  # A device would be replaced, too.
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb") as file:
            for part, span_ids in parts:
                file.write(part)
                saved.update(span_ids)
        if saved or even_without_spans:
            temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return saved


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


# Documents: parsed JSON to protobuf messages

EXPECTED: Final = "an object with resourceSpans"
DEEPEST: Final = 16
"""Maximum nesting of lists and objects in a value; deeper ones become JSON text. Protobuf rejects 100 levels."""

_SIGNALS: Final = ("resourceSpans", "resource_spans", "resourceLogs", "resourceMetrics", "resourceProfiles")
_KINDS: Final = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
_CODES: Final = {"OK": 1, "ERROR": 2}
_SCOPES: Final = (("scopeSpans", "scope"), ("instrumentationLibrarySpans", "instrumentationLibrary"))


class NotOtlpError(ValueError):
    """The document is not OTLP. The message names the place, what was found and what was expected."""


def spans_of(document: Any) -> Iterator[tuple[ResourceSpans, Span]]:
    """Yield each span of a document, together with a message that holds its resource and scope but no spans.

    Spans of one scope share that message. A document is a request, a single element of its `resourceSpans`, or a list
    of these. Logs and metrics are skipped.

    Raises:
        NotOtlpError: the document is not OTLP, or a field cannot be read.
    """
    if isinstance(document, list):
        for item in document:
            yield from spans_of(item)
        return
    if not isinstance(document, Mapping):
        raise NotOtlpError(f"found {shown('value', document)}, expected {EXPECTED}")
    resources = _list(document, "resourceSpans")
    if any(_field(document, name) is not None for name, _ in _SCOPES):
        resources = [document]
    elif document and not any(map(document.__contains__, _SIGNALS)):
        keys = shown("keys", ", ".join(map(str, document)))
        raise NotOtlpError(f"found an object with the keys {keys}, expected {EXPECTED}")
    for number, resource in enumerate(resources):
        yield from _spans_of_resource(resource, f"resourceSpans[{number}]")


def added_spans(document: Any, request: ExportTraceServiceRequest) -> Iterator[Span]:
    """Add the spans of a document to a request, and yield each; see `spans_of`."""
    last, spans = None, None
    for group, span in spans_of(document):
        if group is not last:
            last, added = group, request.resource_spans.add()
            added.CopyFrom(group)
            spans = added.scope_spans[0].spans
        assert spans is not None
        spans.append(span)
        yield span


def _spans_of_resource(given: Any, where: str) -> Iterator[tuple[ResourceSpans, Span]]:
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span  # Loads protobuf.

    resource = _object(given, where)
    for scopes, scope in _SCOPES:
        for number, part in enumerate(_list(resource, scopes)):
            place = f"{where}.{scopes}[{number}]"
            try:
                group = ResourceSpans()
                _write_group(group, resource, _object(part, scopes), scope)
            except NotOtlpError as error:
                raise NotOtlpError(f"{place}: {error}") from None
            for index, span in enumerate(_list(part, "spans")):
                message = Span()
                try:
                    _write_span(message, _object(span, "span"))
                except NotOtlpError as error:
                    raise NotOtlpError(f"{place}.spans[{index}]: {error}") from None
                yield group, message


def _write_group(group: ResourceSpans, resource: Mapping[str, Any], part: Mapping[str, Any], scope: str) -> None:
    found = _object(_field(resource, "resource") or {}, "resource")
    group.resource.SetInParent()
    _write_attributes(group.resource.attributes, found)
    group.resource.dropped_attributes_count = _count(found, "droppedAttributesCount")
    _set_text(group, "schema_url", _field(resource, "schemaUrl"))
    target = group.scope_spans.add()
    found = _object(_field(part, scope) or {}, scope)
    target.scope.SetInParent()
    for name in ("name", "version"):
        _set_text(target.scope, name, found.get(name))
    _write_attributes(target.scope.attributes, found)
    _set_text(target, "schema_url", _field(part, "schemaUrl"))


def _write_span(message: Span, span: Mapping[str, Any]) -> None:
    _write_ids(message, span)
    parent = _id(span, "parentSpanId", 8, needed=False)
    message.parent_span_id = parent if any(parent) else b""
    _set_text(message, "name", span.get("name"))
    _set_text(message, "trace_state", _field(span, "traceState"))
    message.flags = _count(span, "flags") & 0xFFFFFFFF
    message.kind = _enum(span.get("kind"), "SPAN_KIND_", _KINDS)  # type: ignore[assignment]  # A plain int.
    message.end_time_unix_nano = _count(span, "endTimeUnixNano")
    message.start_time_unix_nano = _count(span, "startTimeUnixNano") or message.end_time_unix_nano
    _write_attributes(message.attributes, span)
    message.dropped_attributes_count = _count(span, "droppedAttributesCount")
    message.dropped_events_count = _count(span, "droppedEventsCount")
    message.dropped_links_count = _count(span, "droppedLinksCount")
    for given in _list(span, "events"):
        event, target = _object(given, "event"), message.events.add()
        _set_text(target, "name", event.get("name"))
        target.time_unix_nano = _count(event, "timeUnixNano")
        _write_attributes(target.attributes, event)
        target.dropped_attributes_count = _count(event, "droppedAttributesCount")
    for given in _list(span, "links"):
        link, linked = _object(given, "link"), message.links.add()
        _write_ids(linked, link)
        _set_text(linked, "trace_state", _field(link, "traceState"))
        linked.flags = _count(link, "flags") & 0xFFFFFFFF
        _write_attributes(linked.attributes, link)
        linked.dropped_attributes_count = _count(link, "droppedAttributesCount")
    status = _object(span.get("status") or {}, "status")
    message.status.SetInParent()
    message.status.code = _enum(status.get("code"), "STATUS_CODE_", _CODES)  # type: ignore[assignment]
    _set_text(message.status, "message", status.get("message"))


def _write_ids(message: Any, given: Mapping[str, Any]) -> None:
    message.trace_id, message.span_id = _id(given, "traceId", 16), _id(given, "spanId", 8)


def _write_attributes(pairs: Any, owner: Mapping[str, Any], name: str = "attributes", depth: int = 0) -> None:
    for given in _list(owner, name):
        pair = given if isinstance(given, Mapping) else {}
        if not isinstance(pair.get("key"), str):
            raise NotOtlpError(f"{shown(name, given)} is not an attribute {{key, value}}")
        target = pairs.add()
        _set_text(target, "key", pair["key"])
        _write_value(target.value, pair.get("value"), depth)


def _write_value(target: AnyValue, given: Any, depth: int) -> None:
    """Write an `AnyValue`, which has one field. The target stays empty if no field is known."""
    if given is None:
        return
    for name, value in _object(given, "value").items():
        write = _WRITERS.get(name)
        if write is not None and value is not None:
            write(target, value, depth)
            return


def _write_text(target: AnyValue, value: Any, _: int) -> None:
    _set_text(target, "string_value", value)


def _write_bool(target: AnyValue, value: Any, _: int) -> None:
    target.bool_value = value if isinstance(value, bool) else str(value).lower() == "true"


def _write_int(target: AnyValue, value: Any, _: int) -> None:
    number = _int(value, "intValue")
    if -(2**63) <= number < 2**63:
        target.int_value = number
    else:
        target.string_value = str(number)


def _write_double(target: AnyValue, value: Any, _: int) -> None:
    try:
        target.double_value = float(value)  # Accepts "NaN" and "Infinity" too.
    except (TypeError, ValueError, OverflowError):
        raise NotOtlpError(f"doubleValue {shown('doubleValue', value)} is not a number") from None


def _write_bytes(target: AnyValue, value: Any, _: int) -> None:
    found = _base64(value)
    if found is None:
        raise NotOtlpError(f"bytesValue {shown('bytesValue', value)} is not base64")
    target.bytes_value = found


def _write_array(target: AnyValue, value: Any, depth: int) -> None:
    if depth >= DEEPEST:
        _write_text(target, json.dumps(value), depth)
        return
    target.array_value.SetInParent()
    for item in _list(_object(value, "arrayValue"), "values"):
        _write_value(target.array_value.values.add(), item, depth + 1)


def _write_kvlist(target: AnyValue, value: Any, depth: int) -> None:
    if depth >= DEEPEST:
        _write_text(target, json.dumps(value), depth)
        return
    target.kvlist_value.SetInParent()
    _write_attributes(target.kvlist_value.values, _object(value, "kvlistValue"), "values", depth + 1)


_SNAKE: Final[dict[str, str]] = {}


def _snake(name: str) -> str:
    """Return the name of a field in the `.proto` files."""
    found = _SNAKE.get(name)
    if found is None:
        found = _SNAKE[name] = "".join(f"_{char.lower()}" if char.isupper() else char for char in name)
    return found


_NAMED_WRITERS: Final[Mapping[str, Callable[[Any, Any, int], None]]] = {
    "stringValue": _write_text,
    "boolValue": _write_bool,
    "intValue": _write_int,
    "doubleValue": _write_double,
    "arrayValue": _write_array,
    "kvlistValue": _write_kvlist,
    "bytesValue": _write_bytes,
}
_WRITERS: Final = {**_NAMED_WRITERS, **{_snake(name): write for name, write in _NAMED_WRITERS.items()}}


def _field(owner: Mapping[str, Any], name: str) -> Any:
    """Return a field by its JSON or `.proto` name; None if it is absent or null."""
    found = owner.get(name)
    return found if found is not None else owner.get(_snake(name))


def _list(owner: Mapping[str, Any], name: str) -> list[Any]:
    found = _field(owner, name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise NotOtlpError(f"{name} {shown(name, found)} is not a list")
    return found


def _object(given: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise NotOtlpError(f"{name} {shown(name, given)} is not an object")
    return given


def _set_text(message: Any, name: str, value: Any) -> None:
    if value is None:
        return
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        setattr(message, name, text)
    except ValueError:  # A lone surrogate: valid in JSON, but not in UTF-8.
        setattr(message, name, valid_utf8(text))


def _int(value: Any, name: str) -> int:
    """Parse a whole number. The specification writes 64-bit integers as text."""
    try:
        return value if type(value) is int else int(value) if isinstance(value, str) else int(float(value))
    except (TypeError, ValueError, OverflowError):
        raise NotOtlpError(f"{name} {shown(name, value)} is not a whole number") from None


def _count(owner: Mapping[str, Any], name: str) -> int:
    """Return an unsigned number; 0 if the field is absent."""
    value = _field(owner, name)
    number = 0 if value is None else _int(value, name)
    if not 0 <= number < (2**64 if name.endswith("Nano") else 2**32):
        raise NotOtlpError(f"{name} {shown(name, value)} is out of range")
    return number


def _enum(value: Any, prefix: str, names: Mapping[str, int]) -> int:
    """Return the number of an enum value, given by name, with or without prefix, or by number; 0 if unknown."""
    text = str(value).upper().removeprefix(prefix)
    number = int(text) if text.isdecimal() and len(text) < 3 else names.get(text, 0)
    return number if number in names.values() else 0


def _id(owner: Mapping[str, Any], name: str, length: int, *, needed: bool = True) -> bytes:
    """Parse an id of `length` bytes from hexadecimal digits, or from base64 if the text has another length."""
    value = _field(owner, name)
    if not value and not needed:
        return b""
    found = None
    if isinstance(value, str):
        found = _hex(value) if len(value) == 2 * length else _base64(value)
    if found is None or len(found) != length:
        there = "is missing" if value in (None, "") else f"is {shown(name, value)}"
        raise NotOtlpError(f"{name} {there}; expected {2 * length} hexadecimal digits")
    return found


def _hex(value: str) -> bytes | None:
    try:
        return bytes.fromhex(value)
    except ValueError:
        return None


def _base64(value: Any) -> bytes | None:
    """Decode base64 in either alphabet, with or without padding; None if it is not base64."""
    if not isinstance(value, str):
        return None
    try:
        text = value.rstrip("=").replace("-", "+").replace("_", "/")
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
