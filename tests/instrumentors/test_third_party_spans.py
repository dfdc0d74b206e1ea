"""Spans of third-party instrumentors are in the right session, under the right parent, and of type model.

OpenInference, OpenLLMetry and OpenTelemetry's own instrumentors, each with `tracer.provider` and the real clients.
"""

from __future__ import annotations

import pytest

from tests.guide.received import SESSION
from tests.instrumentors.conftest import Run

EMBEDDING = "embedding"


@pytest.mark.slow
def test_each_call_is_in_the_session_in_which_it_was_made(run: Run) -> None:
    """The tracer's own session, a block's, or a created one; also for streams, tasks, and a stream read in another."""
    assert {label: span["attributes"][SESSION] for label, span in run.calls.items()} == run.sessions
    assert len(set(run.sessions.values())) == len(run.sessions)
    twins = {span["attributes"]["traceloop.association.properties.session_id"] for span in run.calls.values()}
    assert twins == set(run.sessions.values())


def test_spans_of_the_client_itself_are_in_the_same_session(run: Run) -> None:
    """Some clients make spans if a global provider is set; they are children of ours, as the instrumentor's are."""
    ours = {span["span_id"]: span["name"] for span in run.spans if span["scope"] == "hh_jupyter"}
    others = [span for span in run.spans if span["span_id"] not in ours]
    below = [span for span in others if span["parent_span_id"] in ours]
    assert {run.sessions[ours[span["parent_span_id"]]] == span["attributes"][SESSION] for span in below} == {True}
    assert {span["attributes"][SESSION] for span in others} == set(run.sessions.values())


def test_each_call_is_a_child_of_the_span_in_which_it_was_made(run: Run) -> None:
    ours = {span["name"]: span for span in run.spans if span["scope"] == "hh_jupyter"}
    for label, call in run.calls.items():
        assert (call["trace_id"], call["parent_span_id"]) == (ours[label]["trace_id"], ours[label]["span_id"])


def test_each_span_has_source_and_project(run: Run) -> None:
    attributes = [span["attributes"] for span in run.calls.values()]
    assert {found["honeyhive.source"] for found in attributes} == {"qa"}
    assert {found["honeyhive.project"] for found in attributes} == {"shop"}


def test_each_call_has_the_event_type_of_its_convention(run: Run) -> None:
    """Calls are of type model, except OpenInference's embeddings, which have a kind of their own and are tools."""
    types = {label: span["attributes"]["honeyhive_event_type"] for label, span in run.calls.items()}
    embedding = types.pop(EMBEDDING, None)
    assert set(types.values()) == {"model"}
    assert embedding in ((None,) if "anthropic" in run.scope else ("tool",) if "openinf" in run.scope else ("model",))


def test_only_the_failed_call_has_an_error_and_has_it_once(run: Run) -> None:
    failed = [label for label, span in run.calls.items() if span["status"]["code"] == "ERROR"]
    assert failed == ["error"]
    assert len([event for event in run.calls["error"]["events"] if event["name"] == "exception"]) <= 1
    assert not any(span["name"].endswith("_error") for span in run.spans)


def test_no_attribute_of_the_instrumentor_is_lost(run: Run) -> None:
    for label, span in run.calls.items():
        models = [value for key, value in span["attributes"].items() if key.endswith((".model", ".model_name"))]
        assert models or label == "error", label
