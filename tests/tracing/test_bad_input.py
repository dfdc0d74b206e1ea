"""A mistake in a setting is one clear error; the same mistake in the environment is one warning."""

from __future__ import annotations

from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer, SettingError, SettingTypeError
from tests.backend import Backend


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"api_key": 3}, SettingTypeError, "api_key must be text"),
        ({"sorce": "dev"}, SettingTypeError, "unknown setting sorce. Did you mean source?"),
        ({"server_url": "api.example"}, SettingError, "server_url must be a URL that starts with http:// or https://"),
        ({"batch_size": 0}, SettingError, "batch_size must be a whole number of spans, at least 1; got 0"),
        ({"flush_interval": float("inf")}, SettingError, "flush_interval must be a number of seconds"),
        ({"test_mode": "yes"}, SettingTypeError, "test_mode must be True or False"),
        ({"ingestion_api_key": "short"}, SettingError, "ingestion_api_key must be an ingestion key"),
        ({"app_url": "https://app.example"}, SettingError, "app_url must be an https:// URL with {session_id} in it"),
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


def test_verbose_says_on_standard_error_what_keeps_spans_from_the_backend_and_never_the_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Backend(refuse=True) as nowhere:
        settings = {"api_key": "hh_secret_key_0001", "server_url": nowhere.url, "exit_flush_seconds": 0.0}
        with HoneyHiveTracer.init(verbose=True, **settings) as tracer:
            assert not tracer.force_flush(200)
        said = capsys.readouterr().err
        assert "cannot be reached" in said
        assert "hh_secret" not in said
        with HoneyHiveTracer.init(**settings) as tracer:
            assert not tracer.force_flush(200)
        assert "cannot be reached" not in capsys.readouterr().err
