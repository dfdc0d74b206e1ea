"""Where no thread can be started, spans are recorded, and sent on the program's own thread while it flushes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hh_jupyter.testing import Backend
from tests.export.processes import Program
from tests.export.troubled import mend, wait_until

REFUSE = """
import logging
lines = []
class Noting(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
logging.getLogger("hh_jupyter").addHandler(Noting(logging.WARNING))
start = threading.Thread.start
def refuse(thread):
    if ALLOWED(thread.name):
        return start(thread)
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse

def timed(act):
    began = time.monotonic()
    return act(), time.monotonic() - began
"""
NONE = "lambda name: False"
WORKER_ONLY = "lambda name: name.endswith('worker')"
SENDERS_ONLY = "lambda name: not name.endswith('worker')"


@pytest.fixture(params=[NONE, WORKER_ONLY, SENDERS_ONLY], ids=["none", "worker only", "senders only"])
def refuse(request: pytest.FixtureRequest) -> str:
    return str(REFUSE.replace("ALLOWED", f"({request.param})"))


def test_a_flush_sends_everything_and_one_line_is_logged(refuse: str, tmp_path: Path) -> None:
    code = f"""{refuse}
tracer = tracer_for()
work(tracer, range(50), size=1000)
tell(tracer.wait_processed(5), tracer.force_flush(10_000))
work(tracer, range(5))
tell(tracer.force_flush(10_000), len(lines), "no thread can be started" in lines[0])
tracer.shutdown()
tell(tracer.force_flush(), len(lines))
"""
    with Backend() as backend, Program(code, backend.url, tmp_path) as program:
        assert [program.hear() for _ in range(3)] == ["True True", "True 1 True", "True 1"]
        assert len(backend.spans()) == 55
        assert len(backend.sessions()) == 1


def test_the_last_spans_are_sent_at_exit(refuse: str, tmp_path: Path) -> None:
    code = f"{refuse}\ntracer = tracer_for(exit_flush_seconds=5)\nwork(tracer, range(20))"
    with Backend() as backend, Program(code, backend.url, tmp_path) as program:
        assert program.wait()[0] == 0
        assert len(backend.spans()) == 20


def test_sigterm_sends_them_too(refuse: str, tmp_path: Path) -> None:
    code = f"{refuse}\ntracer = tracer_for(exit_flush_seconds=5)\nwork(tracer, range(20))\ntell('ready')\nlisten()"
    with Backend() as backend, Program(code, backend.url, tmp_path) as program:
        assert program.hear() == "ready"
        program.terminate()
        program.wait()
        assert len(backend.spans()) == 20


def test_what_could_not_be_sent_stays_on_disk(refuse: str, tmp_path: Path) -> None:
    code = f"{refuse}\ntracer = tracer_for()\nwork(tracer, range(20))\ntell(tracer.force_flush(300))"
    with Backend(statuses={"/": [503]}, repeat_last_status=True) as backend:
        with Program(code, backend.url, tmp_path) as program:
            assert program.hear() == "False"
            assert program.wait()[0] == 0
        mend(backend)
        code = f"{refuse}\ntracer = tracer_for()\nwhile True:\n    tracer.force_flush(1000); time.sleep(0.05)"
        with Program(code, backend.url, tmp_path):
            assert wait_until(lambda: len(backend.spans()) == 20)


def test_a_backend_that_hangs_delays_flushes_only_and_no_span(refuse: str, tmp_path: Path) -> None:
    code = f"""{refuse}
tracer = tracer_for()
done, seconds = timed(lambda: work(tracer, range(3000)))
tell(seconds < 8)
done, seconds = timed(lambda: tracer.force_flush(500))
tell(done, seconds < 3)
done, seconds = timed(lambda: work(tracer, range(100)))
tell(seconds < 3)
"""
    with Backend(hang=("/",)) as backend, Program(code, backend.url, tmp_path) as program:
        assert [program.hear() for _ in range(3)] == ["True", "False True", "True"]


def test_a_retry_happens_within_the_flush(refuse: str, tmp_path: Path) -> None:
    code = f"{refuse}\ntracer = tracer_for()\nwork(tracer, range(3))\ntell(tracer.force_flush(10_000))"
    with Backend(statuses={"/": [503, 200]}) as backend, Program(code, backend.url, tmp_path) as program:
        assert program.hear() == "True"
        assert len(backend.spans()) == 3


def test_an_interrupt_while_sending_reaches_the_program_and_loses_nothing(tmp_path: Path) -> None:
    code = f"""{REFUSE.replace("ALLOWED", f"({NONE})")}
signal.signal(signal.SIGALRM, signal.default_int_handler)
tracer = tracer_for(exit_flush_seconds=5)
for first in (0, 10, 20):
    work(tracer, range(first, first + 10))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        tell("flushed", tracer.force_flush(20_000))
    except KeyboardInterrupt:
        tell("interrupted")
listen()
tell(tracer.force_flush(10_000))
"""
    with Backend(hang=("/",)) as backend, Program(code, backend.url, tmp_path) as program:
        assert [program.hear() for _ in range(3)] == ["interrupted"] * 3
        backend.behaviour.hang = ()
        program.say()
        assert program.hear() == "True"
        assert len({span["name"] for span in backend.spans()}) == 30


@pytest.mark.parametrize(("arrives", "raises"), [("SIGINT", "KeyboardInterrupt"), ("SIGALRM", "TimeoutError")])
def test_what_a_handler_raises_while_spans_are_finalized_is_raised_afterwards_and_loses_nothing(
    tmp_path: Path, arrives: str, raises: str
) -> None:
    code = f"""{REFUSE.replace("ALLOWED", f"({NONE})")}
def handle(number, frame):
    raise {raises}("mine")
signal.signal(signal.{arrives}, handle)
signals = [signal.{arrives}]
def redact(key, value):
    if signals:
        os.kill(os.getpid(), signals.pop())
    return value
tracer = tracer_for(redact_with=redact)
work(tracer, range(10))
try:
    tell("flushed", tracer.force_flush(20_000))
except {raises} as error:
    tell(error)
state = tracer.export_state
tell(tracer.force_flush(10_000), state().dropped, state().rejected, state().requests_rejected)
"""
    with Backend() as backend, Program(code, backend.url, tmp_path) as program:
        assert program.hear() == "mine"
        assert program.hear() == "True 0 0 0"
        assert len({span["name"] for span in backend.spans()}) == 10


def test_a_timeout_of_the_program_is_raised_by_a_flush_and_not_swallowed(tmp_path: Path) -> None:
    code = f"""{REFUSE.replace("ALLOWED", f"({NONE})")}
def late(number, frame):
    raise TimeoutError("mine")
signal.signal(signal.SIGALRM, late)
tracer = tracer_for(exit_flush_seconds=5)
work(tracer, range(10))
signal.setitimer(signal.ITIMER_REAL, 0.5)
try:
    tell("flushed", tracer.force_flush(20_000))
except TimeoutError as error:
    tell(error, signal.getsignal(signal.SIGALRM) is late)
listen()
tell(tracer.force_flush(10_000))
"""
    with Backend(hang=("/",)) as backend, Program(code, backend.url, tmp_path) as program:
        assert program.hear() == "mine True"
        backend.behaviour.hang = ()
        program.say()
        assert program.hear() == "True"
        assert len({span["name"] for span in backend.spans()}) == 10


def test_threads_are_used_once_they_can_be_started(tmp_path: Path) -> None:
    code = f"""{REFUSE.replace("ALLOWED", "(lambda name: allowed)")}
allowed = False
tracer = tracer_for()
work(tracer, range(3))
tell(tracer.force_flush(5_000))
allowed = True
work(tracer, range(3))
tell(tracer.force_flush(5_000), sorted(one.name for one in threading.enumerate() if "hh_jupyter" in one.name))
work(tracer, range(3))
tell(tracer.force_flush(5_000))
"""
    with Backend() as backend, Program(code, backend.url, tmp_path) as program:
        assert program.hear() == "True"
        assert program.hear() == "True ['hh_jupyter-sender-0', 'hh_jupyter-worker']"
        assert program.hear() == "True"
        assert len(backend.spans()) == 9


def test_coroutines_wait_for_the_backend_without_a_thread(tmp_path: Path) -> None:
    code = f"""{REFUSE.replace("ALLOWED", f"({NONE})")}
import asyncio
tracer = tracer_for(disable_batch=True)
async def main():
    session = await tracer.acreate_session("made")
    with tracer.start_span("one"):
        pass
asyncio.run(main())
tell("done", len(lines))
"""
    with Backend() as backend, Program(code, backend.url, tmp_path) as program:
        assert program.hear() == "done 1"
        assert len(backend.spans()) == 1
