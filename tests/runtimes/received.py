"""What the stand-in backend received from requests and from workers."""

from __future__ import annotations

from typing import Any

from hh_jupyter.testing import Backend

HEADER = "X-Session-ID"
SESSION = "honeyhive.session_id"


def updates(backend: Backend) -> dict[str, dict[str, Any]]:
    """All that was put onto each session; a field that was put twice holds the later."""
    found: dict[str, dict[str, Any]] = {}
    for request in backend.requests:
        if request.method == "PUT":
            found.setdefault(request.body["event_id"], {}).update(request.body)
    return found


def sessions(backend: Backend) -> dict[str, dict[str, Any]]:
    """The sessions of requests, by id."""
    return {each["session_id"]: each for each in backend.sessions() if each["session_name"] != "home"}


def numbers(backend: Backend) -> list[int]:
    """The arguments of the spans that arrived, sorted."""
    return sorted(span["attributes"]["honeyhive_inputs.number"] for span in backend.spans("tests.runtimes.jobs.double"))
