"""An error in one line: type, first line of its message, and the line of user code."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

import hh_jupyter
from hh_jupyter.records.record import SpanError, record_of, span_error, user_code_location
from tests.spans import recorded


@dataclass(frozen=True)
class Raised:
    attributes: Mapping[str, Any] = field(default_factory=dict)
    name: str = "exception"
    timestamp: int = 0


def raised(kind: str, message: str, stack: str = "") -> Raised:
    return Raised({"exception.type": kind, "exception.message": message, "exception.stacktrace": stack})


def stack(*frames: str) -> str:
    lines = [f'  File "{frame}", line {number}, in f\n    x()' for number, frame in enumerate(frames, 1)]
    return "Traceback (most recent call last):\n" + "\n".join(lines) + "\nValueError: no"


def test_an_error_is_read_from_the_exception_event() -> None:
    failed = next(s for s in recorded("honeyhive-sdk-mixed.json") if s.name == "__main__.broken")
    assert record_of(failed).error == SpanError("RuntimeError", "the map is missing", "workloads.py:539")


def test_a_failure_inside_a_library_has_no_line_of_user_code() -> None:
    error = record_of(recorded("openinference-openai-errors.json")[0]).error
    assert error is not None
    assert (error.type, error.location) == ("RateLimitError", None)
    assert error.message.startswith("Error code: 429")


def test_a_successful_span_has_no_error() -> None:
    failed = next(s for s in recorded("honeyhive-sdk-mixed.json") if s.name == "__main__.broken")
    handled = ReadableSpan("f", failed.get_span_context(), events=failed.events, start_time=1, end_time=2)
    assert (record_of(handled).status, record_of(handled).error) == ("ok", None)


def test_a_function_of_the_notebook_is_named_without_its_module() -> None:
    """As evaluators, queries and displays see it; the wire keeps the name."""
    names = [record_of(span).name for span in recorded("honeyhive-sdk-mixed.json")]
    assert "broken" in names
    assert not [name for name in names if "__main__" in name]


def test_a_row_keeps_ids_times_and_session() -> None:
    span = next(s for s in recorded("honeyhive-sdk-mixed.json") if s.name == "ChatCompletion")
    row = record_of(span, cell="7")
    assert span.parent is not None
    assert (row.parent_id, row.cell, row.scope) == (span.parent.span_id, "7", "openinference.instrumentation.openai")
    assert row.session_id == "26309f73-86dc-42b2-8dfd-b38a2ecab73b"
    assert row.duration_ns == 1795364514556806888 - 1795364514530325215


def test_a_span_without_ids_makes_no_row() -> None:
    with pytest.raises(ValueError, match="'f' has no ids"):
        record_of(ReadableSpan("f"))


def test_the_last_exception_beats_the_status_and_other_attributes() -> None:
    events = [raised("a.First", "one"), Raised(name="log"), raised("b.Second", "two")]
    assert span_error({"error.type": "X"}, events, "Y: z") == SpanError("Second", "two")


@pytest.mark.parametrize(
    ("attributes", "status", "wanted"),
    [
        ({}, "RateLimitError: slow: down", SpanError("RateLimitError", "slow: down")),
        ({}, "Please note: no type here", SpanError("Error", "Please note: no type here")),
        ({}, "KeyboardInterrupt", SpanError("KeyboardInterrupt", "")),
        ({"error.type": "openai.RateLimitError"}, "slow down", SpanError("RateLimitError", "slow down")),
        ({"error.type": "openai.RateLimitError"}, "RateLimitError: slow", SpanError("RateLimitError", "slow")),
        ({"error.type": "overloaded_error"}, None, SpanError("overloaded_error", "")),
        ({"honeyhive_error": "bad thing"}, None, SpanError("Error", "bad thing")),
        ({"honeyhive_error": "bad", "honeyhive_error_type": "E"}, None, SpanError("E", "bad")),
        ({}, None, None),
    ],
)
def test_without_an_exception_event_the_error_is_read_from_status_and_attributes(
    attributes: dict[str, Any], status: str | None, wanted: SpanError | None
) -> None:
    assert span_error(attributes, (), status) == wanted


def test_a_message_is_its_first_line_and_300_characters_at_most() -> None:
    error = span_error({}, [raised("E", "\n" + "x" * 400 + "\nsecond")], None)
    assert error is not None
    assert len(error.message) == 300
    assert error.message.endswith("x…")


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        (["/home/me/run.py", "/home/me/payments.py", "/v/lib/python3.11/site-packages/a/b.py"], "payments.py:2"),
        (["/home/me/run.py", f"{sysconfig.get_paths()['stdlib']}/json/decoder.py"], "run.py:1"),
        (["/home/me/run.py", "/opt/py/lib/python3.13/asyncio/tasks.py", "<frozen importlib>"], "run.py:1"),
        (["/home/me/run.py", f"{Path(hh_jupyter.__file__).parent}/tracing/decorators.py"], "run.py:1"),
        (["/tmp/ipykernel_31/1234567.py", "/usr/lib/python3/dist-packages/x.py"], "cell:1"),
        (["<ipython-input-3-abc>"], "cell:1"),
        (["C:\\me\\app\\run.py", "C:\\Python\\Lib\\site-packages\\a.py"], "run.py:1"),
        (["/v/lib/python3.11/site-packages/a/b.py"], None),
        ([], None),
    ],
)
def test_the_location_is_the_innermost_line_of_user_code(frames: list[str], wanted: str | None) -> None:
    assert user_code_location(stack(*frames)) == wanted


def test_the_location_is_that_of_the_final_error_of_a_chain() -> None:
    first = stack("/home/me/first.py")
    chained = f"{first}\n\nDuring handling ...\n\n{{}}".format
    assert user_code_location(chained(stack("/home/me/second.py"))) == "second.py:1"
    assert user_code_location(chained(stack("/v/lib/python3.11/site-packages/a.py"))) == "first.py:1"


def test_a_real_traceback_is_understood() -> None:
    try:
        int("x")
    except ValueError:
        assert (user_code_location(traceback.format_exc()) or "").startswith("test_record_error.py:")
