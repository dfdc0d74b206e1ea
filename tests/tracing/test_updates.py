"""Updates of existing events and sessions."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from typing import Any

import pytest

import hh_jupyter
from hh_jupyter import HoneyHiveTracer, enrich_session
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.testing import Backend
from hh_jupyter.tracing.events import FeedbackWriter
from hh_jupyter.tracing.span_store import span_log

EVENT = "24242424-2424-4424-8424-242424242424"


def _update(backend: Backend, tracer: HoneyHiveTracer) -> Any:
    assert tracer.force_flush()
    (body,) = (request.body for request in backend.requests if request.method == "PUT" and request.accepted)
    return body


def test_enriching_an_event_by_its_id_sends_every_field(backend: Backend, tracer: HoneyHiveTracer) -> None:
    """The endpoint does not accept inputs and error; they are sent as metadata."""
    assert tracer.enrich_span(
        event_id=EVENT, metadata={"m": 1}, metrics={"s": 0.5}, inputs={"i": 1}, outputs={"o": 1}, error="oops"
    )
    assert _update(backend, tracer) == {
        "event_id": EVENT,
        "metadata": {"m": 1, "inputs": {"i": 1}, "error": "oops"},
        "metrics": {"s": 0.5},
        "outputs": {"o": 1},
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"metadata": {"when": datetime.date(2024, 1, 2)}}, {"metadata": {"when": "2024-01-02"}}),
        ({"outputs": {"s": {1}}}, {"outputs": {"s": [1]}}),
        ({"metrics": {"v": float("nan")}}, {"metrics": {"v": "nan"}}),
        ({"outputs": "just text"}, {"outputs": {"value": "just text"}}),
        ({"metadata": [1, 2]}, {"metadata": {"value": [1, 2]}}),
        ({"metadata": {"t": (1, "two")}}, {"metadata": {"t": [1, "two"]}}),
    ],
)
def test_values_that_json_cannot_represent_reach_the_session(
    given: dict[str, Any], sent: dict[str, Any], backend: Backend, tracer: HoneyHiveTracer
) -> None:
    tracer.enrich_session(**given)
    assert _update(backend, tracer) == {"event_id": tracer.session_id, **sent}


def test_an_update_that_failed_is_sent_again() -> None:
    with (
        Backend(statuses={"/events": [500, 503]}) as backend,
        HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url) as tracer,
    ):
        tracer.enrich_session(metadata={"n": 1})
        assert _update(backend, tracer)["metadata"] == {"n": 1}


def test_a_dict_as_first_argument_is_metadata_for_the_function_and_the_method(
    backend: Backend, tracer: HoneyHiveTracer
) -> None:
    """The first parameter of the method is the metadata, that of the function the id; a dict is never an id."""
    enrich_session({"k": 1, "both": 1}, metadata={"both": 2})
    enrich_session("44444444-4444-4444-8444-444444444444", {"k": 2})
    enrich_session("hello", {"k": 3})
    assert tracer.force_flush()
    updates = [request.body for request in backend.requests if request.method == "PUT"]
    sent = sorted(
        updates, key=lambda body: body["metadata"]["k"]
    )  # Updates of different sessions may arrive in any order.
    assert [body["metadata"] for body in sent] == [{"k": 1, "both": 2}, {"k": 2}, {"k": 3}]
    assert [body["event_id"] for body in sent[:2]] == [tracer.session_id, "44444444-4444-4444-8444-444444444444"]
    assert sent[2]["event_id"] not in (tracer.session_id, "hello")


def test_the_name_in_a_dict_is_the_name_of_the_event(backend: Backend, tracer: HoneyHiveTracer) -> None:
    for given in (
        {"name": "x"},
        {"event_name": "x"},
        {"event_name": "x", "name": "y"},
        {"event_name": None, "name": "x"},
    ):
        tracer.create_event(given)
    assert tracer.force_flush()
    events = [request.body["event"] for request in backend.requests if request.path == "/events"]
    assert [event["event_name"] for event in events] == ["x"] * 4
    assert ["name" in event for event in events] == [False, False, True, False]


def test_a_secret_used_as_a_key_is_redacted(backend: Backend, tracer: HoneyHiveTracer) -> None:
    secret = "sk-proj-" + "a1B2" * 6
    with tracer.start_span("work", attributes={secret: 1}):
        tracer.enrich_span(metadata={secret: {"n": 1}, "deep": {"list": [{secret: 2}]}})
    tracer.enrich_session(metadata={secret: {"n": 1}})
    tracer.create_event("manual", inputs={secret: 1})
    assert tracer.force_flush()
    assert secret not in repr([request.body for request in backend.requests]) + repr(backend.spans())
    assert backend.spans()[0]["attributes"]["honeyhive_metadata.[redacted: api_key].n"] == 1


@pytest.mark.parametrize(
    "no_id", ["", "latest", "order-7", 7, True, object(), {"id": EVENT}, EVENT[:-1], f"{{{EVENT}}}"]
)
def test_an_event_id_that_is_no_uuid_is_refused(backend: Backend, tracer: HoneyHiveTracer, no_id: Any) -> None:
    assert not hh_jupyter.enrich_span(event_id=no_id, feedback={"ok": True}, tracer=tracer)
    assert tracer.enrich_span(event_id=no_id, feedback={"ok": True}) is False
    assert tracer.force_flush()
    assert not [request for request in backend.requests if request.method == "PUT"]


@pytest.mark.parametrize("given", [EVENT, EVENT.upper(), EVENT.replace("-", ""), uuid.UUID(EVENT)])
def test_what_is_added_later_to_the_event_of_a_span_is_shown_with_the_span(tracer: HoneyHiveTracer, given: Any) -> None:
    span_log().clear()
    with tracer.start_span("answer"):
        tracer.enrich_span(update_event_id=EVENT, feedback={"stars": 1, "by": "a"})
    # Both: in the same batch as the span, and after it is in the log.
    assert tracer.enrich_span(event_id=given, feedback={"stars": 5}, metrics={"score": 0.5})
    tracer.wait_processed()
    assert tracer.enrich_span(event_id=given, feedback={"api_key": "9f8e7d6c5b4a"}, outputs={"reply": "yes"})
    tracer.wait_processed()
    (record,) = hh_jupyter.spans(name="answer")
    content = hh_jupyter.spans().content(record)
    assert content is not None
    assert (content.feedback["stars"], content.feedback["by"], content.metrics) == (5, "a", {"score": 0.5})
    assert content.output == {"reply": "yes"}
    assert "9f8e7d6c5b4a" not in str(content.feedback)


def test_feedback_given_later_is_found_and_kept_with_the_span(tracer: HoneyHiveTracer) -> None:
    span_log().clear()
    for name in ("rated", "unrated"):
        with tracer.start_span(name):
            tracer.enrich_span(update_event_id=EVENT if name == "rated" else None)
    tracer.enrich_span(event_id=EVENT, feedback={"ok": False, "stars": 1, "by": {"team": "support"}})
    tracer.wait_processed()

    def names(feedback: Any) -> list[str]:
        return [record.name for record in hh_jupyter.spans(feedback=feedback)]

    assert names(True) == names("stars") == names("by") == names("by.team") == ["rated"]
    assert names({"ok": False}) == names({"stars": 1, "by": {"team": "support"}}) == ["rated"]
    assert names(False) == ["unrated"]
    assert names("star") == names({"ok": True}) == names({"stars": 5}) == names({"stars": True}) == []
    (row,) = hh_jupyter.spans(feedback=True).to_dicts()
    assert row["feedback"] == {"ok": False, "stars": 1, "by.team": "support"}


@pytest.mark.parametrize(
    ("wrong", "error"), [(5, TypeError), (["ok"], TypeError), ({}, ValueError), ({"a": None}, ValueError)]
)
def test_feedback_that_cannot_be_searched_for_is_an_error(wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"spans\(feedback="):
        hh_jupyter.spans(feedback=wrong)


def _record(name: str) -> SpanRecord:
    return next(record for record in reversed(span_log().records()) if record.name == name)


def test_feedback_on_a_span_with_an_event_id_updates_that_event(backend: Backend, tracer: HoneyHiveTracer) -> None:
    """It is shown with the span, and what is taken back is gone."""
    with tracer.start_span("judged"):
        tracer.enrich_span(update_event_id=EVENT)
    assert tracer.wait_processed()
    writer = FeedbackWriter(tracer)
    writer.give(_record("judged"), {"ok": True, "note": "good"})
    assert tracer.wait_processed()
    assert dict(_record("judged").facts.feedback) == {"ok": True, "note": "good"}
    writer.give(_record("judged"), {"ok": None})
    assert tracer.wait_processed()
    assert dict(_record("judged").facts.feedback) == {"note": "good"}
    assert tracer.force_flush()
    sent = [request.body for request in backend.requests if request.method == "PUT"]
    assert sent == [
        {"event_id": EVENT, "feedback": {"ok": True, "note": "good"}},
        {"event_id": EVENT, "feedback": {"ok": None}},
    ]


def test_feedback_on_a_whole_session_updates_the_event_of_the_session(
    backend: Backend, tracer: HoneyHiveTracer
) -> None:
    """Its span shows it; later feedback on that span goes the same way."""
    with tracer.start_span("row"):
        pass
    assert tracer.wait_processed()
    record, writer = _record("row"), FeedbackWriter(tracer)
    writer.give(record, {"ok": False}, of_session=True)
    writer.give(record, {"note": "wrong"})
    assert tracer.wait_processed()
    assert dict(_record("row").facts.feedback) == {"ok": False, "note": "wrong"}
    assert tracer.force_flush()
    sent = [request.body for request in backend.requests if request.path.endswith("/events")]
    assert sent == [{"event_id": tracer.session_id, "feedback": one} for one in ({"ok": False}, {"note": "wrong"})]


def test_feedback_on_any_other_span_is_an_event_of_its_session(backend: Backend, tracer: HoneyHiveTracer) -> None:
    """The backend's id of the span's event is unknown; later feedback updates the event that was created."""
    with tracer.start_span("plain"):
        pass
    assert tracer.wait_processed()
    record, writer = _record("plain"), FeedbackWriter(tracer)
    writer.give(record, {"ok": False})
    writer.give(record, {"note": "too long"})
    assert tracer.wait_processed()
    assert dict(_record("plain").facts.feedback) == {"ok": False, "note": "too long"}
    details = span_log().details(_record("plain"))
    assert details is not None
    assert not any("metadata.span" in key for key in details.attributes)
    assert tracer.force_flush()
    created, updated = (
        request.body for request in backend.requests if request.path.endswith("/events") and request.accepted
    )
    event = created["event"]
    assert event["session_id"] == tracer.session_id
    assert (event["event_name"], event["feedback"]) == ("feedback", {"ok": False})
    assert event["metadata"] == {
        "span": "plain",
        "span_id": f"{record.span_id:016x}",
        "trace_id": f"{record.trace_id:032x}",
    }
    assert updated == {"event_id": event["event_id"], "feedback": {"note": "too long"}}


def test_feedback_is_redacted_and_needs_a_session(tracer: HoneyHiveTracer, backend: Backend) -> None:
    key = "sk-" + "proj-" + "4f9aQ27bXcd81LmZ0pRtUvWy3eHjKs6N"
    with tracer.start_span("secret"):
        pass
    assert tracer.wait_processed()
    writer = FeedbackWriter(tracer)
    writer.give(_record("secret"), {"note": f"the key {key}"})
    assert tracer.force_flush()
    assert key not in repr(span_log().records()) + repr([request.body for request in backend.requests])
    assert "redacted" in dict(_record("secret").facts.feedback)["note"]
    with pytest.raises(ValueError, match="span 'secret' has no session"):
        FeedbackWriter(tracer).give(dataclasses.replace(_record("secret"), session_id=None), {"ok": True})
