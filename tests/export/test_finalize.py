"""An ended span is redacted, typed, limited and completed in a copy; the shared span is never changed."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import Link

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend, capture_spans
from tests.export.troubled import updates

KEY = "hh_key_in_use_0001"
SECRET = "sk-proj-" + "a1B2" * 12


@pytest.fixture
def tracer(backend: Backend) -> Iterator[HoneyHiveTracer]:
    made = HoneyHiveTracer.init(api_key=KEY, server_url=backend.url, max_attributes=16, max_span_size=50_000)
    yield made
    made.shutdown()


def finalized(backend: Backend, tracer: HoneyHiveTracer, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the only span, as the backend received it."""
    with tracer.start_span("subject", attributes=attributes):
        pass
    assert tracer.force_flush()
    (span,) = backend.spans()
    return span


def test_the_type_comes_from_the_attributes_at_the_end_of_the_span(backend: Backend, tracer: HoneyHiveTracer) -> None:
    with tracer.start_span("subject") as span:
        span.set_attribute("openinference.span.kind", "LLM")
    assert tracer.force_flush()
    assert backend.spans()[0]["attributes"]["honeyhive_event_type"] == "model"


def fail_with_secrets(tracer: HoneyHiveTracer) -> None:
    with (
        pytest.raises(ValueError, match="bad key"),
        tracer.start_span("subject", attributes={"password": "hunter2!", "prompt": f"use {SECRET}"}),
    ):
        raise ValueError(f"bad key {SECRET} and {KEY}")


def test_secrets_do_not_reach_the_backend(backend: Backend, tracer: HoneyHiveTracer) -> None:
    fail_with_secrets(tracer)
    assert tracer.force_flush()
    received = repr(backend.spans())
    for text in (SECRET, "hunter2!", KEY):
        assert text not in received
    assert "ValueError" in received


def test_secrets_do_not_reach_the_rows_which_count_what_was_redacted(tracer: HoneyHiveTracer) -> None:
    with capture_spans() as spans:
        fail_with_secrets(tracer)
    (span,) = spans
    for text in (SECRET, "hunter2!", KEY):
        assert text not in repr(span)
    assert span.redacted >= 3
    assert span.error is not None
    assert span.error.type == "ValueError"


def test_secrets_in_names_links_events_and_baggage_are_redacted_too(backend: Backend, tracer: HoneyHiveTracer) -> None:
    def use_secrets() -> None:
        tracer.set_baggage("authorization", f"Bearer {SECRET}")
        with tracer.start_span(f"call {SECRET}") as first:
            first.add_event(f"used {SECRET}", {"note": SECRET})
        with tracer.start_span("second", links=[Link(first.get_span_context(), {"key": SECRET})]):
            pass

    use_secrets()
    assert tracer.force_flush()
    with capture_spans() as spans:
        use_secrets()
    assert len(spans) == len(backend.spans()) == 2
    assert SECRET not in repr(backend.spans()) + repr(list(spans))


def test_sessions_and_their_updates_are_redacted_like_spans(backend: Backend, tracer: HoneyHiveTracer) -> None:
    with tracer.with_session("s", inputs={"prompt": f"use {SECRET}"}, metadata={"password": "hunter2!"}):
        tracer.enrich_session(outputs={"deep": [{"api_key": KEY}], "said": SECRET})
        tracer.create_event("manual", inputs={"header": {"authorization": "Basic QWxhZGRpbjpvcGVu"}})
    assert tracer.force_flush()
    bodies = repr([request.body for request in backend.requests])
    assert "prompt" in bodies
    for text in (SECRET, "hunter2!", KEY, "QWxhZGRpbjpvcGVu"):
        assert text not in bodies


def test_a_span_above_the_limit_is_truncated_and_marked_but_not_lost(backend: Backend, tracer: HoneyHiveTracer) -> None:
    many = {**{f"message.{number}": "text" for number in range(100)}, "openinference.span.kind": "LLM"}
    attributes = finalized(backend, tracer, many)["attributes"]
    assert attributes["honeyhive.session_id"] == tracer.session_id
    assert attributes["honeyhive_event_type"] == "model", "what is written last still counts"
    assert attributes["honeyhive_metadata.hh_truncated"] == "85 attributes"
    assert {"message.0", "openinference.span.kind"} <= set(attributes)
    with capture_spans() as spans, tracer.start_span("subject", attributes=many):
        pass
    assert spans[0].dropped == 85


def test_the_largest_values_are_removed_first(backend: Backend, tracer: HoneyHiveTracer) -> None:
    span = finalized(backend, tracer, {"small": "x", "large": "y" * 60_000, "middle": "z" * 10_000})
    assert {"small", "middle"} <= set(span["attributes"])
    assert "large" not in span["attributes"]


def test_every_tracer_uses_the_limit_of_the_first(backend: Backend) -> None:
    with (
        HoneyHiveTracer.init(api_key=KEY, server_url=backend.url) as first,
        HoneyHiveTracer.init(api_key=KEY, server_url=backend.url) as second,
    ):
        for name, tracer in (("first", first), ("second", second)):
            for number in (130, 1_010, 1_100):
                with tracer.start_span(f"{name} {number}"):
                    tracer.enrich_span(metadata={f"k{index}": index for index in range(number)})
            assert tracer.force_flush()
    kept = {
        span["name"]: sum(name.startswith("honeyhive_metadata.k") for name in span["attributes"])
        for span in backend.spans()
    }
    assert {name: kept[name] for name in kept if not name.endswith("1100")} == {
        "first 130": 130,
        "second 130": 130,
        "first 1010": 1_010,
        "second 1010": 1_010,
    }
    assert kept["first 1100"] == kept["second 1100"] > 1_000
    assert all("honeyhive.session_id" in span["attributes"] for span in backend.spans())


def test_events_and_links_above_the_limit_are_counted(backend: Backend) -> None:
    limits = {"max_events": 3, "max_links": 2, "max_attributes": 10}
    with HoneyHiveTracer.init(api_key=KEY, server_url=backend.url, **limits) as tracer:
        context = tracer.otel_tracer.start_span("linked").get_span_context()
        span = tracer.otel_tracer.start_span("many", links=[Link(context)] * 5)
        for number in range(7):
            span.add_event(f"event {number}")
        span.end()
        assert tracer.force_flush()
    (found,) = backend.spans()
    assert found["attributes"]["honeyhive_metadata.hh_truncated"] == "4 events, 3 links"
    assert (len(found["events"]), len(found["links"])) == (3, 2)
    assert (found["dropped_events"], found["dropped_links"]) == (4, 3)


def test_values_that_protobuf_cannot_hold_do_not_lose_the_batch(backend: Backend, tracer: HoneyHiveTracer) -> None:
    with tracer.start_span("fine"):
        pass
    with tracer.start_span("odd \udcff", attributes={"lone": "a\udcffb", "huge": 10**30}):
        pass
    raw = tracer.otel_tracer.start_span("raw \udcff")  # As an instrumentor makes it.
    raw.set_attribute("lone", "a\udcffb")
    raw.set_attribute("list", ["a\udcffb", "c"])
    raw.set_attribute("huge", 10**30)
    raw.add_event("event \udcff", {"a\udcffb": 1})
    raw.end()
    assert tracer.force_flush()
    fine, *others = backend.spans()
    assert [fine["name"], *(span["name"] for span in others)] == ["fine", "odd ?", "raw ?"]
    for span in others:
        assert (span["attributes"]["lone"], span["attributes"]["huge"]) == ("a?b", str(10**30))
    assert others[1]["attributes"]["list"] == ["a?b", "c"]
    assert others[1]["events"] == [{"name": "event ?", "attributes": {"a?b": 1}}]


def test_a_span_that_cannot_be_encoded_is_reported_as_lost_and_later_spans_arrive(
    backend: Backend, tracer: HoneyHiveTracer, caplog: pytest.LogCaptureFixture
) -> None:
    tracer.otel_tracer.start_span("before 1970").end(-5)
    assert not tracer.force_flush(), "it is lost"
    with tracer.start_span("kept"):
        pass
    assert tracer.force_flush()
    assert [span["name"] for span in backend.spans()] == ["kept"]
    assert "lost" in caplog.text


@pytest.mark.parametrize("end", [-5, 1_700_000_000.5, "soon"])
def test_a_span_that_cannot_be_encoded_does_not_lose_the_others_of_its_batch(
    backend: Backend, tracer: HoneyHiveTracer, end: Any
) -> None:
    for name, moment in (("before", None), ("wrong", end), ("after", None)):
        tracer.otel_tracer.start_span(name).end(moment)
    tracer.force_flush()
    assert {"before", "after"} <= {span["name"] for span in backend.spans()}


def test_content_can_be_read_after_the_row(tracer: HoneyHiveTracer) -> None:
    wanted = {"list": ["a", "b"], "n": 3, "f": 0.5, "yes": True}
    with capture_spans() as spans, tracer.start_span("first", attributes=wanted) as span:
        span.add_event("note", {"k": "v"})
    (found,) = spans
    assert {name: found.attributes[name] for name in wanted} == wanted
    assert [(event.name, event.attributes) for event in found.events] == [("note", {"k": "v"})]


def test_the_shared_span_is_never_changed(backend: Backend) -> None:
    """Other processors of the same provider, before and after ours, see what the program wrote."""
    seen: list[tuple[str, dict[str, Any]]] = []

    class Other(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            seen.append((span.name, dict(span.attributes or {})))

    tracer = HoneyHiveTracer.init(api_key="k", server_url=backend.url)
    assert isinstance(tracer.provider, TracerProvider)
    tracer.provider.add_span_processor(Other())
    with tracer.with_session("s"), tracer.start_span("subject", attributes={"password": "plain"}) as span:
        pass
    assert tracer.force_flush()
    assert ("subject", {"password": "plain"}) in seen
    assert dict(span.attributes) == {"password": "plain"}  # type: ignore[attr-defined]  # the SDK's span has it
    tracer.shutdown()


def test_an_empty_list_and_a_link_arrive(backend: Backend, tracer: HoneyHiveTracer) -> None:
    with tracer.start_span("first") as first:
        first.set_attribute("empty", [])
    with tracer.start_span("second", links=[Link(first.get_span_context(), {"why": "because"})]):
        pass
    assert tracer.force_flush()
    assert backend.spans("first")[0]["attributes"]["empty"] == []
    (link,) = backend.spans("second")[0]["links"]
    assert (link["span_id"], link["attributes"]) == (backend.spans("first")[0]["span_id"], {"why": "because"})


def test_no_value_makes_a_session_call_raise(backend: Backend, tracer: HoneyHiveTracer) -> None:
    """Keys that are not text, cycles, objects without a text form and NaN all arrive in some form."""

    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    tracer.enrich_session(
        outputs={
            (1, 2): 3,  # type: ignore[dict-item]  # what users do
            "mute": Mute(),
            "nan": float("nan"),
            "lone": "a\udcffb",
        },
        metadata={"cycle": cycle, "set": {2, 1}, "many": list(range(50_000))},
    )
    assert tracer.force_flush()
    (update,) = (request.body for request in updates(backend))
    assert update["outputs"]["(1, 2)"] == 3
    assert update["outputs"]["nan"] == "nan"
    assert update["metadata"]["set"] == [1, 2]
    assert update["metadata"]["many"][-1].endswith(" more"), "what is left out is counted"


@pytest.mark.parametrize("poison", [{"n": 10**5000}, {"when": object()}, {"path": Path("/tmp")}, {(1,): {(2,): 3}}])
def test_a_call_that_cannot_be_encoded_does_not_block_others(
    backend: Backend, tracer: HoneyHiveTracer, poison: dict[Any, Any]
) -> None:
    tracer.enrich_session(metadata=poison)
    tracer.update_event(uuid.uuid4(), {"metadata": poison})  # type: ignore[arg-type]  # what users do
    with tracer.start_span("after"):
        pass
    assert tracer.force_flush()
    assert [span["name"] for span in backend.spans()] == ["after"]
    assert len(updates(backend)) == 2


def test_a_seeded_program_gets_different_ids_every_time(backend: Backend, tracer: HoneyHiveTracer) -> None:
    for number in range(3):
        random.seed(42)
        with tracer.start_span(str(number), attributes={"number": number}):
            random.seed(42)
            with tracer.start_span("child"):
                pass
    assert tracer.force_flush()
    spans = backend.spans()
    assert len({span["span_id"] for span in spans}) == 6
    assert {s["name"]: s["attributes"]["number"] for s in spans if s["name"] != "child"} == {"0": 0, "1": 1, "2": 2}
