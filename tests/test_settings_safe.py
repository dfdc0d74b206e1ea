"""A typo in the environment never sends, records or writes what its author perhaps meant to prevent."""

from __future__ import annotations

from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer, SettingError, SettingTypeError, trace
from hh_jupyter import settings as settings_module
from hh_jupyter.settings import resolve
from hh_jupyter.testing import Backend

KEY = "test-key-0001"


@pytest.fixture(autouse=True)
def no_warnings_logged_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "_warned", set())


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("HH_API_URL", "localhost:99"),
        ("HONEYHIVE_SERVER_URL", "api.example"),
        ("HH_OTLP_ENDPOINT", "collector:4318"),
        ("HH_HTTP_PROXY", "ftp://proxy"),
        ("HH_HTTPS_PROXY", "proxy:port"),
        ("HH_EXPORTER", "olpt"),
        ("HH_SPAN_NAME_FILTERS", '{"exclude": "secret"}'),
        ("HH_REDACT_PATTERNS", "([0-9]"),
        ("HH_REDACT_PATTERNS", '["[0-9]+", "x]'),
        ("HH_REDACT_PATTERNS", "['[0-9]+']"),
        ("HH_PII_PATTERNS", '{"number": "[0-9]+"}'),
        ("HH_PII_PATTERNS", '["ok", 5]'),
    ],
)
def test_an_invalid_destination_or_filter_variable_sends_nothing(
    variable: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = resolve({"api_key": KEY, "test_mode": False}, environ={variable: text})
    assert settings.local
    assert (settings.test_mode, settings.origins["test_mode"]) == (True, variable)
    (said,) = caplog.messages
    assert said.startswith(f"{variable} must be ")
    assert said.endswith(" To be safe, nothing is sent (local mode).")


def test_a_wrong_address_reaches_nobody_through_any_way_of_sending(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HH_OTLP_ENDPOINT", "localhost:99")
    with HoneyHiveTracer.init(api_key=KEY, server_url=backend.url) as tracer:
        assert trace(len)("ab") == 2
        tracer.create_event("note")
        tracer.force_flush()
        assert tracer.export_state().destination is None
    assert backend.requests == []


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("HH_TEST_MODE", "ture", "test_mode", True),
        ("HH_DISABLE_TRACING", "tru", "disable_tracing", True),
        ("HH_OTLP_ENABLED", "flase", "otlp_enabled", False),
        ("HH_CAPTURE_INPUTS", "fasle", "capture_inputs", False),
        ("HH_CAPTURE_OUTPUTS", "n", "capture_outputs", False),
        ("HH_SPOOL", "of", "spool", False),
        ("HH_TELEMETRY", "never", "telemetry", False),
    ],
)
def test_a_misspelt_switch_is_in_its_safe_position(
    variable: str, text: str, name: str, value: bool, caplog: pytest.LogCaptureFixture
) -> None:
    settings = resolve({}, environ={variable: text})
    assert (getattr(settings, name), settings.origins[name]) == (value, variable)
    assert caplog.messages[0].endswith(f"To be safe, {name} is {value}.")


@pytest.mark.parametrize(("variable", "name"), [("HH_REDACT", "redact"), ("HH_VERIFY_SSL", "verify_ssl")])
def test_a_misspelt_protection_stays_on(variable: str, name: str) -> None:
    assert getattr(resolve({}, environ={variable: "flase"}), name) is True


def test_a_slip_decides_before_an_older_name_and_not_where_code_decides() -> None:
    both = {"HH_API_URL": "localhost:99", "HH_SERVER_URL": "https://other.example"}
    assert resolve({"api_key": KEY}, environ=both).local
    assert not resolve({"api_key": KEY, "server_url": "https://mine.example"}, environ=both).local
    assert not resolve({"api_key": KEY}, traits={"server_url": "https://mine.example"}, environ=both).local


def test_a_variable_of_opentelemetry_closes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert not resolve({}, environ={"OTEL_SDK_DISABLED": "maybe"}).disable_tracing
    assert not caplog.messages


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("[0-9]{4}", ("[0-9]{4}",)),
        (r"\bID-\d+", (r"\bID-\d+",)),
        ("1234", ("1234",)),
        ('["a+", "b"]', ("a+", "b")),
        ('"a, b"', ("a, b",)),
    ],
)
def test_a_redaction_pattern_may_stand_alone(text: str, patterns: tuple[str, ...]) -> None:
    settings = resolve({"api_key": KEY}, environ={"HH_REDACT_PATTERNS": text})
    assert (settings.redact_patterns, settings.local) == (patterns, False)


@pytest.mark.parametrize("text", ["customer_number, iban", '["customer_number", "iban"]'])
def test_names_of_secret_keys_are_separated_by_commas_or_a_json_list(text: str) -> None:
    settings = resolve({"api_key": KEY}, environ={"HH_REDACT_KEYS": text})
    assert settings.redact_keys == ("customer_number", "iban")


class _Filters:
    """As the official client's config objects hold them."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self) -> dict[str, Any]:
        return self.fields


@pytest.mark.parametrize(
    "given",
    [
        _Filters(include=[{"type": "prefix", "value": "a"}], exclude=None),
        {"include": [_Filters(type="prefix", value="a")]},
    ],
)
def test_span_name_filters_may_be_models(given: Any) -> None:
    assert resolve({"span_name_filters": given}, environ={}).span_name_filters == {"include": ("a",)}
    with pytest.raises(SettingError, match="span_name_filters must be"):
        resolve({"span_name_filters": {"include": [_Filters(type="suffix", value="a")]}}, environ={})
    with pytest.raises(SettingTypeError, match="span_name_filters must be"):
        resolve({"span_name_filters": _Filters}, environ={})
