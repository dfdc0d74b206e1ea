"""A wrong argument during set-up raises one clear error; a wrong environment variable logs one warning.

Arguments of a running program never raise: tests/tracing/test_runtime_arguments.py and test_unusual_values.py.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import hh_jupyter
from hh_jupyter import HoneyHiveTracer, SettingError, SettingTypeError, trace
from hh_jupyter.testing import Backend


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
def test_an_error_states_the_setting_its_value_and_the_rule(
    settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=r"HoneyHiveTracer\.init") as caught:
        HoneyHiveTracer.init(**settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


HH: Any = hh_jupyter
SECRET: Any = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
ONCE = "It is read once, when the function is decorated; use enrich_span() to add values of one call."


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda: HoneyHiveTracer.init(SECRET),
            (
                "HoneyHiveTracer.init: config must be a dict or a config object; got a str. Pass settings by "
                "name: api_key=..."
            ),
        ),
        (
            lambda: HoneyHiveTracer(None, dict),
            (
                "HoneyHiveTracer: session_config must be a dict or a config object; got the class dict. Pass "
                "settings by name: api_key=..."
            ),
        ),
        (
            lambda: HoneyHiveTracer.init(config={"sorce": "qa"}),
            "HoneyHiveTracer.init: unknown setting sorce. Did you mean source?",
        ),
        (
            lambda: HoneyHiveTracer.init(multi_instance="yes"),
            (
                "HoneyHiveTracer.init: multi_instance must be True or False; got 'yes' (str). True creates a tracer "
                "in addition to the notebook's."
            ),
        ),
        (
            lambda: HH.trace(event_type=5),
            "trace: event_type must be text; got 5 (int). Use one of model, tool, chain.",
        ),
        (
            lambda: HH.trace(event_name=5),
            "trace: event_name must be text; got 5 (int). Omit it to use the function's own name.",
        ),
        (
            lambda: HH.trace(tracer=SECRET),
            (
                "trace: tracer must be a HoneyHiveTracer; got '[redacted: api_key]' (str). Omit it to use the tracer "
                "that is current at each call."
            ),
        ),
        (
            lambda: HH.trace(capture_inputs="no"),
            "trace: capture_inputs must be True or False; got 'no' (str). Omit it to use the tracer's setting.",
        ),
        (
            lambda: HH.trace(inputs=len),
            f"trace: inputs must be a dict; got <built-in function len> (builtin_function_or_method). {ONCE}",
        ),
        (
            lambda: HH.trace(session_id=dict),
            f"trace: session_id must be text; got <class 'dict'> (type). {ONCE}",
        ),
        (lambda: HH.trace(event_nam="x"), "trace: unknown parameter event_nam. Did you mean event_name?"),
        (lambda: HH.trace(colour="red"), "trace: unknown parameter colour. Pass extra fields in metadata={...}."),
        (
            lambda: HH.trace(event_type="tool")(5),
            "trace: expected a function; got 5. To trace all methods of a class, use trace_class.",
        ),
        (
            lambda: HH.trace(dict),
            "trace: expected a function; got the class dict. To trace all methods of a class, use trace_class.",
        ),
        (
            lambda: HH.trace_class("Agent"),
            "trace_class: cls must be a class; got 'Agent' (str). To trace a function, use trace.",
        ),
        (
            lambda: HH.set_default_tracer(5),
            (
                "set_default_tracer: tracer must be a HoneyHiveTracer; got 5 (int). Create one with "
                "HoneyHiveTracer.init()."
            ),
        ),
    ],
)
def test_a_mistake_in_the_set_up_raises_and_says_what_to_do(act: Callable[[], object], message: str) -> None:
    with pytest.raises(SettingTypeError) as caught:
        act()
    assert str(caught.value) == message
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


class _Model:
    """Has the `model_dump` method of a pydantic model."""

    def model_dump(self, *, exclude_unset: bool) -> dict[str, Any]:
        assert exclude_unset
        return {"source": "model", "project": None}


@pytest.mark.parametrize("config", [{"source": "model"}, SimpleNamespace(source="model"), _Model()])
def test_keywords_override_the_settings_of_config_objects(config: Any) -> None:
    with HoneyHiveTracer.init(config, {"session_name": "night"}, {"run_id": "r1"}, run_id="r2") as tracer:
        assert (tracer.source, tracer.session_name, tracer.run_id) == ("model", "night", "r2")
    with HoneyHiveTracer(config, {"source": "later"}, {"source": None}) as tracer:
        assert tracer.source == "later"


class _AnyObject:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


@pytest.mark.parametrize("config", [_AnyObject(), _AnyObject(colour=None), SimpleNamespace()])
def test_a_config_object_without_any_setting_raises(config: Any) -> None:
    with pytest.raises(
        SettingTypeError, match=r"a dict or a config object; got a .*, none of whose attributes is a setting"
    ):
        HoneyHiveTracer.init(config=config)
    with HoneyHiveTracer.init(config=_AnyObject(timeout=5)) as tracer:
        assert tracer.source == "dev"


def test_a_decorator_accepts_data_of_any_type() -> None:
    odd: Any = {"metadata": "v1", "outputs": [1], "tags": ["a"], "session_id": uuid.uuid4(), "error": 5}
    assert trace(event_type="tool", **odd)(len)([1]) == 1


def test_no_secret_appears_in_an_error_or_a_repr() -> None:
    with pytest.raises(SettingError) as caught:
        HoneyHiveTracer.init(ingestion_api_key="hh_ingst_too_short_to_be_true")
    assert "too_short" not in str(caught.value)
    with HoneyHiveTracer.init(api_key="hh_secret_key_0001", test_mode=True) as tracer:
        assert "hh_secret" not in repr(tracer) + repr(tracer.settings)


def test_a_wrong_environment_variable_warns_once_and_the_safe_value_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HH_API_URL", "ftp://example")
    monkeypatch.setenv("HH_TEST_MODE", "yes")
    with HoneyHiveTracer.init() as tracer:
        assert tracer.settings.server_url.startswith("https://")
        assert tracer.settings.origins["test_mode"] == "HH_TEST_MODE"
    assert [record.message for record in caplog.records] == [
        (
            "HH_API_URL must be a URL that starts with http:// or https://; got 'ftp://example'. "
            "To be safe, nothing is sent (local mode)."
        )
    ]


def test_tracing_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HH_DISABLE_TRACING", "1")
    with HoneyHiveTracer.init() as tracer, tracer.start_span("nothing") as span:
        assert not span.is_recording()


def test_verbose_logs_why_spans_cannot_be_sent_but_never_the_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Backend(refuse=True) as unreachable:
        settings = {"api_key": "hh_secret_key_0001", "server_url": unreachable.url, "exit_flush_seconds": 0.0}
        with HoneyHiveTracer.init(verbose=True, **settings) as tracer:
            output = ""
            for _ in range(100):  # The first flush may end before the URL has been tried.
                assert not tracer.force_flush(200)
                output += capsys.readouterr().err
                if "cannot be reached" in output:
                    break
        output += capsys.readouterr().err
        assert "cannot be reached" in output
        assert "hh_secret" not in output
        with HoneyHiveTracer.init(**settings) as tracer:
            assert not tracer.force_flush(200)
        assert "cannot be reached" not in capsys.readouterr().err


def test_verbose_stays_on_while_any_tracer_is_verbose() -> None:
    ours = logging.getLogger("hh_jupyter").handlers
    with HoneyHiveTracer.init(verbose=True):
        with HoneyHiveTracer.init():
            assert len(ours) == 1
        assert len(ours) == 1
    assert not ours
