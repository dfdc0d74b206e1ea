"""Queries on what the stand-in backend has received."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hh_jupyter.testing import Backend

SESSION = "honeyhive.session_id"
QUESTION = "honeyhive_inputs.question"


def programs_spans(backend: Backend) -> list[dict[str, Any]]:
    """Return the spans of the program itself, without those of its framework."""
    return [span for span in backend.spans() if span["scope"] == "hh_jupyter"]


def sessions_by_question(backend: Backend) -> dict[str, set[str]]:
    """Return the sessions of the spans with a question as input, by question."""
    found: dict[str, set[str]] = {}
    for span in backend.spans():
        if question := span["attributes"].get(QUESTION):
            found.setdefault(question, set()).add(span["attributes"][SESSION])
    return found


def in_own_sessions(backend: Backend, ids: Mapping[str, str]) -> bool:
    """Whether the spans of each question are only in its own session."""
    assert len(set(ids.values())) == len(ids)
    return sessions_by_question(backend) == {question: {session_id} for question, session_id in ids.items()}


def outputs_by_session(backend: Backend) -> dict[str, Any]:
    """Return the outputs that session updates have set, by session id."""
    updates = [request.body for request in backend.requests if request.method == "PUT" and request.accepted]
    return {update["event_id"]: update["outputs"] for update in updates if "outputs" in update}


def registered(backend: Backend, name: str) -> list[str]:
    """Return the ids of the registered sessions of this name."""
    return [session["session_id"] for session in backend.sessions() if session["session_name"] == name]


def by_item(backend: Backend, ending: str) -> dict[str, dict[str, Any]]:
    """The program's spans whose name ends so, by item."""
    found = [span for span in programs_spans(backend) if span["name"].endswith(ending)]
    return {span["attributes"]["honeyhive_inputs.item"]: span for span in found}


def descends(backend: Backend, span: dict[str, Any], ancestor: dict[str, Any]) -> bool:
    """Whether a chain of received spans leads from `span` up to `ancestor`: a framework's own may be between."""
    known = {other["span_id"]: other for other in backend.spans()}
    while span["span_id"] != ancestor["span_id"]:
        if span["parent_span_id"] not in known:
            return False
        span = known[span["parent_span_id"]]
    return True


def arrived(backend: Backend, items: int) -> None:
    """The service sends in its own time, while it runs."""
    assert backend.wait_for(lambda b: len(by_item(b, "look_up")) == items, 20)
