"""Threads and executor calls run in the OpenTelemetry context of whoever started them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from opentelemetry import context as otel

from hh_jupyter.notebook.cells import ThreadContexts

KEY = otel.create_key("test")


@pytest.fixture
def contexts() -> Iterator[ThreadContexts]:
    wrappers = ThreadContexts(lambda key, error: None)
    wrappers.install()
    yield wrappers
    wrappers.remove()


@contextmanager
def value(text: str) -> Iterator[None]:
    token = otel.attach(otel.set_value(KEY, text))
    try:
        yield
    finally:
        otel.detach(token)


def seen_in_thread(kind: type[threading.Thread] = threading.Thread) -> list[object]:
    seen: list[object] = []
    thread = kind(target=lambda: seen.append(otel.get_value(KEY)))
    thread.start()
    thread.join()
    return seen


class Overriding(threading.Thread):
    """Libraries override `run` without calling the base class's."""

    def run(self) -> None:
        self._target()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("contexts")
@pytest.mark.parametrize("kind", [threading.Thread, Overriding])
def test_a_thread_starts_in_the_context_of_its_starter(kind: type[threading.Thread]) -> None:
    with value("mine"):
        assert seen_in_thread(kind) == ["mine"]


@pytest.mark.usefixtures("contexts")
def test_a_submitted_call_runs_in_the_context_of_its_submit() -> None:
    with ThreadPoolExecutor(1) as pool:
        with value("first"):
            assert pool.submit(otel.get_value, KEY).result() == "first"
        with value("second"):
            assert pool.submit(otel.get_value, KEY).result() == "second"
        assert pool.submit(otel.get_value, KEY).result() is None


@pytest.mark.usefixtures("contexts")
def test_exceptions_and_arguments_pass_through() -> None:
    with ThreadPoolExecutor(1) as pool, value("x"):
        assert pool.submit(lambda *a, **k: (a, k), 1, fn=2).result() == ((1,), {"fn": 2})
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 / 0).result()


@pytest.mark.usefixtures("contexts")
def test_starting_a_thread_twice_fails_as_usual() -> None:
    thread = threading.Thread(target=int)
    with value("x"):
        thread.start()
        thread.join()
        with pytest.raises(RuntimeError, match="only be started once"):
            thread.start()


def test_removing_restores_the_originals() -> None:
    before = (threading.Thread.start, ThreadPoolExecutor.submit)
    wrappers = ThreadContexts(lambda key, error: None)
    wrappers.install()
    assert (threading.Thread.start, ThreadPoolExecutor.submit) != before
    wrappers.remove()
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == before
    with value("mine"):
        assert seen_in_thread() == [None]


def test_a_removed_wrapper_inside_another_wrapper_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    original = threading.Thread.start
    wrappers = ThreadContexts(lambda key, error: None)
    wrappers.install()
    ours = threading.Thread.start

    def theirs(thread: threading.Thread) -> None:
        ours(thread)

    monkeypatch.setattr(threading.Thread, "start", theirs)
    wrappers.remove()
    with value("mine"):
        assert seen_in_thread() == [None]
    monkeypatch.undo()
    threading.Thread.start = original  # type: ignore[method-assign]


def test_a_thread_that_could_not_be_started_can_be_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    real, rooms = threading.Thread.start, iter([False, False, True])

    def start_if_there_is_room(thread: threading.Thread) -> None:
        if not next(rooms):
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_there_is_room)
    contexts = ThreadContexts(lambda key, error: None)
    contexts.install()
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.append(otel.get_value(KEY)))
    for _ in range(2):
        with value("too early"), pytest.raises(RuntimeError, match="can't start new thread"):
            thread.start()
    with value("started"):
        thread.start()
    thread.join()
    contexts.remove()
    assert seen == ["started"]
