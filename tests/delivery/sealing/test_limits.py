"""Every tracer keeps as many attributes as the first, and exceeding the limit does not lose the span."""

from __future__ import annotations

from opentelemetry.trace import Link

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend


def test_every_tracer_uses_the_limit_of_the_first(backend: Backend) -> None:
    with (
        HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url) as first,
        HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url) as second,
    ):
        for name, tracer in (("first", first), ("second", second)):
            for number in (130, 1_010, 1_100):
                with tracer.start_span(f"{name} {number}"):
                    tracer.enrich_span(metadata={f"k{index}": index for index in range(number)})
            assert tracer.force_flush()
    kept = {
        span["name"]: sum(name.startswith("honeyhive_metadata.k") for name in span["attributes"])
        for span in backend.spans()
    }
    assert {name: kept[name] for name in kept if not name.endswith("1100")} == {
        "first 130": 130,
        "second 130": 130,
        "first 1010": 1_010,
        "second 1010": 1_010,
    }
    assert kept["first 1100"] == kept["second 1100"] > 1_000
    assert all("honeyhive.session_id" in span["attributes"] for span in backend.spans())


def test_events_and_links_above_the_limit_are_counted(backend: Backend) -> None:
    limits = {"max_events": 3, "max_links": 2, "max_attributes": 10}
    with HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url, **limits) as tracer:
        context = tracer.otel_tracer.start_span("linked").get_span_context()
        span = tracer.otel_tracer.start_span("many", links=[Link(context)] * 5)
        for number in range(7):
            span.add_event(f"event {number}")
        span.end()
        assert tracer.force_flush()
    (found,) = backend.spans()
    assert found["attributes"]["honeyhive_metadata.hh_truncated"] == "4 events, 3 links"
    assert (len(found["events"]), len(found["links"])) == (3, 2)
    assert (found["dropped_events"], found["dropped_links"]) == (4, 3)
