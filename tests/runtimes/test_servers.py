"""Servers of several processes: a tracer for each, every request in its session, nothing lost when they end."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from hh_jupyter.testing import Backend
from tests.guide.found import in_own_sessions, programs_spans
from tests.runtimes.processes import SERVERS, running
from tests.runtimes.received import sessions, updates

pytestmark = pytest.mark.slow

REQUESTS = 24
ENDINGS = [
    *((server, signal.SIGTERM) for server in SERVERS),
    # uvicorn leaves SIGQUIT to the system. gunicorn's workers with threads may hang at SIGINT and SIGQUIT, whatever
    # they serve: their handler wants the lock of the pool that it interrupts; those of uvicorn end by its timeout only.
    *((server, signal.SIGINT) for server in ("uvicorn", "uvicorn workers", "gunicorn", "gunicorn preload")),
    *((server, signal.SIGQUIT) for server in ("gunicorn", "gunicorn preload")),
]


@pytest.mark.parametrize(("server", "by"), ENDINGS, ids=[f"{server}-{by.name}" for server, by in ENDINGS])
def test_a_server_that_is_ended_has_delivered_every_request(backend: Backend, server: str, by: signal.Signals) -> None:
    questions = [f"q{number}" for number in range(REQUESTS)]
    with running(server, backend) as service, ThreadPoolExecutor(8) as clients:
        ids = dict(zip(questions, clients.map(service.ask, questions), strict=True))
        service.end(by)
        assert backend.wait_for(lambda found: len(programs_spans(found)) == REQUESTS)
    assert in_own_sessions(backend, ids)
    assert set(sessions(backend)) == set(updates(backend)) == set(ids.values())


@pytest.mark.parametrize("server", ["gunicorn preload", "gunicorn threads", "gunicorn uvicorn"])
def test_a_worker_that_is_killed_takes_only_what_it_had_not_sent(backend: Backend, server: str) -> None:
    """And the worker that stands in for it traces as before."""
    with running(server, backend, HH_FLUSH_INTERVAL="0.05") as service:
        before = {question: service.ask(question) for question in ("a", "b", "c")}
        assert backend.wait_for(lambda found: len(programs_spans(found)) == 3)
        for worker in service.workers():
            os.kill(worker, signal.SIGKILL)
        after = {question: service.ask(question) for question in ("d", "e", "f")}
        service.end(signal.SIGTERM)
        assert backend.wait_for(lambda found: len(programs_spans(found)) == 6)
    assert in_own_sessions(backend, {**before, **after})
