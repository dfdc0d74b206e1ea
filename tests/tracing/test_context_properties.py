"""Every span is in the expected session, however sessions, spans, tasks, threads, generators and exceptions nest.

After each block the context is restored; the rules are in `tests.tracing.player`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.tracing.span_store import span_log
from tests.tracing.player import Player
from tests.tracing.programs import PROGRAMS, Body, Step


@pytest.fixture
def local() -> Iterator[HoneyHiveTracer]:
    """A tracer in local mode; its spans are in the log."""
    made = HoneyHiveTracer.init(test_mode=True, session_name="startup")
    yield made
    made.shutdown()


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(program=PROGRAMS)
@example(program=(Step("traced generator finished", ((), (Step("span"),))),))
@example(program=(Step("start_span", ((Step("plain generator collected", ((Step("new session"),), ())),),)),))
@example(program=(Step("with_session", ((Step("task", ((Step("new session"), Step("span")),)), Step("span")),)),))
def test_every_program_leaves_the_context_as_it_was(
    local: HoneyHiveTracer, caplog: pytest.LogCaptureFixture, program: Body
) -> None:
    assert local.wait_processed(), "all spans of the previous program are in the log"
    span_log().clear()
    caplog.clear()
    player = Player(local)
    player.play(program)
    assert local.wait_processed()
    found = {row.name: (row.session_id, row.parent_id or 0) for row in span_log().records()}
    assert found == player.expected
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], "no error was logged"
