"""Spans that were started by another provider, as in a replay, are recorded like all others when they end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hh_jupyter import HoneyHiveTracer, spans
from hh_jupyter.records.totals import summarize
from hh_jupyter.tracing.span_store import span_log
from tests.spans import RECORDINGS, recorded


@pytest.fixture
def tracer() -> Iterator[HoneyHiveTracer]:
    span_log().clear()
    tracer = HoneyHiveTracer.init(test_mode=True, multi_instance=True, session_name="replay")
    yield tracer
    tracer.shutdown()
    span_log().clear()


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_replayed_recording_has_the_same_totals(tracer: HoneyHiveTracer, name: str) -> None:
    for span in recorded(name):
        tracer.provider._active_span_processor.on_end(span)  # type: ignore[attr-defined]  # As the SDK does.
    found, wanted = spans(), summarize(recorded(name))
    assert summarize(found) == wanted
    assert {row.session_id for row in found} == {tracer.session_id}


def test_filters_apply_to_replayed_spans(tracer: HoneyHiveTracer) -> None:
    with_filter = HoneyHiveTracer.init(
        test_mode=True, multi_instance=True, span_name_filters={"exclude": ("ChatCompletion",)}
    )
    for span in recorded("openinference-openai-multi-turn.json"):
        with_filter.provider._active_span_processor.on_end(span)  # type: ignore[attr-defined]  # As the SDK does.
    assert [row.name for row in spans()] == ["conversation"]
    with_filter.shutdown()
