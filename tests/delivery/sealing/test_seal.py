"""Sealing redacts, types, stamps and limits a copy of a span and never changes the shared span."""

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
from hh_jupyter.delivery.sealing import batch
from hh_jupyter.testing import Backend
from hh_jupyter.tracing.span_store import span_log


@pytest.fixture
def tracer(backend: Backend) -> Iterator[HoneyHiveTracer]:
    made = HoneyHiveTracer.init(
        api_key="hh_key_in_use_0001", server_url=backend.url, max_attributes=16, max_span_size=50_000
    )
    span_log().clear()
    yield made
    made.shutdown()


def sealed(backend: Backend, tracer: HoneyHiveTracer, attributes: dict[str, Any]) -> dict[str, Any]:
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


def test_secrets_reach_neither_the_backend_nor_the_rows(backend: Backend, tracer: HoneyHiveTracer) -> None:
    secret = "sk-proj-" + "a1B2" * 12
    with (
        pytest.raises(ValueError, match="bad key"),
        tracer.start_span("subject", attributes={"password": "hunter2!", "prompt": f"use {secret}"}),
    ):
        raise ValueError(f"bad key {secret} and hh_key_in_use_0001")
    assert tracer.force_flush()
    (record,) = span_log().records()
    everything = repr(backend.spans()) + repr(record) + repr(span_log().details(record))
    for text in (secret, "hunter2!", "hh_key_in_use_0001"):
        assert text not in everything
    assert record.redacted >= 3
    assert "ValueError" in everything


def test_a_span_above_the_limit_is_truncated_and_marked_but_not_lost(backend: Backend, tracer: HoneyHiveTracer) -> None:
    many = {f"message.{number}": "text" for number in range(100)}
    span = sealed(backend, tracer, {**many, "openinference.span.kind": "LLM"})
    attributes = span["attributes"]
    assert attributes["honeyhive.session_id"] == tracer.session_id
    assert attributes["honeyhive_event_type"] == "model", "what is written last still counts"
    assert attributes["honeyhive_metadata.hh_truncated"] == "85 attributes"
    assert {"message.0", "openinference.span.kind"} <= set(attributes)
    assert span_log().records()[0].dropped == 85


def test_the_largest_values_are_removed_first(backend: Backend, tracer: HoneyHiveTracer) -> None:
    span = sealed(backend, tracer, {"small": "x", "large": "y" * 60_000, "middle": "z" * 10_000})
    assert {"small", "middle"} <= set(span["attributes"])
    assert "large" not in span["attributes"]


def test_values_that_protobuf_cannot_hold_do_not_lose_the_batch(backend: Backend, tracer: HoneyHiveTracer) -> None:
    with tracer.start_span("fine"):
        pass
    with tracer.start_span("odd \udcff", attributes={"lone": "a\udcffb", "huge": 10**30}):
        pass
    assert tracer.force_flush()
    fine, odd = backend.spans()
    assert (fine["name"], odd["name"]) == ("fine", "odd ?")
    assert odd["attributes"]["lone"] == "a?b"
    assert odd["attributes"]["huge"] == str(10**30)


def test_details_can_be_loaded_after_the_row(backend: Backend, tracer: HoneyHiveTracer) -> None:
    with tracer.start_span("first", attributes={"list": ["a", "b"], "n": 3, "f": 0.5, "yes": True}) as span:
        span.add_event("note", {"k": "v"})
    assert tracer.wait_processed()
    details = span_log().details(span_log().records()[0])
    assert details is not None
    wanted = {"list": ["a", "b"], "n": 3, "f": 0.5, "yes": True}
    assert {name: details.attributes[name] for name in wanted} == wanted
    assert [(event.name, event.attributes) for event in details.events] == [("note", {"k": "v"})]


def test_the_shared_span_is_never_changed(backend: Backend) -> None:
    """Other processors of the same provider, before and after ours, see what the program wrote."""
    seen: list[tuple[str, dict[str, Any]]] = []

    class Other(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            seen.append((span.name, dict(span.attributes or {})))

    tracer = HoneyHiveTracer.init(api_key="k", server_url=backend.url)
    assert isinstance(tracer.provider, TracerProvider)
    tracer.provider.add_span_processor(Other())
    with tracer.with_session("s"), tracer.start_span("subject", attributes={"password": "plain"}):
        pass
    assert tracer.force_flush()
    assert ("subject", {"password": "plain"}) in seen
    tracer.shutdown()


def test_an_empty_list_and_a_link_arrive(backend: Backend, tracer: HoneyHiveTracer) -> None:
    with tracer.start_span("first") as first:
        pass
    with tracer.start_span("second", links=[Link(first.get_span_context(), {"why": "because"})]):
        pass
    assert tracer.force_flush()
    second = backend.spans("second")[0]
    assert [link["attributes"] for link in second["links"]] == [{"why": "because"}]


def test_sessions_and_their_updates_are_redacted_like_spans(backend: Backend, tracer: HoneyHiveTracer) -> None:
    secret = "sk-proj-" + "a1B2" * 12
    with tracer.with_session("s", inputs={"prompt": f"use {secret}"}, metadata={"password": "hunter2!"}):
        tracer.enrich_session(outputs={"deep": [{"api_key": "hh_key_in_use_0001"}], "said": secret})
        tracer.create_event("manual", inputs={"header": {"authorization": "Basic QWxhZGRpbjpvcGVu"}})
    assert tracer.force_flush()
    bodies = repr([request.body for request in backend.requests])
    for text in (secret, "hunter2!", "hh_key_in_use_0001", "QWxhZGRpbjpvcGVu"):
        assert text not in bodies


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
    (update,) = (request.body for request in backend.requests if request.method == "PUT")
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


def test_an_error_in_sealing_is_counted_and_does_not_block_others(
    backend: Backend, tracer: HoneyHiveTracer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is forced, because no real one is known. It must not affect `span.end()` or the next batch."""
    monkeypatch.setattr(batch, "seal", lambda *_: 1 / 0)
    with tracer.start_span("lost"):
        pass
    assert not tracer.force_flush(), "something was lost"
    monkeypatch.undo()
    with tracer.start_span("kept"):
        pass
    assert tracer.force_flush()
    assert [span["name"] for span in backend.spans()] == ["kept"]
    assert "could not be sealed" in caplog.text


def test_secrets_in_names_links_events_and_baggage_are_redacted_too(backend: Backend, tracer: HoneyHiveTracer) -> None:
    secret = "sk-proj-" + "a1B2" * 12
    tracer.set_baggage("authorization", f"Bearer {secret}")
    with tracer.start_span(f"call {secret}") as first:
        first.add_event(f"used {secret}", {"note": secret})
    with tracer.start_span("second", links=[Link(first.get_span_context(), {"key": secret})]):
        pass
    assert tracer.force_flush()
    assert secret not in repr(backend.spans()) + repr(span_log().records())


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
