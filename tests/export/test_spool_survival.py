"""What a process could not send is on disk, however the process ended, and the next one sends it."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import SESSION_START, TRACES
from tests.export.processes import (
    ADOPTED_SECONDS,
    KEY,
    Program,
    counts,
    delivered,
    leave_behind,
    next_tracer,
    nothing_unsent_in,
    run,
    session_of,
    text,
)
from tests.export.troubled import EVENT, StrictBackend, create_event, make_rated_span, updates

WINDOW_SECONDS = 1.0
"""How long before a kill a span must have ended to be on disk. On an idle machine a tenth of it is enough."""

LEAVE = """
key, ending = sys.argv[3:]
tracer = tracer_for(key or None)
session_id = tracer.create_session("made by the first")
tracer.enrich_session(outputs={"done": True})
work(tracer, range(250))
wait_until(lambda: on_disk(tracer, session_id) == 250)
tell(session_id)
if ending == "kill":
    die()
if ending == "_exit":
    os._exit(0)
"""


@pytest.mark.parametrize(("ending", "code"), [("kill", -signal.SIGKILL), ("_exit", 0), ("exit", 0)])
def test_the_next_process_delivers_what_the_previous_one_could_not(tmp_path: Path, ending: str, code: int) -> None:
    folder = tmp_path / "made by the first"
    with Backend(refuse=True) as backend:
        session_id = run(LEAVE, backend.url, folder, KEY, ending, ended=code)
        backend.listen()
        arrived = delivered(backend, folder, lambda arrived: arrived.total() >= 250)
        assert arrived == Counter(map(str, range(250)))
        assert {span["attributes"]["honeyhive.session_id"] for span in backend.spans()} == {session_id}
        (update,) = [request.body for request in backend.requests if request.path == "/events"]
        assert (update["event_id"], update["outputs"]) == (session_id, {"done": True})
        assert "made by the first" in [session["session_name"] for session in backend.sessions()]
        began = [
            number
            for number, request in enumerate(backend.requests)
            if request.path == "/session/start" and request.body["session"]["session_id"] == session_id
        ]
        assert began[0] < [request.path for request in backend.requests].index(TRACES)
        assert nothing_unsent_in(folder, backend)


def test_a_process_that_ends_says_that_the_rest_is_kept_for_the_next(tmp_path: Path) -> None:
    with (
        Backend(refuse=True) as backend,
        Program("work(tracer_for(), [1])", backend.url, tmp_path) as sending,
        Program("work(tracer_for(None, exit_flush_seconds=20.0), [1])", backend.url, tmp_path) as local,
    ):
        assert (sending.wait()[0], local.wait()[0]) == (0, 0)
        assert "kept on disk for the next process" in sending.errors()
        assert "kept on disk" not in local.errors()


UNDER_LOAD = """
tracer = tracer_for()
work(tracer, ["first"])
number = 0
tell("ready")
while True:
    for _ in range(8):
        with tracer.start_span(f"span {number}", attributes={"text": "x" * 500}):
            pass
        number += 1
    tell(number - 1, time.time())
    time.sleep(0.004)
"""


def killed_under_load(backend: Backend, folder: Path, seed: int, accepted: int = 0) -> tuple[float, int]:
    """Kill a program that makes spans at a random moment after `accepted` of them were accepted.

    Returns the moment in Unix seconds and the number of the last span that must be on disk.
    """
    with Program(UNDER_LOAD, backend.url, folder) as program:
        program.hear()
        assert backend.wait_for(lambda backend: len(backend.spans()) >= accepted, timeout=30)
        time.sleep(WINDOW_SECONDS + random.Random(seed).uniform(0.3, 0.8))
        killed = time.time()
        whole, _, _ = program.kill().rpartition("\n")  # The last line may be incomplete.
    lines = [line.split() for line in whole.splitlines()]
    return killed, max(int(number) for number, moment in lines if float(moment) < killed - WINDOW_SECONDS)


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 30))]


@pytest.mark.parametrize("seed", SEEDS)
def test_kill_9_at_a_random_moment_loses_no_span_that_ended_before(tmp_path: Path, seed: int) -> None:
    with Backend(refuse=True) as backend:
        _, last = killed_under_load(backend, tmp_path, seed)
        expected = {"first", *(f"span {number}" for number in range(last + 1))}
        backend.listen()
        arrived = delivered(backend, tmp_path, lambda arrived: expected <= arrived.keys())
    assert set(arrived.values()) == {1}


@pytest.mark.parametrize("seed", SEEDS)
def test_kill_9_while_sending_loses_nothing_and_sends_little_twice(tmp_path: Path, seed: int) -> None:
    with Backend(delay={TRACES: 0.05}) as backend:
        killed, last = killed_under_load(backend, tmp_path, seed, accepted=200)
        accepted = {
            span["name"]
            for request in backend.requests
            if request.path == TRACES and request.accepted and request.received < killed - WINDOW_SECONDS
            for span in request.body
        }
        assert accepted
        expected = {"first", *(f"span {number}" for number in range(last + 1))}
        with next_tracer(backend.url, tmp_path, exit_flush_seconds=20.0):
            assert backend.wait_for(lambda backend: expected <= counts(backend).keys(), timeout=30)
            time.sleep(ADOPTED_SECONDS)  # For the spans that ended later.
        arrived = counts(backend)
        assert nothing_unsent_in(tmp_path, backend)
    assert {arrived[name] for name in accepted} == {1}


ADOPT = """
tell("ready")
listen()
tracer = tracer_for(session_name="adopts")
tell("started")
listen()
tracer.force_flush()
tell("done")
listen()
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_process_killed_while_adopting_loses_nothing(tmp_path: Path, seed: int) -> None:
    with Backend(refuse=True) as backend:
        for file in range(3):
            leave_behind(tmp_path, backend.url, range(100 * file, 100 * file + 100), size=20_000)
        with Program(ADOPT, backend.url, tmp_path) as killed:
            killed.hear()
            killed.say()
            killed.hear()
            time.sleep(random.Random(seed).uniform(0.45, 0.65))
            killed.kill()
        backend.listen()
        arrived = delivered(backend, tmp_path, lambda arrived: len(arrived) == 300)
        assert max(arrived.values()) <= 2
        assert nothing_unsent_in(tmp_path, backend)


def test_only_one_of_two_processes_that_adopt_gets_each_span(tmp_path: Path) -> None:
    with Backend(refuse=True) as backend, ExitStack() as stack:
        for file in range(4):
            leave_behind(tmp_path, backend.url, range(50 * file, 50 * file + 50), size=5_000)
        backend.listen()
        programs = [stack.enter_context(Program(ADOPT, backend.url, tmp_path)) for _ in range(2)]
        for act in (Program.hear, Program.say, Program.hear):
            for program in programs:
                act(program)
        assert backend.wait_for(lambda backend: len(counts(backend)) == 200, timeout=30)
        for act in (Program.say, Program.hear):
            for program in programs:
                act(program)
        time.sleep(ADOPTED_SECONDS)
    assert counts(backend) == Counter(map(str, range(200)))


KEEP = """
tracer = tracer_for()
work(tracer, range(100))
wait_until(lambda: on_disk(tracer) == 100)
tell("kept")
listen()
"""


def test_what_a_running_process_keeps_is_not_adopted(tmp_path: Path) -> None:
    with Backend(refuse=True) as backend:
        with Program(KEEP, backend.url, tmp_path) as owner:
            owner.hear()
            with Backend() as other, next_tracer(other.url, tmp_path) as tracer:
                work = tracer.create_session("mine")
                with tracer.start_span("mine"):
                    pass
                time.sleep(ADOPTED_SECONDS)
                assert counts(other) == {"mine": 1}
                assert work in [session["session_id"] for session in other.sessions()]
            owner.stop()
            backend.listen()
            assert nothing_unsent_in(tmp_path, backend)
            owner.kill()
        assert delivered(backend, tmp_path, lambda arrived: len(arrived) == 100) == Counter(map(str, range(100)))


@pytest.mark.parametrize("key", ["another-key-of-the-same-backend", None])
def test_spans_of_another_key_stay_where_they_are(tmp_path: Path, key: str | None) -> None:
    with Backend(refuse=True) as backend:
        leave_behind(tmp_path, backend.url, range(50))
        backend.listen()
        with next_tracer(backend.url, tmp_path, key) as tracer:
            with tracer.start_span("mine"):
                pass
            time.sleep(ADOPTED_SECONDS)
            assert counts(backend) == ({} if key is None else {"mine": 1})
        arrived = delivered(backend, tmp_path, lambda arrived: len(arrived) >= 50)
    assert arrived - Counter(["mine"]) == Counter(map(str, range(50)))


@pytest.mark.parametrize("trouble", ["refused", "slow"])
@pytest.mark.parametrize("create", [create_event, make_rated_span])
def test_the_next_process_sends_no_update_before_the_creation_of_its_event(
    tmp_path: Path, create: Callable[[HoneyHiveTracer], None], trouble: str
) -> None:
    with Backend(refuse=True) as backend:
        with next_tracer(backend.url, tmp_path) as tracer:
            create(tracer)
            assert tracer.wait_processed()
            tracer.enrich_span(event_id=EVENT, feedback={"ok": True})
        strict = StrictBackend(backend, trouble)
        backend.behaviour.delay = {SESSION_START: 0.05}  # Several requests are sent at once.
        backend.listen()
        with next_tracer(backend.url, tmp_path):
            assert backend.wait_for(updates)
        assert (strict.refused, [request.accepted for request in updates(backend)]) == (0, [True])


@pytest.mark.parametrize("create", [create_event, make_rated_span])
def test_updates_of_local_events_are_sent_after_them_or_deleted_with_their_session(
    backend: Backend, tmp_path: Path, create: Callable[[HoneyHiveTracer], None]
) -> None:
    strict = StrictBackend(backend, "refused")

    def kept(tracer: HoneyHiveTracer) -> bool:
        assert tracer.wait_processed()
        return any(b"a private reason" in path.read_bytes() for path in tmp_path.iterdir())

    with next_tracer(backend.url, tmp_path, None) as tracer:
        assert tracer.session_id is not None
        create(tracer)
        tracer.enrich_span(event_id=EVENT, feedback={"why": "a private reason"})
        assert kept(tracer)
        tracer.configure(dataclasses.replace(tracer.settings, api_key=KEY, server_url=backend.url, test_mode=False))
        assert tracer.send_again([tracer.session_id]) > 0
        assert tracer.force_flush()
        assert (strict.refused, len(updates(backend))) == (0, 1)
        assert tracer.spool is not None
        tracer.spool.clear([tracer.session_id])
        assert not kept(tracer)


def test_local_spans_are_sent_only_when_their_session_is_named(backend: Backend, tmp_path: Path) -> None:
    session_id = run(LEAVE, backend.url, tmp_path, "", "kill", ended=-signal.SIGKILL)
    with next_tracer(backend.url, tmp_path) as tracer:
        time.sleep(ADOPTED_SECONDS)
        assert tracer.send_again() == 0
        assert tracer.send_again([session_of("another")]) == 0
        assert backend.spans() == []
        assert tracer.send_again([session_id]) > 0
        assert tracer.force_flush()
        assert tracer.send_again([session_id]) == 0
    assert {span["attributes"]["honeyhive.session_id"] for span in backend.spans()} == {session_id}
    assert counts(backend) == Counter(map(str, range(250)))
    assert "made by the first" in [session["session_name"] for session in backend.sessions()]


def test_local_spans_of_this_process_are_sent_when_their_session_is_named(backend: Backend, tmp_path: Path) -> None:
    with next_tracer(backend.url, tmp_path, None) as tracer:
        named, other = tracer.new_session("named"), tracer.new_session("other")
        for session in (named, other):
            tracer.create_session(session.name, session_id=session.id)
            with tracer.start_span(f"of {session.name}"):
                pass
        assert tracer.force_flush()
        tracer.configure(dataclasses.replace(tracer.settings, api_key=KEY, server_url=backend.url, test_mode=False))
        assert tracer.send_again([named.id]) > 0
        assert tracer.force_flush()
        assert counts(backend) == {"of named": 1}
    with Backend(refuse=True) as nowhere:
        with next_tracer(nowhere.url, tmp_path) as tracer:
            assert tracer.send_again([other.id]) > 0
        nowhere.listen()
        assert delivered(nowhere, tmp_path, lambda arrived: arrived["of other"]) == {"of other": 1}


def test_rejected_spans_stay_rejected_until_they_are_sent_again(tmp_path: Path) -> None:
    with Backend(statuses={TRACES: [422]}, repeat_last_status=True) as backend:
        with next_tracer(backend.url, tmp_path) as tracer:
            with tracer.start_span("rejected"):
                pass
            assert not tracer.force_flush()
            assert tracer.export_state().rejected == 1
        backend.force({})
        with next_tracer(backend.url, tmp_path) as tracer:
            time.sleep(ADOPTED_SECONDS)
            assert (counts(backend), tracer.export_state().rejected) == ({}, 1)
        with next_tracer(backend.url, tmp_path) as tracer:
            time.sleep(ADOPTED_SECONDS)
            assert tracer.export_state().rejected == 1
            tracer.send_again()
            assert tracer.force_flush()
        assert counts(backend) == {"rejected": 1}
        assert nothing_unsent_in(tmp_path, backend)


def test_spans_follow_a_new_key(tmp_path: Path) -> None:
    """What the rejected key held back is kept under the new key, also for the next process."""
    with Backend(statuses={"/": [401]}, repeat_last_status=True) as backend:
        with next_tracer(backend.url, tmp_path, "rejected-key") as tracer:
            with tracer.start_span("held back"):
                pass
            assert not tracer.force_flush(2000)
            backend.close()
            tracer.configure(dataclasses.replace(tracer.settings, api_key=KEY))
            assert not tracer.force_flush(200)
        backend.force({})
        backend.listen()
        assert nothing_unsent_in(tmp_path, backend, key="rejected-key")
        assert delivered(backend, tmp_path, lambda arrived: arrived["held back"]) == {"held back": 1}


@pytest.mark.slow
def test_files_are_sent_in_the_order_of_their_age(tmp_path: Path) -> None:
    with Backend(refuse=True) as backend:
        second = leave_behind(tmp_path, backend.url, [2, 3])
        first = leave_behind(tmp_path, backend.url, [0, 1])
        os.utime(first, (1e9, 1e9))
        os.utime(second, (1.1e9, 1.1e9))
        backend.listen()
        delivered(backend, tmp_path, lambda arrived: len(arrived) == 4)
    assert [span["name"] for span in backend.spans()] == ["0", "1", "2", "3"]


def test_adopted_spans_survive_another_process_that_cannot_send_them(tmp_path: Path) -> None:
    with Backend(refuse=True) as backend:
        for number in range(2):
            leave_behind(tmp_path, backend.url, [number])
            with next_tracer(backend.url, tmp_path):
                time.sleep(ADOPTED_SECONDS)
        backend.listen()
        assert delivered(backend, tmp_path, lambda arrived: len(arrived) == 2) == Counter("01")


SEND = f"""
tracer = tracer_for()
work(tracer, [1])
assert tracer.force_flush()
time.sleep({WINDOW_SECONDS})
die()
"""


def test_sent_spans_are_not_sent_again(backend: Backend, tmp_path: Path) -> None:
    with next_tracer(backend.url, tmp_path) as tracer:
        with tracer.start_span("sent"):
            pass
        assert tracer.force_flush()
    run(SEND, backend.url, tmp_path, ended=-signal.SIGKILL)
    assert nothing_unsent_in(tmp_path, backend)


def test_a_tracer_without_a_spool_writes_nothing(backend: Backend, tmp_path: Path) -> None:
    program = """
tracer = tracer_for(spool=False)
work(tracer, range(3))
assert tracer.force_flush()
tell(tracer.spool, "sqlite3" in sys.modules)
"""
    assert run(program, backend.url, tmp_path / "off") == "None False"
    assert not (tmp_path / "off").exists()


@pytest.mark.slow
def test_memory_releases_what_is_on_disk(backend: Backend, tmp_path: Path) -> None:
    """Nothing is dropped although there is more than memory may hold."""
    backend.close()
    with next_tracer(backend.url, tmp_path) as tracer:
        parts = [text(1_000_000) for _ in range(4)]
        for number in range(70):
            with tracer.start_span(str(number), attributes={"text": parts[number % 4]}):
                pass
        assert not tracer.force_flush(1500)
        assert (tracer.export_state().dropped, tracer.spool and tracer.spool.problem) == (0, None)
        backend.listen()
        assert tracer.force_flush()
    assert counts(backend) == Counter(map(str, range(70)))


THREADS = """
tracer = tracer_for(exit_flush_seconds=20.0)
threads = [threading.Thread(target=work, args=(tracer, range(100 * n, 100 * n + 100), 5000)) for n in range(4)]
time.sleep(0.45)  # Then adoption runs at the same time.
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_several_threads_make_spans_while_others_are_adopted_and_sent(tmp_path: Path) -> None:
    with Backend(refuse=True) as backend:
        for file in range(4):
            leave_behind(tmp_path, backend.url, range(1000 + 25 * file, 1025 + 25 * file), size=20_000)
        backend.listen()
        run(THREADS, backend.url, tmp_path)
        delivered(backend, tmp_path, lambda arrived: len(arrived) == 500)
    assert counts(backend) == Counter(map(str, [*range(400), *range(1000, 1100)]))


BEHIND = """
def slowly(key, value):
    time.sleep(0.02 if key == "text" else 0)
    return value

tracer = tracer_for(exit_flush_seconds=0.05, redact_with=slowly)
work(tracer, ["warm"])
wait_until(lambda: on_disk(tracer) == 1)
work(tracer, range(40))
if sys.argv[3] == "terminate":
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize(("ending", "code"), [("exit", 0), ("terminate", -signal.SIGTERM)])
def test_a_process_whose_worker_is_behind_writes_everything_before_it_ends(
    tmp_path: Path, ending: str, code: int
) -> None:
    """The time for delivery is long over then: it is for the network. As where busy threads leave little time."""
    with Backend(refuse=True) as backend:
        run(BEHIND, backend.url, tmp_path, ending, ended=code)
        backend.listen()
        arrived = delivered(backend, tmp_path, lambda arrived: arrived.total() >= 41)
    assert arrived == Counter(map(str, ["warm", *range(40)]))


DESTRUCTORS = """
import gc
tracer = tracer_for()

class Ends:
    def __init__(self, number):
        self.me, self.span = self, tracer.provider.get_tracer("t").start_span(str(number))
    def __del__(self):
        self.span.end()
        tracer.spool.sessions()

gc.set_threshold(20)
for number in range(2000):
    Ends(number)
gc.collect()
wait_until(lambda: on_disk(tracer) == 2000)
die()
"""


@pytest.mark.slow
def test_spans_that_garbage_collection_ends_are_on_disk(tmp_path: Path) -> None:
    """It may run at any allocation, also on the threads that write."""
    with Backend(refuse=True) as backend:
        run(DESTRUCTORS, backend.url, tmp_path, ended=-signal.SIGKILL)
        backend.listen()
        arrived = delivered(backend, tmp_path, lambda arrived: arrived.total() == 2000)
    assert arrived == Counter(map(str, range(2000)))


def test_any_text_can_be_a_session_name(tmp_path: Path) -> None:
    odd = "\udcff \0 'quoted' \u4f1a"
    with Backend(refuse=True) as backend:
        with next_tracer(backend.url, tmp_path, session_name=odd) as tracer, tracer.start_span("work"):
            pass
        backend.listen()
        delivered(backend, tmp_path, lambda arrived: arrived["work"])
    (name,) = [s["session_name"] for s in backend.sessions() if s["session_name"] != "of the next"]
    assert name.endswith("\0 'quoted' \u4f1a")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts open files in /proc")
def test_twenty_tracers_leave_no_open_file(backend: Backend, tmp_path: Path) -> None:
    def use() -> int:
        with HoneyHiveTracer.init(test_mode=True, spool=True, spool_dir=str(tmp_path)) as tracer:
            with tracer.start_span("work"):
                pass
            assert tracer.spool is not None
            tracer.spool.sessions()
        return sum(".sqlite3" in os.path.realpath(path) for path in Path("/proc/self/fd").iterdir())

    leave_behind(tmp_path, backend.url, [1], key=None)
    assert len({use() for _ in range(20)}) == 1
