"""Each setting has one home, a value from the right source, and says where that came from."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer, SettingError, SettingTypeError
from hh_jupyter import settings as settings_module
from hh_jupyter.settings import (
    ARGUMENTS,
    DEFAULTS,
    TABLE,
    UNUSED,
    Settings,
    SettingValue,
    display_settings,
    resolve,
    resolve_display,
)
from hh_jupyter.tracing import registry

DOCUMENTED = """
HH_API_KEY HONEYHIVE_API_KEY HH_INGESTION_API_KEY HH_PROJECT HONEYHIVE_PROJECT HH_API_URL HONEYHIVE_SERVER_URL
HH_SERVER_URL HH_SOURCE HH_SESSION_NAME HH_DISABLE_BATCH HH_DISABLE_HTTP_TRACING HH_TEST_MODE HH_VERBOSE
HH_OTLP_ENABLED HH_OTLP_ENDPOINT HH_OTLP_HEADERS HH_OTLP_PROTOCOL HH_BATCH_SIZE HH_FLUSH_INTERVAL
HH_MAX_EXPORT_BATCH_SIZE HH_EXPORT_TIMEOUT HH_EXPORT_TIMEOUT_SECONDS HH_API_TIMEOUT HH_TIMEOUT HH_MAX_RETRIES
HH_MAX_CONNECTIONS HH_MAX_KEEPALIVE_CONNECTIONS HH_KEEPALIVE_EXPIRY HH_POOL_TIMEOUT HH_RATE_LIMIT_CALLS
HH_RATE_LIMIT_WINDOW HH_HTTP_PROXY HH_HTTPS_PROXY HH_NO_PROXY HH_VERIFY_SSL HH_FOLLOW_REDIRECTS HH_MAX_ATTRIBUTES
HH_MAX_EVENTS HH_MAX_LINKS HH_MAX_SPAN_SIZE HH_PRESERVE_CORE_ATTRIBUTES HH_DISABLE_TRACING HH_CACHE_ENABLED
HH_CACHE_MAX_SIZE HH_CACHE_TTL HH_CACHE_CLEANUP_INTERVAL HH_EXPERIMENT_ID HH_EXPERIMENT_NAME HH_EXPERIMENT_VARIANT
HH_EXPERIMENT_GROUP HH_EXPERIMENT_METADATA HH_SERVICE_NAME HH_SERVICE_VERSION HH_HIGH_CONCURRENCY HONEYHIVE_TELEMETRY
HH_TELEMETRY HH_CAPTURE_INPUTS HH_CAPTURE_OUTPUTS HH_SAMPLING_RATE HH_SANITIZE_INPUTS HH_SANITIZE_OUTPUTS
HH_PII_PATTERNS HH_CP_API_URL HH_RUN_ID HH_DATASET_ID HH_DATAPOINT_ID HH_DATA_PLANE_API_KEY
HONEYHIVE_DISABLE_HTTP_TRACING
"""
"""Variables that the official client's documentation or code names."""

UNPREFIXED = {
    "RUN_ID": "ci-7",
    "SESSION_ID": "31313131-3131-4131-8131-313131313131",
    "SESSION_NAME": "job",
    "INPUTS": '{"a": 1}',
    "IS_EVALUATION": "true",
    "DATASET_ID": "ds",
    "DATAPOINT_ID": "dp",
    "SPAN_NAME_FILTERS": '{"exclude": [{"type": "prefix", "value": "noise"}]}',
    "SERVICE_NAME": "somebody's",
    "API_KEY": "somebody's",
    "SOURCE": "somebody's",
}


def values(settings: Settings) -> dict[str, Any]:
    return {row.name: getattr(settings, row.name) for row in settings.describe()}


def test_every_documented_variable_sets_something_or_is_listed_with_the_reason_why_not() -> None:
    in_effect = [variable for row in TABLE.values() for variable in row.env]
    listed = [name for names in UNUSED.values() for name in names.split() if name.isupper()]
    assert [name for name in DOCUMENTED.split() if name not in in_effect + listed] == []
    assert not set(in_effect) & set(listed)
    assert all(reason.endswith(".") for reason in UNUSED)


def test_no_argument_is_both_a_setting_and_without_effect() -> None:
    assert ARGUMENTS
    assert not ARGUMENTS & set(TABLE)
    resolve(dict.fromkeys(ARGUMENTS, "whatever"))


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("HH_API_KEY", " key-1 ", "api_key", "key-1"),
        ("HONEYHIVE_API_KEY", "key-2", "api_key", "key-2"),
        ("HONEYHIVE_PROJECT", "shop", "project", "shop"),
        ("HONEYHIVE_SERVER_URL", "https://a.example/", "server_url", "https://a.example"),
        ("HH_SERVER_URL", "https://b.example", "server_url", "https://b.example"),
        ("HH_SOURCE", " prod ", "source", "prod"),
        ("HH_SESSION_NAME", "nightly", "session_name", "nightly"),
        ("HH_RUN_ID", "r", "run_id", "r"),
        ("HH_OTLP_ENABLED", "off", "otlp_enabled", False),
        ("HH_OTLP_ENDPOINT", "http://c:4318", "otlp_endpoint", "http://c:4318"),
        ("HH_OTLP_HEADERS", '{"X-A": "1"}', "otlp_headers", {"X-A": "1"}),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "otlp_protocol", "http/json"),
        ("HH_MAX_EXPORT_BATCH_SIZE", "7", "max_export_batch_size", 7),
        ("HH_EXPORT_TIMEOUT", "1.5", "export_timeout", 1.5),
        ("HH_TIMEOUT", "9", "export_timeout", 9.0),
        ("HH_TIMEOUT", "9", "api_timeout", 9.0),
        ("HH_HTTPS_PROXY", "proxy:3128", "https_proxy", "http://proxy:3128"),
        ("HH_VERIFY_SSL", "false", "verify_ssl", False),
        ("HH_EXPERIMENT_METADATA", '{"t": 0.5}', "experiment_metadata", {"t": 0.5}),
        ("OTEL_SERVICE_NAME", "svc", "service_name", "svc"),
        ("OTEL_SDK_DISABLED", "true", "disable_tracing", True),
        ("HH_PII_PATTERNS", '["x+"]', "redact_patterns", ("x+",)),
        ("HH_TELEMETRY", "0", "telemetry", False),
    ],
)
def test_a_variable_sets_its_setting_and_is_named_as_its_origin(
    variable: str, text: str, name: str, value: Any
) -> None:
    settings = resolve({}, environ={variable: text})
    assert getattr(settings, name) == value
    assert settings.origins[name] == variable


def test_an_argument_beats_a_trait_beats_the_environment_beats_the_default() -> None:
    sources: list[Mapping[str, Any]] = [{"source": "argument"}, {"source": "trait"}, {"HH_SOURCE": "env"}]
    found = []
    for given in range(4):
        arguments, traits, environ = [source if number >= given else {} for number, source in enumerate(sources)]
        settings = resolve(arguments, traits=traits, environ=environ)
        found.append((settings.source, settings.origins["source"]))
    assert found == [
        ("argument", "argument"),
        ("trait", "%config HHJupyter"),
        ("env", "HH_SOURCE"),
        ("dev", "default"),
    ]


def test_a_blank_variable_counts_as_absent_and_the_next_one_is_read(caplog: pytest.LogCaptureFixture) -> None:
    settings = resolve(
        {"api_key": "  ", "server_url": " "},
        environ={
            "HH_API_KEY": " ",
            "HONEYHIVE_API_KEY": "older",
            "HH_API_URL": "",
            "HH_BATCH_SIZE": "\t",
            "HH_REDACT": "",
        },
    )
    assert settings.redact
    assert not caplog.records
    assert (settings.api_key, settings.origins["api_key"]) == ("older", "HONEYHIVE_API_KEY")
    assert settings.server_url == DEFAULTS["server_url"]
    assert settings.batch_size == DEFAULTS["batch_size"]


def test_names_without_a_prefix_do_nothing() -> None:
    assert values(resolve({}, environ=UNPREFIXED)) == values(resolve({}, environ={}))


def test_nothing_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    for word in ("one", "two"):
        monkeypatch.setenv("HH_SOURCE", word)
        with HoneyHiveTracer.init() as tracer:
            assert tracer.source == word


def test_an_invalid_variable_is_logged_once_however_often_settings_are_resolved(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_module, "_warned", set())
    environ = {"HH_TIMEOUT": "soon", "HH_BATCH_SIZE": "many", "HH_OTLP_HEADERS": "secret-token-0001"}
    for _ in range(3):
        settings = resolve({}, environ=environ)
    assert (settings.api_timeout, settings.batch_size, settings.otlp_headers) == (5.0, 100, None)
    said = sorted(record.getMessage() for record in caplog.records)
    assert [text.split()[0] for text in said] == ["HH_BATCH_SIZE", "HH_OTLP_HEADERS", "HH_TIMEOUT"]
    assert said[0] == ("HH_BATCH_SIZE must be a whole number of spans, at least 1; got 'many'. The default is used.")
    assert "secret-token" not in said[1]
    resolve({}, environ={"HH_BATCH_SIZE": "few"})
    assert len(caplog.records) == 4, "another bad value is worth saying"


def test_an_invalid_standard_variable_is_skipped_silently(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        settings = resolve({}, environ={"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert settings.otlp_protocol == "http/protobuf"
    assert not caplog.records


@pytest.mark.parametrize(
    ("argument", "value", "error", "words"),
    [
        ("otlp_headers", {"X-A": 1}, SettingTypeError, "otlp_headers must be a dict of header names and texts"),
        ("otlp_headers", {"X-A": "a\nb"}, SettingError, "got a hidden value"),
        ("otlp_headers", {"": "a"}, SettingError, "otlp_headers must be"),
        ("otlp_endpoint", "collector:4318", SettingError, "otlp_endpoint must be a URL"),
        ("server_url", "https://a.example:port", SettingError, "server_url must be a URL"),
        ("https_proxy", "ftp://proxy", SettingError, "https_proxy must be a proxy as host:port"),
        ("max_export_batch_size", 0, SettingError, "at least 1; got 0"),
        ("export_timeout", "30", SettingTypeError, "export_timeout must be a number of seconds"),
        ("experiment_metadata", [1], SettingTypeError, "experiment_metadata must be a dict"),
        ("api_key", "pasted\nkey", SettingError, "api_key must be text of printable ASCII characters; got a hidden"),
        ("verify_ssl", "no", SettingTypeError, "verify_ssl must be True or False"),
    ],
)
def test_a_wrong_argument_is_one_error_with_the_rule(argument: str, value: Any, error: type, words: str) -> None:
    with pytest.raises(error) as caught:
        resolve({argument: value}, environ={})
    assert words in str(caught.value)


def test_a_key_in_the_wrong_place_is_hidden_in_the_error(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_module, "_warned", set())
    key = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
    with pytest.raises(SettingError) as caught:
        resolve({"server_url": key}, environ={})
    resolve({}, environ={"HH_API_URL": key})
    assert "abcdefgh" not in str(caught.value) + caplog.text
    assert "HH_API_URL" in caplog.text


def test_describe_has_the_origin_of_each_value_and_no_secrets() -> None:
    settings = resolve(
        {"api_key": "key-0123456789", "project": "shop", "server_url": "https://me:pass@api.example"},
        traits={"source": "staging"},
        environ={"HH_HTTP_PROXY": "http://me:pass@proxy:3128", "HH_BATCH_SIZE": "7"},
    )
    rows = settings.describe()
    assert [row.name for row in (*rows, *resolve_display({}).describe())] == list(TABLE)
    found = {row.name: (row.value, row.origin) for row in rows if row.origin != "default"}
    assert found == {
        "api_key": ("set", "argument"),
        "server_url": ("https://...@api.example", "argument"),
        "project": ("shop", "argument"),
        "source": ("staging", "%config HHJupyter"),
        "batch_size": ("7", "HH_BATCH_SIZE"),
        "http_proxy": ("set", "HH_HTTP_PROXY"),
    }
    assert ("ingestion_api_key", "not set", "default") in rows
    for text in (repr(settings), str(rows)):
        assert "pass" not in text
        assert "0123" not in text


def test_display_settings_are_the_notebooks_and_not_a_tracers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HH_DISPLAY_ROWS", "7")
    with HoneyHiveTracer.init(display="off", project="shop") as tracer:
        assert not {row.name for row in tracer.settings.describe()} & {"display", "display_rows"}
        with HoneyHiveTracer.init(project="another"):
            shown = {row.name: row for row in display_settings().describe() if row.origin != "default"}
    assert shown == {
        "display": SettingValue("display", "off", "argument"),
        "display_rows": SettingValue("display_rows", "7", "HH_DISPLAY_ROWS"),
    }


def test_a_wrong_display_setting_makes_no_tracer() -> None:
    before = registry.tracers()
    with pytest.raises(SettingError, match="display must be one of auto, line, tree, off; got 'purple'"):
        HoneyHiveTracer.init(display="purple")
    assert registry.tracers() == before


def test_a_session_id_may_be_a_uuid_object() -> None:
    made = uuid.uuid4()
    assert resolve({"session_id": made}, environ={}).session_id == str(made)
    with pytest.raises(SettingTypeError, match="session_id must be text"):
        resolve({"session_id": 7}, environ={})


def test_a_secret_inside_a_value_is_not_shown_either() -> None:
    secret = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
    settings = resolve(
        {
            "inputs": {"question": "why?", "password": "hunter2hunter2"},
            "experiment_metadata": {"note": f"with {secret}"},
        },
        environ={"HH_SESSION_NAME": secret},
    )
    text = repr(settings) + str(settings.describe())
    assert "why?" in text
    assert "hunter2" not in text
    assert "abcdefgh" not in text


def test_secrets_have_no_trait() -> None:
    secrets = {name for name, row in TABLE.items() if row.secret}
    assert secrets == {"api_key", "ingestion_api_key", "otlp_headers", "http_proxy", "https_proxy"}
    assert not any(TABLE[name].trait for name in secrets)


def test_the_three_ids_together_make_it_an_evaluation() -> None:
    ids = {"run_id": "r", "dataset_id": "d", "datapoint_id": "p"}
    assert resolve(ids, environ={}).in_evaluation
    assert not resolve({**ids, "run_id": None}, environ={}).in_evaluation
    with HoneyHiveTracer.init(**ids, test_mode=True) as tracer:
        assert tracer.is_evaluation
