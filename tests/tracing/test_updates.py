"""Updates of events that exist: what can be sent is sent."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer
from tests.backend import Backend

EVENT = "24242424-2424-4424-8424-242424242424"


def _update(backend: Backend, tracer: HoneyHiveTracer) -> Any:
    assert tracer.force_flush()
    (body,) = (request.body for request in backend.requests if request.method == "PUT" and request.accepted)
    return body


def test_enriching_an_event_by_its_id_keeps_every_field(backend: Backend, tracer: HoneyHiveTracer) -> None:
    """The endpoint has no inputs and no error; they go to the metadata instead of nowhere."""
    assert tracer.enrich_span(
        event_id=EVENT, metadata={"m": 1}, metrics={"s": 0.5}, inputs={"i": 1}, outputs={"o": 1}, error="oops"
    )
    assert _update(backend, tracer) == {
        "event_id": EVENT,
        "metadata": {"m": 1, "inputs": {"i": 1}, "error": "oops"},
        "metrics": {"s": 0.5},
        "outputs": {"o": 1},
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"metadata": {"when": datetime.date(2024, 1, 2)}}, {"metadata": {"when": "2024-01-02"}}),
        ({"outputs": {"s": {1}}}, {"outputs": {"s": [1]}}),
        ({"metrics": {"v": float("nan")}}, {"metrics": {"v": "nan"}}),
        ({"outputs": "just text"}, {"outputs": {"value": "just text"}}),
        ({"metadata": [1, 2]}, {"metadata": {"value": [1, 2]}}),
        ({"metadata": {"t": (1, "two")}}, {"metadata": {"t": [1, "two"]}}),
    ],
)
def test_values_that_json_has_not_reach_the_session(
    given: dict[str, Any], sent: dict[str, Any], backend: Backend, tracer: HoneyHiveTracer
) -> None:
    tracer.enrich_session(**given)
    assert _update(backend, tracer) == {"event_id": tracer.session_id, **sent}


def test_an_update_that_failed_is_sent_again() -> None:
    with (
        Backend(statuses={"/events": [500, 503]}) as backend,
        HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url) as tracer,
    ):
        tracer.enrich_session(metadata={"n": 1})
        assert _update(backend, tracer)["metadata"] == {"n": 1}
