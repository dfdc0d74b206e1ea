"""A flush keeps its deadline and returns the true result, and backend failures never affect the caller."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.settings import resolve
from hh_jupyter.testing import Backend

TRACES = "/opentelemetry/v1/traces"


@contextmanager
def tracer_to(backend: Backend, **settings: Any) -> Iterator[HoneyHiveTracer]:
    """Yield a tracer that does not wait for delivery when it is closed."""
    made = HoneyHiveTracer.init(api_key="k", server_url=backend.url, exit_flush_seconds=0.0, **settings)
    yield made
    made.shutdown()


def make_spans(tracer: HoneyHiveTracer, number: int) -> None:
    for index in range(number):
        with tracer.start_span(f"span {index}"):
            pass


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_after_a_flush_the_backend_has_every_span_that_ended_before(backend: Backend, protocol: str) -> None:
    with tracer_to(backend, otlp_protocol=protocol) as tracer:
        make_spans(tracer, 250)
        assert tracer.force_flush()
        assert sorted(span["name"] for span in backend.spans()) == sorted(f"span {n}" for n in range(250))
        state = tracer.export_state()
        assert (state.made, state.sent, state.waiting, state.word) == (250, 250, 0, "Sent")
        exports = [request for request in backend.requests if request.path == TRACES]
        assert len(exports) < 250 / 10, "sent in batches"
        assert {request.headers["content-encoding"] for request in exports} == {"gzip"}


def test_spans_are_sent_automatically_after_the_flush_interval(backend: Backend) -> None:
    with tracer_to(backend, flush_interval=0.05) as tracer:
        make_spans(tracer, 3)
        assert backend.wait_for(lambda b: len(b.spans()) == 3)


@pytest.mark.parametrize("trouble", [{"refuse": True}, {"hang": ("/",)}, {"statuses": {"/": [503] * 100}}])
def test_flush_to_a_failing_backend_keeps_its_deadline_and_the_spans(trouble: dict[str, Any]) -> None:
    with Backend(**trouble) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 5)
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


def test_a_rejected_key_parks_the_spans_and_reports_it() -> None:
    with Backend(statuses={TRACES: [401]}) as refusing, tracer_to(refusing) as tracer:
        make_spans(tracer, 2)
        assert tracer.force_flush(5_000) is False
        state = tracer.export_state()
        assert (state.parked, state.word) == (2, "Not sent")
        assert state.reason is not None
        assert "rejected the key (401)" in state.reason
        assert "Set a valid api_key (HH_API_KEY)" in state.reason
        assert "k" not in state.reason.replace("api_key", "").split(), "the key itself"
        assert tracer.force_flush(5_000) is False, "the key still holds them back"
        refusing.force({})
        tracer.send_again()
        assert tracer.force_flush(5_000) is True
        assert len(refusing.spans()) == 2


def test_a_login_page_is_not_a_success() -> None:
    """A captive portal returns 200 with HTML, but the spans did not arrive."""
    with Backend(html_page="<html><form>Please sign in</form></html>") as portal, tracer_to(portal) as tracer:
        make_spans(tracer, 1)
        assert tracer.force_flush(300) is False
        assert tracer.export_state().sent == 0
        assert "proxy or login page" in str(tracer.export_state().reason)


def test_a_login_page_that_appears_later_is_not_a_success_for_spans_either(backend: Backend) -> None:
    with tracer_to(backend) as tracer:
        assert tracer.force_flush(), "the session is registered"
        backend.behaviour.html_page = "<html><form>Please sign in</form></html>"
        make_spans(tracer, 1)
        assert tracer.force_flush(300) is False
        assert tracer.export_state().sent == 0
        backend.behaviour.html_page = None
        assert tracer.force_flush(10_000)
        assert len(backend.spans()) == 1


def test_a_start_that_is_never_accepted_does_not_block_its_spans() -> None:
    with Backend(statuses={"/session/start": [500] * 100}) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 1)
        assert tracer.force_flush(20_000) is False, "the session could not be registered"
        assert len(backend.spans()) == 1
        assert tracer.force_flush(200) is True, "given up and said, not tried for ever"


def test_immediate_mode_knows_the_result_when_the_span_has_ended(backend: Backend) -> None:
    with tracer_to(backend, disable_batch=True) as tracer:
        for number in range(3):
            with tracer.start_span(f"span {number}"):
                pass
            assert len(backend.spans()) == number + 1
        assert [len(r.body) for r in backend.requests if r.path == TRACES] == [1, 1, 1]


def test_local_mode_opens_no_socket_and_has_nothing_to_send(backend: Backend) -> None:
    with HoneyHiveTracer.init(server_url=backend.url) as tracer:
        make_spans(tracer, 2)
        tracer.create_session("local")
        assert tracer.force_flush()
        assert tracer.export_state().word == "Local only"
    assert backend.requests == []


def test_the_key_does_not_follow_a_redirect(backend: Backend) -> None:
    with Backend(redirect_to=backend.url) as elsewhere, tracer_to(elsewhere) as tracer:
        make_spans(tracer, 1)
        assert tracer.force_flush(5_000) is False
    assert backend.requests == []


def test_spans_keep_the_destination_they_were_created_for(backend: Backend) -> None:
    """After a change of address, earlier spans still go to the previous address, and only later ones to the new."""
    with Backend() as later, tracer_to(backend, session_name="s") as tracer:
        make_spans(tracer, 1)
        arguments = {"api_key": "k", "session_name": "s", "server_url": later.url}
        tracer.configure(resolve(arguments))
        with tracer.start_span("to the later one"):
            pass
        assert tracer.force_flush()
        assert backend.wait_for(lambda b: b.spans())
        assert [span["name"] for span in backend.spans()] == ["span 0"]
        assert [span["name"] for span in later.spans()] == ["to the later one"]


def test_flush_after_a_shutdown_that_lost_spans_still_fails() -> None:
    with Backend(refuse=True) as nowhere:
        tracer = HoneyHiveTracer.init(api_key="a-test-key", server_url=nowhere.url, exit_flush_seconds=0.1)
        make_spans(tracer, 1)
        tracer.shutdown()
        assert tracer.force_flush() is False


def test_a_flush_reports_a_failure_of_immediate_mode() -> None:
    with Backend(statuses={TRACES: [400]}) as refusing, tracer_to(refusing, disable_batch=True) as tracer:
        make_spans(tracer, 1)
        assert tracer.force_flush(5_000) is False


def test_changed_settings_apply_to_the_next_request(backend: Backend) -> None:
    arguments = {"api_key": "k", "session_name": "s", "server_url": backend.url}
    with tracer_to(backend, session_name="s") as tracer:
        tracer.configure(resolve({**arguments, "source": "later", "otlp_protocol": "http/json"}))
        make_spans(tracer, 1)
        assert tracer.force_flush()
        (export,) = (request for request in backend.requests if request.path == TRACES)
        assert export.headers["content-type"] == "application/json"
        assert export.headers["x-source"] == "later"


def test_provider_shutdown_delivers_its_spans_and_later_spans_are_not_lost(backend: Backend) -> None:
    with tracer_to(backend) as tracer:
        tracer.configure(resolve({"api_key": "k", "server_url": backend.url, "exit_flush_seconds": 20.0}))
        make_spans(tracer, 1)
        tracer.provider.shutdown()  # type: ignore[attr-defined]  # the SDK's provider has it
        assert len(backend.spans()) == 1
        make_spans(tracer, 1)
        assert tracer.force_flush()
        assert len(backend.spans()) == tracer.export_state().sent == 2
