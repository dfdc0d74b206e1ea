"""Outputs are changed on one thread, each at most once per round, and until they are settled."""

from __future__ import annotations

import threading

from hh_jupyter.notebook.outputs import Updates

WAIT = 10.0


def test_many_requests_are_one_change_and_the_last_one_is_always_made() -> None:
    seen: list[int] = []
    number = [0]
    first = threading.Event()

    def refresh(output: str) -> bool:
        seen.append(number[0])
        first.set()
        return True

    updates = Updates(refresh)
    updates.start()
    updates.request("a")
    assert first.wait(WAIT)
    for number[0] in range(1, 1001):
        updates.request("a")
    updates.close()
    assert seen[-1] == 1000
    assert len(seen) < 10


def test_what_is_not_settled_is_looked_at_again_without_being_asked() -> None:
    looks = threading.Semaphore(0)
    answers = iter([False, False, True])

    def refresh(output: str) -> bool:
        looks.release()
        return next(answers)

    updates = Updates(refresh)
    updates.start()
    updates.request("a")
    assert all(looks.acquire(timeout=WAIT) for _ in range(3))
    updates.close()
    assert next(answers, None) is None


def test_an_output_that_fails_does_not_stop_the_others() -> None:
    done = threading.Event()

    def refresh(output: str) -> bool:
        if output == "bad":
            raise ValueError
        done.set()
        return True

    updates = Updates(refresh)
    updates.start()
    updates.request("bad")
    updates.request("good")
    assert done.wait(WAIT)
    updates.close()


def test_closing_ends_the_thread_and_closing_an_idle_one_is_fine() -> None:
    updates: Updates[str] = Updates(lambda output: True)
    updates.close()
    updates.start()
    assert not [thread for thread in threading.enumerate() if thread.name == "hh-outputs"]
