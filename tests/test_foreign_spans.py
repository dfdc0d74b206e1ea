"""`SpanList` of spans from other exporters and from files."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, StatusCode

from hh_jupyter import HoneyHiveTracer, SpanList, spans, summarize
from hh_jupyter import attributes as keys
from hh_jupyter.records import prices
from hh_jupyter.records.record import SpanRecord, record_of
from hh_jupyter.testing.otlp_decoder import from_json
from hh_jupyter.testing.otlp_decoder import spans as decoded
from hh_jupyter.tracing.span_store import span_log
from tests.spans import RECORDINGS, recorded

KEY = "sk-" + "proj-" + "4f9aQ27bXcd81LmZ0pRtUvWy3eHjKs6N"
AGENT = "openinference-langchain-agent.json"


@pytest.fixture(scope="module", autouse=True)
def _prices() -> None:
    prices.load()


def made_by_the_sdk() -> tuple[ReadableSpan, ...]:
    """Return the spans of a plain provider and exporter after a call with an error, an event and a link."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "start.command": f"serve --key {KEY}"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("shop", "1.0")
    with tracer.start_as_current_span("order") as root:
        root.set_attribute("note", f"the key is {KEY}")
        root.set_attribute("numbers", [1, 2])
        root.set_attribute("ticket", "T-1")
        with pytest.raises(RuntimeError), tracer.start_as_current_span("pay", links=[Link(root.get_span_context())]):
            raise RuntimeError(f"refused {KEY}")
    return exporter.get_finished_spans()


def documents(found: SpanList) -> list[dict[str, Any]]:
    return [span for line in found.to_otlp_json().splitlines() for span in decoded(from_json(json.loads(line)))]


@pytest.mark.parametrize("name", RECORDINGS)
def test_records_totals_and_content_match_the_spans(name: str) -> None:
    given = recorded(name)
    found = SpanList(given)
    assert found.totals == summarize(given)
    for record, span in zip(found, given, strict=True):
        plain = record_of(span)
        assert {field: getattr(record, field) for field in _FIELDS} == {f: getattr(plain, f) for f in _FIELDS}
        assert found.content(record) == found.content(span) == found.content(plain) is not None


_FIELDS = set(SpanRecord.__dataclass_fields__) - {"redacted"}


def test_spans_of_an_exporter_have_tree_text_html_data_frame_slices_and_content() -> None:
    given = made_by_the_sdk()
    found = SpanList(given)
    assert [record.name for record in found] == ["pay", "order"]
    assert [(node.record.name, node.depth) for node in found.tree.nodes] == [("order", 0), ("pay", 1)]
    assert re.match(r"✓ order  .*  2 spans  1 caught  from memory\n", repr(found))
    assert "%hh" not in repr(found) + found._repr_html_()  # No command names these spans.
    assert "RuntimeError, caught" in found._repr_html_()
    assert list(found.to_pandas()["status"]) == ["error", "ok"]
    assert [span["name"] for span in found.to_dicts()] == ["pay", "order"]
    for part in (found[1:], SpanList(found[1:]), SpanList(record for record in found if record.name == "order")):
        details = part.details(part[0])
        assert details is not None
        assert details.attributes["numbers"] == [1, 2]
        assert len(part.to_otlp_json().splitlines()) == 1
    assert found == SpanList(given)
    assert found[1:] != found


def test_everything_the_list_returns_is_redacted_and_the_sdk_spans_are_unchanged() -> None:
    given = made_by_the_sdk()
    found = SpanList(given)
    said = [repr(found), found._repr_html_(), found.to_otlp_json(), str(found.to_dicts())]
    said += [str(given_back) for record in found for given_back in (record, found.details(record))]
    assert KEY not in "".join(said)
    assert all("redacted" in text for text in said[:4])
    assert {record.name: record.redacted for record in found} == {"order": 1, "pay": 3}
    assert (given[1].attributes or {})["note"] == f"the key is {KEY}"
    assert [span["attributes"][keys.REDACTED] for span in documents(found)] == [3, 1]


def test_the_redaction_rules_of_the_tracer_apply() -> None:
    def no_notes(key: str, value: Any) -> Any:
        return None if key == "note" else value

    given = made_by_the_sdk()
    tracer = HoneyHiveTracer.init(test_mode=True, redact_keys=["ticket"], redact_with=no_notes)
    try:
        details = SpanList(given).details(given[1])
    finally:
        tracer.shutdown()
    assert details is not None
    assert details.attributes == {
        "note": "[redacted: redact_with]",
        "numbers": [1, 2],
        "ticket": "[redacted: ticket]",
        keys.REDACTED: 2,
    }
    tracer = HoneyHiveTracer.init(test_mode=True, redact=False)
    try:
        assert KEY in SpanList(given).to_otlp_json()
    finally:
        tracer.shutdown()


def test_a_redaction_rule_for_digits_does_not_change_the_session_id() -> None:
    session = "12345678-1234-4234-8234-123456789012"
    values = {keys.SESSION_ID: session, "number": "12345678"}
    span = ReadableSpan("x", context=made_by_the_sdk()[0].context, attributes=values, start_time=1, end_time=2)
    tracer = HoneyHiveTracer.init(test_mode=True, redact_patterns=[r"\d{8}"])
    try:
        found = SpanList([span])
    finally:
        tracer.shutdown()
    assert found[0].session_id == session
    assert "12345678" not in str(found.to_otlp_json().replace(session, ""))


def test_otlp_json_equals_that_of_the_official_encoder() -> None:
    for name in RECORDINGS[:6]:
        given = recorded(name)
        official = {span["span_id"]: span for span in decoded(encode_spans(given))}
        assert {span["span_id"]: span for span in documents(SpanList(given))} == official
        again = [from_json(json.loads(line)) for line in SpanList(given).to_otlp_json().splitlines()]
        flags = {span.span_id: (span.flags, span.kind) for span in raw(encode_spans(given))}
        assert {span.span_id: (span.flags, span.kind) for request in again for span in raw(request)} == flags


def raw(request: Any) -> Iterator[Any]:
    return (s for resource in request.resource_spans for scope in resource.scope_spans for s in scope.spans)


def test_one_list_may_hold_records_and_foreign_spans_each_with_its_content() -> None:
    span_log().clear()
    tracer = HoneyHiveTracer.init(test_mode=True, multi_instance=True)
    with tracer.start_span("ours") as span:
        assert span is not None
        span.set_attribute("whose", "ours")
    own = spans(name="ours")
    given = made_by_the_sdk()
    found = SpanList([*own, *given, *own, given[0]])
    assert [record.name for record in found] == ["ours", "pay", "order"]
    ours, order = found.details(found[0]), found.details(found[2])
    assert ours is not None
    assert order is not None
    assert (ours.attributes["whose"], order.attributes["numbers"]) == ("ours", [1, 2])
    assert sorted(span["name"] for span in documents(found)) == ["order", "ours", "pay"]
    assert "local only" in repr(found)
    tracer.shutdown()
    span_log().clear()


def test_a_running_span_is_accepted_and_shown_as_running() -> None:
    span = TracerProvider().get_tracer("x").start_span("open")
    assert isinstance(span, ReadableSpan)
    (record,) = SpanList([span])
    assert (record.status, record.end_ns) == ("running", None)
    assert repr(SpanList([span])).splitlines()[-1].startswith("span  open")
    span.end()
    (ended,) = SpanList([span, record])
    assert ended.status == "ok"
    early = ReadableSpan("open", context=span.context, attributes={"early": True}, start_time=1)
    both = SpanList([span, early])
    details = both.details(both[0])
    assert details is not None
    assert (both[0].status, details.attributes) == ("ok", {})


def test_attributes_of_any_type_are_shown_as_by_the_tracer_and_written_unchanged() -> None:
    values: dict[str, Any] = {
        "object": {"a": {"b": 1}},
        "raw": b"\x00\xff",
        "text": b"in bytes",
        "lone": "\ud800",
        "big": 2**70,
    }
    span = ReadableSpan("odd", context=made_by_the_sdk()[0].context, attributes=values, start_time=1, end_time=2)
    details = SpanList([span]).details(span)
    assert details is not None
    assert details.attributes["big"] == str(2**70)
    plain = ReadableSpan("odd", context=span.context, attributes={"object": {"a": KEY}, "raw": b"\x00"}, start_time=1)
    found = SpanList([plain])
    details = found.details(plain)
    assert details is not None
    assert details.attributes["object"] == '{"a": "[redacted: api_key]"}'
    assert details.attributes["raw"] == "\x00"
    assert documents(found)[0]["attributes"]["raw"] == b"\x00"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ([3], "not int."),
        ([{"name": "x"}], "not dict."),
        ("x.jsonl", r"not str. SpanList.from_otlp\(path\) reads a file."),
    ],
)
def test_the_error_names_what_is_not_a_span(given: Any, named: str) -> None:
    with pytest.raises(TypeError, match=rf"SpanList\(spans\) expects SpanRecords and .* ReadableSpans, {named}"):
        SpanList(given)


def test_a_span_of_another_list_and_a_span_without_ids_raise() -> None:
    given = made_by_the_sdk()
    with pytest.raises(ValueError, match="span 'order' is not in this list"):
        SpanList(given[:1]).content(given[1])
    with pytest.raises(ValueError, match="span 'x' has no ids or no start time"):
        SpanList([ReadableSpan("x")])


@pytest.mark.parametrize("name", RECORDINGS[:4])
def test_reading_a_file_returns_the_spans_that_were_written(name: str, tmp_path: Path) -> None:
    found, path = SpanList(recorded(name)), tmp_path / "trace.jsonl.gz"
    line = found.to_otlp_json().encode()
    path.write_bytes(gzip.compress(line + line))
    again = SpanList.from_otlp(path)
    assert sorted(again, key=_id) == sorted(found, key=_id)
    assert again.totals == found.totals
    assert [node.record for node in again.tree.nodes] == [node.record for node in found.tree.nodes]
    assert all(again.content(record) == found.content(record) for record in found)


def _id(record: SpanRecord) -> int:
    return record.span_id


def test_a_collector_file_with_base64_ids_is_read_in_the_order_in_which_spans_ended(tmp_path: Path) -> None:
    given = recorded(AGENT)
    path = tmp_path / "trace.json"
    path.write_text(MessageToJson(encode_spans(given[::-1])))
    assert base64.b64encode(given[0].context.span_id.to_bytes(8, "big")).decode() in path.read_text()
    found = SpanList.from_otlp(str(path))
    assert [record.span_id for record in found] == [
        s.context.span_id for s in sorted(given, key=lambda s: s.end_time or 0)
    ]
    assert found.totals == summarize(given)
    assert all(found.content(span) == SpanList(given).content(span) for span in given)
    assert repr(found).endswith(f"file {path}")
    assert "read from file" in repr(found)
    assert f"File {path}" in found._repr_html_()


def test_reading_a_file_redacts_secrets_that_were_written_unredacted(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(MessageToJson(encode_spans(made_by_the_sdk()), indent=None))
    assert KEY in path.read_text()
    found = SpanList.from_otlp(path)
    assert KEY not in found.to_otlp_json() + repr(found) + str([found.details(record) for record in found])
    assert found[0].status == StatusCode.ERROR.name.lower()


def test_a_missing_file_raises_oserror_and_an_empty_one_is_an_empty_list(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        SpanList.from_otlp(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    assert repr(SpanList.from_otlp(tmp_path / "empty.jsonl")) == "no spans"
