"""Backends in trouble, tracers that send to them, and what arrived there."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any, Final

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend, Behaviour, ReceivedRequest
from hh_jupyter.testing.responses import SESSION_START, TRACES

KEY: Final = "a-test-key"
LOGIN_PAGE: Final = "<html><form>Please sign in</form></html>"
IMPATIENT: Final[Mapping[str, Any]] = {"api_timeout": 0.4, "export_timeout": 0.4}
"""Settings for backends that hang."""

MUCH: Final = 3.0
"""Seconds; not a budget, but far less than waiting for a backend in trouble would take."""

FAULTS: Final[Mapping[str, dict[str, Any]]] = {
    "hangs": {"hang": ("/",)},
    "hangs after the headers": {"break_connection": "hang"},
    "is slow": {"delay": {TRACES: 2.0, SESSION_START: 2.0}},
    "resets in the request": {"break_connection": "request"},
    "resets in the response": {"break_connection": "response"},
    **{f"answers {code}": {"statuses": {"/": [code]}} for code in (408, 429, 500, 502, 503)},
    "answers 429 for a second": {"statuses": {"/": [429]}, "headers": {"Retry-After": "1"}},
    "answers 503 until a date": {"statuses": {"/": [503]}, "headers": {"Retry-After": "a date"}},
    "starts no session": {"statuses": {SESSION_START: [500]}},
    "hangs at session starts": {"hang": (SESSION_START,)},
    "takes no spans": {"statuses": {TRACES: [503]}},
    "is a login page": {"html_page": LOGIN_PAGE},
    "talks garbage": {"raw_body": b"\x00\xffnonsense"},
    "talks deep garbage": {"raw_body": b"[" * 100_000},
}
PERMANENT: Final[Mapping[str, dict[str, Any]]] = {
    **{f"answers {code}": {"statuses": {"/": [code]}} for code in (400, 401, 403, 404)},
    "redirects": {"redirect_to": "http://127.0.0.1:9"},
}


@contextmanager
def troubled(behaviour: Mapping[str, Any]) -> Iterator[Backend]:
    """Yield a backend with one of the faults above, which lasts until `mend`."""
    if behaviour.get("headers") == {"Retry-After": "a date"}:
        behaviour = {**behaviour, "headers": {"Retry-After": formatdate(time.time() + 1, usegmt=True)}}
    with Backend(**behaviour, repeat_last_status=True) as backend:
        yield backend


def mend(backend: Backend) -> None:
    """End the backend's faults."""
    for name, value in vars(Behaviour()).items():
        setattr(backend.behaviour, name, value)
    backend.force({})


EVENT = "2F3A1C44-6B0D-4C57-9E21-8D5A7B9C0E13"
"""Id of an event. Ids are equal whatever their case."""


class StrictBackend:
    """Makes a backend accept an update only of an event that it has; and has trouble with a creation.

    Args:
        refused_span: name of a span; an export with it is answered with 400.

    Attributes:
        refused: number of updates that came before their event.
        trouble: "refused" or "slow": what happens to the next creation of an event; None for nothing.
    """

    def __init__(self, backend: Backend, trouble: str | None = None, refused_span: str | None = None) -> None:
        self.refused, self.trouble = 0, trouble
        self._known: set[str] = set()
        self._refused_span = refused_span
        backend.behaviour.on_request = self._answer

    def _answer(self, request: ReceivedRequest) -> int | None:
        if request.method == "PUT":
            known = request.body["event_id"].lower() in self._known
            self.refused += not known
            return None if known else 404
        created = set(self._created_by(request))
        of_event = created and request.path != SESSION_START
        trouble, self.trouble = (self.trouble, None) if of_event else (None, self.trouble)
        if request.path == TRACES and any(span["name"] == self._refused_span for span in request.body):
            return 400
        if trouble == "refused":
            return 503
        if trouble == "slow":
            threading.Event().wait(0.5)
        self._known |= created
        return None

    @staticmethod
    def _created_by(request: ReceivedRequest) -> Iterator[str]:
        if request.path == SESSION_START:
            yield request.body["session"]["session_id"]
        elif request.path == TRACES:
            for span in request.body:
                if event_id := span["attributes"].get("honeyhive_event_id"):
                    yield event_id.lower()
        else:
            yield request.body["event"]["event_id"].lower()


@contextmanager
def tracer_to(backend: Backend, **settings: Any) -> Iterator[HoneyHiveTracer]:
    """Yield a tracer that does not wait for its backend when it is closed."""
    defaults = {"api_key": KEY, "server_url": backend.url, "exit_flush_seconds": 0.0}
    made = HoneyHiveTracer.init(**{**defaults, **settings})
    try:
        yield made
    finally:
        made.shutdown()


def make_spans(tracer: HoneyHiveTracer, number: int, **attributes: Any) -> None:
    """Record spans with the names "span 0", "span 1" and so on."""
    for index in range(number):
        with tracer.start_span(f"span {index}", attributes=attributes or None):
            pass


def create_event(tracer: HoneyHiveTracer) -> None:
    """Create an event that is no span."""
    tracer.create_event("note", event_id=EVENT)


def make_rated_span(tracer: HoneyHiveTracer) -> None:
    """Record a span whose event has the same id."""
    with tracer.start_span("rated"):
        tracer.enrich_span(update_event_id=EVENT)


def make_sessions(tracer: HoneyHiveTracer, number: int) -> None:
    """Record as many sessions, each with one span."""
    for index in range(number):
        with tracer.with_session(f"session {index}"), tracer.start_span(f"span {index}"):
            pass


def names(backend: Backend) -> list[str]:
    """Return the names of the spans that arrived, sorted."""
    return sorted(span["name"] for span in backend.spans())


def exports(backend: Backend) -> list[ReceivedRequest]:
    """Return the requests that held spans, accepted or not."""
    return [request for request in backend.requests if request.path == TRACES]


def starts(backend: Backend, name: str | None = None) -> list[ReceivedRequest]:
    """Return the requests that started a session, accepted or not."""
    found = (request for request in backend.requests if request.path == SESSION_START)
    return [request for request in found if name in (None, request.body["session"]["session_name"])]


def updates(backend: Backend) -> list[ReceivedRequest]:
    """Return the updates of sessions and events, accepted or not."""
    return [request for request in backend.requests if request.method == "PUT"]


def unstarted(backend: Backend) -> list[str]:
    """Return the names of accepted spans that arrived before an accepted start of their session."""
    found, known = [], set()
    for request in backend.requests:
        if request.accepted and request.path == SESSION_START:
            known.add(request.body["session"]["session_id"])
        if request.accepted and request.path == TRACES:
            found += [span["name"] for span in request.body if span["attributes"]["honeyhive.session_id"] not in known]
    return found


def most_at_once(requests: Iterable[ReceivedRequest]) -> int:
    """Return the largest number of requests that were being answered at the same time."""
    answered = [(request.received, request.answered) for request in requests if request.answered is not None]
    changes = sorted([*((begin, 1) for begin, _ in answered), *((end, -1) for _, end in answered)])
    return max(itertools.accumulate(change for _, change in changes), default=0)


def threads_of_tracers(before: Iterable[threading.Thread] = ()) -> set[threading.Thread]:
    """Return the running threads that are neither in `before` nor a backend's."""
    backends = ("stand-in backend", "process_request_thread")
    found = set(threading.enumerate()) - set(before)
    return {thread for thread in found if not any(name in thread.name for name in backends)}


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Wait until a condition is true. Returns False if `seconds` were not enough."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def arrives(tracer: HoneyHiveTracer, seconds: float = 20.0) -> bool:
    """Flush again and again until one flush succeeds. Returns False if none does in `seconds`."""
    return wait_until(lambda: tracer.force_flush(2_000), seconds)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds
