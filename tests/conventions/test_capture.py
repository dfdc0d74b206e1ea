"""The variable that makes OpenTelemetry's official instrumentors capture messages; a value of the user is kept."""

from __future__ import annotations

from typing import Any

import pytest

from hh_jupyter.conventions.capture import VARIABLE, ContentCapture
from hh_jupyter.settings import Settings, resolve

V2 = "opentelemetry.instrumentation.openai_v2"
GENAI = "opentelemetry.instrumentation.genai.anthropic"


@pytest.fixture
def settings() -> Settings:
    return resolve({})


@pytest.mark.parametrize(
    ("module", "current", "value"),
    [
        (GENAI, True, "SPAN_ONLY"),
        (V2, True, "SPAN_ONLY"),
        (V2, False, "true"),
        ("opentelemetry.instrumentation.botocore", True, "true"),
        ("opentelemetry.instrumentation.openai", True, None),
        ("openinference.instrumentation.openai", True, None),
    ],
)
def test_each_instrumentor_gets_the_value_that_it_understands(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, module: str, current: bool, value: str | None
) -> None:
    """The common library decides which conventions are written: the old ones before its version 1."""
    monkeypatch.setattr("opentelemetry.util.genai.utils.is_experimental_mode", lambda: current)
    environ: dict[str, str] = {}
    ContentCapture(environ).switch_on("library", module, settings)
    assert environ.get(VARIABLE) == value


def test_the_variable_stays_until_the_last_instrumentor_is_off(settings: Settings) -> None:
    environ: dict[str, str] = {}
    capture = ContentCapture(environ)
    capture.switch_on("openai", V2, settings)
    capture.switch_on("anthropic", GENAI, settings)
    capture.switch_off("openai")
    capture.switch_off("never on")
    assert environ == {VARIABLE: "SPAN_ONLY"}
    capture.switch_off("anthropic")
    assert environ == {}


@pytest.mark.parametrize("value", ["", "EVENT_ONLY", "SPAN_ONLY"])
def test_an_existing_value_is_kept(settings: Settings, value: str) -> None:
    environ = {VARIABLE: value}
    capture = ContentCapture(environ)
    capture.switch_on("openai", V2, settings)
    capture.switch_off("openai")
    assert environ == {VARIABLE: value}


def test_a_value_changed_in_the_meantime_is_kept(settings: Settings) -> None:
    environ: dict[str, str] = {}
    capture = ContentCapture(environ)
    capture.switch_on("openai", V2, settings)
    environ[VARIABLE] = "EVENT_ONLY"
    capture.switch_off("openai")
    assert environ == {VARIABLE: "EVENT_ONLY"}


@pytest.mark.parametrize("off", [{"capture_inputs": False}, {"capture_outputs": False}])
def test_the_variable_is_not_set_if_the_settings_exclude_content(off: dict[str, Any]) -> None:
    environ: dict[str, str] = {}
    ContentCapture(environ).switch_on("openai", V2, resolve(off))
    assert environ == {}
