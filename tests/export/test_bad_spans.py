"""One bad span of a batch is found and rejected alone, and a backend that refuses all spans is not asked about each."""

from __future__ import annotations

import pytest
from opentelemetry import context as otel_context

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES
from hh_jupyter.tracing.context import with_cell
from tests.export.troubled import exports, make_spans, mend, names, tracer_to


def make_one_bad(tracer: HoneyHiveTracer, number: int) -> None:
    """Record as many good spans, and one that is called "bad" among them."""
    make_spans(tracer, number // 3)
    with tracer.start_span("bad"):
        pass
    make_spans(tracer, number - number // 3)


@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_one_bad_span_is_found_and_rejected_and_all_others_arrive(status: int) -> None:
    with Backend(refused_span="bad", refused_span_status=status) as backend, tracer_to(backend) as tracer:
        make_one_bad(tracer, 300)
        assert not tracer.force_flush(30_000)
        state = tracer.export_state()
        assert (state.sent, state.rejected, state.waiting, state.dropped) == (300, 1, 0, 0)
        assert str(status) in str(state.rejected_reason)
        assert len({span["span_id"] for span in backend.spans()}) == 300
        assert len(exports(backend)) < 60
        assert tracer.force_flush(1_000), "reported by the flush before"
        mend(backend)
        tracer.send_again()
        assert tracer.force_flush(5_000)
        assert "bad" in names(backend)


def test_a_request_that_is_too_large_is_split_until_it_fits() -> None:
    with Backend(max_spans=20) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 300)
        assert tracer.force_flush(30_000)
        assert len({span["span_id"] for span in backend.spans()}) == 300
        assert tracer.export_state().sent == 300


def test_a_backend_that_rejects_every_span_does_not_get_each_span_on_its_own() -> None:
    with Backend(statuses={TRACES: [400]}, repeat_last_status=True) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 500)
        assert not tracer.force_flush(30_000)
        assert tracer.export_state().rejected == 500
        assert len(exports(backend)) < 250
        mend(backend)
        tracer.send_again()
        assert tracer.force_flush(10_000)
        assert len({span["span_id"] for span in backend.spans()}) == 500


def test_an_outage_of_spans_alone_rejects_nothing() -> None:
    """Session starts are still accepted, which proves nothing about the spans."""
    with Backend(statuses={TRACES: [503] * 12}) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 10)
        for _ in range(12):
            tracer.create_session()
            tracer.force_flush(200)
        assert tracer.export_state().rejected == 0
        assert tracer.force_flush(20_000)
        assert len(backend.spans()) == 10


def test_a_single_span_is_not_rejected_while_no_other_is_accepted(backend: Backend) -> None:
    backend.behaviour.repeat_last_status = True
    with tracer_to(backend) as tracer:
        assert tracer.force_flush(5_000)
        backend.force({TRACES: [500]})
        make_spans(tracer, 1)
        while len(exports(backend)) < 8:
            assert not tracer.force_flush(50)
        assert (tracer.export_state().rejected, tracer.export_state().waiting) == (0, 1)


def test_partially_rejected_spans_are_not_counted_as_sent() -> None:
    with Backend(rejected_spans=2) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 5)
        assert not tracer.force_flush(5_000)
        state = tracer.export_state()
        assert (state.sent, state.dropped) == (3, 2)
        assert "too old" in str(state.dropped_reason)
        assert len(exports(backend)) == 1, "OTLP forbids a repeat"
        assert tracer.force_flush(5_000), "reported by the flush before"


def test_each_cell_assumes_the_worst_of_a_partially_rejected_request() -> None:
    """The backend does not say which spans it rejected."""
    with Backend(rejected_spans=3) as backend, tracer_to(backend, flush_interval=60) as tracer:
        for cell, number in (("one", 2), ("two", 3)):
            token = otel_context.attach(with_cell(otel_context.get_current(), cell))
            make_spans(tracer, number)
            otel_context.detach(token)
        assert not tracer.force_flush(5_000)
        assert len(exports(backend)) == 1
        everything, one, two = (tracer.export_state(cell) for cell in (None, "one", "two"))
        assert (everything.sent, everything.dropped, everything.waiting) == (2, 3, 0)
        assert [(state.sent, state.dropped) for state in (one, two)] == [(0, 2), (0, 3)]


def test_the_counts_of_a_cell_follow_its_own_spans() -> None:
    with Backend(refused_span="bad", refused_span_status=400) as backend, tracer_to(backend) as tracer:
        for cell, name in (("one", "good"), ("two", "bad")):
            token = otel_context.attach(with_cell(otel_context.get_current(), cell))
            with tracer.start_span(name):
                pass
            otel_context.detach(token)
        assert not tracer.force_flush(10_000)
        one, two = (tracer.export_state(cell) for cell in ("one", "two"))
        assert (one.made, one.sent, one.rejected, one.word, one.reason) == (1, 1, 0, "Sent", None)
        assert (two.made, two.sent, two.rejected, two.word) == (1, 0, 1, "Not sent")
        assert "400" in str(two.reason)
        mend(backend)
        tracer.send_again()
        assert tracer.force_flush(10_000)
        assert tracer.export_state("two").word == "Sent"
