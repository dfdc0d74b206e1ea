"""The exporter's threads: one worker however it is started, and nothing that they call ends them."""

from __future__ import annotations

import logging
import threading

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.export.exporter import Exporter
from hh_jupyter.export.worker import THREAD_PREFIX, Worker
from hh_jupyter.testing import Backend
from tests.export.troubled import make_spans, mend, tracer_to, wait_until


def test_threads_that_put_at_once_start_one_worker() -> None:
    ran: list[int] = []
    for _ in range(60):
        worker = Worker(lambda entries: ran.append(threading.get_ident()), lambda: None)
        together = threading.Barrier(8)

        def put(worker: Worker = worker, together: threading.Barrier = together) -> None:
            together.wait()
            worker.put(("plan", None, None))

        threads = [threading.Thread(target=put) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert worker.wait_handled(10)
        assert len(set(ran)) == 1
        ran.clear()
        worker.stop(10)


def test_a_question_of_a_sender_is_answered_on_the_worker() -> None:
    worker = Worker(lambda entries: None, lambda: None)
    asked: list[str] = []

    def send() -> None:
        worker.add_own_thread()
        asked.append(worker.ask(lambda: threading.current_thread().name))

    sender = threading.Thread(target=send)
    sender.start()
    sender.join(10)
    assert asked == [f"{THREAD_PREFIX}worker"]
    worker.stop(10)


class Refusing(logging.Filter):
    """A log filter of the program that fails."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise ValueError("a filter of the program")


def test_a_log_filter_that_raises_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("hh_jupyter.export.follow_ups")
    failing = Refusing()
    with Backend(statuses={"/": [503]}, repeat_last_status=True) as backend, tracer_to(backend) as tracer:
        logger.addFilter(failing)
        try:
            make_spans(tracer, 3)
            assert not tracer.force_flush(1_500)
            assert tracer.wait_processed(5)
        finally:
            logger.removeFilter(failing)
        mend(backend)
        assert wait_until(lambda: tracer.force_flush(2_000))
        assert len(backend.spans()) == 3


def test_an_exception_in_the_worker_is_reported_by_the_next_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    with Backend() as backend, tracer_to(backend) as tracer:
        assert isinstance(tracer, HoneyHiveTracer)
        assert isinstance(tracer.exporter, Exporter)
        monkeypatch.setattr("hh_jupyter.export.otlp.encode", lambda spans: 1 / 0)
        make_spans(tracer, 2)
        assert not tracer.force_flush(5_000)
        monkeypatch.undo()
        make_spans(tracer, 1)
        assert tracer.force_flush(5_000)
        assert len(backend.spans()) == 1
