"""Requests follow the settings for address and connection, and the key goes only to its own host."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.delivery.sending import connection
from hh_jupyter.settings import Settings, resolve
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import SESSION_START, TRACES

KEY = "key-0123456789"


def settings(**given: Any) -> Settings:
    return resolve({"api_key": KEY, "server_url": "https://api.example", **given}, environ={})


def deliver(timeout_millis: int = 5_000, **given: Any) -> HoneyHiveTracer:
    """Return a tracer that was shut down after recording one session and one span."""
    with HoneyHiveTracer.init(**{"api_key": KEY, **given}) as tracer:
        with tracer.start_span("work"):
            pass
        tracer.force_flush(timeout_millis)
    return tracer


def paths(backend: Backend) -> list[str]:
    return [request.path for request in backend.requests if request.accepted]


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (None, "https://api.example/opentelemetry/v1/traces"),
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("http://collector:4318/in/here", "http://collector:4318/in/here"),
    ],
)
def test_spans_go_to_the_backend_or_to_the_endpoint(endpoint: str | None, url: str) -> None:
    assert connection.trace_url(settings(otlp_endpoint=endpoint)) == url


@pytest.mark.parametrize(
    "endpoint",
    ["https://collector.example", "http://api.example:443", "https://api.example:8443/v1/traces"],
)
def test_another_host_scheme_or_port_gets_only_the_given_headers(endpoint: str) -> None:
    assert connection.trace_headers(settings(otlp_endpoint=endpoint)) == {}
    given = {"X-Team": "a"}
    assert connection.trace_headers(settings(otlp_endpoint=endpoint, otlp_headers=given)) == given


def test_the_backend_itself_gets_the_key_and_the_given_headers_win() -> None:
    own = connection.trace_headers(settings(otlp_endpoint="https://api.example:443/other", source="qa"))
    assert (own["Authorization"], own["X-Source"]) == (f"Bearer {KEY}", "qa")
    changed = connection.trace_headers(settings(otlp_headers={"authorization": "Basic abc", "X-Team": "a"}))
    assert {name.lower(): text for name, text in changed.items()}["authorization"] == "Basic abc"
    assert len([name for name in changed if name.lower() == "authorization"]) == 1
    assert changed["X-Team"] == "a"


def test_a_source_that_is_invalid_in_a_header_does_not_prevent_delivery(backend: Backend) -> None:
    deliver(server_url=backend.url, source="生产\n1")
    (span,) = backend.spans()
    assert span["attributes"]["honeyhive.source"] == "生产\n1"
    (export,) = [request for request in backend.requests if request.path == TRACES]
    assert export.headers["x-source"] == "%E7%94%9F%E4%BA%A7%0A1"


def test_a_separate_endpoint_gets_only_spans_and_not_the_key(backend: Backend) -> None:
    with Backend() as collector:
        deliver(server_url=backend.url, otlp_endpoint=collector.url + TRACES, otlp_headers={"X-Team": "a"})
        assert paths(backend) == [SESSION_START]
        assert paths(collector) == [TRACES]
        (export,) = collector.requests
        assert export.headers["x-team"] == "a"
        assert KEY not in str(export.headers)
        assert "authorization" not in export.headers


def test_the_reason_names_the_failing_endpoint(backend: Backend) -> None:
    with Backend(statuses={TRACES: [403]}) as collector:
        state = deliver(server_url=backend.url, otlp_endpoint=collector.url + TRACES).export_state()
        assert str(state.reason).startswith(connection.host_of(collector.url))


def test_with_otlp_off_sessions_and_events_are_sent_but_spans_are_not(backend: Backend) -> None:
    with HoneyHiveTracer.init(api_key=KEY, server_url=backend.url, otlp_enabled=False) as tracer:
        with tracer.start_span("work"):
            pass
        tracer.create_event("by hand")
        assert tracer.force_flush(5_000)
        assert sorted(paths(backend)) == ["/events", SESSION_START]
        state = tracer.export_state()
        assert (state.made, state.sent, state.waiting, state.word) == (1, 0, 0, "Local only")


PROXIES: list[tuple[dict[str, str], dict[str, str], str]] = [
    ({"HH_HTTP_PROXY": "proxy"}, {}, "proxy"),
    ({"HH_HTTP_PROXY": "proxy"}, {"HTTP_PROXY": "nowhere", "http_proxy": "nowhere"}, "proxy"),
    ({}, {"HTTP_PROXY": "proxy", "http_proxy": "proxy"}, "proxy"),
    ({"HH_HTTP_PROXY": "nowhere", "HH_NO_PROXY": "other.example, 127.0.0.1"}, {}, "backend"),
    ({"HH_NO_PROXY": "*"}, {"HTTP_PROXY": "nowhere", "http_proxy": "nowhere"}, "backend"),
    ({"HH_HTTPS_PROXY": "nowhere"}, {}, "backend"),
]


@pytest.mark.parametrize(("ours", "standard", "reached"), PROXIES)
def test_our_proxy_variables_override_the_standard_ones_which_work_too(
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
    ours: Mapping[str, str],
    standard: Mapping[str, str],
    reached: str,
) -> None:
    """The stand-in backend can act as the proxy: requests to a proxy only name the host in addition."""
    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Backend() as proxy:
        addresses = {"proxy": proxy.url, "nowhere": "http://127.0.0.1:9"}
        for name, value in {**ours, **standard}.items():
            monkeypatch.setenv(name, addresses.get(value, value))
        deliver(server_url=backend.url)
        assert paths({"proxy": proxy, "backend": backend}[reached]) == [SESSION_START, TRACES]
        assert not paths({"proxy": backend, "backend": proxy}[reached])


@pytest.mark.parametrize(
    ("hosts", "direct"),
    [
        ("api.example", True),
        (".example", True),
        ("*.example", True),
        ("API.EXAMPLE:443", False),
        ("api.example:8443", True),
        ("ample", False),
        (" , ", False),
        ("*", True),
    ],
)
def test_no_proxy_lists_hosts_in_the_usual_syntax(hosts: str, direct: bool) -> None:
    with connection.open_session(
        settings(server_url="https://api.example:8443", https_proxy="proxy:1", no_proxy=hosts)
    ) as session:
        assert session.proxies == {"https://api.example": "" if direct else "http://proxy:1"}


def test_the_callers_own_session_is_used_unchanged_and_stays_open(backend: Backend) -> None:
    closed: list[str] = []

    class Own(requests.Session):
        def close(self) -> None:
            closed.append("closed")

    own = Own()
    own.headers["X-Own"] = "yes"
    deliver(server_url=backend.url, requests_session=own, https_proxy="proxy:1", verify_ssl=False)
    assert {request.headers["x-own"] for request in backend.requests} == {"yes"}
    assert (own.verify, own.proxies, closed) == (True, {}, [])


def test_changed_settings_open_a_new_connection(backend: Backend) -> None:
    with Backend() as proxy, HoneyHiveTracer.init(api_key=KEY, server_url=backend.url) as tracer:
        assert tracer.force_flush(5_000)
        tracer.configure(resolve({"api_key": KEY, "server_url": backend.url, "http_proxy": proxy.url}))
        tracer.enrich_session({"via": "the proxy"})
        assert tracer.force_flush(5_000)
        assert paths(proxy) == ["/events"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Backend]:
    """A backend with a certificate signed by a private authority."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with Backend(tls=tls) as backend:
        yield backend


def test_an_untrusted_certificate_is_rejected(secure: Backend) -> None:
    tracer = deliver(timeout_millis=500, server_url=secure.url, exit_flush_seconds=0.0)
    assert not paths(secure)
    assert tracer.export_state().sent == 0


def test_a_custom_certificate_authority_is_trusted(
    secure: Backend, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    deliver(server_url=secure.url)
    assert paths(secure) == [SESSION_START, TRACES]


def test_disabled_certificate_checks_are_logged_once_by_us_and_not_by_urllib3(
    secure: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """This includes the case that an environment variable names a CA bundle, which requests would prefer."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "other.pem"))
    monkeypatch.setenv("HH_VERIFY_SSL", "false")
    monkeypatch.setattr(connection, "_told", {})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        deliver(server_url=secure.url)
        deliver(server_url=secure.url)
    assert paths(secure) == [SESSION_START, TRACES] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "the certificate of 127.0.0.1 is not checked (HH_VERIFY_SSL)"
    ]
    assert not said
