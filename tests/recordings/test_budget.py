"""Which model calls a budget sends: near the limit, many at once, in threads and tasks, and never waiting on and on."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import multiprocessing
import os
import random
import statistics
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hh_jupyter.recordings import budget as budget_module
from hh_jupyter.recordings.budget import Budget, Call, Caller, Estimate

CALL = 0.0043
"""Dollars: what a call costs on average. A limit of 0.05 is enough for 11 of them."""
PRICES = Estimate(prompt=0.0002, usual=0.0042, long=0.082)
"""Those of a good model: nothing is known of how long the answers are."""
CHEAP = Estimate(prompt=0.00001, usual=0.0002, long=0.004)

Cost = Callable[[random.Random], float]


def uniform(rng: random.Random) -> float:
    return CALL * rng.uniform(0.3, 1.7)


def heavy_tailed(rng: random.Random) -> float:
    return CALL * rng.lognormvariate(0, 1) / 1.65


def long_answers(rng: random.Random) -> float:
    return 0.03 * rng.uniform(0.3, 1.7)


async def spend(
    budget: Budget, calls: Iterator[tuple[str, Estimate, float]], rng: random.Random, streams: bool
) -> None:
    """Make calls one after the other. Their durations are numbers of turns of the event loop: nothing is timed."""
    for model, estimate, cost in calls:
        call = Call(budget, model, estimate, Caller.current(awaits=True))
        if not await call.admit_async():
            continue
        for _ in range(rng.randint(1, 20)):
            await asyncio.sleep(0)
        if streams:
            call.begin()
        for _ in range(rng.randint(1, 60)):
            await asyncio.sleep(0)
        call.end(cost)


def used(
    workers: int, calls: int, limit: float, cost: Cost, seed: int, *, streams: bool = False, two: bool = False
) -> float:
    """The part of the limit that is spent by workers that make `calls` calls together."""
    rng, budget = random.Random(seed), Budget(limit)
    made = [("good", PRICES, cost(rng)) for _ in range(calls)]
    if two:
        made = [("cheap", CHEAP, one[2] / 20) if rng.random() < 0.5 else one for one in made]
    waiting = iter(made)

    async def all_workers() -> None:
        await asyncio.gather(*(spend(budget, waiting, rng, streams) for _ in range(workers)))

    asyncio.run(all_workers())
    return budget.spent / limit


SETUPS = {
    "one after the other": (1, 40, 0.05, uniform),
    "50 at once": (50, 50, 0.05, uniform),
    "10 workers": (10, 400, 0.5, heavy_tailed),
    "50 workers": (50, 400, 0.5, heavy_tailed),
    "200 at once": (200, 200, 0.5, heavy_tailed),
    "50 workers with long answers": (50, 200, 0.5, long_answers),
}


@pytest.mark.parametrize("name", SETUPS)
def test_the_limit_is_used_and_not_exceeded_by_much(name: str) -> None:
    shares = [used(*SETUPS[name], seed) for seed in range(8)]
    assert 0.93 <= statistics.mean(shares) <= 1.03
    assert max(shares) <= 1.1


@pytest.mark.parametrize(("streams", "two"), [(True, False), (False, True), (True, True)])
def test_the_same_holds_for_streams_and_for_models_of_different_prices(streams: bool, two: bool) -> None:
    shares = [used(20, 300, 0.2, uniform, seed, streams=streams, two=two) for seed in range(8)]
    assert 0.93 <= statistics.mean(shares) <= 1.03
    assert max(shares) <= 1.1


@given(
    st.lists(st.floats(0.0001, 0.05), min_size=1, max_size=60),
    st.integers(1, 30),
    st.floats(0.001, 1),
    st.booleans(),
    st.integers(0, 1000),
)
def test_no_set_of_calls_waits_for_ever_and_no_call_starts_at_the_limit(
    costs: list[float], workers: int, limit: float, streams: bool, seed: int
) -> None:
    rng, budget = random.Random(seed), Budget(limit)
    calls = iter([("good", PRICES, cost) for cost in costs])

    async def all_workers() -> None:
        await asyncio.gather(*(spend(budget, calls, rng, streams) for _ in range(workers)))

    asyncio.run(asyncio.wait_for(all_workers(), 60))
    assert budget.calls + budget.refused == len(costs)
    assert budget.spent <= limit + workers * max(costs)
    if workers == 1:
        assert budget.spent <= limit + max(costs)
    if sum(costs) <= limit - max(costs):
        assert budget.refused == 0 or streams


def ended(budget: Budget, *costs: float) -> None:
    for cost in costs:
        call = Call(budget, "good", PRICES)
        assert call.admit()
        call.end(cost)


def elsewhere(call: Call) -> ThreadFuture:
    """Admit a call on another thread."""
    return ThreadFuture(call)


class ThreadFuture:
    def __init__(self, call: Call) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._call, self._started = call, threading.Event()
        self.sent: bool | None = None
        self._thread.start()
        assert self._started.wait(30)

    def _run(self) -> None:
        self._call.caller = Caller.current(awaits=False)
        self._started.set()
        self.sent = self._call.admit()

    def result(self) -> bool:
        self._thread.join(30)
        assert self.sent is not None
        return self.sent

    def waits(self) -> bool:
        self._thread.join(0.3)
        return self._thread.is_alive()


@pytest.mark.parametrize(("cost", "sent"), [(0.3, True), (0.5, False)])
def test_a_waiting_call_goes_out_or_is_refused_when_a_running_one_ends(cost: float, sent: bool) -> None:
    budget = Budget(1.0)
    ended(budget, 0.2, 0.2)
    running = Call(budget, "good", Estimate(long=0.4))
    assert running.admit()
    waiting = elsewhere(Call(budget, "good", Estimate(long=0.4)))
    assert waiting.waits()
    running.end(cost)
    assert waiting.result() is sent


def test_nothing_stays_reserved_for_calls_that_have_ended() -> None:
    budget = Budget(1.0)
    ended(budget, *[0.01] * 50)
    together = [elsewhere(Call(budget, "good", PRICES)) for _ in range(15)]
    assert all(call.result() for call in together)


def test_a_waiting_call_goes_out_when_a_running_one_fails() -> None:
    budget = Budget(1.0)
    ended(budget, 0.4)
    running = Call(budget, "good", PRICES)
    assert running.admit()
    waiting = elsewhere(Call(budget, "good", PRICES))
    assert waiting.waits()
    running.end(0.0)
    assert waiting.result()


def test_no_call_waits_for_a_stream_that_has_begun() -> None:
    budget = Budget(1.0)
    ended(budget, 0.4)
    stream = Call(budget, "good", PRICES)
    assert stream.admit()
    waiting = elsewhere(Call(budget, "good", PRICES))
    assert waiting.waits()
    stream.begin()
    assert waiting.result() is False


def test_a_call_does_not_wait_for_one_below_it_on_the_same_thread() -> None:
    budget = Budget(1.0)
    ended(budget, 0.4)
    assert Call(budget, "good", PRICES).admit()
    assert not Call(budget, "good", PRICES).admit()


def test_a_synchronous_call_does_not_wait_for_tasks_of_the_loop_that_it_blocks() -> None:
    async def main() -> bool:
        running = Call(budget, "good", PRICES, Caller.current(awaits=True))
        assert await running.admit_async()
        return Call(budget, "good", PRICES, Caller.current(awaits=False)).admit()

    budget = Budget(1.0)
    ended(budget, 0.4)
    assert asyncio.run(main()) is False


def test_a_task_that_is_cancelled_while_it_waits_counts_as_nothing() -> None:
    async def main() -> None:
        running = Call(budget, "good", PRICES, Caller.current(awaits=True))
        assert await running.admit_async()
        waiting = asyncio.create_task(admit())
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        running.end(0.0)
        assert await asyncio.create_task(admit())

    async def admit() -> bool:
        return await Call(budget, "good", PRICES, Caller.current(awaits=True)).admit_async()

    budget = Budget(1.0)
    ended(budget, 0.4)
    asyncio.run(main())
    assert (budget.calls, budget.refused) == (3, 0)


def test_a_wait_ends_after_its_longest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_module, "MAX_WAIT", 0.1)
    budget = Budget(1.0)
    ended(budget, 0.4)
    assert Call(budget, "good", PRICES).admit()
    assert elsewhere(Call(budget, "good", PRICES)).result() is False


def test_calls_of_threads_and_of_tasks_wait_for_each_other() -> None:
    async def main() -> bool:
        running = Call(budget, "good", PRICES, Caller.current(awaits=True))
        assert await running.admit_async()
        waiting = asyncio.get_running_loop().run_in_executor(None, elsewhere, Call(budget, "good", PRICES))
        thread = await waiting
        running.end(0.0)
        return await asyncio.get_running_loop().run_in_executor(None, thread.result)

    budget = Budget(1.0)
    ended(budget, 0.4)
    assert asyncio.run(main())


def test_the_number_of_calls_is_exact_whatever_the_threads() -> None:
    def one(_: int) -> bool:
        call = Call(budget, "any", caller=Caller.current(awaits=False))
        if sent := call.admit():
            call.end(None)
        return sent

    budget = Budget(max_calls=40)
    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(one, range(400))) == 40
    assert (budget.calls, budget.refused, budget.unpriced) == (40, 360, {"any"})


def test_a_call_counts_towards_the_outer_budget_and_either_may_refuse_it() -> None:
    outer = Budget(max_calls=3)
    first, second = Budget(max_calls=2, outer=outer), Budget(1.0, outer=outer)
    ended(first, 0.1, 0.2)
    assert not Call(first, "good").admit()
    assert (first.stopped_by, outer.refused) == (first, 0)
    ended(second, 0.3)
    assert not Call(second, "good").admit()
    assert second.stopped_by is outer
    assert (outer.calls, outer.refused) == (3, 1)
    assert outer.spent == pytest.approx(0.6)


def test_an_inner_budget_knows_what_calls_of_the_outer_one_cost() -> None:
    outer = Budget(10.0)
    ended(outer, *[0.001] * 20)
    inner = Budget(0.5, outer=outer)
    calls = [Call(inner, "good", Estimate(long=0.3)) for _ in range(5)]
    assert all(call.admit() for call in calls)


def test_a_request_that_was_not_sent_is_no_call() -> None:
    budget = Budget(max_calls=1)
    call = Call(budget, "good", PRICES)
    assert call.admit()
    call.end(None, sent=False)
    assert (budget.calls, budget.spent) == (0, 0.0)
    assert Call(budget, "good", PRICES).admit()


def test_a_call_that_ends_twice_is_counted_once() -> None:
    budget = Budget(1.0)
    call = Call(budget, "good", PRICES)
    assert call.admit()
    call.end(0.1)
    call.end(0.1)
    assert budget.spent == 0.1


def test_a_response_may_end_in_a_destructor_wherever_that_runs() -> None:
    class Response:
        def __del__(self) -> None:
            call.end(0.1)

    budget = Budget(1.0)
    call = Call(budget, "good", PRICES)
    assert call.admit()
    response: list[object] = [Response()]
    response.append(response)
    del response
    with budget_module._changed:  # As if the collector ran while a decision is made.
        gc.collect()
    assert budget.spent == 0.1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_waits_for_no_call_of_its_parent() -> None:
    def child(results: multiprocessing.Queue[bool]) -> None:
        results.put(contextvars.copy_context().run(Call(budget, "good", PRICES).admit))

    budget = Budget(1.0)
    ended(budget, 0.4)
    held = threading.Event()
    release = threading.Event()

    def hold() -> None:
        with budget_module._changed:
            held.set()
            release.wait(30)

    assert elsewhere(Call(budget, "good", PRICES)).result()
    threading.Thread(target=hold, daemon=True).start()
    assert held.wait(30)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=child, args=(results,))
    process.start()
    release.set()
    assert results.get(timeout=30) is True
    process.join(30)
