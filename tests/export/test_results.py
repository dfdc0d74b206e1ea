"""What each response of the backend means for the rows of a request."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import pytest
import requests

from hh_jupyter.export.http import Result, result_of, retry_after

ID = "6f1c0a54-5a0e-4d36-8f0f-2b6f0a1f7c11"
OTHER = "11111111-2222-4333-8444-555555555555"


def answer(status: int, body: bytes = b"", content_type: str = "application/json", **headers: str) -> requests.Response:
    made = requests.Response()
    made.status_code, made._content = status, body
    made.headers.update({"Content-Type": content_type, **headers})
    return made


@pytest.mark.parametrize(
    ("status", "spans", "call"),
    [
        (200, "sent", "sent"),
        (202, "sent", "sent"),
        (204, "sent", "sent"),
        *((code, "rejected", "rejected") for code in (301, 302, 307, 308, 402, 404, 405, 409, 410)),
        *((code, "split", "rejected") for code in (400, 413, 422)),
        *((code, "key_rejected", "key_rejected") for code in (401, 403)),
        *((code, "retry", "retry") for code in (408, 429, 500, 501, 502, 503, 504, 599)),
    ],
)
def test_each_status_has_its_outcome(status: int, spans: str, call: str) -> None:
    assert result_of(answer(status), "h", "spans", ID).outcome == spans
    assert result_of(answer(status), "h", "event_update", ID).outcome == call


@pytest.mark.parametrize(
    ("body", "content_type", "good"),
    [
        (b"", "text/html", True),
        (b"{}", "application/json", True),
        (b'{"partialSuccess": {}}', "application/json; charset=utf-8", True),
        (b"", "application/x-protobuf", True),
        (b"<html>", "text/html", False),
        (b"<html>", "application/json", False),
        (b"[]", "application/json", False),
        (b"[" * 100_000, "application/json", False),
        (b'{"partialSuccess": {"rejectedSpans": "many"}}', "application/json", False),
        (b'{"partialSuccess": {"rejectedSpans": 1e999}}', "application/json", False),
        (b"\xff\xff\xff", "application/x-protobuf", False),
    ],
)
def test_a_status_200_counts_only_with_a_valid_span_response(body: bytes, content_type: str, good: bool) -> None:
    result = result_of(answer(200, body, content_type), "h", "spans", ID)
    assert result.outcome == ("sent" if good else "retry")
    assert good or ("proxy or login page" in str(result.reason) and not result.reached)


@pytest.mark.parametrize(("body", "good"), [(b"", True), (b"{}", True), (b"[1]", False), (b"hello", False)])
def test_a_session_start_accepts_only_an_object_or_an_empty_response(body: bytes, good: bool) -> None:
    assert result_of(answer(200, body), "h", "session_start", ID).outcome == ("sent" if good else "retry")


@pytest.mark.parametrize(("other", "taken"), [(OTHER, OTHER), (ID, None), ("short", None), (7, None), (None, None)])
def test_a_session_id_from_the_backend_is_used_if_it_fits_the_encoded_spans(other: Any, taken: str | None) -> None:
    found = result_of(answer(200, json.dumps({"session_id": other}).encode()), "h", "session_start", ID)
    assert found == Result("sent", other_session=taken)


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [("2", 2, 2), ("0", 0, 0), ("99999999999", 600, 600), (60.0, 50, 61), (-60.0, 0, 0)],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(given: str | float, low: float, high: float) -> None:
    """A numeric parameter becomes a date that many seconds from now."""
    text = given if isinstance(given, str) else formatdate(time.time() + given, usegmt=True)
    found = retry_after(text)
    assert found is not None
    assert low <= found <= high


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "²", "Fri, 99 Foo"])
def test_an_invalid_retry_after_is_none(text: str) -> None:
    assert retry_after(text) is None
