"""The recorded model: what every display, every total and every test starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from hh_jupyter.conventions.facts import SpanFacts

Status = Literal["ok", "error", "running"]

_CALLS: Final = ("llm", "embedding")
_STATUS_NAMES: Final = {
    "RateLimitError": 429, "TooManyRequestsError": 429, "TooManyRequestsException": 429, "ThrottlingException": 429,
    "ResourceExhausted": 429, "RESOURCE_EXHAUSTED": 429, "rate_limit_error": 429, "overloaded_error": 529,
    # Bedrock's, which name their status nowhere.
    "ValidationException": 400, "ServiceQuotaExceededException": 400, "AccessDeniedException": 403,
    "ResourceNotFoundException": 404, "ModelTimeoutException": 408, "ModelErrorException": 424,
    "ModelNotReadyException": 429, "InternalServerException": 500, "ServiceUnavailableException": 503,
}  # fmt: skip
"""Errors of model APIs that stand for one status and may not name it."""


@dataclass(frozen=True, slots=True)
class SpanError:
    """An error in one line, redacted: `type` as raised, the message's first line, and the innermost line of user code.

    Attributes:
        type: class name of the exception, without its module. Example: "HTTPError".
        message: first line of the message, at most 300 characters.
        location: "payments.py:41", or None when no stack was recorded.
        http_status: 400 and above, where the error names one.
    """

    type: str
    message: str
    location: str | None = None
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """A finished or running span as plain data: one row.

    Attributes:
        parent_id: span id of the nearest kept ancestor; None for a root.
        name: to show; the span's own, unless that is the same for every tool or a template.
        end_ns: Unix nanoseconds; None while the span runs.
        cell: id of the notebook cell's run in which the span started; None outside cells.
        session_id: the session it belongs to; None without one.
        redacted: how many of its values were redacted.
        dropped: how many attributes its limits removed.
    """

    trace_id: int
    span_id: int
    parent_id: int | None
    name: str
    start_ns: int
    end_ns: int | None
    status: Status
    facts: SpanFacts
    scope: str = ""
    error: SpanError | None = None
    session_id: str | None = None
    cell: str | None = None
    redacted: int = 0
    dropped: int = 0

    @property
    def http_status(self) -> int | None:
        """The HTTP status of a failed span, 400 and above: of its attributes, its error's text, or its error's type."""
        if self.status != "error":
            return None
        status, error = self.facts.http_status, self.error
        if status is None and error is not None:
            status = error.http_status
            if status is None and self.facts.kind in _CALLS:
                status = _STATUS_NAMES.get(error.type)
        return status

    @property
    def duration_ns(self) -> int:
        """Nanoseconds from start to end; 0 while it runs."""
        return 0 if self.end_ns is None else max(0, self.end_ns - self.start_ns)


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """A span event of a sealed span; `timestamp` in Unix nanoseconds."""

    name: str
    timestamp: int
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SpanDetails:
    """Everything of a sealed span that its row leaves out, as it was delivered: redacted, limited, stamped."""

    attributes: Mapping[str, Any]
    events: tuple[RecordedEvent, ...] = ()
    links: tuple[Mapping[str, Any], ...] = ()
    status_message: str | None = None
