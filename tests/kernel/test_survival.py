"""A killed kernel loses no spans: the next one with the same key and backend sends them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.conftest import KEY, StartKernel


def test_the_next_kernel_sends_what_a_killed_one_could_not(start_kernel: StartKernel) -> None:
    with Backend(refuse=True) as backend:
        env = {"HH_API_KEY": KEY, "HH_API_URL": backend.url, "HH_SESSION_NAME": "test-session"}
        killed = start_kernel(**env, HH_CELL_FLUSH_SECONDS="0.1")
        text = killed.run("span('outside')").output.text
        assert "kept on disk" in text
        killed.run("%%hh_session triage --metadata team=support\nspan('inside')")
        killed.stop(now=True)
        backend.listen()
        start_kernel(**env)  # Loading the extension is enough.
        assert backend.wait_for(lambda backend: len(backend.spans()) == 2)
        starts = {session["session_id"]: session["session_name"] for session in backend.sessions()}
        found = {span["name"]: starts[span["attributes"]["honeyhive.session_id"]] for span in backend.spans()}
        assert found == {"outside": "test-session", "inside": "triage"}
        order = [request.path for request in backend.requests if request.accepted]
        assert order[0] == "/session/start"


@pytest.mark.slow
def test_without_a_spool_the_output_says_that_spans_are_kept_in_the_kernel(start_kernel: StartKernel) -> None:
    with Backend(refuse=True) as backend:
        kernel = start_kernel(HH_API_KEY=KEY, HH_API_URL=backend.url, HH_CELL_FLUSH_SECONDS="0.1", HH_SPOOL="off")
        assert "kept in this kernel" in kernel.run("span('x')").output.text


def test_a_kernel_shutdown_sends_first_and_stores_what_it_could_not_send(
    start_kernel: StartKernel, tmp_path: Path
) -> None:
    env = {"HH_API_KEY": KEY, "HH_CELL_FLUSH_SECONDS": "0.01", "HH_FLUSH_INTERVAL": "60"}
    with Backend(delay={"/": 0.3}) as slow, Backend(hang=True) as hanging:
        ending = start_kernel(**env, HH_API_URL=slow.url)
        ending.run("for number in range(50): span('sent')")
        ending.stop()
        assert len(slow.spans("sent")) == 50
        ending = start_kernel(**env, HH_API_URL=hanging.url)
        ending.run("span('kept')")
        ending.stop()
    assert any((tmp_path / "data").rglob("spool-*.sqlite3"))
