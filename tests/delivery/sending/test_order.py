"""A session start is sent before its spans and updates, and calls in order; anything else may be reordered."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.delivery.sending import pace
from hh_jupyter.delivery.sending.item import Item
from hh_jupyter.delivery.sending.outbox import Outbox
from hh_jupyter.delivery.sending.verdict import Verdict
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import SESSION_START, TRACES

SENT = Verdict("sent")
BUSY = Verdict("retry", "api.example answered 500", server_error=True)
SILENT = Verdict("retry", "api.example does not answer", reached=False, timed_out=True)
GONE = Verdict("retry", "api.example cannot be reached", reached=False)


def spans(session_id: str, number: int = 1) -> Item:
    return Item("spans", session_id, b"x", spans=number)


def start(session_id: str, body: bytes = b"{}") -> Item:
    return Item("session_start", session_id, body)


def update(session_id: str, body: bytes = b"{}") -> Item:
    return Item("event_update", session_id, body)


def what(items: list[Item]) -> list[tuple[str, str]]:
    return [(item.kind, item.session_id) for item in items]


def take(outbox: Outbox) -> list[Item]:
    """Take the items of the next request as if everything were due."""
    outbox.flush(time.monotonic())
    return outbox.take()


def send(outbox: Outbox, verdict: Verdict = SENT) -> list[tuple[str, str]]:
    items = take(outbox)
    if items:
        outbox.settle(items, verdict)
    return what(items)


def test_calls_of_one_session_keep_their_order_and_spans_wait_for_the_start() -> None:
    outbox = Outbox("api.example", 100, 5.0)
    outbox.add([spans("a"), start("a"), update("a"), update("b"), start("a", b"again")])
    order = [send(outbox) for _ in range(6)]
    assert [kind for batch in order for kind, session in batch if session == "a"] == [
        "session_start",
        "event_update",
        "session_start",
        "spans",
    ]
    assert order[-1] == []


def test_calls_of_several_sessions_are_sent_in_the_order_in_which_they_were_made() -> None:
    outbox = Outbox("api.example", 100, 5.0)
    outbox.add([start("a"), start("b"), update("b"), update("a"), start("c"), update("b")])
    assert [send(outbox)[0] for _ in range(6)] == [
        ("session_start", "a"),
        ("session_start", "b"),
        ("event_update", "b"),
        ("event_update", "a"),
        ("session_start", "c"),
        ("event_update", "b"),
    ]


def test_a_request_in_flight_blocks_only_its_own_session() -> None:
    outbox = Outbox("api.example", 1, 5.0)
    outbox.add([start("a"), update("a"), spans("a"), start("b"), spans("c")])
    first, second, third = take(outbox), take(outbox), take(outbox)
    assert [what(items) for items in (first, second, third)] == [
        [("session_start", "a")],
        [("session_start", "b")],
        [("spans", "c")],
    ]
    assert take(outbox) == []
    outbox.settle(first, SENT)
    assert sorted(what([*take(outbox), *take(outbox)])) == [("event_update", "a"), ("spans", "a")]


def test_spans_of_many_sessions_share_a_request_up_to_its_limit() -> None:
    outbox = Outbox("api.example", 1, 5.0)
    outbox.max_batch = 10
    outbox.add([spans(str(number), 3) for number in range(8)])
    assert [len(take(outbox)) for _ in range(4)] == [3, 3, 2, 0]


@pytest.mark.parametrize("verdict", [BUSY, SILENT])
def test_a_start_that_failed_three_times_no_longer_blocks_its_session(verdict: Verdict) -> None:
    outbox = Outbox("api.example", 1, 5.0)
    outbox.add([start("a"), update("a"), spans("a")])
    assert [send(outbox, verdict) for _ in range(3)] == [[("session_start", "a")]] * 3
    assert send(outbox) == [("spans", "a")], "a probe of another endpoint"
    assert {send(outbox)[0][0], send(outbox)[0][0]} == {"session_start", "event_update"}


def test_nothing_is_sent_before_its_start_while_the_backend_is_unreachable() -> None:
    outbox = Outbox("api.example", 1, 5.0)
    outbox.add([start("a"), update("a"), spans("a")])
    assert {tuple(send(outbox, GONE)) for _ in range(20)} == {(("session_start", "a"),)}
    assert [send(outbox)[0][0] for _ in range(3)] == ["session_start", "event_update", "spans"]


@pytest.mark.parametrize("verdict", [Verdict("parked", "no"), SENT])
def test_any_final_verdict_on_the_start_unblocks_its_session(verdict: Verdict) -> None:
    outbox = Outbox("api.example", 1, 5.0)
    outbox.add([start("a"), spans("a")])
    send(outbox, verdict)
    assert send(outbox) == [("spans", "a")]


def test_a_failing_start_is_parked_while_spans_are_accepted_and_retried_when_starts_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outbox = Outbox("api.example", 1, 5.0)
    outbox.add([start("a"), spans("a")])
    for verdict in (BUSY, BUSY, BUSY, SENT, BUSY):
        send(outbox, verdict)
    state = outbox.state()
    assert (state.calls_parked, state.calls_waiting) == (1, 0)
    assert not outbox.flush(time.monotonic())
    assert outbox.flush(time.monotonic()), "given up and said, not waited for"
    for name, verdict, parked in (("b", BUSY, 1), ("c", SENT, 0)):
        outbox.add([start(name)])
        assert send(outbox) == [("session_start", name)]
        if verdict is BUSY:
            assert send(outbox, BUSY) == [("session_start", "a")], "in the background: nobody waits for it"
            assert outbox.flush(time.monotonic())
        else:
            assert send(outbox) == [("session_start", "a")]
        assert outbox.state().calls_parked == parked


def test_later_items_do_not_overtake_an_item_that_waits_for_a_retry() -> None:
    outbox = Outbox("api.example", 1, 5.0)
    outbox.add([update("a", b"1"), update("a", b"2")])
    outbox.settle(take(outbox), BUSY)
    assert outbox.take() == []
    assert [item.body for item in take(outbox)] == [b"1"]


def test_other_starts_go_before_a_start_that_failed_three_times() -> None:
    outbox = Outbox("api.example", 1, 5.0)
    outbox.add([start("a"), start("b")])
    assert [send(outbox, BUSY)[0][1] for _ in range(4)] == ["a", "a", "a", "b"]


def test_a_start_that_waits_for_its_first_span_is_never_sent_without_one() -> None:
    outbox = Outbox("api.example", 100, 5.0)
    outbox.defer_start(start("idle"))
    outbox.defer_start(start("used"))
    outbox.add([spans("used")])
    assert [send(outbox), send(outbox), send(outbox)] == [[("session_start", "used")], [("spans", "used")], []]


def test_a_failing_update_does_not_block_everything_forever() -> None:
    outbox = Outbox("api.example", 1, 5.0)
    outbox.count_made(Counter({None: 10}))
    outbox.add([update("a")])
    for _ in range(5):
        send(outbox, BUSY)
        outbox.add([spans("b")])
        send(outbox)
    send(outbox, BUSY)
    assert outbox.state().calls_parked == 1


def test_a_fast_backend_gets_sessions_in_the_order_in_which_they_were_made(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Concurrent requests, which may arrive in any order, are used only for slow backends."""
    monkeypatch.setattr(pace, "PATIENCE", 60.0)  # Even on a busy machine the backend must not seem slow.
    with HoneyHiveTracer.init(api_key="a-test-key", server_url=backend.url, session_name="own") as tracer:
        made = [tracer.session_id, *(tracer.create_session(f"session {number}") for number in range(30))]
        assert tracer.force_flush(30_000)
        assert [session["session_id"] for session in backend.sessions()] == made


class Tracker:
    """Return the maximum number of requests that the backend handles at once."""

    def __init__(self) -> None:
        self.lock, self.now, self.most = threading.Lock(), 0, 0

    def __call__(self, change: int) -> None:
        with self.lock:
            self.now += change
            self.most = max(self.most, self.now)


def busy_backend(tracker: Tracker, **behaviour: Any) -> Backend:
    backend = Backend(**behaviour)
    receive = backend.receive

    def counting(request: Any) -> None:
        tracker(1)
        try:
            receive(request)
        finally:
            tracker(-1)

    backend.receive = counting  # type: ignore[method-assign]  # the handler looks the method up on the object
    return backend


@pytest.mark.parametrize(("own_session", "most"), [(False, 4), (True, 1)])
def test_four_requests_run_at_once_but_only_one_on_the_callers_own_session(own_session: bool, most: int) -> None:
    import requests

    tracker = Tracker()
    settings = {"requests_session": requests.Session()} if own_session else {}
    with busy_backend(tracker, delay={SESSION_START: 0.05, TRACES: 0.05}) as backend:
        tracer = HoneyHiveTracer.init(api_key="a-test-key", server_url=backend.url, **settings)
        for number in range(12):
            with tracer.with_session(f"session {number}"), tracer.start_span(f"span {number}"):
                pass
        assert tracer.force_flush(20_000)
        tracer.shutdown()
        assert tracker.most == most
        starts = [request for request in backend.requests if request.path == SESSION_START]
        exports = [request for request in backend.requests if request.path == TRACES]
        assert (len(starts), len(backend.spans())) == (13, 12)
        assert len(exports) < 12, "spans of many sessions share a request"


@pytest.mark.slow
def test_a_thousand_sessions_reach_a_distant_backend() -> None:
    with Backend(delay={SESSION_START: 0.08, TRACES: 0.08}) as backend:
        tracer = HoneyHiveTracer.init(api_key="a-test-key", server_url=backend.url)
        for number in range(1_000):
            with tracer.with_session(f"session {number}"), tracer.start_span(f"span {number}"):
                pass
        assert tracer.force_flush(60_000), "one after the other would take 80 s"
        tracer.shutdown()
        known = set()
        for request in backend.requests:
            if request.path == SESSION_START:
                known.add(request.body["session"]["session_id"])
            else:
                assert {span["attributes"]["honeyhive.session_id"] for span in request.body} <= known
        assert len(backend.spans()) == 1_000
