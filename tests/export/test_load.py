"""Under load memory stays bounded, nothing is lost that is promised, and many processes share one folder."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES
from tests.export.chaos import KEY, MILLISECOND, ROOT, Evidence, Judge, Limits, Plan, Process, now, read_notes

MIB = 1024 * 1024

# Memory

MAKE_MANY = """
import json, os, sys, psutil
from hh_jupyter import HoneyHiveTracer

url, folder, number, size, spool_mib = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
tracer = HoneyHiveTracer.init(
    api_key="k", server_url=url, spool=bool(folder), spool_dir=folder or None, spool_mib=spool_mib or 1,
    exit_flush_seconds=0.1,
)
memory = psutil.Process().memory_info
with tracer.start_span("first", attributes={"n": -1}):
    pass
tracer.force_flush(5_000)
before = most = memory().rss
for n in range(number):
    with tracer.start_span("work", attributes={"n": n, "text": "%08d" % n + "x" * size}):
        pass
    if n % 5_000 == 0:
        most = max(most, memory().rss)
tracer.wait_processed(60)
most = max(most, memory().rss)
print(json.dumps({"growth": most - before, **tracer.export_state()._asdict()}), flush=True)
print(json.dumps(tracer.force_flush(float(sys.stdin.readline()) * 1000)), flush=True)
print(json.dumps(tracer.export_state()._asdict()), flush=True)
os._exit(0)
"""


class Numbers:
    """A slow backend that keeps only the numbers of the spans it gets."""

    def __init__(self, seconds: float) -> None:
        self.backend = Backend(delay={TRACES: seconds})
        self.numbers: list[int] = []
        receive = self.backend.receive

        def keep_numbers(request: Any) -> None:
            if request.path == TRACES:
                self.numbers += [span["attributes"]["n"] for span in request.body]
                request.body = []
            receive(request)

        self.backend.receive = keep_numbers  # type: ignore[method-assign]  # The handler looks it up on the object.


@contextmanager
def many_spans(
    backend: Backend, number: int, size: int, folder: Path | None = None, mib: int = 4096
) -> Iterator[subprocess.Popen[str]]:
    arguments = [backend.url, str(folder or ""), number, size, mib]
    with subprocess.Popen(
        [sys.executable, "-c", MAKE_MANY, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def answer(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def ask(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


MOST_GROWTH = 110 * MIB
"""Bodies of 32 MiB, and what records, details and a busy interpreter take."""

FEW_LARGE = (12_000, 10_000)
MANY_SMALL = pytest.param((1_000_000, 20), marks=[pytest.mark.alone, pytest.mark.timeout(600)])


@pytest.mark.slow
@pytest.mark.parametrize("spans", [FEW_LARGE, MANY_SMALL])
def test_without_a_spool_the_oldest_spans_above_the_bound_are_dropped_and_counted(spans: tuple[int, int]) -> None:
    slow = Numbers(2.0)
    with slow.backend, many_spans(slow.backend, *spans) as process:
        made = answer(process)
        assert made["growth"] < MOST_GROWTH, made["growth"] / MIB
        assert made["dropped"] > spans[0] // 10
        assert made["made"] == spans[0] + 1 == made["sent"] + made["waiting"] + made["dropped"] + made["rejected"]
        before = len(slow.numbers)
        slow.backend.behaviour.delay = {}
        ask(process, "4")  # The requests that are being answered take 2 seconds.
        assert answer(process) is False, "spans were lost"
        after = answer(process)
        assert after["made"] == after["sent"] + after["waiting"] + after["dropped"] + after["rejected"]
        kept = slow.numbers[before:]
        in_flight = 4 * 512  # Of the requests that were being answered.
        assert len([n for n in kept if n < made["dropped"]]) <= in_flight
        assert len([n for n in kept if n >= made["dropped"]]) > 1_000


@pytest.mark.slow
@pytest.mark.parametrize("spans", [FEW_LARGE, MANY_SMALL])
def test_with_a_spool_no_span_is_dropped_and_memory_is_bounded(tmp_path: Path, spans: tuple[int, int]) -> None:
    slow = Numbers(2.0)
    with slow.backend, many_spans(slow.backend, *spans, folder=tmp_path / "spool") as process:
        made = answer(process)
        assert made["dropped"] == 0
        assert made["made"] == spans[0] + 1 == made["sent"] + made["waiting"]
        assert made["growth"] < MOST_GROWTH, made["growth"] / MIB


@pytest.mark.slow
def test_with_a_full_spool_spans_are_dropped_and_counted_only_above_the_memory_bound(tmp_path: Path) -> None:
    number, size = FEW_LARGE
    slow = Numbers(2.0)
    with slow.backend, many_spans(slow.backend, number, size, folder=tmp_path / "spool", mib=16) as process:
        made = answer(process)
        assert made["made"] == number + 1 == made["sent"] + made["waiting"] + made["dropped"]
        assert made["dropped"] > 0
        assert made["growth"] < MOST_GROWTH, made["growth"] / MIB
        assert sum(path.stat().st_size for path in (tmp_path / "spool").iterdir()) < 24 * MIB


# Hot loops


@pytest.mark.slow
@pytest.mark.parametrize("spool", [False, True])
def test_a_hot_loop_of_100_000_spans_loses_none(tmp_path: Path, spool: bool) -> None:
    record = tmp_path / "record"
    with healthy_server(record) as url:
        settings = {"spool": True, "spool_dir": str(tmp_path / "spool")} if spool else {}
        with HoneyHiveTracer.init(api_key=KEY, server_url=url, **settings) as tracer:
            for _ in range(100_000):
                with tracer.start_span("work"):
                    pass
            assert tracer.force_flush(60_000)
            assert tracer.export_state().sent == 100_000
    counts = Counter(span for entry in entries(record) for span, *_ in entry.get("spans", ()))
    assert len(counts) == 100_000
    assert set(counts.values()) == {1}


@contextmanager
def healthy_server(record: Path) -> Iterator[str]:
    """A server in a process of its own, which notes the spans that it gets in a file."""
    with chaos("server", "", record, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def chaos(*command: object, **streams: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.export.chaos", *map(str, command)], cwd=ROOT, text=True, **streams
    )


def entries(record: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in record.read_text().splitlines()]


# Kills


def lost_before_a_kill(folder: Path, threads: tuple[str, ...], life: float) -> tuple[Judge, Process]:
    """Kill a process without a backend while these threads make spans; let another process send what it left."""
    with Backend(refuse=True) as backend:
        plan = Plan("kill", backend.url, str(folder / "spool"), threads, "kill", warm=True)
        notes = folder / "notes"
        with chaos("producer", json.dumps(asdict(plan)), notes, stderr=subprocess.DEVNULL) as process:
            while not notes.exists() or not notes.stat().st_size:
                time.sleep(0.002)
            time.sleep(life)
            killed = now()
            process.kill()
        backend.listen()
        with HoneyHiveTracer.init(api_key=KEY, server_url=backend.url, spool=True, spool_dir=plan.folder) as tracer:
            backend.wait_for(lambda backend: backend.spans(), 10.0)
            assert tracer.force_flush(20_000)
        evidence = Evidence(0, 0)
        read_notes(evidence.processes, plan, notes)
        (found,) = evidence.processes.values()
        found.killed = killed
        spans = [[span["span_id"], "", found.pid] for span in backend.spans()]
        evidence.record = [{"number": 1, "at": now(), "mode": "ok", "stored": True, "spans": spans}]
        return Judge(evidence, Limits(slack=100.0)), found


# How often the worker runs beside threads that compute depends on what else the machine does.
COMPUTE = pytest.param(("compute",) * 4, marks=pytest.mark.slow)


@pytest.mark.parametrize("threads", [COMPUTE, ("bursts",), ("steady", "steady", "bursts")], ids=str)
@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 20))])
def test_kill_9_loses_only_what_ended_just_before(tmp_path: Path, threads: tuple[str, ...], number: int) -> None:
    judge, process = lost_before_a_kill(tmp_path, threads, random.Random(number).uniform(0.5, 2.0))
    assert len(process.spans) > 50
    lost = [(process.last - moment) / MILLISECOND for moment, _, span in process.spans if span not in judge.stores]
    assert not judge.missing(), f"lost spans that ended {max(lost):.0f} ms before the kill"


# Many processes

MAKE_AND_WAIT = """
import sys
from hh_jupyter import HoneyHiveTracer

tracer = HoneyHiveTracer.init(
    api_key=sys.argv[3], server_url=sys.argv[1], spool=True, spool_dir=sys.argv[2], exit_flush_seconds=10
)
for number in range(500):
    with tracer.start_span(sys.argv[4] + f" {number}"):
        pass
tracer.wait_processed(10)
tracer.force_flush(100)
print("made", flush=True)
sys.stdin.readline()
"""
ADOPT = """
import sys, time
from hh_jupyter import HoneyHiveTracer

tracer = HoneyHiveTracer.init(api_key=sys.argv[3], server_url=sys.argv[1], spool=True, spool_dir=sys.argv[2])
until = time.monotonic() + 2.0
while time.monotonic() < until:
    time.sleep(0.1)
    tracer.force_flush(10_000)
print(tracer.spool.problem, flush=True)
"""
READ = """
import sys
from hh_jupyter import HoneyHiveTracer
import threading

tracer = HoneyHiveTracer.init(spool=True, spool_dir=sys.argv[2])
ended = threading.Thread(target=sys.stdin.readline, daemon=True)
ended.start()
most = 0
while ended.is_alive():
    most = max(most, sum(session.spans for session in tracer.spool.sessions()))
    ended.join(0.02)
print(most, tracer.spool.problem, flush=True)
"""


@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 10))])
def test_ten_processes_share_one_folder_while_two_of_them_adopt_and_two_read(tmp_path: Path, number: int) -> None:
    """Six make spans, three of which are killed; nothing is lost or sent twice."""
    folder = tmp_path / "spool"
    with Backend(refuse=True) as backend:

        def start(program: str, name: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", program, backend.url, str(folder), KEY, name]
            return subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

        makers = [start(MAKE_AND_WAIT, f"maker {one}") for one in range(6)]
        readers = [start(READ, "reader") for _ in range(2)]
        for maker in makers:
            assert maker.stdout is not None
            assert maker.stdout.readline() == "made\n"
        random.Random(number).shuffle(makers)
        for maker in makers[:3]:
            maker.kill()
            maker.communicate()
        backend.listen()
        adopters = [start(ADOPT, "adopter") for _ in range(2)]
        ended = [process.communicate("end\n", timeout=60) for process in (*adopters, *makers[3:], *readers)]
        with HoneyHiveTracer.init(api_key=KEY, server_url=backend.url, spool=True, spool_dir=str(folder)) as last:
            time.sleep(1.0)  # It would adopt what was sent, if that were still waiting in a file.
            assert last.force_flush()
        names = Counter(span["name"] for span in backend.spans())
    assert len(names) == 3_000
    assert set(names.values()) == {1}
    outputs, errors = zip(*ended, strict=True)
    assert not any("Traceback" in text for text in errors), errors
    assert outputs[:2] == ("None\n", "None\n")
    assert all(output.endswith("None\n") for output in outputs[-2:]), outputs
