"""After a cell its spans have been sent, or the output says why not and where they are kept."""

from __future__ import annotations

import pytest

from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES
from tests.kernel.conftest import KEY, StartKernel
from tests.kernel.driver import Kernel

SLOW_TO_DRAW = """
from hh_jupyter.notebook.places import KernelPlace
show, elsewhere = KernelPlace.show, threading.Event()

def slow(self, view, display_id, *, update):
    if threading.current_thread() is not threading.main_thread():
        show(self, view, display_id, update=update)
        elsewhere.set()
        return
    if update and view.export.word == "Sending 1":
        hh.get_tracer().force_flush(30_000)
        if drawn_elsewhere:
            get_ipython()._hh._outputs.refresh()
            elsewhere.wait(2)
    show(self, view, display_id, update=update)

KernelPlace.show = slow
"""
"""Lets spans be sent between the moment when an output is drawn and the moment when it is shown."""


def test_all_spans_of_a_cell_are_sent_before_the_next_cell(sending: Kernel, backend: Backend) -> None:
    for number in range(3):
        cell = sending.run(f"for i in range(20): span('s-{number}')")
        assert len(backend.spans(f"s-{number}")) == 20
        assert "sent" in cell.output.text
        assert "Sent" in cell.output.html


def test_a_cell_session_is_registered_before_its_spans_and_an_unused_one_is_not(
    sending: Kernel, backend: Backend
) -> None:
    sending.run("%%hh_session unused\n1")
    cell = sending.run(
        "%%hh_session used --metadata team=support --input n={1 + 1} --user 7 --source prod\nspan('in-session')"
    )
    assert [session["session_name"] for session in backend.sessions()] == ["used"]
    (session,) = backend.sessions()
    (span,) = backend.spans("in-session")
    assert span["attributes"]["honeyhive.session_id"] == session["session_id"]
    assert span["attributes"]["honeyhive.source"] == session["source"] == "prod"
    assert session["metadata"] == {"team": "support", "cell": str(cell.count), "run": 1}
    assert session["inputs"] == {"n": 2}
    assert session["user_properties"] == {"user_id": "7"}


def test_spans_outside_a_session_magic_belong_to_the_notebooks_session(sending: Kernel, backend: Backend) -> None:
    sending.run("span('plain')")
    sending.run("await asyncio.sleep(0)\nspan('plain')")
    (session,) = backend.sessions()
    assert session["session_name"] == "test-session"
    assert {span["attributes"]["honeyhive.session_id"] for span in backend.spans("plain")} == {session["session_id"]}


@pytest.mark.parametrize("behaviour", [{"refuse": True}, {"hang": ("/",)}], ids=["refuses", "hangs"])
def test_an_unreachable_backend_changes_only_the_export_state_in_the_output(
    start_kernel: StartKernel, behaviour: dict[str, object]
) -> None:
    with Backend(**behaviour) as backend:  # type: ignore[arg-type]
        kernel = start_kernel(HH_API_KEY=KEY, HH_API_URL=backend.url, HH_CELL_FLUSH_SECONDS="0.2")
        cells = [kernel.run(f"span('kept-{number}')\n'result'") for number in range(3)]
        for cell in cells:
            assert (cell.reply, cell.errors, cell.stderr, cell.results) == ("ok", [], "", ["'result'"])
            assert cell.output.text.splitlines()[0].endswith(("not sent", "sending 1"))
        assert "kept on disk" in cells[0].output.text
        assert "kept on disk" not in cells[1].output.text
        assert "3 made, 0 sent, 3 waiting" in kernel.run("%hh").stdout


def test_an_outage_has_one_notice_and_outputs_are_updated_when_it_is_over(start_kernel: StartKernel) -> None:
    with Backend(refuse=True) as backend:
        kernel = start_kernel(HH_API_KEY=KEY, HH_API_URL=backend.url, HH_CELL_FLUSH_SECONDS="0.2")
        first, second = kernel.run("span('first')"), kernel.run("span('second')")
        kernel.wait_for(lambda: "Not sent" in second.output.html, "the outage is not shown")
        kernel.wait_for(lambda: "sent when it is reachable again" in first.output.text, "the outage is not explained")
        assert "sent when it is reachable again" not in second.output.text
        backend.listen()
        # Each cell with spans retries.
        kernel.run("hh.get_tracer().force_flush(5000)")
        kernel.wait_for(lambda: all("Sent" in cell.output.html for cell in (first, second)), "recovery is not shown")
        assert "sent when it is reachable again" not in first.output.text
        assert len(backend.spans()) == 2


@pytest.mark.parametrize("drawn_elsewhere", [False, True])
def test_spans_sent_while_an_output_is_drawn_are_shown_as_sent_in_the_end(
    start_kernel: StartKernel, backend: Backend, *, drawn_elsewhere: bool
) -> None:
    """Even if the updater thread would otherwise show the newer state before the older one."""
    env = {"HH_CELL_FLUSH_SECONDS": "0", "HH_FLUSH_INTERVAL": "60"}
    kernel = start_kernel(HH_API_KEY=KEY, HH_API_URL=backend.url, **env)
    kernel.run(f"drawn_elsewhere = {drawn_elsewhere}\n{SLOW_TO_DRAW}")
    cell = kernel.run("span('a')")
    kernel.wait_for(lambda: "Sent" in cell.output.html, "the output shows an outdated state")
    assert any("Sending 1" in version["text/html"] for version in cell.output.versions)


def test_spans_of_a_slow_backend_stay_under_their_own_cells(start_kernel: StartKernel) -> None:
    with Backend(delay={TRACES: 0.5}) as backend:
        kernel = start_kernel(HH_API_KEY=KEY, HH_API_URL=backend.url, HH_CELL_FLUSH_SECONDS="0.05")
        first, second, third = kernel.run("span('a')"), kernel.run("span('b')"), kernel.run("1")
        kernel.wait_for(lambda: all("Sent" in cell.output.html for cell in (first, second)), "never sent")
        assert ("a" in first.output.text, len(first.outputs)) == (True, 1)
        assert ("b" in second.output.text, len(second.outputs)) == (True, 1)
        assert third.kinds == ["result"]
        assert kernel.unknown_updates == []


def test_ctrl_c_ends_the_wait_for_the_export_and_loses_nothing(start_kernel: StartKernel) -> None:
    with Backend(hang=("/",)) as backend:
        kernel = start_kernel(HH_API_KEY=KEY, HH_API_URL=backend.url, HH_CELL_FLUSH_SECONDS="50")
        cell = kernel.run(
            "import os, signal\n"
            "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
            "span('kept')\n'result'"
        )
        assert (cell.reply, cell.errors, cell.stderr, cell.results) == ("ok", [], "", ["'result'"])
        assert "kept on disk" in cell.output.text
        assert "1 made, 0 sent, 1 waiting" in kernel.run("%hh").stdout
