"""Outputs are updated on one thread, each at most once per round, until they are final."""

from __future__ import annotations

import threading

import pytest

from hh_jupyter.notebook import outputs
from hh_jupyter.notebook.outputs import OutputUpdater

WAIT = 10.0


def test_many_requests_become_few_updates_and_the_last_one_is_never_skipped() -> None:
    seen: list[int] = []
    number = [0]
    first = threading.Event()

    def refresh(output: str) -> bool:
        seen.append(number[0])
        first.set()
        return True

    updates = OutputUpdater(refresh)
    updates.start()
    updates.request("a")
    assert first.wait(WAIT)
    for number[0] in range(1, 1001):
        updates.request("a")
    updates.close()
    assert seen[-1] == 1000
    assert len(seen) < 10


def test_after_drawing_that_took_long_the_cell_is_left_alone_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "POLL_SECONDS", (0.5, 60.0))
    refreshes = threading.Semaphore(0)

    def refresh(output: str) -> bool:
        updates.note_drawing(10.0)
        refreshes.release()
        return True

    updates = OutputUpdater(refresh)
    updates.start()
    updates.request("a")
    assert refreshes.acquire(timeout=WAIT)
    updates.request("a")
    assert not refreshes.acquire(timeout=1.0)
    updates.close()
    assert refreshes.acquire(timeout=WAIT)


def test_an_output_that_is_not_final_is_polled() -> None:
    refreshes = threading.Semaphore(0)
    results = iter([False, False, True])

    def refresh(output: str) -> bool:
        refreshes.release()
        return next(results)

    updates = OutputUpdater(refresh)
    updates.start()
    updates.request("a")
    assert all(refreshes.acquire(timeout=WAIT) for _ in range(3))
    updates.close()
    assert next(results, None) is None


def test_an_output_that_fails_does_not_stop_the_others() -> None:
    done = threading.Event()

    def refresh(output: str) -> bool:
        if output == "bad":
            raise ValueError
        done.set()
        return True

    updates = OutputUpdater(refresh)
    updates.start()
    updates.request("bad")
    updates.request("good")
    assert done.wait(WAIT)
    updates.close()


def test_close_ends_the_thread_and_works_before_start() -> None:
    updates: OutputUpdater[str] = OutputUpdater(lambda output: True)
    updates.close()
    updates.start()
    assert not [thread for thread in threading.enumerate() if thread.name == "hh-outputs"]
