"""Trace and session are read from and written to the header types of common frameworks."""

from __future__ import annotations

import email.message
from collections.abc import MutableMapping
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.trace import SpanKind, get_current_span

import hh_jupyter
from hh_jupyter import HoneyHiveTracer

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
PARENT, BAGGAGE = TRACEPARENT.encode(), b"session_id=abc"


def _message() -> email.message.Message:
    message = email.message.Message()
    message["Traceparent"] = TRACEPARENT
    message["Baggage"] = "session_id=abc"
    return message


CARRIERS: dict[str, Any] = {
    "a dict in any case": {"TraceParent": TRACEPARENT, "BAGGAGE": "session_id=abc"},
    "a dict of lists": {"traceparent": [TRACEPARENT], "baggage": ["session_id=abc"]},
    "a dict of bytes": {b"traceparent": PARENT, b"baggage": BAGGAGE},
    "ASGI": [(b"host", b"x"), (b"traceparent", PARENT), (b"baggage", b"a=1"), (b"baggage", BAGGAGE)],
    "gRPC": (("traceparent", TRACEPARENT), ("baggage", "session_id=abc")),
    "WSGI": {"wsgi.input": object(), "HTTP_TRACEPARENT": TRACEPARENT, "HTTP_BAGGAGE": "session_id=abc"},
    "http.server": _message(),
}


@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS)
def test_headers_are_read_from_the_types_that_frameworks_use(
    local: HoneyHiveTracer, carrier: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with hh_jupyter.with_distributed_trace_context(carrier, local):
        assert f"{get_current_span().get_span_context().trace_id:032x}" == TRACE_ID
        assert local.get_baggage("session_id") == "abc"
    assert not caplog.records


def test_missing_headers_do_not_warn(local: HoneyHiveTracer, caplog: pytest.LogCaptureFixture) -> None:
    nothing: Any = None  # An event of AWS Lambda has `"headers": null`.
    assert local.extract_context(nothing) == otel_context.get_current()
    assert not caplog.records


@pytest.mark.parametrize("carrier", [[], [(b"host", b"x")], [("host", "x")], email.message.Message(), {}])
def test_headers_are_written_to_lists_and_mappings(local: HoneyHiveTracer, carrier: Any) -> None:
    with local.start_span("call", kind=SpanKind.CLIENT) as span:
        local.inject_context(carrier)
    if carrier and isinstance(carrier, list) and isinstance(carrier[0][0], bytes):
        assert all(isinstance(part, bytes) for pair in carrier for part in pair)
    after = local.extract_context(carrier)
    assert get_current_span(after).get_span_context().trace_id == span.get_span_context().trace_id


class _ReadOnly(dict[str, str], MutableMapping[str, str]):
    def __setitem__(self, key: str, value: str) -> None:
        raise TypeError("immutable")


def test_read_only_headers_warn_once_and_do_not_raise(local: HoneyHiveTracer, caplog: pytest.LogCaptureFixture) -> None:
    local.inject_context(_ReadOnly())
    assert len(caplog.records) == 1
