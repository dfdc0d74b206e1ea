"""The folder stays within its limits for size and age: local spans go first, and deletions are counted."""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from tests.export.processes import (
    ADOPTED_SECONDS,
    Program,
    counts,
    delivered,
    leave_behind,
    next_tracer,
    nothing_unsent_in,
    run,
    size_of,
    text,
)

MIB = 1024 * 1024


def lost(tracer: HoneyHiveTracer) -> tuple[int, int]:
    """Return the numbers of unsent and of local spans that were deleted."""
    assert tracer.spool is not None
    return tracer.spool.dropped, tracer.spool.forgotten


def test_what_has_no_room_on_disk_stays_in_memory(tmp_path: Path) -> None:
    with Backend(refuse=True) as backend, next_tracer(backend.url, tmp_path, spool_mib=1) as tracer:
        for number in range(60):
            with tracer.start_span(str(number), attributes={"text": text(50_000)}):
                pass
            tracer.force_flush(1)
        assert not tracer.force_flush(300)
        assert tracer.spool is not None
        assert "no room left" in (tracer.spool.problem or "")
        assert lost(tracer) == (0, 0)
        assert size_of(tmp_path) < 1.5 * MIB
        backend.listen()
        assert tracer.force_flush()
        assert counts(backend) == Counter(map(str, range(60)))
        backend.close()
        with tracer.start_span("later"):
            pass
        assert not tracer.force_flush(300)
        assert tracer.spool.problem is None, "there is room again"


FILL = """
tracer = tracer_for(spool_mib=1)
number = 0
while not tracer.spool.problem:
    work(tracer, [number], 50_000)
    tracer.force_flush(5)
    number += 1
tell(on_disk(tracer))
listen()
"""


def test_a_running_process_whose_share_is_full_is_not_mistaken_for_dead(tmp_path: Path) -> None:
    with Backend(refuse=True) as backend:
        with Program(FILL, backend.url, tmp_path) as owner:
            kept = int(owner.hear())
            assert 8 < kept < 25
            owner.stop()
            backend.listen()
            assert nothing_unsent_in(tmp_path, backend)
            owner.kill()
        assert delivered(backend, tmp_path, lambda arrived: len(arrived) == kept) == Counter(map(str, range(kept)))


LOCAL_FIRST = """
local = tracer_for(None, spool_mib=2)
work_for, session_id = tracer_for(spool_mib=2, multi_instance=True), local.session_id

def keep(tracer, names):
    for name in names:
        work(tracer, [name], 50_000)
        tracer.force_flush(5)

keep(local, [f"local {n}." for n in range(15)])
keep(work_for, range(100, 112))
wait_until(lambda: on_disk(work_for) == 12)
keep(local, [f"local {n}." for n in range(15, 60)])
local.force_flush(500)
tell(session_id, local.spool.problem, local.spool.dropped, local.spool.forgotten)
die()
"""


def test_local_spans_are_deleted_first_starting_with_the_oldest(tmp_path: Path) -> None:
    with Backend(refuse=True) as backend:
        said = run(LOCAL_FIRST, backend.url, tmp_path, ended=-signal.SIGKILL).split()
        session_id, forgotten = said[0], int(said[3])
        assert said[1:3] == ["None", "0"]
        with next_tracer(backend.url, tmp_path, None, spool_mib=4) as tracer:
            assert tracer.spool is not None
            bodies = b"".join(tracer.spool.bodies(session_id))
        left = [number for number in range(60) if f"local {number}.".encode() in bodies]
        assert 0 < len(left) < 40
        assert forgotten == 60 - len(left)
        # The last of a batch may have been made room for by the first of the next.
        assert left == list(range(60 - len(left), 60))
        backend.listen()
        arrived = delivered(backend, tmp_path, lambda arrived: len(arrived) == 12, spool_mib=4)
    assert arrived == Counter(map(str, range(100, 112)))


LONG_AGO = """
now, now_ns = time.time, time.time_ns
time.time = lambda: now() - 15 * 86400
time.time_ns = lambda: now_ns() - 15 * 86400 * 10**9
tracer = tracer_for(sys.argv[3] or None)
work(tracer, range(int(sys.argv[4])))
wait_until(lambda: on_disk(tracer) == int(sys.argv[4]))
die()
"""


def test_spans_that_are_too_old_are_deleted_and_counted(tmp_path: Path) -> None:
    with Backend(refuse=True) as backend:
        for key, number in (("one key", 1), ("another key", 3), ("", 5)):
            run(LONG_AGO, backend.url, tmp_path, key, str(number), ended=-signal.SIGKILL)
        backend.listen()
        for days, expected in ((30, (0, 0)), (14, (4, 5))):
            with next_tracer(backend.url, tmp_path, "third key", spool_days=days) as tracer:
                time.sleep(ADOPTED_SECONDS)
                assert lost(tracer) == expected
        assert nothing_unsent_in(tmp_path, backend, key="one key")


@pytest.mark.parametrize(("mib", "unsent"), [(3, False), (1, True)])
def test_a_folder_above_its_limit_loses_local_spans_first(tmp_path: Path, mib: int, unsent: bool) -> None:
    with Backend(refuse=True) as backend:
        for key in ("one key", None, None, "another key"):
            leave_behind(tmp_path, backend.url, range(10), size=100_000, key=key)
        before = size_of(tmp_path)
        assert 3.5 * MIB < before < 6 * MIB
        with next_tracer(backend.url, tmp_path, None, spool_mib=mib) as tracer:
            time.sleep(ADOPTED_SECONDS)
            dropped, forgotten = lost(tracer)
        assert size_of(tmp_path) < 1.1 * mib * MIB
    assert 5 < forgotten <= 20
    assert (dropped > 0) == unsent
    assert forgotten == 20 or not unsent
