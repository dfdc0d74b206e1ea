"""Spans go to HoneyHive, any OpenTelemetry backend, or both, each with its own order, results and counts."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES
from tests.export.troubled import KEY, names, wait_until

OTLP = "OTEL_EXPORTER_OTLP_"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    with Backend() as running:
        monkeypatch.setenv(OTLP + "TRACES_ENDPOINT", running.url + TRACES)
        monkeypatch.setenv(OTLP + "HEADERS", "x-team=blue%20whale")
        yield running


def traced(exporter: str, **settings: Any) -> HoneyHiveTracer:
    tracer = HoneyHiveTracer.init(**{"exporter": exporter, "exit_flush_seconds": 0.0, **settings})
    with tracer.with_session("s"), tracer.start_span("work"):
        pass
    tracer.enrich_session(metadata={"a": 1})
    return tracer


def test_a_plain_backend_gets_only_spans_with_its_own_headers_and_needs_no_key(collector: Backend) -> None:
    with traced("otlp") as tracer:
        assert tracer.force_flush(5_000)
        assert {request.path for request in collector.requests} == {TRACES}
        (export,) = collector.requests
        assert (export.headers["x-team"], "authorization" in export.headers) == ("blue whale", False)
        assert (names(collector), tracer.export_state().word) == (["work"], "Sent")


def test_the_key_never_goes_to_the_plain_backend(collector: Backend, backend: Backend) -> None:
    with traced("honeyhive,otlp", api_key=KEY, server_url=backend.url) as tracer:
        assert tracer.force_flush(5_000)
        assert names(collector) == names(backend) == ["work"]
        assert KEY not in repr([request.headers for request in collector.requests])
        assert len(backend.sessions()) == 2


@pytest.mark.parametrize("broken", ["collector", "honeyhive"])
def test_a_failing_destination_does_not_delay_the_other_and_the_worse_outcome_is_reported(
    collector: Backend, backend: Backend, broken: str
) -> None:
    (collector if broken == "collector" else backend).force({"/": [503] * 50})
    healthy = backend if broken == "collector" else collector
    with traced("honeyhive,otlp", api_key=KEY, server_url=backend.url) as tracer:
        assert not tracer.force_flush(500)
        assert healthy.wait_for(lambda b: names(b) == ["work"])
        state = tracer.export_state()
        assert (state.made, state.sent, state.word) == (1, 0, "Not sent")
        collector.force({})
        backend.force({})
        assert tracer.force_flush(10_000)
        assert names(collector) == names(backend) == ["work"]
        assert (tracer.export_state().made, tracer.export_state().sent) == (1, 1)


def test_a_key_that_one_destination_rejects_does_not_pause_the_other(collector: Backend, backend: Backend) -> None:
    collector.force({"/": [401]})
    with traced("honeyhive,otlp", api_key=KEY, server_url=backend.url) as tracer:
        assert not tracer.force_flush(5_000)
        with tracer.start_span("later"):
            pass
        assert not tracer.force_flush(5_000)
        assert (names(backend), names(collector)) == (["later", "work"], [])
        assert "OTEL_EXPORTER_OTLP" in str(tracer.export_state().reason), "what to correct"
        tracer.send_again()
        assert tracer.force_flush(5_000)
        assert names(collector) == ["later", "work"]


def test_exporter_none_sends_nothing_even_with_a_key(collector: Backend, backend: Backend) -> None:
    with traced("none", api_key=KEY, server_url=backend.url) as tracer:
        assert tracer.force_flush(1_000)
        assert (tracer.destination, tracer.export_state().word) == (None, "Local only")
    assert collector.requests == backend.requests == []


@pytest.mark.parametrize(
    ("environ", "path", "headers"),
    [
        ({"ENDPOINT": "URL"}, "/v1/traces", {"content-encoding": None}),
        ({"ENDPOINT": "URL/base/"}, "/base/v1/traces", {}),
        ({"ENDPOINT": "http://127.0.0.1:9", "TRACES_ENDPOINT": "URL/x"}, "/x", {}),
        ({"ENDPOINT": "URL", "HEADERS": "a=b,c=d%2Ce"}, "/v1/traces", {"a": "b", "c": "d,e"}),
        ({"ENDPOINT": "URL", "HEADERS": "a=b", "TRACES_HEADERS": "a=c"}, "/v1/traces", {"a": "c"}),
        (
            {"ENDPOINT": "URL", "TRACES_COMPRESSION": "gzip", "COMPRESSION": "none"},
            "/v1/traces",
            {"content-encoding": "gzip"},
        ),
        ({"ENDPOINT": "URL", "TIMEOUT": "soon", "HEADERS": "nonsense,a=b"}, "/v1/traces", {"a": "b"}),
    ],
)
def test_the_standard_variables_configure_the_plain_backend(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], path: str, headers: dict[str, str | None]
) -> None:
    with Backend() as collector:
        for name, value in environ.items():
            monkeypatch.setenv(OTLP + name, value.replace("URL", collector.url))
        with traced("otlp") as tracer:
            assert tracer.force_flush(5_000)
        (export,) = collector.requests
        assert (export.path, [span["name"] for span in export.body]) == (path, ["work"])
        assert {name: export.headers.get(name) for name in headers} == headers


def test_without_an_endpoint_the_plain_backend_is_the_collector_of_this_machine() -> None:
    with HoneyHiveTracer.init(exporter="otlp") as tracer:
        assert tracer.destination == "localhost:4318"


def test_the_standard_variable_limits_the_time_of_a_request(
    collector: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OTLP + "TIMEOUT", "0.3")
    collector.behaviour.hang = ("/",)
    with traced("otlp") as tracer:
        assert not tracer.force_flush(500)
        assert wait_until(lambda: "did not respond in time" in str(tracer.export_state().reason), 5), "not the usual 10"


def test_the_standard_variable_names_the_certificates_to_trust(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with Backend(tls=tls) as secure:
        monkeypatch.setenv(OTLP + "TRACES_ENDPOINT", secure.url + TRACES)
        with traced("otlp") as tracer:
            assert not tracer.force_flush(300)
        monkeypatch.setenv(OTLP + "CERTIFICATE", str(tmp_path / "ca.pem"))
        with traced("otlp") as tracer:
            assert tracer.force_flush(5_000)
        assert names(secure) == ["work"]


def test_credentials_of_the_plain_backend_are_not_shown(
    collector: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(OTLP + "HEADERS", "authorization=a-secret-of-mine")
    collector.force({"/": [401]})
    with traced("otlp") as tracer:
        assert not tracer.force_flush(5_000)
        shown = repr((tracer, tracer.settings, tracer.destination, tracer.export_state())) + caplog.text
    assert collector.requests[0].headers["authorization"] == "a-secret-of-mine"
    assert "a-secret-of-mine" not in shown
