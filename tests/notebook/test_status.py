"""The texts of `%hh` and of loading describe the current settings."""

from __future__ import annotations

from typing import Any

from hh_jupyter.notebook.status import load_line, local_notice, status_text
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.settings import Settings, resolve


def status(settings: Settings, destination: str | None) -> str:
    return status_text(settings, ExportState(destination, made=3), session="s", traced=())


def settings(**environ: Any) -> Settings:
    return resolve({"api_key": "key-0123456789"}, environ=environ)


def test_the_text_says_that_tracing_is_off_and_which_variable_did_it() -> None:
    off = settings(HH_DISABLE_TRACING="1")
    for text in (load_line(off, None, "s"), status(off, None)):
        assert text.startswith("hh: tracing is off (HH_DISABLE_TRACING).")


def test_the_notice_of_test_mode_names_what_has_switched_it_on() -> None:
    assert local_notice(settings(HH_TEST_MODE="1")).text == "test_mode is on (HH_TEST_MODE)."
    assert local_notice(settings(HH_SPAN_NAME_FILTERS="GET")).text == "test_mode is on (HH_SPAN_NAME_FILTERS)."


def test_otlp_enabled_off_is_not_reported_as_local_mode() -> None:
    kept = settings(HH_OTLP_ENABLED="0", HH_API_URL="https://api.example")
    line = load_line(kept, "api.example", "s")
    assert "spans stay on this machine" in line
    assert "HH_OTLP_ENABLED" in line
    assert "Sessions and events go to api.example" in line
    assert "spans stay on this machine" in status(kept, None)
    assert "No key" not in local_notice(kept).text


def test_settings_that_are_set_are_shown_with_their_origin_and_without_secrets() -> None:
    text = status(settings(HH_BATCH_SIZE="7", HH_OTLP_HEADERS='{"X-A": "secret-text"}'), "api.example")
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("  ")}
    assert rows["api_key"] == ["set", "argument"]
    assert rows["otlp_headers"] == ["set", "HH_OTLP_HEADERS"]
    assert rows["batch_size"] == ["7", "HH_BATCH_SIZE"]
    assert rows["source"] == ["dev", "default"]
    assert "flush_interval" not in rows
    assert "secret" not in text
