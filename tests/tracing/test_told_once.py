"""What is worth a word is said once in the life of a process, however often it happens."""

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
    """What a program of its own writes to standard error."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr.strip()


def test_ids_of_ones_own_are_told_of_with_the_first(local: HoneyHiveTracer, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5):
        local.create_session("chat", session_id=f"conversation {number} of the test of ids")
    (told,) = [record.message for record in caplog.records]
    assert told.startswith("session id 'conversation 0 of the test of ids' is no UUID: the name-based ")


def test_an_id_that_is_a_secret_is_not_told(local: HoneyHiveTracer, caplog: pytest.LogCaptureFixture) -> None:
    local.create_session("chat", session_id="sk-proj-abcdefghijklmnopqrstuvwxyz0123456789")
    assert "abcdefgh" not in caplog.text
    assert len(caplog.records) == 1


def test_an_unknown_event_type_is_sent_as_it_is_and_told_once(
    backend: Backend, tracer: HoneyHiveTracer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        hh.trace(event_type="modle", event_name="one")(len)("")
        hh.trace("my step")(len)("")
        with tracer.trace("two", event_type="foo"), tracer.trace("three", event_type="modle"):
            pass
    for event_type in ("model", "tool", "chain", "session", hh.EventType.model):
        hh.trace(event_type=event_type)(len)
    hint = " The first argument is event_type; for the span's name: event_name=..."
    rule = "event_type must be one of model, tool, chain; got"
    assert [record.message for record in caplog.records] == [
        f"trace: {rule} 'modle' (str). Did you mean model? It is sent as it is.",
        f"trace: {rule} 'my step' (str). It is sent as it is.{hint}",
        f"trace: {rule} 'foo' (str). It is sent as it is.",
    ]
    assert tracer.force_flush()
    sent = {span["name"]: span["attributes"]["honeyhive_event_type"] for span in backend.spans()}
    assert sent == {"one": "modle", "builtins.len": "my step", "two": "foo", "three": "modle"}


def test_values_without_end_do_not_fill_the_log_or_the_memory(
    local: HoneyHiveTracer, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2_000):
        with local.trace("work", event_type=f"type {number}"):
            pass
    assert len(caplog.records) == 1_000


def test_a_script_without_a_key_is_told_that_nothing_is_sent() -> None:
    assert run("import hh_jupyter as hh\nhh.HoneyHiveTracer.init()\nhh.HoneyHiveTracer.init(project='p')") == NO_KEY
    assert run("import hh_jupyter as hh\n@hh.trace\ndef work(): ...\nwork()\nhh.get_tracer()") == NO_KEY


@pytest.mark.parametrize("settings", ["test_mode", "disable_tracing", "exporter none", "otlp_enabled", "notebook"])
def test_who_asked_for_it_is_not_told(
    settings: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given: dict[str, dict[str, Any]] = {
        "exporter none": {"exporter": "none"},
        "otlp_enabled": {"otlp_enabled": False},
        "notebook": {},
    }
    if settings == "notebook":
        monkeypatch.setattr(context, "_host", lambda given: None)
    HoneyHiveTracer(**given.get(settings, {settings: True})).shutdown()
    assert caplog.messages == []


def test_an_experiment_without_a_key_is_not_told() -> None:
    program = (
        "import hh_jupyter as hh\nhh.evaluate(function=lambda x: x, dataset=[{'inputs': {}}], print_results=False)"
    )
    assert NO_KEY not in run(program)


def test_a_copy_on_disk_is_on_this_machine(caplog: pytest.LogCaptureFixture) -> None:
    HoneyHiveTracer.init(spool=True).shutdown()
    assert caplog.messages == [NO_KEY.replace("in this process", "on this machine")]


def test_a_provider_that_somebody_else_made_global_is_told_of_once() -> None:
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
    told = (
        "another OpenTelemetry provider is global: its spans are not taken; give instrumentors "
        "tracer_provider=tracer.provider"
    )
    assert run(program).splitlines() == ["joined", told]
    assert run("import hh_jupyter as hh\nfor _ in range(2): hh.HoneyHiveTracer.init(test_mode=True)") == ""


def test_verbose_says_where_spans_go_and_in_which_session(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    with HoneyHiveTracer.init(api_key="k", server_url=backend.url, session_name="nightly", verbose=True) as tracer:
        first = capsys.readouterr().err.splitlines()[0]
    where = backend.url.removeprefix("http://")
    assert first.endswith(f"<HoneyHiveTracer to {where}, session nightly>, session_id {tracer.session_id}")
