"""What an answer of the backend means for what was sent, by class of failure."""

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
"""In every reason of that kind, so that whoever shows it can say what to do."""
MAY_BE_ONE_SPAN: Final = frozenset({400, 413, 422})
"""Refusals that may be about one span of many, or about their number."""

API_KEY: Final = "api_key (HH_API_KEY)"
"""What the user can correct if the key is refused."""

LONGEST_PAUSE: Final = 600.0
"""Seconds of a `Retry-After` that are honoured at most."""

Outcome = Literal["sent", "retry", "parked", "paused", "split"]


class Verdict(NamedTuple):
    """What an answer, or none, means for the items of its request.

    Attributes:
        outcome: sent; retry; parked (kept, not tried again); paused (the key was refused: so is everything else);
            split (ask again with fewer spans).
        reason: what went wrong, one sentence.
        reached: the backend itself answered.
        timed_out: it took the request and did not answer in time.
        server_error: it answered with 5xx, which may be about this one batch.
        too_large: it said so (413).
        retry_after: seconds that it asked to be left alone.
        refused: spans of an accepted request that were not accepted.
        other_session: the id that it answered in place of the session's own.
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
    """The verdict on an answer: a 2xx counts only if its body is empty or what such an answer holds.

    Args:
        destination: host, for the reason.
        kind: of what was sent.
        session_id: of the session that a start asked for.
        credential: what the user can correct if the key is refused.
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
    """The verdict on an answer that no backend gives: a captive portal, a proxy's page, garbage."""
    text = f"{destination} returned an unexpected response (is a proxy or login page in between?)"
    return Verdict("retry", text, reached=False)


def retry_after(text: str) -> float | None:
    """Seconds of a `Retry-After` header, given in seconds or as an HTTP date; None if it says neither."""
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
    # Bodies are patched in place, so only an id of the same length can take over; a backend's ids are UUIDs.
    differs = isinstance(other, str) and other != session_id and len(other) == len(session_id) and other.isascii()
    return Verdict("sent", other_session=other if differs else None)
