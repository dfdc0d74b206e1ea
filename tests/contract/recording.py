"""A recorded case, and the plain form (`Run`) in which a recording and a replay of it are compared.

The recordings under `tests/data/contract` are runs of the official client. Whatever differs from run to run is a
placeholder there (`<uuid:3>`, `<ms>`, ...); `normalised` puts the same placeholders into what a replay sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hh_jupyter.testing import ReceivedRequest
from hh_jupyter.testing.responses import TRACES
from tests.contract.summary import summarised

DATA = Path(__file__).parents[1] / "data" / "contract"

CREDENTIALS = {
    "API_KEY": ("hh_wire_project_key_one", "<api_key>"),
    "API_KEY_2": ("hh_wire_project_key_two", "<api_key_2>"),
    "INGESTION_KEY": ("hh_ingst_" + "A" * 24 + "_" + "b" * 64, "<ingestion_api_key>"),
}
"""Made-up credentials by the name that the recorded calls use, each with its placeholder."""

UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
TRACEPARENT = re.compile(r"\b([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\b")
PATTERNS = (
    (re.compile(r"\b(session|experiment)-[0-9a-f]{8}\b"), r"\1-<hex8>"),
    (re.compile(r"0x[0-9a-f]{6,16}"), "<addr>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<server>"),
    (re.compile(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:\+00:00|Z)"), "<time>"),
    # The recordings number these too; which trace or span it is shows in the span itself.
    (re.compile(r"<(trace|span|tracer):\d+>"), r"<\1>"),
    (re.compile(r"(honeyhive_tracer_id=)\d{9,}"), r"\1<tracer>"),
)
LONG_TEXT = 10_000
PLACEHOLDERS = {
    "honeyhive_duration_ms": "<ms>",
    "exception.stacktrace": "<stacktrace>",
    "honeyhive.tracer_version": "<version>",
    "commit_hash": "<sha:1>",
    "commit_hash_short": "<sha7>",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is no trace export."""

    method: str
    path: str
    query: Mapping[str, str]
    authorization: str | None
    body: Any
    session_id: str | None
    """The id that a session start was answered with."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a case did: its calls in order, its spans, what the calling script saw."""

    calls: Sequence[Call]
    spans: Sequence[Mapping[str, Any]]
    observations: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """A recorded case.

    Attributes:
        source: Python that defines `run(hh, url, obs)`.
        environment: variables; `$URL` is the backend's address.
        server: fields of `hh_jupyter.testing.responses.Behaviour`.
        ordered: False: the calls were concurrent, their order means nothing.
        recorded: of some cases observations only, which sum the requests up (`tests.contract.summary`).
    """

    name: str
    source: str
    environment: Mapping[str, str]
    server: Mapping[str, Any]
    ordered: bool
    recorded: Run

    @property
    def records_output(self) -> bool:
        """The recording holds what was printed."""
        return "printed" in self.recorded.observations

    @property
    def in_repository(self) -> bool:
        """It was recorded in a git repository."""
        return any("git" in call.body.get("metadata", {}) for call in self.recorded.calls if call.path == "/v1/runs")


def load(name: str) -> Case:
    """The case recorded in `<name>.json`."""
    document = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    exports = [request["body"]["otlp"] for request in document["requests"] if request["path"] == TRACES]
    recorded = Run(
        calls=[_recorded_call(request) for request in document["requests"] if request["path"] != TRACES],
        spans=[span for export in exports for part in export for span in part["spans"]],
        observations=document["observations"],
    )
    return Case(
        name=name,
        source=document["calls"],
        environment=document["environment"],
        server=document["server"],
        ordered=document["ordered"],
        recorded=_tidy(recorded),
    )


def _recorded_call(request: Mapping[str, Any]) -> Call:
    return Call(
        method=request["method"],
        path=request["path"],
        query=request.get("query", {}),
        authorization=request["headers"].get("authorization"),
        body=request["body"],
        session_id=request.get("answer", {}).get("session_id"),
    )


def replayed(case: Case, requests: Sequence[ReceivedRequest], observations: Mapping[str, Any], directory: Path) -> Run:
    """What a replay of the case sent, refused exports included, in the form of its recording."""
    summary = summarised(case.recorded.observations, requests)
    if summary:
        return _tidy(Run([], [], {**observations, **summary}), directory)
    run = Run(
        calls=[_received_call(request) for request in requests if request.path != TRACES],
        spans=[span for request in requests if request.path == TRACES for span in request.body],
        observations=observations,
    )
    return _tidy(run, directory)


def _received_call(request: ReceivedRequest) -> Call:
    session_id = request.answer.get("session_id") if request.accepted and "session" in (request.body or {}) else None
    authorization = request.headers.get("authorization")
    return Call(request.method, request.path, request.query, authorization, request.body, session_id)


def _tidy(run: Run, directory: Path | None = None) -> Run:
    numbers: dict[str, str] = {}

    def text(value: str) -> str:
        if len(value) > LONG_TEXT:
            return f"<text of {len(value)} characters>"
        value = UUID.sub(lambda match: numbers.setdefault(match[0].lower(), f"<uuid:{len(numbers) + 1}>"), value)
        value = TRACEPARENT.sub(r"\1-<trace>-<span>-\4", value)
        for pattern, replacement in PATTERNS:
            value = pattern.sub(replacement, value)
        for secret, placeholder in CREDENTIALS.values():
            value = value.replace(secret, placeholder)
        return value.replace(str(directory), "<dir>") if directory else value

    def tidy(value: Any) -> Any:
        if isinstance(value, str):
            return text(value)
        if isinstance(value, list | tuple):
            return [tidy(item) for item in value]
        if isinstance(value, Mapping):
            return {text(key): PLACEHOLDERS[key] if key in PLACEHOLDERS else tidy(v) for key, v in value.items()}
        return "NaN" if value != value else value

    def tidy_span(span: Mapping[str, Any]) -> dict[str, Any]:
        ids = {key: span[key] for key in ("span_id", "parent_span_id")}
        return {key: tidy(span[key]) for key in ("name", "kind", "status", "attributes", "events")} | ids

    calls = [Call(*(tidy(getattr(call, name)) for name in Call.__slots__)) for call in run.calls]
    return Run(calls, [tidy_span(span) for span in run.spans], tidy(run.observations))
