"""Requests follow the settings for address and connection, and the key goes only to its own host."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from opentelemetry.context import attach, detach, get_current

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.settings import resolve
from hh_jupyter.testing import Backend, ReceivedRequest
from hh_jupyter.testing.responses import SESSION_START, TRACES
from hh_jupyter.tracing.context import with_cell
from tests.export.troubled import make_spans, tracer_to, wait_until

KEY = "key-0123456789"
NOWHERE = "http://127.0.0.1:9"


def deliver(timeout_millis: int = 5_000, **given: Any) -> HoneyHiveTracer:
    """Return a tracer that was shut down after recording one session and one span."""
    with HoneyHiveTracer.init(**{"api_key": KEY, **given}) as tracer:
        with tracer.start_span("work"):
            pass
        tracer.force_flush(timeout_millis)
    return tracer


def paths(backend: Backend) -> list[str]:
    return [request.path for request in backend.requests if request.accepted]


def the_export(backend: Backend) -> ReceivedRequest:
    """Return the only request of a backend that holds spans."""
    (export,) = [request for request in backend.requests if request.path != SESSION_START]
    return export


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [
        ("", "/v1/traces"),
        ("/", "/v1/traces"),
        ("/in/here", "/in/here"),
        (TRACES, TRACES),
    ],
)
def test_a_separate_endpoint_gets_only_spans_and_not_the_key(backend: Backend, endpoint: str, path: str) -> None:
    with Backend() as collector:
        deliver(server_url=backend.url, otlp_endpoint=collector.url + endpoint, otlp_headers={"X-Team": "a"})
        assert paths(backend) == [SESSION_START]
        assert paths(collector) == [path]
        export = the_export(collector)
        assert [span["name"] for span in export.body] == ["work"]
        assert export.headers["x-team"] == "a"
        assert KEY not in str(export.headers)
        assert "authorization" not in export.headers


def test_another_name_of_the_same_machine_does_not_get_the_key(backend: Backend) -> None:
    elsewhere = backend.url.replace("127.0.0.1", "localhost")
    deliver(server_url=backend.url, otlp_endpoint=elsewhere)
    assert "authorization" not in the_export(backend).headers
    assert KEY not in str(the_export(backend).headers)


def test_another_path_of_the_backend_gets_the_key_and_the_source(backend: Backend) -> None:
    deliver(server_url=backend.url, otlp_endpoint=backend.url + "/other", source="qa")
    export = the_export(backend)
    assert (export.path, export.headers["authorization"], export.headers["x-source"]) == (
        "/other",
        f"Bearer {KEY}",
        "qa",
    )


def test_given_headers_replace_our_own(backend: Backend) -> None:
    deliver(server_url=backend.url, otlp_headers={"authorization": "Basic abc", "X-Team": "a"})
    export = the_export(backend)
    assert (export.headers["authorization"], export.headers["x-team"]) == ("Basic abc", "a")


def test_a_source_that_is_invalid_in_a_header_does_not_prevent_delivery(backend: Backend) -> None:
    deliver(server_url=backend.url, source="生产\n1")
    (span,) = backend.spans()
    assert span["attributes"]["honeyhive.source"] == "生产\n1"
    assert the_export(backend).headers["x-source"] == "%E7%94%9F%E4%BA%A7%0A1"


def test_credentials_of_a_netrc_file_do_not_replace_the_key(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    deliver(server_url=backend.url)
    assert {request.headers["authorization"] for request in backend.requests} == {f"Bearer {KEY}"}


def test_the_reason_names_the_failing_endpoint(backend: Backend) -> None:
    with Backend(statuses={TRACES: [403]}) as collector:
        state = deliver(server_url=backend.url, otlp_endpoint=collector.url + TRACES).export_state()
        assert str(state.reason).startswith(collector.url.removeprefix("http://"))


def test_with_otlp_off_sessions_and_events_are_sent_but_spans_are_not(backend: Backend) -> None:
    with HoneyHiveTracer.init(api_key=KEY, server_url=backend.url, otlp_enabled=False) as tracer:
        with tracer.start_span("work"):
            pass
        tracer.create_event("by hand")
        assert tracer.force_flush(5_000)
        assert sorted(paths(backend)) == ["/events", SESSION_START]
        state = tracer.export_state()
        assert (state.made, state.sent, state.waiting, state.word) == (1, 0, 0, "Local only")


def test_spans_made_while_otlp_was_off_do_not_wait_when_it_is_on_again(backend: Backend) -> None:
    with HoneyHiveTracer.init(api_key=KEY, server_url=backend.url, otlp_enabled=False) as tracer:
        token = attach(with_cell(get_current(), "a cell"))
        with tracer.start_span("kept back"):
            pass
        detach(token)
        assert tracer.wait_processed()
        assert tracer.export_state("a cell").word == "Local only"
        tracer.configure(replace(tracer.settings, otlp_enabled=True))
        with tracer.start_span("sent"):
            pass
        assert tracer.force_flush(5_000)
        assert [span["name"] for span in backend.spans()] == ["sent"]
        state = tracer.export_state("a cell")
        assert (state.made, state.sent, state.waiting, state.dropped) == (1, 0, 0, 1)
        assert (state.word, state.reason) == ("Not sent", "otlp_enabled was off when they were made")


PROXIES: list[tuple[dict[str, str], dict[str, str], str]] = [
    ({"HH_HTTP_PROXY": "proxy"}, {}, "proxy"),
    ({"HH_HTTP_PROXY": "proxy"}, {"HTTP_PROXY": "nowhere", "http_proxy": "nowhere"}, "proxy"),
    ({}, {"HTTP_PROXY": "proxy", "http_proxy": "proxy"}, "proxy"),
    ({"HH_HTTP_PROXY": "nowhere", "HH_NO_PROXY": "other.example, 127.0.0.1"}, {}, "backend"),
    ({"HH_NO_PROXY": "*"}, {"HTTP_PROXY": "nowhere", "http_proxy": "nowhere"}, "backend"),
    ({"HH_HTTPS_PROXY": "nowhere"}, {}, "backend"),
]


@pytest.fixture
def no_standard_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_standard_proxy")
@pytest.mark.parametrize(("ours", "standard", "reached"), PROXIES)
def test_our_proxy_variables_override_the_standard_ones_which_work_too(
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
    ours: Mapping[str, str],
    standard: Mapping[str, str],
    reached: str,
) -> None:
    """The stand-in backend can act as the proxy: requests to a proxy only name the host in addition."""
    with Backend() as proxy:
        addresses = {"proxy": proxy.url, "nowhere": NOWHERE}
        for name, value in {**ours, **standard}.items():
            monkeypatch.setenv(name, addresses.get(value, value))
        deliver(server_url=backend.url)
        assert paths({"proxy": proxy, "backend": backend}[reached]) == [SESSION_START, TRACES]
        assert not paths({"proxy": backend, "backend": proxy}[reached])


@pytest.mark.usefixtures("no_standard_proxy")
@pytest.mark.parametrize(
    ("hosts", "direct"),
    [
        ("api.localhost", True),
        (".localhost", True),
        ("*.localhost", True),
        ("API.LOCALHOST:443", False),
        ("API.LOCALHOST:9", True),
        ("host", False),
        (" , ", False),
        ("*", True),
    ],
)
def test_no_proxy_lists_hosts_in_the_usual_syntax(hosts: str, direct: bool) -> None:
    with Backend() as proxy:
        given = {"server_url": "http://api.localhost:9", "http_proxy": proxy.url, "no_proxy": hosts}
        deliver(timeout_millis=300 if direct else 5_000, exit_flush_seconds=0.0, **given)
        assert paths(proxy) == ([] if direct else [SESSION_START, TRACES])


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
    with tracer_to(secure) as tracer:
        make_spans(tracer, 1)
        assert not tracer.force_flush(300)
        assert wait_until(lambda: "certificate" in str(tracer.export_state().reason))
        assert tracer.export_state().sent == 0
    assert secure.requests == []


def test_a_custom_certificate_authority_is_trusted(
    secure: Backend, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    deliver(server_url=secure.url)
    assert paths(secure) == [SESSION_START, TRACES]


UNCHECKED = """
import sys, warnings
from hh_jupyter import HoneyHiveTracer

warnings.simplefilter("always")
for _ in range(2):
    with HoneyHiveTracer.init(api_key="a-test-key", server_url=sys.argv[1]) as tracer:
        with tracer.start_span("work"):
            pass
        assert tracer.force_flush()
"""


def test_disabled_certificate_checks_are_logged_once_by_us_and_not_by_urllib3(secure: Backend, tmp_path: Path) -> None:
    """This includes the case that an environment variable names a CA bundle, which requests would prefer."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    variables = {"REQUESTS_CA_BUNDLE": str(tmp_path / "other.pem"), "HH_VERIFY_SSL": "false"}
    command = [sys.executable, "-c", UNCHECKED, secure.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **variables})
    assert paths(secure) == [SESSION_START, TRACES] * 2
    assert done.stderr == "the certificate of 127.0.0.1 is not checked (HH_VERIFY_SSL)\n"
