"""A script: one tracer at module level with its startup session, and no lost spans at exit."""

from __future__ import annotations

import pytest

from hh_jupyter.testing import Backend
from tests.guide.conftest import Run, source_of
from tests.guide.received import QUESTION, SESSION, outputs_by_session, registered

SCRIPT = source_of("script")
UNFLUSHED = SCRIPT.replace("tracer.flush()", "pass")


def arrived(backend: Backend, spans: int = 1) -> None:
    """Check that the spans and the session's outputs have arrived, in the only session of the script."""
    (session_id,) = registered(backend, "nightly")
    found = backend.spans()
    assert [span["attributes"][QUESTION] for span in found] == ["why?"] * spans
    assert {span["attributes"][SESSION] for span in found} == {session_id}
    assert outputs_by_session(backend) == {session_id: {"reply": "WHY?"}}


def test_everything_has_arrived_when_flush_returns(backend: Backend, run: Run) -> None:
    assert "tracer.flush()" in SCRIPT
    # The process is killed right after: nothing that happens at exit can help.
    done = run(SCRIPT + "import os\nos._exit(7)\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    arrived(backend)


@pytest.mark.parametrize(
    "ending",
    ["", "raise SystemExit(3)", "raise ValueError('boom')", "raise KeyboardInterrupt"],
    ids=["the last line", "SystemExit", "an exception", "Ctrl-C"],
)
def test_a_script_without_flush_loses_no_spans(backend: Backend, run: Run, ending: str) -> None:
    done = run(f"{UNFLUSHED}{ending}\n")
    assert bool(done.returncode) == bool(ending)
    assert done.stdout == ""
    arrived(backend)


SLOW_IMPORT = """\
import sys, time
class Slow:
    def find_spec(self, name, path, target=None):
        if name == "requests":
            time.sleep(1.5)
sys.meta_path.insert(0, Slow())
"""


@pytest.mark.parametrize("ending", ["", "tracer.shutdown()"], ids=["the last line", "shutdown"])
def test_imports_do_not_count_towards_the_time_limit_at_exit(
    backend: Backend, run: Run, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """On a busy machine the modules that send are still being imported when a short program ends."""
    monkeypatch.setenv("HH_EXIT_FLUSH_SECONDS", "0.7")
    done = run(f"{SLOW_IMPORT}{UNFLUSHED}{ending}\n")
    assert (done.returncode, done.stderr) == (0, "")
    arrived(backend)


def test_an_error_in_the_script_is_recorded_and_propagates_unchanged(backend: Backend, run: Run) -> None:
    done = run(UNFLUSHED.replace("question.upper()", "question.no_such_method()"))
    assert "AttributeError: 'str' object has no attribute 'no_such_method'" in done.stderr
    (span,) = backend.spans()
    assert span["status"]["code"] == "ERROR"
    assert [event["name"] for event in span["events"]] == ["exception"]
