"""What the stand-in backend receives, what it answers, as clients of HoneyHive were seen to need it, and its faults."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

TRACES = "/opentelemetry/v1/traces"
SESSION_START = "/session/start"
RUN = re.compile(r"/v1/runs/(?P<run_id>[^/]+)")
COMPARISON = re.compile(r"/v1/runs/[^/]+/compare-with/[^/]+")
RUN_RESULT = re.compile(r"/v1/runs/(?P<run_id>[^/]+)/result")
DATAPOINT = re.compile(r"/v1/datapoints/(?P<datapoint_id>[^/]+)")

ORGANISATION = "00000000-0000-4000-8000-000000000001"
WORKSPACE = "00000000-0000-4000-8000-000000000002"
PROJECT = "00000000-0000-4000-8000-000000000003"
NOW = "2025-01-01T00:00:00.000Z"


@dataclass(slots=True)
class ReceivedRequest:
    """A request as it arrived.

    Attributes:
        headers: names in lower case.
        body: parsed JSON; for span exports, and for protobuf at any path, the list of spans as in `Backend.spans`.
        size: bytes of the body, as they were sent.
        undecodable: why the body could not be read; such a request is answered with 400.
        status: the status code of the answer; None while there is no answer.
        answer: the JSON of the answer.
        received: Unix seconds.
        answered: Unix seconds just before the answer was sent; None while there is no answer.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    size: int
    undecodable: str | None = None
    status: int | None = None
    answer: Any = None
    received: float = field(default_factory=time.time)
    answered: float | None = None

    @property
    def accepted(self) -> bool:
        """True if it was answered with 200 and the JSON that clients expect."""
        return self.status == 200 and self.answer is not None


@dataclass(kw_only=True)
class Behaviour:
    """How a stand-in backend deviates from answering every request at once with 200. May be changed while it runs.

    Attributes:
        statuses: status codes to answer with, by path prefix; each is used once, in order.
        repeat_last_status: the last of these status codes is repeated for ever.
        delay: seconds before the answer, by path.
        hang: path prefixes of requests that are read and never answered.
        html_page: HTML that is the answer to every request, with status 200, as a captive portal does it.
        redirect_to: base address that every request is redirected to, with status 307.
        session_response: "minimal" answers a session start with nothing but the id, "other_id" with another id.
        comparison: answer to a comparison of two runs; without it the answer has no details, like an old backend's.
        result: answer to a request for a run's result; without it the result has `passed` and `failed`.
        passed: ids of datapoints.
        failed: ids of datapoints.
        datasets: the stored datasets.
        datapoints: the stored datapoints by id.
        server_picks_run_id: a new run gets an id of the backend's choice.
        headers: additional headers of every answer.
        break_connection: "request" resets the connection before an answer; "response" in the answer, before its last
            byte; "hang" sends no last byte and keeps the connection open.
        raw_body: bytes to send as the body of every answer.
        refused_span: name of a span; an export that contains it is answered with `refused_span_status`.
        refused_span_status: see `refused_span`.
        max_spans: an export of more spans is answered with 413.
        rejected_spans: how many spans every answer to an export reports as rejected.
        on_request: called with each `ReceivedRequest` before it is answered, in the thread that answers it. It may
            wait, and it may return the status code to answer with; None answers as if it were not there.
    """

    statuses: Mapping[str, Sequence[int]] = field(default_factory=dict)
    repeat_last_status: bool = False
    delay: Mapping[str, float] = field(default_factory=dict)
    hang: Sequence[str] = ()
    html_page: str | None = None
    redirect_to: str | None = None
    session_response: Literal["full", "minimal", "other_id"] = "full"
    comparison: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    passed: Sequence[str] = ()
    failed: Sequence[str] = ()
    datasets: Sequence[Mapping[str, Any]] = ()
    datapoints: Mapping[str, Any] = field(default_factory=dict)
    server_picks_run_id: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    break_connection: Literal["request", "response", "hang"] | None = None
    raw_body: bytes | None = None
    refused_span: str | None = None
    refused_span_status: int = 503
    max_spans: int | None = None
    rejected_spans: int = 0
    on_request: Callable[[ReceivedRequest], int | None] | None = None


@dataclass
class BackendResponses:
    """Answers requests as a `Behaviour` says. Keeps the runs that were created."""

    behaviour: Behaviour
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> tuple[int, dict[str, Any]]:
        """Return the status and the JSON body that answer a request.

        Args:
            body: the request's JSON body, or None.
        """
        if path == TRACES and (status := self._refusal_status(body)):
            return status, {"message": "refused by the test"}
        body = body if isinstance(body, dict) else {}
        if path == TRACES:
            rejected = self.behaviour.rejected_spans
            partial = {"rejectedSpans": str(rejected), "errorMessage": "too old"} if rejected else {}
            return 200, {"partialSuccess": partial}
        if (method, path) == ("POST", SESSION_START):
            return 200, self._session(body.get("session") or {})
        if (method, path) == ("POST", "/events"):
            event = body.get("event") or {}
            return 200, {"success": True, "event_id": event.get("event_id") or str(uuid.uuid4())}
        if (method, path) == ("GET", "/v1/datasets"):
            return 200, {"datasets": list(self.behaviour.datasets)}
        if match := DATAPOINT.fullmatch(path):
            datapoint = self.behaviour.datapoints.get(match["datapoint_id"])
            return (200, {"datapoint": [datapoint]}) if datapoint else (404, {"message": "not found"})
        if COMPARISON.fullmatch(path):
            return 200, dict(self.behaviour.comparison or {"success": True})
        if path.startswith("/v1/runs"):
            return 200, self._run(method, path, query, body)
        return 200, {"success": True}

    def _refusal_status(self, spans: Sequence[Mapping[str, Any]]) -> int | None:
        """The status code for an export that this backend refuses; None if it accepts it."""
        behaviour = self.behaviour
        if behaviour.max_spans is not None and len(spans) > behaviour.max_spans:
            return 413
        return behaviour.refused_span_status if any(span["name"] == behaviour.refused_span for span in spans) else None

    def _session(self, session: Mapping[str, Any]) -> dict[str, Any]:
        session_id = session.get("session_id") or str(uuid.uuid4())
        if self.behaviour.session_response == "minimal":
            return {"session_id": session_id}
        if self.behaviour.session_response == "other_id":
            session_id = str(uuid.uuid4())
        return {
            "session_id": session_id,
            "event_id": session_id,
            "event_type": "session",
            "event_name": session.get("session_name"),
            "source": session.get("source"),
            "inputs": session.get("inputs") or {},
            "metadata": session.get("metadata") or {},
            "user_properties": session.get("user_properties") or {},
            "org_id": ORGANISATION,
            "workspace_id": WORKSPACE,
            "project_id": PROJECT,
        }

    def _run(self, method: str, path: str, query: Mapping[str, str], body: dict[str, Any]) -> dict[str, Any]:
        if match := RUN_RESULT.fullmatch(path):
            return self._result(match["run_id"], query.get("aggregate_function", "average"))
        if match := RUN.fullmatch(path):
            run = self.runs.setdefault(match["run_id"], _new_run(match["run_id"], {}))
            run.update({key: value for key, value in body.items() if value is not None})
            return {"evaluation": run}
        run_id = body.get("run_id")
        if method == "POST" and (run_id is None or self.behaviour.server_picks_run_id):
            run_id = str(uuid.uuid4())
        self.runs[str(run_id)] = _new_run(str(run_id), body)
        return {"evaluation": self.runs[str(run_id)], "run_id": run_id}

    def _result(self, run_id: str, aggregate_function: str) -> dict[str, Any]:
        run = self.runs.get(run_id) or _new_run(run_id, {})
        if self.behaviour.result is not None:
            return {**self.behaviour.result, "run_object": run}
        return {
            "status": run["status"],
            "success": True,
            "error": None,
            "passed": list(self.behaviour.passed),
            "failed": list(self.behaviour.failed),
            "metrics": {"aggregation_function": aggregate_function, "details": []},
            "datapoints": [],
            "event_details": [],
            "run_object": run,
        }


def _new_run(run_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": run_id,
        "run_id": run_id,
        "name": body.get("name"),
        "status": body.get("status", "pending"),
        "metadata": body.get("metadata") or {},
        "results": {},
        "event_ids": body.get("event_ids") or [],
        "configuration": body.get("configuration") or {},
        "dataset_id": body.get("dataset_id"),
        "is_active": True,
        "created_at": NOW,
        "updated_at": NOW,
        "scope_type": "project",
        "scope_id": PROJECT,
    }
