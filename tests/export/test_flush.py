"""A flush keeps its deadline and returns the true result, and backend failures never affect the caller."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.settings import resolve
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES
from tests.export.troubled import KEY, MUCH, exports, make_spans, names, tracer_to, wait_until, within


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_after_a_flush_the_backend_has_every_span_that_ended_before(backend: Backend, protocol: str) -> None:
    with tracer_to(backend, otlp_protocol=protocol) as tracer:
        make_spans(tracer, 250)
        assert tracer.force_flush()
        assert names(backend) == sorted(f"span {number}" for number in range(250))
        state = tracer.export_state()
        assert (state.made, state.sent, state.waiting, state.word) == (250, 250, 0, "Sent")
        assert len(exports(backend)) < 250 / 10, "sent in batches"
        assert {request.headers["content-encoding"] for request in exports(backend)} == {"gzip"}
        assert {request.headers["content-type"] for request in exports(backend)} == {
            {"http/protobuf": "application/x-protobuf", "http/json": "application/json"}[protocol]
        }


def test_spans_are_sent_automatically_after_the_flush_interval(backend: Backend) -> None:
    with tracer_to(backend, flush_interval=0.05) as tracer:
        make_spans(tracer, 3)
        assert backend.wait_for(lambda b: len(b.spans()) == 3)


@pytest.mark.parametrize("trouble", [{"refuse": True}, {"hang": ("/",)}, {"statuses": {"/": [503] * 100}}])
def test_flush_to_a_failing_backend_keeps_its_deadline_and_the_spans(trouble: dict[str, Any]) -> None:
    with Backend(**trouble) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 5)
        assert tracer.wait_processed(10)
        started = time.monotonic()
        assert tracer.force_flush(300) is False
        assert time.monotonic() - started < 2.0  # Not a budget: without a deadline the flush would hang for over 5 s.
        state = tracer.export_state()
        assert (state.made, state.sent, state.waiting) == (5, 0, 5)
        assert state.word in ("Not sent", "Sending 5")


def test_spans_that_a_backend_missed_arrive_when_it_is_back() -> None:
    with Backend(refuse=True) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 5)
        assert not tracer.force_flush(200)
        backend.listen()
        assert tracer.force_flush(10_000)
        assert len(backend.spans()) == 5
        assert len(backend.sessions()) == 1


def test_a_flush_does_not_wait_for_the_backend_of_another_tracer(backend: Backend) -> None:
    with Backend(hang=("/",)) as other, tracer_to(other) as slow, tracer_to(backend) as fast:
        make_spans(slow, 1)
        make_spans(fast, 1)
        assert not slow.force_flush(100)
        with within(MUCH):
            assert fast.force_flush(10_000)
        assert names(backend) == ["span 0"]


def test_a_failed_flush_is_reported_once_and_what_is_still_kept_does_not_fail_the_next() -> None:
    with Backend(statuses={TRACES: [404]}) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 1)
        assert [tracer.force_flush(5_000) for _ in range(2)] == [False, True]
        assert tracer.export_state().rejected == 1
        tracer.send_again()
        assert tracer.force_flush(5_000)
        assert names(backend) == ["span 0"]


def test_immediate_mode_knows_the_result_when_the_span_has_ended(backend: Backend) -> None:
    with tracer_to(backend, disable_batch=True) as tracer:
        for number in range(3):
            with tracer.start_span(f"span {number}"):
                pass
            assert len(backend.spans()) == number + 1
        assert [len(request.body) for request in exports(backend)] == [1, 1, 1]


def test_a_flush_reports_a_failure_of_immediate_mode() -> None:
    with Backend(statuses={TRACES: [400]}) as refusing, tracer_to(refusing, disable_batch=True) as tracer:
        make_spans(tracer, 1)
        assert tracer.force_flush(5_000) is False


def test_local_mode_opens_no_socket_and_has_nothing_to_send(backend: Backend) -> None:
    with HoneyHiveTracer.init(server_url=backend.url) as tracer:
        make_spans(tracer, 2)
        tracer.create_session("local")
        assert tracer.force_flush()
        assert tracer.export_state().word == "Local only"
    assert backend.requests == []


def test_spans_keep_the_destination_they_were_created_for(backend: Backend) -> None:
    """After a change of address, earlier spans still go to the previous address, and only later ones to the new."""
    slowly = {"session_name": "s", "flush_interval": 60.0}
    with Backend() as later, tracer_to(backend, **slowly) as tracer:
        make_spans(tracer, 1)
        tracer.configure(resolve({"api_key": KEY, "server_url": later.url, **slowly}))
        with tracer.start_span("to the later one"):
            pass
        assert tracer.force_flush(), "at both"
        assert (names(backend), names(later)) == (["span 0"], ["to the later one"])


def test_flush_after_a_shutdown_that_lost_spans_still_fails() -> None:
    with Backend(refuse=True) as nowhere:
        tracer = HoneyHiveTracer.init(api_key=KEY, server_url=nowhere.url, exit_flush_seconds=0.1)
        make_spans(tracer, 1)
        tracer.shutdown()
        assert tracer.force_flush() is False


@pytest.fixture
def interrupt() -> Iterator[Callable[[float], None]]:
    """Return a function that interrupts the main thread, as Ctrl-C does, after this many seconds."""

    def raise_interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, raise_interrupt)
    yield lambda seconds: threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("lost", [True, False])
def test_a_flush_that_is_interrupted_leaves_its_report_to_the_next_one(
    interrupt: Callable[[float], None], *, lost: bool
) -> None:
    """About what was lost before it began, and what is rejected while its caller would still wait."""
    with (
        Backend(delay={TRACES: 1.0}, statuses={TRACES: [] if lost else [404]}) as backend,
        tracer_to(backend) as tracer,
    ):
        make_spans(tracer, 1)
        if lost:
            tracer.exporter.note_lost("out of memory")
        interrupt(0.3)
        with pytest.raises(KeyboardInterrupt):
            tracer.force_flush(60_000)
        assert wait_until(lambda: not tracer.export_state().waiting)
        assert not tracer.force_flush(20_000), "nothing has reported it yet"
        assert tracer.force_flush(20_000), "it is reported once"


def test_an_interrupt_anywhere_in_a_flush_does_not_reach_the_exporter(
    backend: Backend, interrupt: Callable[[float], None]
) -> None:
    with tracer_to(backend) as tracer:
        for number in range(40):
            make_spans(tracer, 5)
            backend.behaviour.delay = {TRACES: 0.05}
            with suppress(KeyboardInterrupt):
                interrupt(number / 1000)
                while True:
                    tracer.force_flush(30)
        backend.behaviour.delay = {}
        for _ in range(3):
            assert tracer.force_flush(10_000)
        assert len(backend.spans()) == 200


def test_changed_settings_apply_to_the_next_request(backend: Backend) -> None:
    with tracer_to(backend, session_name="s") as tracer:
        arguments = {"api_key": KEY, "session_name": "s", "server_url": backend.url}
        tracer.configure(resolve({**arguments, "source": "later", "otlp_protocol": "http/json"}))
        make_spans(tracer, 1)
        assert tracer.force_flush()
        (export,) = exports(backend)
        assert export.headers["content-type"] == "application/json"
        assert export.headers["x-source"] == "later"


def test_provider_shutdown_delivers_its_spans_and_later_spans_are_not_lost(backend: Backend) -> None:
    with tracer_to(backend) as tracer:
        tracer.configure(resolve({"api_key": KEY, "server_url": backend.url, "exit_flush_seconds": 20.0}))
        make_spans(tracer, 1)
        tracer.provider.shutdown()  # type: ignore[attr-defined]  # the SDK's provider has it
        assert len(backend.spans()) == 1
        make_spans(tracer, 1)
        assert tracer.force_flush()
        assert len(backend.spans()) == tracer.export_state().sent == 2
