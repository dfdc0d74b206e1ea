"""The budget of a session: what its model calls may cost, have cost, and which of them are still sent.

What a call costs is known when it has ended. Running calls are therefore reserved at the mean of the ended calls of
their model, and twice its deviation. While a model has few ended calls, the price of a long answer counts as one of
them, so that a hundred calls that start at once do not run on the cost of one. A call for which not enough is left
waits until a running one ends. It is refused if nothing else runs and the mean exceeds what is left.

A call waits only for calls that end without it: not for a stream that has begun, which its reader may never read to the
end, not for calls of an event loop that its own thread would block, and never longer than `MAX_WAIT`.

Threads, tasks and event loops share a budget. One lock protects all budgets, since a call counts towards the budget of
its session and those around it. It is held for microseconds.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

MAX_WAIT: Final = 120.0
"""Seconds that a call waits for running ones at most; then it is sent or refused as if there were none."""

_WAKE_SECONDS: Final = 1.0
"""Longest time until a waiting call looks again."""

_POLL_SECONDS: Final = 0.05
"""The same outside asyncio, where a thread cannot wake a task."""

_TOLERANCE: Final = 1e-9
"""Dollars: sums of the same costs in another order differ."""


class Estimate(NamedTuple):
    """What a call may cost, before it is sent: US dollars from its model's list price.

    Attributes:
        prompt: its prompt alone.
        usual: with an answer of usual length.
        long: with a long answer.
    """

    prompt: float = 0.0
    usual: float = 0.0
    long: float = 0.0


class Caller(NamedTuple):
    """Where a call is made: the thread, and the task of an async client."""

    thread: int
    task: object
    awaits: bool

    @classmethod
    def current(cls, *, awaits: bool) -> Caller:
        """Return the calling thread and task.

        Args:
            awaits: the client is an async one.
        """
        return cls(threading.get_ident(), _current_task() if awaits else None, awaits)

    def may_wait_for(self, other: Caller) -> bool:
        """Whether a call that is made there ends while this caller waits."""
        if self.thread != other.thread:
            return True
        # A synchronous call blocks the event loop of its thread; another one of this thread is below it on the stack.
        return self.awaits and other.awaits and other.task is not self.task


@dataclass(slots=True)
class _ModelCosts:
    """What the calls of one model have cost, and the sums of what is reserved for running ones."""

    ended: int = 0
    cost: float = 0.0
    squares: float = 0.0
    running: int = 0
    running_prompt: float = 0.0
    running_usual: float = 0.0
    running_long: float = 0.0

    def add(self, estimate: Estimate, sign: int) -> None:
        self.running += sign
        self.running_prompt += sign * estimate.prompt
        self.running_usual += sign * estimate.usual
        self.running_long += sign * estimate.long

    def clear_running(self) -> None:
        self.running, self.running_prompt, self.running_usual, self.running_long = 0, 0.0, 0.0, 0.0


class Budget:
    """What the model calls of a session may cost, and what they have cost.

    Args:
        max_cost: US dollars; None for no limit.
        max_calls: number of calls; None for no limit.
        outer: the budget around it, which its calls count towards too.
        raise_with: code that raises the limit. `{name}`, `{option}`, `{variable}` and `{value}` stand for the setting,
            the option, the environment variable and the new value.

    Attributes:
        spent: US dollars of the calls that have ended.
        calls: number of calls that were sent.
        refused: number of calls that were not sent.
        unpriced: models whose price is unknown; their calls count towards `max_calls` only.
        stopped_by: the budget that refused a call, this one or one around it; None so far.
    """

    def __init__(
        self,
        max_cost: float | None = None,
        max_calls: int | None = None,
        *,
        outer: Budget | None = None,
        raise_with: str = "{name}={value}",
    ) -> None:
        self.max_cost, self.max_calls, self.outer, self.raise_with = max_cost, max_calls, outer, raise_with
        self.spent, self.calls, self.refused = 0.0, 0, 0
        self.unpriced: set[str] = set()
        self.stopped_by: Budget | None = None
        self._models: dict[str, _ModelCosts] = {}
        self._running: dict[Call, None] = {}
        _budgets.add(self)

    def chain(self) -> Iterator[Budget]:
        """Yield this budget and those around it, from the inside out."""
        budget: Budget | None = self
        while budget is not None:
            yield budget
            budget = budget.outer

    def mean(self, model: str | None = None) -> float | None:
        """Return the mean cost of the ended calls, or of those of a model; None if there are none."""
        found = list(self._models.values()) if model is None else [self._models.get(model, _ModelCosts())]
        ended = sum(one.ended for one in found)
        return sum(one.cost for one in found) / ended if ended else None

    def _verdict(self, call: Call, *, waits: bool) -> bool | None:
        """Whether a call is sent; None if it has to wait."""
        if self.max_calls is not None and self.calls >= self.max_calls:
            return False
        if self.max_cost is None:
            return True
        left = self.max_cost - self.spent + _TOLERANCE
        if left <= 2 * _TOLERANCE:
            return False
        if not self._running:
            return (self.mean(call.model) or 0.0) <= left
        if self._reserved(call) <= left:
            return True
        if waits and any(not other.begun and call.caller.may_wait_for(other.caller) for other in list(self._running)):
            return None
        return self._expected(call) <= left

    def _reserved(self, call: Call) -> float:
        """US dollars to keep for the running calls and for one more, so that they may run together."""
        total = margin = 0.0
        for model, costs in self._with(call):
            known = self._known(model)
            ended, long = known.ended + 1, costs.running_long / costs.running
            mean = (long + known.cost) / ended
            variance = max((long * long + known.squares) / ended - mean * mean, 0.0)
            total += max(costs.running * mean, costs.running_prompt)
            margin += costs.running * variance
        return total + 2 * math.sqrt(margin)

    def _expected(self, call: Call) -> float:
        """US dollars that the running calls and one more probably cost."""
        total = 0.0
        for model, costs in self._with(call):
            known = self._known(model)
            total += costs.running * known.cost / known.ended if known.ended else costs.running_usual
        return total

    def _known(self, model: str) -> _ModelCosts:
        """The costs of the nearest budget in which calls of the model have ended."""
        for budget in self.chain():
            found = budget._models.get(model)
            if found is not None and found.ended:
                return found
        return _ModelCosts()

    def _with(self, call: Call) -> Iterator[tuple[str, _ModelCosts]]:
        """The models of the running calls, as if this call were one of them."""
        estimate, own = call.estimate, self._models.get(call.model, _ModelCosts())
        yield (
            call.model,
            _ModelCosts(
                running=own.running + 1,
                running_prompt=own.running_prompt + estimate.prompt,
                running_usual=own.running_usual + estimate.usual,
                running_long=own.running_long + estimate.long,
            ),
        )
        for model, costs in self._models.items():
            if model != call.model and costs.running:
                yield model, costs

    def _start(self, call: Call) -> None:
        self.calls += 1
        self._running[call] = None
        self._models.setdefault(call.model, _ModelCosts()).add(call.estimate, 1)

    def _end(self, call: Call, cost: float | None, sent: bool) -> None:
        if call not in self._running:  # Started before a fork, or ended already.
            return
        del self._running[call]
        costs = self._models[call.model]
        costs.add(call.estimate, -1)
        if not costs.running:
            costs.clear_running()  # Nothing is left of rounding errors.
        if not sent:
            self.calls -= 1
        elif cost is None:
            self.unpriced.add(call.model)
        else:
            self.spent += cost
            costs.ended, costs.cost, costs.squares = costs.ended + 1, costs.cost + cost, costs.squares + cost * cost

    def forget_running(self) -> None:
        """Forget the running calls: in a forked child they never end."""
        self._running.clear()
        for costs in self._models.values():
            costs.clear_running()


@dataclass(slots=True, eq=False)
class Call:
    """A model call that counts towards a budget.

    Attributes:
        model: its name as in the request.
        caller: where it is made.
        begun: it is a stream that has begun: no call waits for its end.
    """

    budget: Budget
    model: str
    estimate: Estimate = Estimate()
    caller: Caller = field(default_factory=lambda: Caller.current(awaits=False))
    begun: bool = False

    def admit(self) -> bool:
        """Wait until this call can be sent, and return whether it is. If it is, `end` has to be called."""
        deadline = time.monotonic() + MAX_WAIT
        with _changed:
            while (sent := self._decide(waits=time.monotonic() < deadline)) is None:
                _changed.wait(_WAKE_SECONDS)
        return sent

    async def admit_async(self) -> bool:
        """Do the same without blocking the event loop."""
        deadline = time.monotonic() + MAX_WAIT
        while True:
            with _changed:
                sent = self._decide(waits=time.monotonic() < deadline)
                if sent is not None:
                    return sent
                change = _next_change()
            if change is None:
                await sys.modules["trio"].sleep(_POLL_SECONDS)
            else:
                await asyncio.wait({change}, timeout=_WAKE_SECONDS)

    def begin(self) -> None:
        """Note that the response is a stream that has begun."""
        with _changed:
            self.begun = True
            _notify()

    def end(self, cost: float | None, *, sent: bool = True) -> None:
        """End the call. A second time, it does nothing.

        Args:
            cost: in US dollars; None if the price of the model is unknown.
            sent: False if the request did not leave this machine: it is not counted.
        """
        with _changed:
            for budget in self.budget.chain():
                budget._end(self, cost, sent)
            _notify()

    def _decide(self, *, waits: bool) -> bool | None:
        """Decide about this call for all budgets, and count it; None if it has to wait."""
        inside: list[Budget] = []
        waiting = False
        for budget in self.budget.chain():
            inside.append(budget)
            verdict = budget._verdict(self, waits=waits)
            if verdict is False:
                for one in inside:
                    one.refused, one.stopped_by = one.refused + 1, budget
                return False
            waiting = waiting or verdict is None
        if waiting:
            return None
        for budget in inside:
            budget._start(self)
        return True


# The lock, and how waiting calls are woken.

# Reentrant: a response may end in a destructor, which runs anywhere.
_changed = threading.Condition(threading.RLock())
_waiting_tasks: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
_budgets: weakref.WeakSet[Budget] = weakref.WeakSet()


def _notify() -> None:
    _changed.notify_all()
    waiting, _waiting_tasks[:] = list(_waiting_tasks), []
    for loop, change in waiting:
        try:
            loop.call_soon_threadsafe(_set, change)
        except RuntimeError:  # The loop is closed.
            continue


def _set(change: asyncio.Future[None]) -> None:
    if not change.done():
        change.set_result(None)


def _next_change() -> asyncio.Future[None] | None:
    """Return a future of the next change; None outside asyncio."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    change = loop.create_future()
    _waiting_tasks.append((loop, change))
    return change


def _current_task() -> Any:
    try:
        return asyncio.current_task()
    except RuntimeError:  # trio
        trio = sys.modules.get("trio")
        return None if trio is None else trio.lowlevel.current_task()


def _after_fork_in_child() -> None:
    global _changed
    _changed = threading.Condition(threading.RLock())  # It may be held by a thread that does not exist in the child.
    _waiting_tasks.clear()
    for budget in tuple(_budgets):
        budget.forget_running()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
