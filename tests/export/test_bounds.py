"""Unsent bodies in memory are bounded: without a spool the oldest are dropped and counted, with it none is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.context import attach, detach, get_current

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.export import counts, exporter
from hh_jupyter.settings import resolve
from hh_jupyter.testing import Backend
from hh_jupyter.tracing.context import with_cell
from tests.export.troubled import make_spans, tracer_to

SIZE = 1_000_000
TEXT = "word " * (SIZE // 5)
MOST_BYTES = 64 * 1024 * 1024
SPANS = 90


def fill(tracer: HoneyHiveTracer) -> None:
    """Record spans of one megabyte each, in several sessions."""
    for number in range(SPANS):
        if number % 10 == 0:
            tracer.create_session(f"session {number // 10}")
        with tracer.start_span(f"{number}", attributes={"text": TEXT}):
            pass
        tracer.wait_processed(10)


@pytest.mark.slow
def test_above_the_limit_the_oldest_spans_are_dropped_and_counted() -> None:
    with Backend(refuse=True) as backend, tracer_to(backend, spool=False) as tracer:
        fill(tracer)
        assert not tracer.force_flush(300)
        state = tracer.export_state()
        assert state.made == SPANS
        assert SPANS / 5 <= state.dropped < SPANS
        assert (state.waiting, state.sent) == (SPANS - state.dropped, 0)
        assert state.dropped_reason == "the in-memory limit for unsent spans was reached"
        backend.listen()
        assert tracer.force_flush(60_000), "the loss was reported by the flush before"
        arrived = sorted(int(span["name"]) for span in backend.spans())
        assert arrived == list(range(state.dropped, SPANS)), "the latest"
        assert tracer.export_state().sent == len(arrived)
        assert len(arrived) * SIZE <= MOST_BYTES


def test_above_the_limit_spans_that_failed_before_are_the_oldest(backend: Backend) -> None:
    with tracer_to(backend, spool=False) as tracer:
        make_spans(tracer, 1)
        assert tracer.force_flush()
        backend.close()
        with tracer.start_span("failed"):
            pass
        assert not tracer.force_flush(300)
        tracer.create_session("waits for its start")
        for _ in range(40):
            with tracer.start_span("later", attributes={"text": TEXT}):
                pass
            tracer.wait_processed(10)
        dropped = tracer.export_state().dropped
        backend.listen()
        assert not tracer.force_flush(60_000), "spans were dropped"
        assert (len(backend.spans("failed")), len(backend.spans("later"))) == (0, 41 - dropped)


@pytest.mark.slow
def test_a_rejected_key_does_not_fill_memory_either() -> None:
    with Backend(statuses={"/": [401]}, repeat_last_status=True) as backend, tracer_to(backend, spool=False) as tracer:
        make_spans(tracer, 1)
        assert not tracer.force_flush(5_000)
        fill(tracer)
        assert not tracer.force_flush(300)
        state = tracer.export_state()
        assert state.dropped >= SPANS / 5
        assert state.rejected == SPANS + 1 - state.dropped


@pytest.mark.slow
def test_updates_do_not_fill_memory_during_an_endless_outage() -> None:
    with Backend(refuse=True) as backend, tracer_to(backend, spool=False) as tracer:
        for number in range(SPANS):
            tracer.enrich_session(metadata={f"text {number}.{part}": TEXT for part in range(4)})
            tracer.wait_processed(10)
        assert not tracer.force_flush(300)
        state = tracer.export_state()
        assert state.requests_dropped > 0
        assert state.requests_waiting > 0
        assert state.requests_dropped + state.requests_waiting == SPANS + 1, "with the start of the session"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["refuse", "rejected key"])
def test_above_the_limit_bodies_are_read_back_from_disk_and_none_is_lost(tmp_path: Path, fault: str) -> None:
    trouble = {"refuse": True} if fault == "refuse" else {"statuses": {"/": [401]}, "repeat_last_status": True}
    with Backend(**trouble) as backend, tracer_to(backend, spool=True, spool_dir=str(tmp_path)) as tracer:
        fill(tracer)
        assert not tracer.force_flush(300)
        state = tracer.export_state()
        assert (state.made, state.dropped) == (SPANS, 0)
        if fault == "refuse":
            backend.listen()
        backend.force({})
        tracer.send_again()
        assert tracer.force_flush(60_000)
        assert sorted(int(span["name"]) for span in backend.spans()) == list(range(SPANS))


def test_a_process_that_runs_for_months_remembers_neither_all_its_cells_nor_all_its_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counts, "MAX_CELLS", 10)
    monkeypatch.setattr(exporter, "MAX_FORMER", 3)
    with Backend() as backend, tracer_to(backend, spool=False) as tracer:
        for number in range(30):
            token = attach(with_cell(get_current(), f"cell {number}"))
            make_spans(tracer, 1)
            detach(token)
        assert tracer.force_flush()
        assert [tracer.export_state(f"cell {number}").sent for number in (0, 19, 20, 29)] == [0, 0, 1, 1]
        assert tracer.export_state().sent == 30
        for number in range(10):
            tracer.configure(resolve({"api_key": f"key {number}", "server_url": backend.url, "spool": False}))
            make_spans(tracer, 1)
            assert tracer.force_flush()
        assert len(tracer.exporter.destinations) == 1 + 3
        assert len(backend.spans()) == 40


def test_former_destinations_with_unsent_rows_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "MAX_FORMER", 0)
    with Backend(refuse=True) as backend, Backend() as other, tracer_to(backend, spool=False) as tracer:
        make_spans(tracer, 1)
        for number in range(3):
            tracer.configure(resolve({"api_key": f"key {number}", "server_url": other.url, "spool": False}))
        assert not tracer.force_flush(300)
        backend.listen()
        assert tracer.force_flush(10_000)
        assert len(backend.spans()) == 1
