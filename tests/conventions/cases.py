"""Spans of real instrumentors that were once read wrongly, and what a reader must find in them.

Each file of `tests/data/cases` has `spans` and `expected`. The keys of `expected`: `totals.FIELD` is a field of
`summarize(spans)`; `span.INDEX.FACT` a fact of one span; `span.INDEX.content.WHAT` its content; `text.contains` and
`text.not_contains` the text form of the tree.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode

from hh_jupyter.conventions import content
from hh_jupyter.conventions.facts import SpanContent
from hh_jupyter.display import text
from hh_jupyter.records import prices
from hh_jupyter.records.record import record_of
from hh_jupyter.records.totals import summarize
from tests.display.views import view

FOLDER = Path(__file__).parents[1] / "data" / "cases"
CASES = sorted(path.name for path in FOLDER.glob("*.json"))


@cache
def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text("utf-8"))
    return found


@cache
def spans_of(name: str) -> tuple[ReadableSpan, ...]:
    """The spans of a case, in the order of the file."""
    return tuple(_span(fields) for fields in document(name)["spans"])


def found(name: str, key: str) -> Any:
    """What is read from a case, by a key of `expected`; lists where the file has lists."""
    place, _, rest = key.partition(".")
    spans = spans_of(name)
    if place == "totals":
        prices.load()
        return summarize(spans).to_dict()[rest]
    if place == "text":
        return text.render(view([record_of(span) for span in spans], mode="tree"))
    index, _, fact = rest.partition(".")
    span = spans[int(index)]
    if fact.startswith("content."):
        return _content(content(dict(span.attributes or {}), span.events), fact.removeprefix("content."))
    if fact == "error":
        error = record_of(span).error
        return error and error.type
    return getattr(record_of(span).facts, fact)


def _content(said: SpanContent, what: str) -> Any:
    match what:
        case "input_text":
            return [message.text for message in said.input_messages]
        case "output_text":
            return [message.text for message in said.output_messages]
        case "input_roles":
            return [message.role for message in said.input_messages]
        case "output_tools":
            return [[call.name, call.arguments] for message in said.output_messages for call in message.tool_calls]
        case "documents" | "tools_offered":
            return [dict(entry) for entry in getattr(said, what)]
        case _:
            return getattr(said, what)


def _span(fields: dict[str, Any]) -> ReadableSpan:
    code = StatusCode[fields["status"]]
    trace_id, parent = int(fields["trace_id"], 16), fields["parent_id"]
    return ReadableSpan(
        name=fields["name"],
        context=SpanContext(trace_id, int(fields["span_id"], 16), is_remote=False),
        parent=SpanContext(trace_id, int(parent, 16), is_remote=False) if parent else None,
        attributes=_attributes(fields["attributes"]),
        events=[Event(event["name"], _attributes(event["attributes"]), event["time_ns"]) for event in fields["events"]],
        status=Status(code, fields["status_message"] if code is StatusCode.ERROR else None),
        start_time=fields["start_ns"],
        end_time=fields["end_ns"],
        instrumentation_scope=InstrumentationScope(fields["scope"] or ""),
    )


def _attributes(fields: dict[str, Any] | None) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in (fields or {}).items()}
