"""A forked child sends its own spans and none of its parent's, whatever the parent's threads do at that moment."""

from __future__ import annotations

import os
import time

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context

from hh_jupyter import attributes
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES
from tests.export.troubled import make_spans, names, tracer_to, unstarted

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


@pytest.mark.parametrize("pause", [0.0, 0.05, 0.2])
def test_a_forked_child_delivers_its_own_spans_and_none_of_its_parents(pause: float) -> None:
    """The fork happens while the parent's threads import, wait or send."""
    with Backend(delay={TRACES: 0.2}) as backend, tracer_to(backend) as tracer:
        with tracer.start_span("parent"):
            pass
        time.sleep(pause)
        child = os.fork()
        if child == 0:
            with tracer.start_span("child"):
                pass
            os._exit(0 if tracer.force_flush(20_000) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert tracer.force_flush(10_000)
        assert names(backend) == ["child", "parent"]


def test_a_child_forked_in_an_outage_sends_nothing_of_its_parent_and_the_parent_sends_everything() -> None:
    with Backend(refuse=True) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 3)
        assert not tracer.force_flush(300)
        child = os.fork()
        if child == 0:
            backend_is_back = tracer.force_flush(200)  # It has nothing to send.
            os._exit(0 if backend_is_back and tracer.export_state().made == 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
        backend.listen()
        assert tracer.force_flush(20_000)
        assert names(backend) == ["span 0", "span 1", "span 2"]


def test_a_session_that_waits_for_its_first_span_is_registered_by_the_process_that_makes_it(backend: Backend) -> None:
    with tracer_to(backend) as tracer:
        waiting = tracer.new_session("waiting", register="first_span")
        assert tracer.wait_processed()
        child = os.fork()
        if child == 0:
            otel_context.attach(baggage.set_baggage(attributes.BAGGAGE_SESSION_ID, waiting.id))
            make_spans(tracer, 1)
            os._exit(0 if tracer.force_flush(20_000) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert waiting.id in [session["session_id"] for session in backend.sessions()]
        assert unstarted(backend) == []


def test_a_child_uses_the_session_id_that_the_backend_chose() -> None:
    with Backend(session_response="other_id") as backend, tracer_to(backend) as tracer:
        assert tracer.force_flush(5_000)
        child = os.fork()
        if child == 0:
            make_spans(tracer, 1)
            os._exit(0 if tracer.force_flush(20_000) else 1)
        assert os.waitpid(child, 0)[1] == 0
        (session,) = backend.sessions()
        assert [span["attributes"]["honeyhive.session_id"] for span in backend.spans()] == [session["session_id"]]
