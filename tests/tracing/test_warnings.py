"""Warnings are logged once per process, however often their cause occurs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from hh_jupyter.tracing import context

NO_KEY = "no api_key (HH_API_KEY): spans stay in this process and are not sent"


def run(program: str) -> str:
    """Run a program in its own process and return its standard error."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr.strip()


def test_custom_session_ids_warn_once(local: HoneyHiveTracer, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5):
        local.create_session("chat", session_id=f"conversation {number} of the test of ids")
    (message,) = [record.message for record in caplog.records]
    first = "session id 'conversation 0 of the test of ids' is not a UUID; using the UUID v5 derived from it, "
    assert message.startswith(first)
    assert message.endswith(". (Further ids are converted silently.)")


def test_a_secret_used_as_session_id_is_redacted_in_the_warning(
    local: HoneyHiveTracer, caplog: pytest.LogCaptureFixture
) -> None:
    local.create_session("chat", session_id="sk-proj-abcdefghijklmnopqrstuvwxyz0123456789")
    assert "abcdefgh" not in caplog.text
    assert len(caplog.records) == 1


def test_an_unknown_event_type_is_sent_unchanged_with_one_warning(
    backend: Backend, tracer: HoneyHiveTracer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        hh.trace(event_type="modle", event_name="one")(len)("")
        hh.trace("my step")(len)("")
        with tracer.trace("two", event_type="foo"), tracer.trace("three", event_type="modle"):
            pass
    for event_type in ("model", "tool", "chain", "session", hh.EventType.model):
        hh.trace(event_type=event_type)(len)
    hint = " The first argument is event_type; pass the span's name as event_name=..."
    rule = "event_type must be one of model, tool, chain; got"
    assert [record.message for record in caplog.records] == [
        f"trace: {rule} 'modle' (str). Did you mean 'model'? Sending 'modle' unchanged.",
        f"trace: {rule} 'my step' (str). Sending 'my step' unchanged.{hint}",
        f"trace: {rule} 'foo' (str). Sending 'foo' unchanged.",
    ]
    assert tracer.force_flush()
    sent = {span["name"]: span["attributes"]["honeyhive_event_type"] for span in backend.spans()}
    assert sent == {"one": "modle", "builtins.len": "my step", "two": "foo", "three": "modle"}


def test_the_number_of_distinct_warnings_is_limited(local: HoneyHiveTracer, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2_000):
        with local.trace("work", event_type=f"type {number}"):
            pass
    assert len(caplog.records) == 1_000


def test_a_script_without_an_api_key_warns_once_that_nothing_is_sent() -> None:
    assert run("import hh_jupyter as hh\nhh.HoneyHiveTracer.init()\nhh.HoneyHiveTracer.init(project='p')") == NO_KEY
    assert run("import hh_jupyter as hh\n@hh.trace\ndef work(): ...\nwork()\nhh.get_tracer()") == NO_KEY


@pytest.mark.parametrize("settings", ["test_mode", "disable_tracing", "exporter none", "otlp_enabled", "notebook"])
def test_no_warning_if_the_settings_or_the_notebook_ask_not_to_send(
    settings: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "exporter none": {"exporter": "none"},
        "otlp_enabled": {"otlp_enabled": False},
        "notebook": {},
    }
    if settings == "notebook":
        monkeypatch.setattr(context, "_host", lambda settings: None)
    HoneyHiveTracer(**arguments.get(settings, {settings: True})).shutdown()
    assert caplog.messages == []


def test_an_experiment_without_an_api_key_does_not_warn() -> None:
    program = (
        "import hh_jupyter as hh\nhh.evaluate(function=lambda x: x, dataset=[{'inputs': {}}], print_results=False)"
    )
    assert NO_KEY not in run(program)


def test_with_a_spool_the_warning_says_that_spans_stay_on_this_machine(caplog: pytest.LogCaptureFixture) -> None:
    HoneyHiveTracer.init(spool=True).shutdown()
    assert caplog.messages == [NO_KEY.replace("in this process", "on this machine")]


def test_a_global_provider_of_other_code_warns_once() -> None:
    program = """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from hh_jupyter import HoneyHiveTracer
        from hh_jupyter.settings import resolve
        trace.set_tracer_provider(TracerProvider())
        HoneyHiveTracer.from_settings(resolve({"test_mode": True}), name="joined", join=True)
        print("joined", file=__import__("sys").stderr)
        for _ in range(2):
            HoneyHiveTracer.init(test_mode=True)
        """
    message = (
        "other code has set the global TracerProvider; its spans are not recorded. Pass "
        "tracer_provider=tracer.provider to instrumentors."
    )
    assert run(program).splitlines() == ["joined", message]
    assert run("import hh_jupyter as hh\nfor _ in range(2): hh.HoneyHiveTracer.init(test_mode=True)") == ""


def test_verbose_logs_the_destination_and_the_session(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    with HoneyHiveTracer.init(api_key="k", server_url=backend.url, session_name="nightly", verbose=True) as tracer:
        first = capsys.readouterr().err.splitlines()[0]
    host = backend.url.removeprefix("http://")
    assert first.endswith(f"<HoneyHiveTracer session='nightly' destination={host}>, session_id {tracer.session_id}")
