"""Spans of a process pool are shown under the cell that uses it."""

from __future__ import annotations

from hh_jupyter.testing import Backend
from tests.kernel.driver import Kernel

POOL = """
from concurrent.futures import ProcessPoolExecutor
from hh_jupyter import trace, get_tracer
from hh_jupyter.runtimes.workers import traced

@trace(event_type="tool", event_name="answer")
def answer(question):
    with get_tracer().start_span("look up"):
        return question.upper()
"""


def test_spans_of_worker_processes_are_in_the_cell_its_output_and_its_session(
    sending: Kernel, backend: Backend
) -> None:
    sending.run(POOL)
    code = "%%hh_session refund\nwith ProcessPoolExecutor(2) as pool:\n    print(list(pool.map(traced(answer), 'abc')))"
    cell = sending.run(code)
    assert cell.reply == "ok", cell
    assert cell.stdout == "['A', 'B', 'C']\n"
    assert "6 spans" in cell.output.text
    later = sending.run("with ProcessPoolExecutor(1) as pool:\n    print(pool.submit(traced(answer), 'd').result())")
    assert "2 spans" in later.output.text
    sending.run("get_tracer().flush()")
    (refund,) = (session for session in backend.sessions() if session["session_name"] == "refund")
    found = [span["attributes"]["honeyhive.session_id"] for span in backend.spans("answer")]
    assert (len(found), found.count(refund["session_id"])) == (4, 3)
