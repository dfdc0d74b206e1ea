"""A mistake in a setting is one clear error; the same mistake in the environment is one warning."""

from __future__ import annotations

from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer, SettingError, SettingTypeError


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"api_key": 3}, SettingTypeError, "api_key must be text"),
        ({"sorce": "dev"}, SettingTypeError, "unknown setting sorce. Did you mean source?"),
        ({"server_url": "api.example"}, SettingError, "server_url must be a URL that starts with http:// or https://"),
        ({"batch_size": 0}, SettingError, "batch_size must be a whole number of spans, at least 1; got 0"),
        ({"test_mode": "yes"}, SettingTypeError, "test_mode must be True or False"),
        ({"ingestion_api_key": "short"}, SettingError, "ingestion_api_key must be an ingestion key"),
        ({"span_name_filters": {"exclude": ["x", 3]}}, SettingError, "span_name_filters must be like"),
    ],
)  # fmt: skip
def test_a_wrong_argument_names_itself_its_value_and_the_rule(
    settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=r"HoneyHiveTracer\.init") as caught:
        HoneyHiveTracer.init(**settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_secret_never_stands_in_its_own_error_or_in_a_repr() -> None:
    with pytest.raises(SettingError) as caught:
        HoneyHiveTracer.init(ingestion_api_key="hh_ingst_too_short_to_be_true")
    assert "too_short" not in str(caught.value)
    with HoneyHiveTracer.init(api_key="hh_secret_key_0001", test_mode=True) as tracer:
        assert "hh_secret" not in repr(tracer) + repr(tracer.settings)


def test_a_wrong_variable_is_said_once_and_the_default_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HH_API_URL", "ftp://example")
    monkeypatch.setenv("HH_TEST_MODE", "yes")
    with HoneyHiveTracer.init() as tracer:
        assert tracer.settings.server_url.startswith("https://")
        assert tracer.settings.origins["test_mode"] == "HH_TEST_MODE"
    assert [record.message for record in caplog.records] == [
        "HH_API_URL must be a URL that starts with http:// or https://; got 'ftp://example'. The default is used."
    ]


def test_tracing_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HH_DISABLE_TRACING", "1")
    with HoneyHiveTracer.init() as tracer, tracer.start_span("nothing") as span:
        assert not span.is_recording()
