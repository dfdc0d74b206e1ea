"""Endpoints follow the standard variables, are compared with other exporters', and read a server's errors.

A test of each variable through the public API would need a process with its environment.
"""

from __future__ import annotations

import pytest
import requests

from hh_jupyter.export.endpoint import OTLP_PREFIX, OtlpEndpoint, SpanTarget
from hh_jupyter.export.http import result_of

LOCAL = "http://localhost:4318/v1/traces"


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, OtlpEndpoint(LOCAL)),
        ({"ENDPOINT": "http://c:1/base/"}, OtlpEndpoint("http://c:1/base/v1/traces")),
        ({"ENDPOINT": "http://c:1", "TRACES_ENDPOINT": "http://d:2/x"}, OtlpEndpoint("http://d:2/x")),
        (
            {"HEADERS": "a=b,c=d%2Ce", "TRACES_COMPRESSION": "gzip", "COMPRESSION": "none", "TIMEOUT": "3.5"},
            OtlpEndpoint(LOCAL, (("a", "b"), ("c", "d,e")), gzip=True, timeout=3.5),
        ),
        ({"CERTIFICATE": "ca.pem"}, OtlpEndpoint(LOCAL, certificate="ca.pem")),
        ({"TIMEOUT": "soon", "HEADERS": "nonsense,a=b"}, OtlpEndpoint(LOCAL, (("a", "b"),))),
    ],
)
def test_the_standard_variables_describe_the_plain_backend(environ: dict[str, str], endpoint: OtlpEndpoint) -> None:
    assert OtlpEndpoint.from_environment({OTLP_PREFIX + name: value for name, value in environ.items()}) == endpoint


def test_credentials_of_the_plain_backend_are_not_shown() -> None:
    given = {OTLP_PREFIX + "HEADERS": "authorization=secret"}
    assert "secret" not in repr(OtlpEndpoint.from_environment(given))


@pytest.mark.parametrize(
    ("url", "key", "same"),
    [
        ("https://API.example:443/v1/traces/", "Bearer a", True),
        ("https://api.example/v1/traces", "", True),
        ("https://api.example/v1/traces", "Bearer b", False),
        ("https://api.example:8443/v1/traces", "Bearer a", False),
        ("https://api.example/other", "Bearer a", False),
    ],
)
def test_two_exporters_have_the_same_target_if_place_and_known_key_are_equal(url: str, key: str, same: bool) -> None:
    ours = SpanTarget.of("https://api.example/v1/traces", {"Authorization": "Bearer a"})
    assert ours.is_among([SpanTarget.of(url, {"authorization": key} if key else {})]) == same


@pytest.mark.parametrize(
    ("status", "retry_after", "blames_batch"), [(500, "", True), (500, "3", True), (503, "", True), (503, "3", False)]
)
def test_a_server_error_may_concern_the_batch_unless_the_server_asks_for_a_pause(
    status: int, retry_after: str, blames_batch: bool
) -> None:
    response = requests.Response()
    response.status_code = status
    response.headers["Retry-After"] = retry_after
    result = result_of(response, "h", "spans", "")
    assert (result.server_error, result.retry_after) == (blames_batch, None if blames_batch else 3.0)
