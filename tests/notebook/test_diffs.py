"""Differences for the page are computed on a thread: a reply comes at once, and says whether the value is there."""

from __future__ import annotations

import threading

import pytest

from hh_jupyter.notebook import diffs
from hh_jupyter.notebook.diffs import Computed


def test_what_takes_long_is_asked_for_again_and_computed_once() -> None:
    values: Computed[int] = Computed(2)
    go, calls = threading.Event(), []

    def compute() -> int:
        calls.append(threading.current_thread())
        go.wait(30)
        return 7

    with pytest.raises(TimeoutError):
        values.get("a", compute)
    with pytest.raises(TimeoutError):
        values.get("a", compute)
    assert values.kept() == []
    go.set()
    calls[0].join(30)
    assert values.get("a", compute) == 7
    assert values.kept() == [7]
    assert len(calls) == 1
    assert calls[0] is not threading.current_thread()


def test_what_fails_is_raised_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffs, "WAIT_SECONDS", 30)
    values: Computed[float] = Computed(2)
    with pytest.raises(ZeroDivisionError):
        values.get("a", lambda: 1 / 0)
    assert values.kept() == []


def test_only_the_latest_values_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffs, "WAIT_SECONDS", 30)
    values: Computed[int] = Computed(2)
    for number in range(4):
        assert values.get(number, lambda number=number: number) == number  # type: ignore[misc]
    assert values.kept() == [2, 3]


def test_without_threads_a_value_is_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    values: Computed[str] = Computed(2)
    assert values.get("a", lambda: threading.current_thread().name) == threading.current_thread().name
