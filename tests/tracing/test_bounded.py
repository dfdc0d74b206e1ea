"""Bounded caches stay small, also when several threads fill them at once."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.threads import evict_oldest
from hh_jupyter.tracing.context import UnseededIdGenerator


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
def test_the_oldest_entries_are_removed_while_other_threads_add_entries() -> None:
    kept: dict[tuple[int, int], int] = {}

    def remember(number: int) -> None:
        kept[threading.get_ident(), number] = number
        evict_oldest(kept, 10)

    assert in_threads(remember, 20_000) == []
    assert len(kept) == 10
    assert 19_999 in kept.values(), "the newest entries are kept"


def test_creating_id_generators_registers_no_further_fork_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork hook cannot be removed and keeps alive what it refers to."""
    hooks: list[object] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **hook: hooks.append(hook))
    assert UnseededIdGenerator().generate_span_id() != UnseededIdGenerator().generate_span_id()
    assert hooks == []
