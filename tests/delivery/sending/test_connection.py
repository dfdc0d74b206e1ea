"""Requests go where the settings say, the way they say, and the key to its own host only."""

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
    """A tracer, shut down again, that was to deliver one session and one span."""
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
def test_another_host_scheme_or_port_gets_the_given_headers_and_nothing_else(endpoint: str) -> None:
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


def test_a_source_that_no_header_can_hold_is_no_obstacle(backend: Backend) -> None:
    deliver(server_url=backend.url, source="生产\n1")
    (span,) = backend.spans()
    assert span["attributes"]["honeyhive.source"] == "生产\n1"
    (export,) = [request for request in backend.requests if request.path == TRACES]
    assert export.headers["x-source"] == "%E7%94%9F%E4%BA%A7%0A1"


def test_only_spans_go_to_an_endpoint_of_their_own_and_the_key_does_not(backend: Backend) -> None:
    with Backend() as collector:
        deliver(server_url=backend.url, otlp_endpoint=collector.url + TRACES, otlp_headers={"X-Team": "a"})
        assert paths(backend) == [SESSION_START]
        assert paths(collector) == [TRACES]
        (export,) = collector.requests
        assert export.headers["x-team"] == "a"
        assert KEY not in str(export.headers)
        assert "authorization" not in export.headers


def test_a_failing_endpoint_is_named_as_what_it_is(backend: Backend) -> None:
    with Backend(statuses={TRACES: [403]}) as collector:
        state = deliver(server_url=backend.url, otlp_endpoint=collector.url + TRACES).export_state()
        assert str(state.reason).startswith(connection.host_of(collector.url))


def test_with_otlp_off_spans_stay_here_and_sessions_and_events_go(backend: Backend) -> None:
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
def test_our_proxy_variables_beat_the_standard_ones_and_those_work_too(
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
    ours: Mapping[str, str],
    standard: Mapping[str, str],
    reached: str,
) -> None:
    """The stand-in backend answers a proxy's requests as well: they only name the host besides."""
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
def test_a_list_of_hosts_names_them_as_usual(hosts: str, direct: bool) -> None:
    with connection.open_session(
        settings(server_url="https://api.example:8443", https_proxy="proxy:1", no_proxy=hosts)
    ) as session:
        assert session.proxies == {"https://api.example": "" if direct else "http://proxy:1"}


def test_the_callers_own_session_is_used_as_it_is_and_stays_open(backend: Backend) -> None:
    closed: list[str] = []

    class Own(requests.Session):
        def close(self) -> None:
            closed.append("closed")

    own = Own()
    own.headers["X-Own"] = "yes"
    deliver(server_url=backend.url, requests_session=own, https_proxy="proxy:1", verify_ssl=False)
    assert {request.headers["x-own"] for request in backend.requests} == {"yes"}
    assert (own.verify, own.proxies, closed) == (True, {}, [])


def test_other_settings_get_another_connection(backend: Backend) -> None:
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
    """A backend whose certificate only its own authority vouches for."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with Backend(tls=tls) as backend:
        yield backend


def test_a_certificate_of_a_stranger_is_refused(secure: Backend) -> None:
    tracer = deliver(timeout_millis=500, server_url=secure.url, exit_flush_seconds=0.0)
    assert not paths(secure)
    assert tracer.export_state().sent == 0


def test_an_authority_of_ones_own_is_trusted(
    secure: Backend, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    deliver(server_url=secure.url)
    assert paths(secure) == [SESSION_START, TRACES]


def test_an_unchecked_certificate_is_said_once_by_us_and_not_by_urllib3(
    secure: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where a variable names authorities, which requests would prefer."""
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
