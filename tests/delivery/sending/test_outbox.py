"""The outbox keeps, counts and reports items; tested without a network."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import pytest

from hh_jupyter.delivery.sending import outbox as module
from hh_jupyter.delivery.sending import parked as parked_module
from hh_jupyter.delivery.sending.item import Item, Whole
from hh_jupyter.delivery.sending.outbox import Outbox
from hh_jupyter.delivery.sending.spooling import SpoolNews
from hh_jupyter.delivery.sending.verdict import Verdict
from hh_jupyter.records.export_state import ExportState, combined

SENT = Verdict("sent")


def spans(
    session_id: str, number: int = 1, cell: str | None = None, body: bytes = b"x", key: int | None = None
) -> Item:
    return Item("spans", session_id, body, spans=number, cell=cell, key=key)


class MemorySpool:
    """A spool in memory."""

    def __init__(self) -> None:
        self.bodies: dict[int, bytes] = {}
        self.parked: dict[int, str] = {}

    def put(self, item: Item) -> Item:
        item.key = len(self.bodies)
        self.bodies[item.key] = item.body
        return item

    def remove(self, items: Sequence[Item]) -> None:
        for item in items:
            del self.bodies[item.key or 0]

    def park(self, items: Sequence[Item], reason: str) -> None:
        self.parked.update({item.key or 0: reason for item in items})

    def load(self, item: Item) -> bytes:
        return self.bodies[item.key or 0]

    def take_over(self, items: Sequence[Item]) -> None:
        """In this spool all rows belong to one destination."""


def test_above_the_limit_the_oldest_spans_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    outbox = Outbox("api.example", 100, 5.0)
    outbox.count_made(Counter({"old": 2, "new": 2}))
    outbox.add([spans("a", 2, "old", b"12345678"), spans("a", 2, "new", b"12345678")])
    old, new = outbox.state("old"), outbox.state("new")
    assert (old.dropped, old.word, new.dropped, new.waiting) == (2, "Not sent", 0, 2)
    assert old.reason == old.dropped_reason == "the in-memory limit for unsent spans was reached"
    assert new.reason is None
    assert not outbox.flush(time.monotonic())


def test_calls_do_not_fill_memory_during_an_endless_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    outbox = Outbox("api.example", 100, 5.0)
    outbox.add([Item("event_update", str(number), b"1234") for number in range(5)])
    state = outbox.state()
    assert (state.calls_waiting, state.calls_dropped) == (2, 3)


def test_above_the_limit_bodies_are_read_back_from_disk_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    disk = MemorySpool()
    outbox = Outbox("api.example", 100, 5.0, disk)
    outbox.count_made(Counter({"c": 3}))
    outbox.add([disk.put(spans("a", 1, "c", b"body %d" % number)) for number in range(3)])
    outbox.flush(time.monotonic())
    items = outbox.take()
    assert [outbox.body_of(item) for item in items] == [b"body 0", b"body 1", b"body 2"]
    assert sum(len(item.body) for item in items) <= 10
    outbox.settle(items, SENT)
    assert (outbox.state("c").sent, outbox.state("c").dropped, disk.bodies) == (3, 0, {})


def test_the_copy_on_disk_follows_the_verdicts() -> None:
    disk = MemorySpool()
    outbox = Outbox("api.example", 100, 5.0, disk)
    outbox.add([disk.put(Item("event_update", name, b"{}")) for name in ("taken", "refused")])
    for verdict in (SENT, Verdict("parked", "no")):
        outbox.flush(time.monotonic())
        outbox.settle(outbox.take(), verdict)
    assert (list(disk.bodies), disk.parked) == ([1], {1: "no"})


def test_the_copy_of_a_split_request_stays_until_every_piece_is_accepted() -> None:
    disk = MemorySpool()
    news = SpoolNews(disk)
    whole = disk.put(spans("a", 2))
    pieces = [Item("spans", "a", b"", spans=1, whole=Whole(whole, pieces=2)) for _ in range(2)]
    pieces[1].whole = pieces[0].whole
    for piece, refused, left, parked in (
        (pieces[0], None, [0], {}),
        (pieces[1], "no", [0], {0: "no"}),
        (pieces[1], None, [], {0: "no"}),
    ):
        news.note(piece, refused)
        news.tell()
        assert (list(disk.bodies), disk.parked) == (left, parked)


def test_a_single_span_is_not_parked_while_no_other_is_accepted() -> None:
    outbox = Outbox("api.example", 1, 5.0)
    outbox.count_made(Counter({"c": 1}))
    outbox.add([spans("a", 1, "c")])
    for _ in range(12):
        outbox.flush(time.monotonic())
        assert not outbox.settle(outbox.take(), Verdict("retry", "api.example answered 500", server_error=True))
    assert (outbox.state("c").parked, outbox.state("c").waiting) == (0, 1)


def test_flush_does_not_wait_twice_for_a_hanging_request() -> None:
    outbox = Outbox("api.example", 1, 5.0)
    outbox.add([spans("a")])
    items = outbox.take()
    assert not outbox.flush(time.monotonic())
    assert not outbox.worth_waiting()
    outbox.settle(items, SENT)
    assert outbox.worth_waiting()


def test_a_parked_call_is_retried_automatically_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parked_module, "AGAIN_SECONDS", 0.0)
    outbox = Outbox("api.example", 1, 5.0)
    outbox.add([Item("session_start", "a", b"{}"), spans("a")])
    busy = Verdict("retry", "api.example answered 500", server_error=True)
    for verdict in (busy, busy, busy, SENT, busy):
        outbox.flush(time.monotonic())
        outbox.settle(outbox.take(), verdict)
    assert outbox.state().calls_parked == 1
    assert not outbox.flush(time.monotonic())
    assert [item.kind for item in outbox.take()] == ["session_start"]
    assert outbox.flush(time.monotonic()), "nobody waits for it"


def test_release_retries_everything_that_was_rejected() -> None:
    outbox = Outbox("api.example", 1, 5.0)
    outbox.count_made(Counter({"c": 2}))
    outbox.add([spans("a", 1, "c")])
    outbox.settle(outbox.take(), Verdict("parked", "no"))
    assert (outbox.state("c").parked, outbox.state("c").reason, outbox.take()) == (1, "no", [])
    outbox.add([spans("a", 1, "c")])
    outbox.settle(outbox.take(), Verdict("paused", "the key is wrong"))
    outbox.release()
    assert (outbox.state("c").parked, outbox.state("c").waiting) == (0, 2)
    outbox.settle(outbox.take(), SENT)
    assert outbox.state("c").sent == 2


def test_a_rejected_key_pauses_everything_including_later_items() -> None:
    outbox = Outbox("api.example", 1, 5.0)
    outbox.count_made(Counter({"c": 3}))
    outbox.add([spans("a", 1, "c"), Item("event_update", "b", b"{}")])
    outbox.flush(time.monotonic())
    outbox.settle(outbox.take(), Verdict("paused", "api.example rejected the key (401)"))
    outbox.add([spans("a", 2, "c")])
    state = outbox.state()
    assert (outbox.take(), outbox.seconds_to_next()) == ([], None)
    assert (state.parked, state.calls_parked, state.waiting) == (3, 1, 0)
    assert state.reason == "api.example rejected the key (401)"
    assert not outbox.flush(time.monotonic())
    assert not outbox.flush(time.monotonic()), "they are still held back"


def test_items_paused_by_a_rejected_key_move_to_the_new_outbox_with_their_counts() -> None:
    wrong, right = Outbox("api.example", 1, 5.0), Outbox("api.example", 1, 5.0)
    wrong.count_made(Counter({"c": 2}))
    wrong.add([Item("session_start", "a", b"{}"), spans("a", 1, "c")])
    wrong.flush(time.monotonic())
    wrong.settle(wrong.take(), Verdict("paused", "no"))
    wrong.hand_to(right)
    wrong.add([spans("a", 1, "c")])
    assert (wrong.state("c").made, right.state("c").made, right.state("c").waiting) == (1, 1, 1)
    assert wrong.state().calls_parked == 0
    right.flush(time.monotonic())
    for kind in ("session_start", "spans"):
        items = right.take()
        assert {item.kind for item in items} == {kind}
        right.settle(items, SENT)


def test_rejected_spans_of_an_accepted_request_are_lost_and_each_cell_assumes_the_worst_case() -> None:
    outbox = Outbox("api.example", 1, 5.0)
    outbox.count_made(Counter({"one": 2, "two": 3}))
    outbox.add([spans("a", 2, "one"), spans("a", 3, "two")])
    outbox.settle(outbox.take(), Verdict("sent", "it refused 3", refused=3))
    everything, one, two = outbox.state(), outbox.state("one"), outbox.state("two")
    assert (everything.sent, everything.dropped, everything.waiting) == (2, 3, 0)
    assert [(state.sent, state.dropped) for state in (one, two)] == [(0, 2), (0, 3)]
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
        (ExportState("h", exported_elsewhere=3), "Left to others"),
        (ExportState("h", made=1, sent=1, exported_elsewhere=3), "Sent"),
        (combined([ExportState("h", exported_elsewhere=3), ExportState("h", made=2, waiting=2)]), "Sending 2"),
    ],
)
def test_a_short_text_summarizes_the_export_state(state: ExportState, word: str) -> None:
    assert state.word == word
