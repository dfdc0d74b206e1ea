"""Recorded spans of real instrumentors, as the SDK's own objects, and what each recording must add up to."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from opentelemetry._logs import LogRecord
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

FOLDER = Path(__file__).parent / "data" / "spans"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text("utf-8"))["files"]
RECORDINGS = sorted(EXPECTED)


@cache
def recorded(name: str) -> tuple[ReadableSpan, ...]:
    """The spans of one recording, in the order in which they ended."""
    document = json.loads((FOLDER / name).read_text("utf-8"))
    return tuple(_span(fields) for fields in document["spans"])


def recorded_logs(name: str) -> list[LogRecord]:
    """The events of one recording that its instrumentor wrote to OpenTelemetry's logs."""
    document = json.loads((FOLDER / name).read_text("utf-8"))
    return [log_record(**fields) for fields in document.get("logs", ())]


def log_record(trace_id: str, span_id: str, **fields: Any) -> LogRecord:
    """A record about the span with these ids, in hexadecimal."""
    about = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False)
    names = "event_name", "body", "attributes", "observed_time_unix_nano"
    event_name, body, attributes, observed = (fields.get(name) for name in names)
    return LogRecord(
        context=set_span_in_context(NonRecordingSpan(about), Context()),
        event_name=event_name,
        body=body,
        attributes=attributes,
        observed_timestamp=observed,
    )


def expected(name: str) -> dict[str, Any]:
    """What a reader of the spans must find: what was served, except for what the instrumentor left out."""
    entry = EXPECTED[name]
    wanted = {**entry["served"], **entry["visible"]}
    return {"tool_spans": wanted["tools_run"], **wanted}


def _span(fields: dict[str, Any]) -> ReadableSpan:
    code = StatusCode[fields["status"]["code"]]
    return ReadableSpan(
        name=fields["name"],
        context=_context(fields["context"]),
        parent=_context(fields["parent"]) if fields["parent"] else None,
        attributes=_attributes(fields["attributes"]),
        events=[Event(e["name"], _attributes(e["attributes"]), e["time_unix_nano"]) for e in fields["events"]],
        status=Status(code, fields["status"]["description"] if code is StatusCode.ERROR else None),
        start_time=fields["start_time_unix_nano"],
        end_time=fields["end_time_unix_nano"],
        instrumentation_scope=InstrumentationScope(fields["scope"]["name"], fields["scope"]["version"]),
    )


def _context(fields: dict[str, Any]) -> SpanContext:
    ids = int(fields["trace_id"], 16), int(fields["span_id"], 16)
    return SpanContext(*ids, is_remote=fields["is_remote"], trace_flags=TraceFlags(fields["trace_flags"]))


def _attributes(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
