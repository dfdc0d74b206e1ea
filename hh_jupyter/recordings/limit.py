"""The spending limit in force: which budget a request counts towards, and the answer to one that is not sent.

The budget of a session is in the OpenTelemetry context, which threads and tasks of the session carry. A request above
the limit is answered here with 402, in a body that the clients of all APIs turn into their own exception, and with a
header that keeps those from retrying that would.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context as VariableContext
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from hh_jupyter import attributes as keys
from hh_jupyter.recordings.budget import Budget, Call, Caller
from hh_jupyter.recordings.costs import ModelRequest, model_request
from hh_jupyter.recordings.exchange import IN_FORCE, Answer, Interceptor, Outcome, Request
from hh_jupyter.recordings.hooks import Interception
from hh_jupyter.records import prices

logger = logging.getLogger(__name__)

PAYMENT_REQUIRED: Final = 402

_STREAMS: Final = frozenset({"text/event-stream", "application/x-ndjson", "application/stream+json"})

_NOT_SENT: Final = ("Connect", "ClientConnect", "Pool", "Proxy", "UnsupportedProtocol", "LocalProtocol", "InvalidURL")
"""Beginnings of the names of exceptions of the HTTP clients after which a request has not left the machine."""


# Which budget is current


def context_budget() -> Budget | None:
    """Return the budget of the current context; None without one."""
    found = otel_context.get_value(keys.CONTEXT_BUDGET)
    return found if isinstance(found, Budget) else None


def current_budget() -> Budget | None:
    """Return the budget of the current context, else that of the process; None if nothing is limited here.

    A thread that a script starts carries no context. It counts towards the budget that is in force if there is only
    one: a program with several limited sessions has to pass its context to its threads.
    """
    found = context_budget()
    if found is not None:
        return found
    entered = set(_entered)
    if len(entered) == 1 and not _has_session(otel_context.get_current()):
        return entered.pop()
    return next(reversed(_of_process.values()), None) if _of_process else None


def _has_session(context: Context) -> bool:
    """Whether a context says to which session its code belongs: it was passed on, or is that of a notebook's cell."""
    in_cell = any(key.startswith("hh_jupyter-cell") for key in context)
    return in_cell or IN_FORCE in context or baggage.get_baggage(keys.BAGGAGE_SESSION_ID, context) is not None


def with_budget(budget: Budget, context: Context) -> Context:
    """Return `context` with the budget of its session."""
    limited = Context({**context, keys.CONTEXT_BUDGET: budget})
    kept = context.get(IN_FORCE)
    if not isinstance(kept, list) or _limiter in kept:  # Without a list of its own, what holds everywhere counts.
        return limited
    return otel_context.set_value(IN_FORCE, sorted((*kept, _limiter), key=lambda one: one.order), limited)


@contextmanager
def limited(budget: Budget) -> Iterator[Budget]:
    """Run the code of this block with a budget."""
    enter(budget)
    token = otel_context.attach(with_budget(budget, otel_context.get_current()))
    try:
        yield budget
    finally:
        otel_context.detach(token)
        leave(budget)


def enter(budget: Budget) -> None:
    """Keep a budget in force until `leave`: also for threads without a context, if it is the only one."""
    with _lock:
        _entered.append(budget)
    _install_or_remove()


def leave(budget: Budget) -> None:
    """Undo an `enter`."""
    with _lock:
        if budget in _entered:
            _entered.remove(budget)
    _install_or_remove()


def hold(owner: object) -> None:
    """Keep budgets in force that contexts have, until the owner lets go. A second time, it does nothing."""
    with _lock:
        _owners[id(owner)] = owner
    _install_or_remove()


def let_go(owner: object) -> None:
    """Undo a `hold`."""
    with _lock:
        _owners.pop(id(owner), None)
    _install_or_remove()


def limit_process(owner: object, budget: Budget) -> None:
    """Set the budget of code without a session of its own; that of the latest owner counts."""
    with _lock:
        _of_process.pop(owner, None)
        _of_process[owner] = budget
    _install_or_remove()


def let_process_go(owner: object) -> None:
    """Undo a `limit_process`."""
    with _lock:
        _of_process.pop(owner, None)
    _install_or_remove()


_lock = threading.Lock()
_entered: list[Budget] = []
_owners: dict[int, object] = {}
_of_process: dict[object, Budget] = {}
_interception: Interception | None = None


def _install_or_remove() -> None:
    """Have the hooks installed exactly while there is a budget."""
    global _interception
    with _lock:
        needed = bool(_entered or _owners or _of_process)
        if needed and _interception is None:
            _interception = Interception(_limiter, everywhere=True)
            # Not with the interceptors of the current context, which are not meant for others.
            VariableContext().run(_interception.start, here=False)
            prices.load_in_background()
        elif not needed and _interception is not None:
            _interception.stop()
            _interception = None


# The interceptor


@dataclass(slots=True)
class _Sent:
    call: Call
    request: ModelRequest


class SpendingLimit(Interceptor):
    """Refuses calls above the limit of the current budget, and counts the others. It asks the context, so one does."""

    order = 100
    """After recordings: what they answer costs nothing and is no call."""

    def __init__(self) -> None:
        self._sent: dict[Request, _Sent] = {}

    def before(self, request: Request) -> Answer | None:
        """Wait until the call can be sent, or refuse it."""
        found = _call(request, awaits=False)
        return None if found is None else self._answer(request, found, sent=found.call.admit())

    async def before_async(self, request: Request) -> Answer | None:
        """Do the same without blocking the event loop."""
        found = _call(request, awaits=True)
        return None if found is None else self._answer(request, found, sent=await found.call.admit_async())

    def _answer(self, request: Request, found: _Sent, *, sent: bool) -> Answer | None:
        if not sent:
            return _refusal(found.call)
        self._sent[request] = found
        return None

    def begin(self, request: Request, status: int, headers: Mapping[str, str]) -> None:
        """Let no call wait for a stream, which may be read at any pace or not at all."""
        found = self._sent.get(request)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if found is not None and kind in _STREAMS:
            found.call.begin()

    def after(self, request: Request, outcome: Outcome) -> None:
        """Add the cost of the call to what was spent."""
        found = self._sent.pop(request, None)
        if found is None:
            return
        call, cost, sent = found.call, None, True
        try:
            if outcome.answered or (outcome.status is None and _was_not_sent(outcome.error)):
                sent = False
            elif outcome.status is None:
                # Timed out or cancelled: it may have been charged for an answer that was not read.
                cost = call.budget.mean(call.model) or found.request.estimate().usual or None
            else:
                cost = found.request.cost(outcome.status, outcome.body)
        finally:
            call.end(cost, sent=sent)
        if sent and cost is None and any(budget.max_cost is not None for budget in call.budget.chain()):
            _warn_of_unknown_price(call.model)


_limiter: Final = SpendingLimit()


def _call(request: Request, *, awaits: bool) -> _Sent | None:
    budget = current_budget()
    if budget is None:
        return None
    found = model_request(request.method, request.url, request.body)
    if found is None:
        return None
    return _Sent(Call(budget, found.model, found.estimate(), Caller.current(awaits=awaits)), found)


def _was_not_sent(error: BaseException | None) -> bool:
    return isinstance(error, ConnectionRefusedError) or type(error).__name__.startswith(_NOT_SENT)


_warned: set[str] = set()


def _warn_of_unknown_price(model: str) -> None:
    if model not in _warned:
        _warned.add(model)
        logger.warning(
            "the price of %s is unknown: max_cost does not limit its calls. To limit them too, set max_calls.", model
        )


# The answer above the limit


def _refusal(call: Call) -> Answer:
    """The answer to a call that is not sent, which is its session's error.

    OpenAI, Mistral and Google read `error.message`, Anthropic needs the two types as well, Cohere reads `message`.
    """
    text = explain(call.budget)
    error = {
        "message": text,
        "type": "billing_error",
        "param": None,
        "code": PAYMENT_REQUIRED,
        "status": "RESOURCE_EXHAUSTED",
    }
    body = json.dumps({"type": "error", "message": text, "error": error})
    return Answer(PAYMENT_REQUIRED, {"content-type": "application/json", "x-should-retry": "false"}, body.encode())


def explain(budget: Budget) -> str:
    """Return why a call of this budget was not sent, and how the limit is raised."""
    by = budget.stopped_by or budget
    return f"stopped at the limit: {spending(by)}. This call was not sent. To raise the limit: {line_to_raise(by)}"


def spending(budget: Budget) -> str:
    """Return what a budget has spent, and what one more call may cost. Example: "~$0.49 of $0.50 spent"."""
    if reached_calls(budget):
        return f"{used(budget)} sent"
    mean = budget.mean()
    return f"{used(budget)} spent" + ("" if mean is None else f", and a call costs ~{dollars(mean)} on average")


def used(budget: Budget) -> str:
    """Return how much of a limit is used: "~$0.31 of $0.50", "12 of 40 calls", or both."""
    parts = []
    if budget.max_cost is not None:
        parts.append(f"~{dollars(budget.spent)} of {dollars(budget.max_cost)}")
    if budget.max_calls is not None:
        parts.append(f"{budget.calls:,} of {budget.max_calls:,} {'call' if budget.max_calls == 1 else 'calls'}")
    return ", ".join(parts)


def share(budget: Budget) -> float:
    """Return the part of the limit that is used, from 0 to 1: of the limit that is nearer."""
    parts = ((budget.spent, budget.max_cost), (budget.calls, budget.max_calls))
    return min(1.0, max((part / whole if whole else 1.0 for part, whole in parts if whole is not None), default=0.0))


def reached_calls(budget: Budget) -> bool:
    """Whether the number of calls is what stops a budget."""
    return budget.max_calls is not None and budget.calls >= budget.max_calls


def line_to_raise(budget: Budget) -> str:
    """Return code that doubles the limit that was reached. Example: "%%hh_session triage --max-cost 1"."""
    reached = reached_calls(budget)
    name, limit = ("max_calls", budget.max_calls) if reached else ("max_cost", budget.max_cost)
    parts = {"{name}": name, "{option}": name.replace("_", "-"), "{variable}": f"HH_{name.upper()}"}
    line = budget.raise_with
    value = f"{Decimal(f'{2 * (limit or 0) or 1:.10g}'):f}"  # Not 2e-05.
    for part, text in {**parts, "{value}": value}.items():
        line = line.replace(part, text)
    return line


def dollars(amount: float) -> str:
    """`$0.50`, `$0.0437`, `$1,200.00`, `$0.000012`: two to four digits after the point, more for small amounts."""
    places = 1 - math.floor(math.log10(amount)) if 0 < amount < 0.001 else 4
    whole, _, digits = f"{amount:,.{places}f}".partition(".")
    return f"${whole}.{digits.rstrip('0'):0<2}"
