"""Signals that interrupt the main thread anywhere lose no span and leave no lock behind.

A signal's handler runs between any two instructions of the main thread, also inside `end()` and `force_flush()`. What
a test sees depends on the moment, so each of them tries many.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES
from tests.export.processes import Program, counts, delivered, run
from tests.export.troubled import mend

TERMINATED = """
def child(number, tell_parent):
    tracer = tracer_for(spool=False, exit_flush_seconds=20.0)
    made = 0
    while True:
        with tracer.start_span(f"{number}: {made}"):
            pass
        os.write(tell_parent, b"%d %d\\n" % (number, made))
        made += 1
        tracer.export_state()
        if made % 5 == 0:
            tracer.force_flush(2)

tracer_for(spool=False).shutdown()  # Loads what each child needs.
draw = random.Random(int(sys.argv[4]))
for number in range(int(sys.argv[3])):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            child(number, write)
        finally:
            os._exit(1)
    os.close(write)
    said = os.read(read, 12)
    time.sleep(draw.uniform(0.0, 0.04))
    said += os.read(read, 65536)  # What has ended by now; the child goes on until its flush is done.
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 15
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0 and time.monotonic() < end:
        time.sleep(0.002)
        if draw.random() < 0.01:
            os.kill(pid, signal.SIGTERM)
    if ended[0] == 0:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        tell("stuck", number)
    os.close(read)
    tell("ended", number, os.waitstatus_to_exitcode(ended[1]), said[: said.rindex(b"\\n")].split()[-1].decode())
os._exit(0)
"""


def storm_of_sigterm(backend: Backend, folder: Path, number: int, seed: int) -> None:
    """Terminate this many processes at random moments; none may hang or lose a span that ended before."""
    lines = [line.split() for line in run(TERMINATED, backend.url, folder, str(number), str(seed)).splitlines()]
    assert [line for line in lines if line[0] == "stuck"] == []
    assert {int(code) for _, _, code, _ in lines} == {-signal.SIGTERM}
    expected = {f"{process}: {made}" for _, process, _, last in lines for made in range(int(last) + 1)}
    assert len(lines) == number
    assert expected - counts(backend).keys() == set()


def test_twenty_processes_that_are_terminated_anywhere_send_all_spans(backend: Backend, tmp_path: Path) -> None:
    storm_of_sigterm(backend, tmp_path, 20, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2, 6))
def test_fifty_processes_that_are_terminated_anywhere_send_all_spans(
    backend: Backend, tmp_path: Path, seed: int
) -> None:
    storm_of_sigterm(backend, tmp_path, 50, seed)


INTERRUPTED = """
spool, seconds, seed = sys.argv[3:]
tracer = tracer_for(spool=spool == "spool", exit_flush_seconds=20.0)
draw = random.Random(int(seed))
ended, armed = [], False

def interrupt(*_):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
end = time.monotonic() + float(seconds)
number = interrupts = 0

def goes_on():  # Longer on a busy machine, until there were enough.
    return time.monotonic() < end or (interrupts <= 200 and time.monotonic() < end + 20)

while goes_on():
    try:
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.0002, 0.006))
        armed = True
        while goes_on():
            for _ in range(draw.randrange(20)):
                number += 1
                with tracer.start_span(str(number)):
                    pass
                ended.append(number)
            tracer.export_state()
            tracer.force_flush(draw.choice((1, 20, 200)))
        armed = False
    except KeyboardInterrupt:
        interrupts += 1
tracer.force_flush(20_000)  # What was interrupted may be counted as a failure once.
with tracer.start_span("after"):
    pass
tell(tracer.force_flush(20_000), interrupts, *ended)
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spool", ["spool", "memory"])
def test_after_a_storm_of_interrupts_a_flush_succeeds_and_every_span_has_arrived(
    backend: Backend, tmp_path: Path, spool: str, seed: int
) -> None:
    with Program(INTERRUPTED, backend.url, tmp_path, spool, "4", str(seed)) as program:
        code, output = program.wait(timeout=50)
        assert code == 0, program.errors()
        flushed, interrupts, *ended = output.split()
    assert (flushed, int(interrupts) > 200) == ("True", True)
    assert set(ended) - counts(backend).keys() == set()
    assert counts(backend)["after"] == 1


CTRL_C = """
tracer = tracer_for(exit_flush_seconds=20.0)
draw = random.Random(int(sys.argv[3]))
ended = []

def press():
    for _ in range(60):
        time.sleep(draw.uniform(0.005, 0.02))
        os.kill(os.getpid(), signal.SIGINT)
    done.append(True)

def interrupt(*_):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupt)
done, armed = [], False
number = interrupts = 0
threading.Thread(target=press, daemon=True).start()
while not done:
    try:
        armed = True
        while not done:
            number += 1
            with tracer.start_span(str(number), attributes={"text": "x" * 2000}):
                time.sleep(0.0005)
            ended.append(number)
        armed = False
    except KeyboardInterrupt:
        interrupts += 1
tell(tracer.force_flush(20_000), interrupts, *ended)
os._exit(0)
"""


def test_ctrl_c_while_spans_are_made_loses_none_that_has_ended(backend: Backend, tmp_path: Path) -> None:
    flushed, interrupts, *ended = run(CTRL_C, backend.url, tmp_path, "1").split()
    assert (flushed, int(interrupts) > 30) == ("True", True)
    assert set(ended) - counts(backend).keys() == set()


EXITING = """
signal.signal(signal.SIGINT, signal.default_int_handler)  # Background processes of a shell ignore it.
tracer = tracer_for(exit_flush_seconds=30.0)
work(tracer, range(int(sys.argv[3])))
tracer.wait_processed()
wait_until(lambda: on_disk(tracer) == int(sys.argv[3]))
tell("exits")
"""


@pytest.mark.parametrize("behaviour", [{"delay": {TRACES: 0.3}}, {"hang": ("/",)}], ids=["slow", "hangs"])
def test_an_exit_that_is_interrupted_again_and_again_ends_and_loses_nothing(
    tmp_path: Path, behaviour: dict[str, Any]
) -> None:
    """The next process sends what is left."""
    with Backend(**behaviour) as backend:
        with Program(EXITING, backend.url, tmp_path, "20") as program:
            assert program.hear() == "exits"
            ended = threading.Event()

            def press(program: Program = program, ended: threading.Event = ended) -> None:
                while not ended.wait(0.03):
                    program.interrupt()

            storm = threading.Thread(target=press)
            storm.start()
            try:
                program.wait(timeout=20)
            finally:
                ended.set()
                storm.join()
        mend(backend)
        expected = set(map(str, range(20)))
        assert expected <= delivered(backend, tmp_path, lambda found: expected <= found.keys()).keys()
