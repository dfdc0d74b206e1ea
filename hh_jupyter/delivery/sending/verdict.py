"""Classifies the backend's answer to a request."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from hh_jupyter.delivery.sending.item import Kind

if TYPE_CHECKING:
    import requests

TRY_AGAIN: Final = frozenset({408, 429})
KEY_REFUSED: Final = frozenset({401, 403})
KEY_REJECTED: Final = "rejected the key"
"""Part of every reason for a refused key, so that displays can recognize it and suggest a fix."""
MAY_BE_ONE_SPAN: Final = frozenset({400, 413, 422})
"""Refusals that may concern a single span or the size of the request."""

API_KEY: Final = "api_key (HH_API_KEY)"
"""Name of the setting to correct if the key is refused."""

LONGEST_PAUSE: Final = 600.0
"""Upper limit for `Retry-After`, in seconds."""

Outcome = Literal["sent", "retry", "parked", "paused", "split"]


class Verdict(NamedTuple):
    """The meaning of an answer, or of no answer, for the items of a request.

    Attributes:
        outcome: sent; retry; parked (kept, not retried); paused (the key was refused, so everything is parked);
            split (retry with fewer spans).
        reason: what went wrong, in one sentence.
        reached: the backend itself answered.
        timed_out: the request timed out.
        server_error: the backend answered with 5xx, possibly because of this batch only.
        too_large: the backend answered with 413.
        retry_after: pause requested by the backend, in seconds.
        refused: number of spans refused in an accepted request.
        other_session: session id that the backend returned instead of the requested one.
    """

    outcome: Outcome
    reason: str | None = None
    reached: bool = True
    timed_out: bool = False
    server_error: bool = False
    too_large: bool = False
    retry_after: float | None = None
    refused: int = 0
    other_session: str | None = None


def judge(
    answer: requests.Response, destination: str, kind: Kind, session_id: str, credential: str = API_KEY
) -> Verdict:
    """Return the verdict on an answer. A 2xx is a success only if its body is empty or has the expected form.

    Args:
        destination: host, for the reason.
        kind: kind of the items sent.
        session_id: session id requested by a session start.
        credential: name of the setting to correct if the key is refused.
    """
    code = answer.status_code
    if 200 <= code < 300:
        return _accepted_spans(answer, destination) if kind == "spans" else _done(answer, destination, kind, session_id)
    if code in TRY_AGAIN or code >= 500:
        pause = retry_after(answer.headers.get("Retry-After", "")) if code in (429, 503) else None
        text = f"{destination} answered {code}"
        return Verdict("retry", text, server_error=code >= 500 and pause is None, retry_after=pause)
    if code in KEY_REFUSED:
        then = f"Set a valid {credential}; pending spans are kept and will be sent with it."
        return Verdict("paused", f"{destination} {KEY_REJECTED} ({code}). {then}")
    text = f"{destination} refused the request ({code})"
    outcome: Outcome = "split" if kind == "spans" and code in MAY_BE_ONE_SPAN else "parked"
    return Verdict(outcome, text, too_large=code == 413)


def stranger(destination: str) -> Verdict:
    """Return the verdict on an answer that does not come from a backend, such as a captive portal or proxy page."""
    text = f"{destination} returned an unexpected response (is a proxy or login page in between?)"
    return Verdict("retry", text, reached=False)


def retry_after(text: str) -> float | None:
    """Return the delay of a `Retry-After` header in seconds. Accepts seconds or an HTTP date; None if invalid."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:6]), LONGEST_PAUSE)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, moment - time.time()), LONGEST_PAUSE)


def _accepted_spans(answer: requests.Response, destination: str) -> Verdict:
    from hh_jupyter.delivery.sealing import otlp

    found = otlp.partial_success(answer.headers.get("Content-Type", ""), answer.content)
    if found is None:
        return stranger(destination)
    refused, message = found
    if refused <= 0:
        return Verdict("sent")
    detail = f" ({message:.200})" if message else ""
    text = f"{destination} refused {refused} spans of one request{detail}, without naming them"
    return Verdict("sent", text, refused=refused)


def _done(answer: requests.Response, destination: str, kind: Kind, session_id: str) -> Verdict:
    if not answer.content:
        return Verdict("sent")
    try:
        found: Any = json.loads(answer.content)
    except (ValueError, RecursionError):
        return stranger(destination)
    if kind != "session_start":
        return Verdict("sent")
    if not isinstance(found, dict):
        return stranger(destination)
    other = found.get("session_id")
    # Bodies are patched in place, so the new id must have the same length. Backend ids are UUIDs.
    differs = isinstance(other, str) and other != session_id and len(other) == len(session_id) and other.isascii()
    return Verdict("sent", other_session=other if differs else None)
