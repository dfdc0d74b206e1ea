"""Spans go to HoneyHive, any OpenTelemetry backend, or both, each with its own order, verdicts and outcome."""

from __future__ import annotations

from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.delivery.sending.plain_otlp import OtlpTarget, target_of
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES

TARGET = "OTEL_EXPORTER_OTLP_"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Any:
    with Backend() as running:
        monkeypatch.setenv(TARGET + "TRACES_ENDPOINT", running.url + TRACES)
        monkeypatch.setenv(TARGET + "HEADERS", "x-team=blue%20whale")
        yield running


def traced(exporter: str, **settings: Any) -> HoneyHiveTracer:
    tracer = HoneyHiveTracer.init(**{"exporter": exporter, "exit_flush_seconds": 0.0, **settings})
    with tracer.with_session("s"), tracer.start_span("work"):
        pass
    tracer.enrich_session(metadata={"a": 1})
    return tracer


def names(backend: Backend) -> list[str]:
    return [span["name"] for span in backend.spans()]


def test_a_plain_backend_gets_only_spans_with_its_own_headers_and_needs_no_key(collector: Backend) -> None:
    with traced("otlp") as tracer:
        assert tracer.force_flush(5_000)
        assert {request.path for request in collector.requests} == {TRACES}
        (export,) = collector.requests
        assert (export.headers["x-team"], "authorization" in export.headers) == ("blue whale", False)
        assert (names(collector), tracer.export_state().word) == (["work"], "Sent")


def test_the_key_never_goes_to_the_plain_backend(collector: Backend, backend: Backend) -> None:
    with traced("honeyhive,otlp", api_key="a-test-key", server_url=backend.url) as tracer:
        assert tracer.force_flush(5_000)
        assert names(collector) == names(backend) == ["work"]
        assert "a-test-key" not in repr([request.headers for request in collector.requests])
        assert len(backend.sessions()) == 2


@pytest.mark.parametrize("broken", ["collector", "honeyhive"])
def test_a_failing_destination_does_not_delay_the_other_and_the_worse_outcome_is_reported(
    collector: Backend, backend: Backend, broken: str
) -> None:
    (collector if broken == "collector" else backend).force({"/": [503] * 50})
    healthy = backend if broken == "collector" else collector
    with traced("honeyhive,otlp", api_key="a-test-key", server_url=backend.url) as tracer:
        assert not tracer.force_flush(500)
        assert healthy.wait_for(lambda b: names(b) == ["work"])
        state = tracer.export_state()
        assert (state.made, state.sent, state.word) == (1, 0, "Not sent")
        collector.force({})
        backend.force({})
        assert tracer.force_flush(10_000)
        assert names(collector) == names(backend) == ["work"]


def test_destination_none_sends_nothing_even_with_a_key(collector: Backend, backend: Backend) -> None:
    with traced("none", api_key="a-test-key", server_url=backend.url) as tracer:
        assert tracer.force_flush(1_000)
        assert (tracer.destination, tracer.export_state().word) == (None, "Local only")
    assert collector.requests == backend.requests == []


@pytest.mark.parametrize(
    ("environ", "target"),
    [
        ({}, OtlpTarget("http://localhost:4318/v1/traces")),
        ({"ENDPOINT": "http://c:1/base/"}, OtlpTarget("http://c:1/base/v1/traces")),
        ({"ENDPOINT": "http://c:1", "TRACES_ENDPOINT": "http://d:2/x"}, OtlpTarget("http://d:2/x")),
        (
            {"HEADERS": "a=b,c=d%2Ce", "TRACES_COMPRESSION": "gzip", "COMPRESSION": "none", "TIMEOUT": "3.5"},
            OtlpTarget("http://localhost:4318/v1/traces", (("a", "b"), ("c", "d,e")), gzip=True, timeout=3.5),
        ),
        ({"CERTIFICATE": "ca.pem"}, OtlpTarget("http://localhost:4318/v1/traces", certificate="ca.pem")),
        ({"TIMEOUT": "soon", "HEADERS": "nonsense,a=b"}, OtlpTarget("http://localhost:4318/v1/traces", (("a", "b"),))),
    ],
)
def test_the_standard_variables_name_the_plain_backend(environ: dict[str, str], target: OtlpTarget) -> None:
    assert target_of({TARGET + name: value for name, value in environ.items()}) == target


def test_credentials_of_the_plain_backend_are_not_shown() -> None:
    assert "secret" not in repr(target_of({TARGET + "HEADERS": "authorization=secret"}))
