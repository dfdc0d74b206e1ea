"""A wrong argument in a running program is ignored with one warning.

Setting up a tracer or a decorator raises instead: tests/tracing/test_setup_errors.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

import hh_jupyter
from hh_jupyter import HoneyHiveTracer

Act = Callable[[Any], Any]


def _span(tracer: HoneyHiveTracer, **options: Any) -> None:
    with tracer.start_span("work", **options):
        pass


def _with(block: Any) -> None:
    with block:
        pass


NOT_A_TRACER = "must be a HoneyHiveTracer; got 5 (int)."
HEADERS = "carrier must be a dict of headers, or a list of pairs; got"
FIVE: Any = 5


@pytest.mark.parametrize(
    ("act", "warning"),
    [
        (
            lambda t: _span(t, kind="sideways"),
            (
                "start_span: kind must be an opentelemetry.trace.SpanKind, or one of internal, server, client, "
                "producer, consumer; got 'sideways' (str). Using internal."
            ),
        ),
        (
            lambda t: _span(t, attributes=5),
            (
                "start_span: attributes must be a dict; got 5 (int). Ignoring it; enrich_span(metadata=...)"
                " accepts any value."
            ),
        ),
        (
            lambda t: _span(t, links=[5]),
            ("start_span: links must be a list of opentelemetry.trace.Link; got [5] (list). Ignoring the other items."),
        ),
        (
            lambda t: _span(t, start_time=1700000000.5),
            (
                "start_span: start_time must be Unix nanoseconds, as returned by time.time_ns(); got 1700000000.5 "
                "(float). Using the current time."
            ),
        ),
        (
            lambda t: _with(hh_jupyter.enrich_span_context("work", attributes=FIVE, tracer_instance=t)),
            (
                "enrich_span_context: attributes must be a dict; got 5 (int). Ignoring it; "
                "enrich_span(metadata=...) accepts any value."
            ),
        ),
        (
            lambda t: t.create_session("turn 2", skip_api_call=True),
            (
                "create_session: session_id must be set with skip_api_call=True; got None (NoneType). Creating "
                "a new session."
            ),
        ),
        (
            lambda t: t.create_event("manual", event_type="banana"),
            "create_event: event_type must be one of model, tool, chain, session; got 'banana' (str). Using tool.",
        ),
        (
            lambda t: t.create_event("manual", duration="long"),
            "create_event: duration must be a number of milliseconds; got 'long' (str). Sending 0.",
        ),
        (
            lambda t: t.force_flush("soon"),
            "force_flush: timeout_millis must be a number of milliseconds; got 'soon' (str). 30,000 ms are used.",
        ),
        (
            lambda t: t.flush_all(float("nan")),
            "flush_all: timeout_millis must be a number of milliseconds; got nan (float). 30,000 ms are used.",
        ),
        (
            lambda t: t.inject_context(None),
            (
                "inject_context: carrier must be a dict that takes headers; got None (NoneType). The next service"
                " will start a new trace."
            ),
        ),
        (lambda t: t.extract_context(FIVE), f"extract_context: {HEADERS} 5 (int). Starting a new trace."),
        (lambda t: t.link(["traceparent"]), f"link: {HEADERS} ['traceparent'] (list). Starting a new trace."),
        (
            lambda t: t.unlink(FIVE),
            "unlink: _token must be what link() returned; got 5 (int). The context is unchanged.",
        ),
        (lambda t: hh_jupyter.flush(FIVE), f"flush: tracer_instance {NOT_A_TRACER} The current tracer is used."),
        (
            lambda t: hh_jupyter.enrich_session(metadata={"k": 1}, tracer=FIVE),
            f"enrich_session: tracer {NOT_A_TRACER} The current tracer is used.",
        ),
        (
            lambda t: hh_jupyter.enrich_span(event_id=str(uuid.UUID(int=7)), tracer=FIVE),
            f"enrich_span: tracer {NOT_A_TRACER} The current tracer is used.",
        ),
        (
            lambda t: _with(hh_jupyter.with_distributed_trace_context({}, FIVE)),
            f"with_distributed_trace_context: tracer_instance {NOT_A_TRACER} The current tracer is used.",
        ),
        (
            lambda t: hh_jupyter.inject_context_into_carrier({}, FIVE),
            f"inject_context_into_carrier: tracer_instance {NOT_A_TRACER} The current tracer is used.",
        ),
        (
            lambda t: hh_jupyter.shutdown_tracer(FIVE),
            f"shutdown_tracer: tracer_instance {NOT_A_TRACER} Nothing is shut down.",
        ),
    ],
)
def test_a_wrong_argument_is_ignored_with_one_warning(
    local: HoneyHiveTracer, caplog: pytest.LogCaptureFixture, act: Act, warning: str
) -> None:
    act(local)
    act(local)
    assert [record.message for record in caplog.records] == [warning]
    assert not local.closed


def test_a_secret_is_redacted_in_the_warning(local: HoneyHiveTracer, caplog: pytest.LogCaptureFixture) -> None:
    _span(local, attributes="sk-proj-abcdefghijklmnopqrstuvwxyz0123456789")
    _span(local, links=[{"authorization": "Bearer abcdefghijklmnopqrstuvwxyz0123456789"}])
    assert len(caplog.records) == 2
    assert "abcdefgh" not in caplog.text
    assert "[redacted: " in caplog.text
