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


@pytest.mark.slow
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


@pytest.mark.slow
def test_spans_outside_a_session_magic_belong_to_the_notebooks_session(sending: Kernel, backend: Backend) -> None:
    sending.run("span('plain')")
    sending.run("await asyncio.sleep(0)\nspan('plain')")
    (session,) = backend.sessions()
    assert session["session_name"] == "test-session"
    assert {span["attributes"]["honeyhive.session_id"] for span in backend.spans("plain")} == {session["session_id"]}


@pytest.mark.slow
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


@pytest.mark.slow
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


CHANGES = (
    *("%hh display tree", "%hh display off", "%hh display auto"),
    *(
        f"%config HHJupyter.{change}"
        for change in (
            *("display = 'line'", "display_rows = 5", "saved_detail = 'full'", "saved_link = False"),
            *("app_url = 'https://app.example/{session_id}'", "cell_flush_seconds = 0.1", "source = 'staging'"),
            *("project = 'p'", "session_name = 'other'", "capture_inputs = False", "redact_keys = ['x']"),
            *("batch_size = 7", "api_timeout = 4.0", "export_timeout = 4.0", "spool_days = 3", "verbose = True"),
        )
    ),
    *("%env HH_DISPLAY=line", "%env HH_BATCH_SIZE=9", "%env HH_MAX_EVENTS=9", "%env HH_EXPERIMENT_NAME=e"),
    *("hh.HoneyHiveTracer.init()", "hh.HoneyHiveTracer.init(project='q')", f"hh.HoneyHiveTracer.init(api_key={KEY!r})"),
    *("%hh off", "%hh on", "%reload_ext hh_jupyter", "time.sleep(1)", "%reload_ext hh_jupyter", "time.sleep(1)"),
)


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 404])
def test_nothing_but_another_key_or_address_retries_what_the_backend_rejected(
    sending: Kernel, backend: Backend, status: int
) -> None:
    backend.force({"/": [status] * 200})
    sending.run("span('rejected')")
    asked = len(backend.requests)
    for change in CHANGES:
        cell = sending.run(change)
        assert cell.reply == "ok", cell
        sending.run("hh.get_tracer().force_flush(5_000)")
        assert len(backend.requests) == asked, change
    backend.force({})
    assert "1 rejected" in sending.run("%hh").stdout
    sending.run("span('next')")
    assert backend.spans("rejected") == []
    sending.run("%hh send")
    assert len(backend.spans("rejected")) == 1


def spans_line(kernel: Kernel) -> str:
    (line,) = [line for line in kernel.run("%hh").stdout.splitlines() if line.startswith("  spans ")]
    return line.split(maxsplit=1)[1]


@pytest.mark.slow
def test_off_and_on_change_no_count(start_kernel: StartKernel, backend: Backend) -> None:
    """Neither in a cell of its own nor within one, and what waits is still sent."""
    kernel = start_kernel(HH_API_KEY=KEY, HH_API_URL=backend.url, HH_CELL_FLUSH_SECONDS="0.1")
    kernel.run("for _ in range(3): span('first')")
    assert kernel.value("hh.get_tracer().force_flush(20_000)") is True
    counts = "3 made, 3 sent, 0 waiting, 0 rejected, 0 dropped"
    assert spans_line(kernel) == counts
    kernel.run("%hh off")
    kernel.run("span('unseen')")
    assert spans_line(kernel) == counts
    kernel.run("%hh on")
    assert spans_line(kernel) == counts
    kernel.run("%hh off\nspan('unseen')\n%hh on\nspan('seen')")
    kernel.wait_for(lambda: spans_line(kernel).startswith("4 made, 4 sent, 0 waiting"), "the span of the cell")

    backend.force({TRACES: [503] * 500})
    kernel.run("span('waits'); span('waits')")
    assert "2 spans from before can still be sent." in kernel.run("%hh off").stdout
    status = kernel.run("%hh").stdout
    assert "6 made, 4 sent, 2 waiting" in status
    assert "2 spans of this kernel not sent yet" in status
    assert kernel.value("hh.get_tracer().force_flush(300)") is False
    backend.force({})
    kernel.run("%hh on")
    assert kernel.value("hh.get_tracer().force_flush(20_000)") is True
    assert spans_line(kernel) == "6 made, 6 sent, 0 waiting, 0 rejected, 0 dropped"
    assert len(backend.sessions()) == 1, "the session was registered once"
    assert backend.spans("unseen") == []


def test_another_key_while_tracing_is_off_counts_anew_from_then_on(start_kernel: StartKernel, backend: Backend) -> None:
    kernel = start_kernel(HH_API_KEY=KEY, HH_API_URL=backend.url)
    kernel.run("span('first')")
    kernel.run("%hh off")
    kernel.run("%env HH_API_KEY=hh_another_key_of_no_account")
    assert spans_line(kernel).startswith("1 made, 1 sent")
    kernel.run("%hh on")
    assert spans_line(kernel).startswith("0 made, 0 sent")
    cell = kernel.run("span('second')")
    assert cell.output.text.splitlines()[0].endswith("  sent")
    assert spans_line(kernel) == "1 made, 1 sent, 0 waiting, 0 rejected, 0 dropped"
    assert backend.requests[-1].headers["authorization"] == "Bearer hh_another_key_of_no_account"
    assert len(backend.sessions()) == 2, "the project of the other key does not know the session"


def test_off_and_on_in_local_mode_change_no_count(fresh: Kernel) -> None:
    fresh.run("span('first')")
    for line in ("%hh off", "%hh on"):
        fresh.run(line)
        assert spans_line(fresh) == "1 made"
        assert "1 span of this kernel local only" in fresh.run("%hh").stdout


def test_a_flush_reports_what_was_rejected_after_an_earlier_cell(sending: Kernel, backend: Backend) -> None:
    backend.force({TRACES: [404]})
    sending.run("span('rejected')")
    assert sending.run("hh.get_tracer().force_flush()").results == ["False"]
    assert sending.run("hh.get_tracer().force_flush()").results == ["True"]
