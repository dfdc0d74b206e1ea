"""Spans of other people's instrumentors belong where they were made, and are what they are: calls of models.

OpenInference, OpenLLMetry and OpenTelemetry's own, each given `tracer.provider`, round the real client libraries.
"""

from __future__ import annotations

from tests.guide.found import SESSION
from tests.instrumentors.conftest import Run

EMBEDDING = "embedding"


def test_each_call_is_in_the_session_it_was_made_in(run: Run) -> None:
    """The tracer's own, a block's, a created one's; also streams, tasks, and a stream that is read in another."""
    assert {label: span["attributes"][SESSION] for label, span in run.calls.items()} == run.sessions
    assert len(set(run.sessions.values())) == len(run.sessions)
    twins = {span["attributes"]["traceloop.association.properties.session_id"] for span in run.calls.values()}
    assert twins == set(run.sessions.values())


def test_what_the_client_traces_itself_is_in_that_session_too(run: Run) -> None:
    """Some clients make spans where a global provider is; below ours, as the instrumentor's are."""
    ours = {span["span_id"]: span["name"] for span in run.spans if span["scope"] == "hh_jupyter"}
    others = [span for span in run.spans if span["span_id"] not in ours]
    below = [span for span in others if span["parent_span_id"] in ours]
    assert {run.sessions[ours[span["parent_span_id"]]] == span["attributes"][SESSION] for span in below} == {True}
    assert {span["attributes"][SESSION] for span in others} == set(run.sessions.values())


def test_each_call_is_the_child_of_the_span_it_was_made_in(run: Run) -> None:
    ours = {span["name"]: span for span in run.spans if span["scope"] == "hh_jupyter"}
    for label, call in run.calls.items():
        assert (call["trace_id"], call["parent_span_id"]) == (ours[label]["trace_id"], ours[label]["span_id"])


def test_source_and_project_are_on_each(run: Run) -> None:
    attributes = [span["attributes"] for span in run.calls.values()]
    assert {found["honeyhive.source"] for found in attributes} == {"qa"}
    assert {found["honeyhive.project"] for found in attributes} == {"shop"}


def test_each_call_is_of_type_model_whenever_its_instrumentor_says_so(run: Run) -> None:
    """Embeddings are what the convention makes of them: OpenInference has a kind of their own, and that is a tool."""
    types = {label: span["attributes"]["honeyhive_event_type"] for label, span in run.calls.items()}
    embedding = types.pop(EMBEDDING, None)
    assert set(types.values()) == {"model"}
    assert embedding in ((None,) if "anthropic" in run.scope else ("tool",) if "openinf" in run.scope else ("model",))


def test_a_failed_call_has_its_error_once_and_the_others_have_none(run: Run) -> None:
    failed = [label for label, span in run.calls.items() if span["status"]["code"] == "ERROR"]
    assert failed == ["error"]
    assert len([event for event in run.calls["error"]["events"] if event["name"] == "exception"]) <= 1
    assert not any(span["name"].endswith("_error") for span in run.spans)


def test_nothing_of_the_instrumentors_own_attributes_is_lost(run: Run) -> None:
    for label, span in run.calls.items():
        models = [value for key, value in span["attributes"].items() if key.endswith((".model", ".model_name"))]
        assert models or label == "error", label
