"""Order, and what is said about delivery, without a network."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from hh_jupyter.delivery import outbox as module
from hh_jupyter.delivery.outbox import Item, Outbox
from hh_jupyter.records.export_state import ExportState, combined


def spans(session_id: str, number: int = 1, cell: str | None = None, body: bytes = b"x") -> Item:
    return Item("spans", session_id, body, spans=number, cell=cell)


def due(outbox: Outbox) -> list[tuple[str, str]]:
    """What goes out next when everything is due, accepted at once."""
    outbox.flush(time.monotonic())
    items = outbox.take()
    if items:
        outbox.settle(items, "sent", None)
    return [(item.kind, item.session_id) for item in items]


def test_calls_of_one_session_keep_their_order_and_spans_wait_for_the_start() -> None:
    outbox = Outbox("api.example", 100, 5.0)
    outbox.add([spans("a"), Item("session_start", "a", b"1"), Item("event_update", "a", b"2")])
    outbox.add([Item("event_update", "b", b"3"), Item("session_start", "a", b"again")])
    order = [due(outbox) for _ in range(6)]
    kinds = [kind for batch in order for kind, session in batch if session == "a"]
    assert kinds == ["session_start", "event_update", "session_start", "spans"]
    assert order[-1] == []


def test_a_start_that_is_retried_holds_back_its_session_three_times_and_nobody_else() -> None:
    outbox = Outbox("api.example", 100, 5.0)
    outbox.add([Item("session_start", "a", b"1"), Item("event_update", "a", b"2"), spans("a"), spans("b")])
    for _ in range(3):
        outbox.flush(time.monotonic())
        (start,) = outbox.take()
        assert start.kind == "session_start"
        outbox.settle([start], "retry", "api.example answered 500", wait=60)
        if start.tries == 1:
            assert [(item.kind, item.session_id) for item in outbox.take()] == [("spans", "b")]
    assert [outbox.take()[0].kind, outbox.take()[0].kind] == ["event_update", "spans"]


def test_a_start_that_waits_for_its_first_span_is_never_sent_without_one() -> None:
    outbox = Outbox("api.example", 100, 5.0)
    outbox.defer_start(Item("session_start", "idle", b"1"))
    outbox.defer_start(Item("session_start", "used", b"2"))
    outbox.add([spans("used")])
    assert [due(outbox), due(outbox), due(outbox)] == [[("session_start", "used")], [("spans", "used")], []]


def test_above_the_bound_the_oldest_spans_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    outbox = Outbox("api.example", 100, 5.0)
    outbox.count_made(Counter({"old": 2, "new": 2}))
    outbox.add([spans("a", 2, "old", b"12345678"), spans("a", 2, "new", b"12345678")])
    old, new = outbox.state("old"), outbox.state("new")
    assert (old.dropped, old.word, new.dropped, new.waiting) == (2, "Not sent", 0, 2)
    assert old.reason == "more spans were waiting than memory may hold"
    assert not outbox.flush(time.monotonic())


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (ExportState(None, made=3), "Local only"),
        (ExportState("h", made=3, sent=3), "Sent"),
        (ExportState("h", made=6, waiting=6), "Sending 6"),
        (ExportState("h", made=14, sent=12, waiting=2, failing=True), "12 of 14 sent"),
        (ExportState("h", made=3, waiting=3, failing=True), "Not sent"),
        (ExportState("h", made=3, parked=3), "Not sent"),
        (combined([ExportState(None, made=5), ExportState("h", made=3, sent=3)]), "Sent"),
        (combined([ExportState("g", made=5, sent=5), ExportState("h", made=3, parked=3)]), "5 of 8 sent"),
    ],
)
def test_one_word_says_what_became_of_the_spans(state: ExportState, word: str) -> None:
    assert state.word == word
