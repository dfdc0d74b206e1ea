"""Sealer and senders use one spool at the same time, and garbage collection may call it during another call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hh_jupyter.delivery.spool.record import Storable
from hh_jupyter.delivery.spool.store import Spool
from tests.delivery.spool.spooled import HERE, Record, leave_behind, numbered, numbers_of


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(directory: Path) -> Iterator[Spool]:
    opened = Spool.open(directory)
    yield opened
    assert opened.problem is None
    opened.close()


def test_several_threads_use_one_spool(directory: Path, spool: Spool) -> None:
    """The sealer adds while senders remove."""
    kept: list[Record] = []

    def work(offset: int) -> None:
        for number in range(offset, offset + 50):
            records = numbered([number, number + 1_000_000])
            spool.add(HERE, records)
            spool.remove(records[:1])
            assert spool.load(records[1]) == records[1].body
            kept.append(records[1])

    threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spool.close()
    taken = Spool.open(directory).adopt(HERE)
    assert sorted(record.body for record in taken) == sorted(record.body for record in kept)
    assert len(kept) == 200


def test_records_can_be_added_while_others_are_adopted(directory: Path, spool: Spool) -> None:
    for first in range(0, 400, 100):
        leave_behind(directory, numbered(range(first, first + 100), size=100_000))
    added: list[Record] = []
    adopted = threading.Event()

    def add() -> None:
        while not adopted.is_set():
            records = numbered([1000 + len(added)])
            spool.add(HERE, records)
            added.extend(records)

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    taken = spool.adopt(HERE, body_bytes=10**9)
    adopted.set()
    for thread in threads:
        thread.join()
    assert sorted(numbers_of(taken)) == list(range(400))
    everything: list[Storable] = [*taken, *added]
    assert len({record.key for record in everything}) == len(everything)
    assert all(spool.load(record) == record.body for record in everything[::50])


class Interrupting(str):
    """A text whose value SQLite requests during a transaction, at a point where a destructor may run."""

    __slots__ = ("interrupt",)
    interrupt: Callable[[], None]

    def __conform__(self, protocol: object) -> str:
        self.interrupt()
        return str(self)


def test_a_call_from_a_destructor_inside_the_spool_waits_for_its_turn(directory: Path, spool: Spool) -> None:
    """Garbage collection may end a span at any allocation, even while the same thread is writing."""
    inner, sent = numbered([2, 3])
    spool.add(HERE, [sent])
    held: list[bool] = []

    def interrupt() -> None:
        held.append(spool.held())
        spool.add(HERE, [inner])
        spool.remove([sent])

    destination = Interrupting(HERE)
    destination.interrupt = interrupt
    spool.add(destination, numbered([1]))
    assert held == [True]
    assert not spool.held()
    spool.close()
    assert numbers_of(Spool.open(directory).adopt(HERE)) == [1, 2]


def test_ctrl_c_during_a_transaction_leaves_no_partial_change(directory: Path, spool: Spool) -> None:
    """Sealing also runs on the user's thread if spans are created faster than the sealer seals them."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    destination = Interrupting(HERE)
    destination.interrupt = interrupt
    lost = numbered([1])
    with pytest.raises(KeyboardInterrupt):
        spool.add(destination, lost)
    assert lost[0].key is None, "memory still has it, and knows that nobody else does"
    assert not spool.held()
    spool.add(HERE, numbered([2]))
    spool.close()
    assert numbers_of(Spool.open(directory).adopt(HERE)) == [2]
