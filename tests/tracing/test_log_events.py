"""Events that libraries write as log records become events of their spans."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace as otel_trace
from opentelemetry._logs import LogRecord, get_logger, get_logger_provider
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hh_jupyter import HoneyHiveTracer, spans, summarize
from hh_jupyter.conventions import content
from hh_jupyter.conventions.facts import SpanContent
from hh_jupyter.settings import resolve
from hh_jupyter.testing import Backend, CapturedSpans, capture_spans
from hh_jupyter.tracing.span_store import span_log
from tests.spans import EXPECTED, log_record, recorded, recorded_logs
from tests.tracing.process import run

RECORDINGS = ("otel-openai-events.json", "otel-openaiv2-legacy-events.json")
QUESTION = [{"role": "user", "parts": [{"type": "text", "content": "Hello"}]}]
MODEL = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
DETAILS = "gen_ai.client.inference.operation.details"


@pytest.fixture
def tracer() -> Iterator[HoneyHiveTracer]:
    span_log().clear()
    with HoneyHiveTracer.init(test_mode=True, multi_instance=True) as made:
        yield made
    span_log().clear()


@pytest.fixture
def captured(tracer: HoneyHiveTracer) -> Iterator[CapturedSpans]:
    with capture_spans() as spans:
        yield spans


def write(event_name: str | None, attributes: dict[str, Any] | None = None, **fields: Any) -> None:
    """Write a record about the current span, as instrumentors do."""
    get_logger("library").emit(LogRecord(event_name=event_name, attributes=attributes, **fields))


def content_of(tracer: HoneyHiveTracer) -> SpanContent:
    """The content of the only span."""
    assert tracer.wait_processed()
    (row,) = span_log().records()
    details = span_log().details(row)
    assert details is not None
    return content(details.attributes, details.events)


@pytest.fixture(params=["while it is open", "after it ended"])
def replayed(request: pytest.FixtureRequest, tracer: HoneyHiveTracer) -> Callable[[str], None]:
    """Replays spans and log records of a recording through the providers, as the SDK does."""

    def replay(name: str) -> None:
        processor, logs = tracer.provider._active_span_processor, recorded_logs(name)  # type: ignore[attr-defined]
        late = request.param != "while it is open"
        with tracer.start_span("loads the LoggerProvider"):
            assert logs
        for span in recorded(name):
            processor.on_start(span, Context())
            for record in () if late else [log for log in logs if log.span_id == span.context.span_id]:
                get_logger("library").emit(record)
            processor.on_end(span)
        assert tracer.wait_processed()
        for record in logs if late else ():
            get_logger("library").emit(record)
        assert tracer.wait_processed()

    return replay


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_with_log_records_shows_all_messages_and_tools(replayed: Callable[[str], None], name: str) -> None:
    """Names of the tools asked for, and each message of each model call."""
    replayed(name)
    found, served = summarize(spans()).to_dict(), EXPECTED[name]["served"]
    told = ("tool_call_names", "tool_calls_requested", "llm_calls", "total_tokens")
    assert [found[field] for field in told] == [served[field] for field in told]
    calls = [row for row in span_log().records() if row.facts.kind == "llm" and row.status == "ok"]
    assert calls
    for row in calls:
        details = span_log().details(row)
        assert details is not None
        messages = content(details.attributes, details.events)
        assert all(message.text or message.tool_calls for message in messages.input_messages)
        assert "user" in [message.role for message in messages.input_messages]
        assert messages.output_messages[0].text or messages.output_messages[0].tool_calls


def test_an_event_of_an_open_span_is_redacted_and_sent_with_it(backend: Backend) -> None:
    with HoneyHiveTracer.init(api_key="k", server_url=backend.url) as tracer:
        with tracer.start_span("chat", attributes=MODEL):
            write("gen_ai.user.message", {"gen_ai.system": "openai"}, body={"content": "my key is sk-" + "a1b2" * 12})
        assert tracer.force_flush()
    (span,) = backend.spans()
    (event,) = span["events"]
    text = event["attributes"]["gen_ai.event.content"]
    assert (event["name"], event["attributes"]["gen_ai.system"]) == ("gen_ai.user.message", "openai")
    assert "redacted" in json.loads(text)["content"]
    assert "a1b2" not in text


def test_other_exporters_of_the_provider_see_the_span_as_it_was(tracer: HoneyHiveTracer) -> None:
    memory = InMemorySpanExporter()
    assert isinstance(tracer.provider, TracerProvider)
    tracer.provider.add_span_processor(SimpleSpanProcessor(memory))
    with tracer.start_span("chat", attributes=MODEL):
        write(DETAILS, {"gen_ai.input.messages": QUESTION})
    assert [span.events for span in memory.get_finished_spans()] == [()]
    assert content_of(tracer).input_messages[0].text == "Hello"


def test_an_event_50_ms_after_the_end_of_its_span_is_shown(tracer: HoneyHiveTracer) -> None:
    with tracer.start_span("chat", attributes=MODEL) as span:
        context = otel_trace.set_span_in_context(otel_trace.get_current_span())
    assert tracer.wait_processed()
    time.sleep(0.05)
    changed: list[Any] = []
    span_log().listen_to_changes(changed.extend)
    write(DETAILS, {"gen_ai.input.messages": QUESTION}, context=context)
    assert content_of(tracer).input_messages[0].text == "Hello"
    assert [row.span_id for row in changed] == [span.get_span_context().span_id]
    span_log().unlisten(changed.extend)


def test_an_event_shortly_after_the_end_of_its_span_is_sent_with_it(backend: Backend) -> None:
    """Spans are processed 10 ms after their end. On a busy machine this holds for at least one of several spans."""
    with HoneyHiveTracer.init(api_key="k", server_url=backend.url) as tracer:
        for _ in range(20):
            with tracer.start_span("chat", attributes=MODEL):
                context = otel_trace.set_span_in_context(otel_trace.get_current_span())
                write("first")
            write("second", context=context)
        assert tracer.force_flush()
    sent = [[event["name"] for event in span["events"]] for span in backend.spans()]
    assert ["first", "second"] in sent
    assert all(names in (["first"], ["first", "second"]) for names in sent)


def test_a_late_event_does_not_change_other_spans_of_its_batch(tracer: HoneyHiveTracer) -> None:
    with tracer.start_span("other"):
        pass
    with tracer.start_span("chat", attributes=MODEL):
        context = otel_trace.set_span_in_context(otel_trace.get_current_span())
    assert tracer.wait_processed()
    write(DETAILS, {"gen_ai.input.messages": QUESTION}, context=context)
    assert tracer.wait_processed()
    document = json.loads(spans().to_otlp_json())
    found = [
        (span["name"], len(span.get("events", ())))
        for resource in document["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert sorted(found) == [("chat", 1), ("other", 0)]


def test_records_of_no_span_of_ours_and_ordinary_log_records_are_left_alone(
    tracer: HoneyHiveTracer, captured: CapturedSpans
) -> None:
    with tracer.start_span("chat", attributes=MODEL) as span:
        context = span.get_span_context()
        write(None, {"code.line": 7}, body="an ordinary log record")
        other = log_record(f"{context.trace_id ^ 1:032x}", f"{context.span_id:016x}", event_name="of another trace")
        get_logger("library").emit(other)
        get_logger("library").emit(log_record("77" * 16, "77" * 8, event_name="of another span"))
    (span_of_ours,) = captured
    assert span_of_ours.events == ()


def test_each_tracer_gets_those_of_its_own_spans(tracer: HoneyHiveTracer, captured: CapturedSpans) -> None:
    with HoneyHiveTracer.init(test_mode=True, multi_instance=True) as second, tracer.start_span("one"):
        write("of one")
        with second.start_span("two"):
            write("of two")
    events = {span.name: [event.name for event in span.events] for span in captured}
    assert events == {"one": ["of one"], "two": ["of two"]}


def test_a_body_without_an_end_costs_its_span_nothing_else(tracer: HoneyHiveTracer, captured: CapturedSpans) -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    with tracer.start_span("chat", attributes=MODEL):
        write("gen_ai.user.message", body=endless)
        write("gen_ai.user.message", body={"content": "Hello"})
    assert [message.text for message in content_of(tracer).input_messages] == ["Hello"]
    (span,) = captured
    assert [event.attributes["gen_ai.event.content"] for event in span.events] == ["<dict>", '{"content": "Hello"}']


def test_an_event_keeps_the_values_it_had_when_it_was_written(tracer: HoneyHiveTracer) -> None:
    body = {"content": ["before"]}
    with tracer.start_span("chat", attributes=MODEL):
        write("gen_ai.user.message", body=body)
        body["content"][0] = "after"
    assert content_of(tracer).input_messages[0].text == "before"


def test_the_limit_of_events_holds_and_is_said(captured: CapturedSpans) -> None:
    with HoneyHiveTracer.init(test_mode=True, multi_instance=True, max_events=2) as limited:
        with limited.start_span("chat", attributes=MODEL):
            context = otel_trace.set_span_in_context(otel_trace.get_current_span())
            for _ in range(3):
                write("step")
        assert content_of(limited).truncated == "1 events"
        write("late", context=context)
        (span,) = captured
        assert [event.name for event in span.events] == ["step", "step"]


def test_evaluation_results_are_metrics_of_the_span_they_evaluate(tracer: HoneyHiveTracer) -> None:
    name, score = "gen_ai.evaluation.name", "gen_ai.evaluation.score."
    with tracer.start_span("agent"):
        tracer.enrich_span(metrics={"own": 3})
        context = otel_trace.set_span_in_context(otel_trace.get_current_span())
        write("gen_ai.evaluation.result", {name: "length", score + "value": 0.5})
    more = {score + "value": 1.0, score + "label": "pass", "gen_ai.evaluation.explanation": "It fits."}
    write("gen_ai.evaluation.result", {name: "relevance", **more}, context=context)
    write("gen_ai.evaluation.result", {name: "length", score + "value": 0.7}, context=context)
    assert content_of(tracer).metrics == {
        "own": 3,
        "length": [0.5, 0.7],
        "relevance": {"value": 1.0, "label": "pass", "explanation": "It fits."},
    }


def test_after_shutdown_the_global_logger_provider_is_as_before() -> None:
    before = get_logger_provider()
    for _ in range(2):
        with HoneyHiveTracer.init(test_mode=True, multi_instance=True) as tracer:
            with tracer.start_span("one"):
                pass
            assert get_logger_provider() is not before
        assert get_logger_provider() is before


def test_a_process_without_log_records_does_not_load_the_logs_api() -> None:
    printed = run(
        """
        import sys
        from hh_jupyter import HoneyHiveTracer
        with HoneyHiveTracer.init(test_mode=True) as tracer:
            with tracer.start_span("one"):
                pass
            tracer.wait_processed()
        print([name for name in sys.modules if name.startswith(("opentelemetry._logs", "opentelemetry.sdk._logs"))])
        """
    )
    assert printed == "[]"


OTHERS = """
import logging, sys
from opentelemetry._logs import LogRecord, get_logger, get_logger_provider, set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from hh_jupyter import HoneyHiveTracer
from hh_jupyter.settings import resolve
from hh_jupyter.tracing.span_store import span_log
mine, memory = LoggerProvider(), InMemoryLogRecordExporter()
mine.add_log_record_processor(SimpleLogRecordProcessor(memory))
before = get_logger("asked for before")
def ask(tracer, name, logger=None):
    with tracer.start_span(name):
        (logger or get_logger("library")).emit(LogRecord(event_name=name))
    tracer.wait_processed()
def theirs():
    return [one.log_record.event_name for one in memory.get_finished_logs()]
def ours():
    return [event.name for row in span_log().records() for event in span_log().details(row).events]
"""


def test_an_existing_logger_provider_is_joined_stays_global_and_is_left_after_shutdown() -> None:
    printed = run(
        OTHERS
        + """
set_logger_provider(mine)
for number in range(2):
    tracer = HoneyHiveTracer.from_settings(resolve({}), name="joined", join=True)
    ask(tracer, f"event {number}")
    tracer.shutdown()
get_logger("library").emit(LogRecord(event_name="after"))
assert get_logger_provider() is mine
print(theirs(), ours(), len(mine._multi_log_record_processor._log_record_processors))
"""
    )
    assert printed == "['event 0', 'event 1', 'after'] ['event 0', 'event 1'] 2"


def test_a_later_logger_provider_replaces_ours_without_a_warning_and_is_joined() -> None:
    printed = run(
        OTHERS
        + """
warned = []
logging.getLogger("opentelemetry").addFilter(warned.append) or logging.basicConfig(stream=sys.stdout)
tracer = HoneyHiveTracer.from_settings(resolve({}), name="joined", join=True)
ask(tracer, "ours", before)
held = get_logger("library")
set_logger_provider(mine)
assert get_logger_provider() is mine
ask(tracer, "theirs"), ask(tracer, "held", held), ask(tracer, "before", before)
print(theirs(), ours())
"""
    )
    assert printed == "['theirs', 'held', 'before'] ['ours', 'theirs', 'held', 'before']"


def test_without_join_an_existing_logger_provider_is_left_alone() -> None:
    printed = run(
        OTHERS
        + """
set_logger_provider(mine)
with HoneyHiveTracer.init(test_mode=True) as tracer:
    ask(tracer, "event")
    ask(tracer, "given", tracer.provider_binding.logger_provider().get_logger("library"))
    print(theirs(), ours(), len(mine._multi_log_record_processor._log_record_processors))
"""
    )
    assert printed == "['event', 'given'] ['given'] 1"


def test_a_tracer_that_is_not_to_be_global_sets_no_logger_provider(
    tracer: HoneyHiveTracer, captured: CapturedSpans
) -> None:
    tracer.shutdown()
    before = get_logger_provider()
    quiet = HoneyHiveTracer.from_settings(resolve({}), name="quiet", join=True, set_global=False)
    with quiet.start_span("one"):
        assert get_logger_provider() is before
        provider = quiet.provider_binding.logger_provider()
        assert provider is not None
        provider.get_logger("library").emit(LogRecord(event_name="given"))
    (span,) = captured
    assert [event.name for event in span.events] == ["given"]
    quiet.shutdown()
