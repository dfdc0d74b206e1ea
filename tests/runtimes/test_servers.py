"""Multi-process servers: every request has its session, and no spans are lost at shutdown."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from hh_jupyter.testing import Backend
from tests.guide.received import in_own_sessions, programs_spans
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
def test_a_server_sends_all_spans_before_it_ends(backend: Backend, server: str, by: signal.Signals) -> None:
    questions = [f"q{number}" for number in range(REQUESTS)]
    with running(server, backend) as service, ThreadPoolExecutor(8) as clients:
        ids = dict(zip(questions, clients.map(service.ask, questions), strict=True))
        service.end(by)
        assert backend.wait_for(lambda found: len(programs_spans(found)) == REQUESTS)
    assert in_own_sessions(backend, ids)
    assert set(sessions(backend)) == set(updates(backend)) == set(ids.values())


@pytest.mark.parametrize("server", ["gunicorn preload", "gunicorn threads", "gunicorn uvicorn"])
def test_a_killed_worker_loses_only_unsent_spans(backend: Backend, server: str) -> None:
    """The worker that replaces it is traced as well."""
    with running(server, backend, HH_FLUSH_INTERVAL="0.05") as service:
        before = {question: service.ask(question) for question in ("a", "b", "c")}
        assert backend.wait_for(lambda found: len(programs_spans(found)) == 3)
        for worker in service.workers():
            os.kill(worker, signal.SIGKILL)
        after = {question: service.ask(question) for question in ("d", "e", "f")}
        service.end(signal.SIGTERM)
        assert backend.wait_for(lambda found: len(programs_spans(found)) == 6)
    assert in_own_sessions(backend, {**before, **after})
