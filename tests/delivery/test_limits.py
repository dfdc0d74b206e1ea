"""Every tracer keeps as many attributes as the first, and one above the limit costs no span."""

from __future__ import annotations

from hh_jupyter import HoneyHiveTracer
from tests.backend import Backend


def test_every_tracer_has_the_limit_of_the_first(backend: Backend) -> None:
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
