"""Caches stay within their limits, also when several threads fill them at the same time."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from hh_jupyter import HoneyHiveTracer, values
from hh_jupyter.tracing.context import PrivateIds


@pytest.fixture
def hasty() -> Iterator[None]:
    """Make the interpreter switch threads as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(act: Callable[[int], object], times: int = 2_000) -> list[BaseException]:
    """Call `act` in four threads; return the exceptions that it raised."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            for number in range(times):
                act(number)
        except BaseException as error:  # Returned to the test.
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


@pytest.mark.usefixtures("hasty")
def test_sessions_can_be_created_in_many_threads_at_once(local: HoneyHiveTracer) -> None:
    assert in_threads(lambda _: local.create_session("request")) == []


@pytest.mark.usefixtures("hasty")
def test_the_oldest_entries_are_evicted_while_other_threads_fill_the_dict() -> None:
    kept: dict[tuple[int, int], int] = {}

    def remember(number: int) -> None:
        kept[threading.get_ident(), number] = number
        values.evict_oldest(kept, 10)

    assert in_threads(remember, 20_000) == []
    assert len(kept) == 10
    assert 19_999 in kept.values(), "the newest entries are kept"


def test_short_lived_tracers_register_no_fork_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork hook cannot be unregistered, and keeps what it calls alive."""
    hooks: list[object] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **hook: hooks.append(hook))
    assert PrivateIds().generate_span_id() != PrivateIds().generate_span_id()
    assert hooks == []
