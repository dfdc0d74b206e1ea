"""After failures one probe at a time is sent, requested pauses are kept, and a success closes the circuit."""

from __future__ import annotations

import logging
import time

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.delivery.sending import circuit as module
from hh_jupyter.delivery.sending import outage
from hh_jupyter.delivery.sending.item import Item
from hh_jupyter.delivery.sending.outbox import Outbox
from hh_jupyter.delivery.sending.verdict import Verdict
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES

SENT = Verdict("sent")
GONE = Verdict("retry", "api.example cannot be reached", reached=False)
BUSY = Verdict("retry", "api.example answered 503", server_error=True)


@pytest.fixture
def outbox() -> Outbox:
    """Return an outbox with four session starts, all of them due."""
    made = Outbox("api.example", 1, 5.0)
    made.add([Item("session_start", name, b"{}") for name in "abcd"])
    made.flush(time.monotonic())
    return made


def test_an_open_circuit_sends_one_probe_at_a_time(outbox: Outbox) -> None:
    flights = [outbox.take() for _ in range(4)]
    for items in flights:
        outbox.settle(items, GONE)
    assert outbox.state().failing
    assert outbox.take() == [], "not before its time"
    outbox.flush(time.monotonic())
    probe = outbox.take()
    assert probe
    outbox.flush(time.monotonic())
    assert (outbox.take(), outbox.more_due(), outbox.seconds_to_next()) == ([], False, None)
    outbox.settle(probe, SENT)
    assert not outbox.state().failing
    outbox.flush(time.monotonic())
    assert outbox.take()
    assert outbox.more_due()


def test_one_failure_among_successes_does_not_open_the_circuit(outbox: Outbox) -> None:
    bad, good = outbox.take(), outbox.take()
    outbox.settle(good, SENT)
    outbox.settle(bad, Verdict("retry", "api.example does not answer", reached=False, timed_out=True))
    assert outbox.take(), "the next goes out at once"


def test_the_pauses_grow_to_at_most_half_a_minute() -> None:
    waits = [max(module.back_off(tries) for _ in range(50)) for tries in (1, 2, 5, 50)]
    assert waits == sorted(waits)
    assert waits[0] <= 0.2
    assert 15 <= waits[-1] <= 30


def test_a_flush_does_not_shorten_a_pause_that_the_backend_requested(outbox: Outbox) -> None:
    outbox.settle(outbox.take(), Verdict("retry", "api.example answered 429", retry_after=60.0))
    outbox.flush(time.monotonic())
    assert outbox.take() == []
    assert 50 < (outbox.seconds_to_next() or 0) <= 60
    outbox.release()
    assert outbox.take(), "but by somebody who asks for it"


def test_callers_do_not_wait_while_the_circuit_is_open(outbox: Outbox) -> None:
    assert outbox.worth_waiting()
    for verdict in (BUSY, BUSY):
        outbox.settle(outbox.take(), verdict)
    assert not outbox.worth_waiting()
    outbox.flush(time.monotonic())
    assert outbox.worth_waiting(), "half open: it is time for a probe"


def work(tracer: HoneyHiveTracer, backend: Backend) -> None:
    """Simulate an outage of several attempts, and its end."""
    backend.force({TRACES: [503] * 4})
    for _ in range(6):
        with tracer.start_span("work"):
            pass
        tracer.force_flush(400)
    assert tracer.force_flush(10_000)


@pytest.mark.parametrize("told", [False, True])
def test_an_outage_and_its_end_are_logged_once_each_unless_a_notebook_shows_them(
    backend: Backend, caplog: pytest.LogCaptureFixture, told: bool
) -> None:
    caplog.set_level(logging.INFO, "hh_jupyter")
    outage.told_by_host(told)
    try:
        with HoneyHiveTracer.init(api_key="a-test-key", server_url=backend.url) as tracer:
            work(tracer, backend)
    finally:
        outage.told_by_host(False)
    lines = [(record.levelname, record.exc_info) for record in caplog.records]
    assert lines == ([] if told else [("WARNING", None), ("INFO", None)])
    assert "a-test-key" not in caplog.text
