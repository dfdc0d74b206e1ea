"""Random faults against the exporter, and a judge of what arrived.

    python -m tests.export.chaos --seconds 600 --seed 7

A run consists of rounds. In each, a server that changes its behaviour all the time runs in a process of its own, and
two or three processes at a time make sessions, spans and updates with one spool folder: in threads, in hot loops, in
forked children. They are killed, terminated, or exit; a reader lists the spool's sessions and is stopped now and then;
some have a full disk or a read-only folder. Then the server becomes healthy, two more processes with the same folder
and key send what is left, and `judged` compares the server's record with what the processes noted in files of their
own.

Everything that is decided comes from `Random(f"{seed}/{round}/{actor}")`, so a round can be repeated with
`--seed 7 --round 12`: the decisions are the same, the timing is the machine's. The program uses the public API alone.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import functools
import gzip
import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from hh_jupyter import HoneyHiveTracer

ROOT = Path(__file__).parents[2]
KEY = "a-key-for-chaos"
SESSION_START, EVENTS, TRACES = "/session/start", "/events", "/opentelemetry/v1/traces"
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
WORKS, FULL, READ_ONLY = "works", "full", "read-only"
"""What the disk does that a process has its spool on."""

now = time.monotonic_ns
"""One clock for all processes of the machine."""


# The server

MODES: Final[Mapping[str, int]] = {
    "ok": 40,
    "408": 2,
    "429": 3,
    "500": 5,
    "503": 5,
    "429, retry after": 3,
    "503, retry after": 3,
    "refuses connections": 5,
    "hangs": 4,
    "hangs, but stored": 3,
    "resets unread": 4,
    "resets when read": 3,
    "resets, but stored": 4,
    "500, but stored": 3,
    "slow body": 4,
    "wrong body": 3,
    "login page": 3,
    "partial success": 4,
    "closes connections": 5,
}
"""What the server does, and how often. "Stored" means that it keeps what it received and gives no good answer."""

STORING = frozenset(mode for mode in MODES if "stored" in mode) | {
    "ok",
    "slow body",
    "wrong body",
    "partial success",
    "closes connections",
}
ANSWERING_WELL = frozenset({"ok", "partial success", "closes connections"})


class Server:
    """A backend that changes its behaviour, and writes everything that it receives to a file, one JSON object a line.

    Args:
        rng: decides the behaviour; None for a healthy server.
        record: the file.
    """

    def __init__(self, rng: random.Random | None, record: Path) -> None:
        from hh_jupyter.testing.backend_server import reserved_address

        self._rng, self._record, self._lock = rng, record.open("w", buffering=1), threading.Lock()
        self._address = reserved_address()
        self._listener: _Listener | None = None
        self._number = 0
        self.mode, self.scope, self.healthy = "ok", "/", rng is None
        self.release = threading.Event()
        """Set while no request may hang."""

    def run(self) -> None:
        """Answer until standard input ends. A line on it makes the server healthy; its address is the first output."""
        self._listen()
        print(f"http://127.0.0.1:{self._address.getsockname()[1]}", flush=True)
        changing = threading.Thread(target=self._change, daemon=True)
        changing.start()
        if self._rng is not None:
            sys.stdin.readline()
        self.healthy = True
        changing.join()
        self._enter("ok", "/")
        self.release.set()
        print("healthy", flush=True)
        sys.stdin.read()

    def _change(self) -> None:
        rng = self._rng or random.Random()
        while not self.healthy:
            mode = rng.choices(list(MODES), list(MODES.values()))[0]
            scope = rng.choices(["/", SESSION_START, EVENTS, TRACES], [6, 1, 1, 1])[0]
            seconds = rng.uniform(0.05, 1.0)
            self._enter(mode, "/" if mode == "refuses connections" else scope)
            until = time.monotonic() + seconds
            while time.monotonic() < until and not self.healthy:
                time.sleep(0.01)

    def _enter(self, mode: str, scope: str) -> None:
        self.write(mode=mode, scope=scope)
        self.mode, self.scope = mode, scope
        if mode == "refuses connections":
            self._close(listener=True)
        elif self._listener is None:
            self._listen()
        if mode == "closes connections":
            self._close(listener=False)

    def _listen(self) -> None:
        self._listener = _Listener(self._address.getsockname(), self)
        threading.Thread(target=self._listener.serve_forever, args=(0.01,), daemon=True).start()

    def _close(self, *, listener: bool) -> None:
        if self._listener is not None:
            self._listener.close_connections()
            if listener:
                self._listener.shutdown()
                self._listener.server_close()
                self._listener.close_connections()
                self._listener = None

    def write(self, **entry: Any) -> int:
        """Add a line to the record; return the number of the line, which is the order in which things happened."""
        with self._lock:
            self._number += 1
            self._record.write(json.dumps({"number": self._number, "at": now(), **entry}) + "\n")
            return self._number


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], owner: Server) -> None:
        super().__init__(address, _Handler)
        self.owner = owner
        self._connections: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: clients that are killed close their connections early."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass

    def _handle(self) -> None:
        owner, began = self.server.owner, now()
        mode = owner.mode if self.path.startswith(owner.scope) else "ok"
        if mode == "resets unread":
            raw = b"" if self.path == TRACES else self.rfile.peek(65_536)[:65_536]  # type: ignore[attr-defined]
            owner.write(mode=mode, path=self.path, port=self.client_address[1], stored=False, calls=_calls_in(raw))
            self._reset()
            return
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        raw = gzip.decompress(raw) if self.headers.get("content-encoding") == "gzip" else raw
        what = {"spans": _spans_in(raw)} if self.path == TRACES else {"calls": _calls_in(raw)}
        stored = mode in STORING
        number = owner.write(mode=mode, path=self.path, port=self.client_address[1], stored=stored, **what)
        if mode.startswith("hangs"):
            owner.release.wait(3.0)
        elif (
            mode.startswith("resets") or mode == "refuses connections"
        ):  # Between the change and the end of connections.
            self._reset()
            return
        if mode.startswith("hangs"):
            self.close_connection = True
            return
        self._answer(mode)
        if mode in ANSWERING_WELL and not self.close_connection | (now() - began > 300 * MILLISECOND):
            owner.write(answered=number)
        self.close_connection |= mode == "closes connections"

    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815 - http.server's names

    def _answer(self, mode: str) -> None:
        headers: dict[str, str] = {}
        status, kind, body = 200, "application/json", self._good_body(mode)
        if mode[:3].isdigit():
            status, body = int(mode[:3]), b'{"message": "not now"}'
            headers = {"Retry-After": "1"} if "retry after" in mode else {}
        elif mode == "wrong body":
            body = b'{"partialSuccess": {"rejec'
        elif mode == "login page":
            kind, body = "text/html", b"<html><form>Please sign in</form></html>"
        try:
            self.send_response(status)
            for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            pieces = [body[i : i + 4] for i in range(0, len(body), 4)] if mode == "slow body" else [body]
            for piece in pieces:
                self.wfile.write(piece)
                self.server.owner.release.wait(0.1 if mode == "slow body" else 0.0)
        except OSError:
            self.close_connection = True

    def _good_body(self, mode: str) -> bytes:
        if self.path == SESSION_START:
            return b'{"success": true}'
        if self.path == TRACES and mode == "partial success":
            return b'{"partialSuccess": {"rejectedSpans": "0", "errorMessage": ""}}'
        return b'{"partialSuccess": {}}' if self.path == TRACES else b'{"success": true}'

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.close()
        self.rfile, self.wfile = io.BufferedReader(io.BytesIO()), io.BytesIO()


def _spans_in(raw: bytes) -> list[list[Any]]:
    """Return span id, session id and process id of each span of an export."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    found: list[list[Any]] = []
    for resource_spans in ExportTraceServiceRequest.FromString(raw).resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                wanted = {a.key: a.value for a in span.attributes if a.key in ("honeyhive.session_id", "pid")}
                session = wanted["honeyhive.session_id"].string_value if "honeyhive.session_id" in wanted else ""
                found.append([span.span_id.hex(), session, wanted["pid"].int_value if "pid" in wanted else 0])
    return found


def _calls_in(raw: bytes) -> list[list[Any]]:
    """Return the session id of a start (with None), or of an update (with its number). `raw` may have an HTTP head."""
    start = re.search(rb'"session_id": ?"([0-9a-f-]{36})"', raw)
    update = re.search(rb'"event_id": ?"([0-9a-f-]{36})".*?"number": ?(\d+)', raw)
    if update:
        return [[update[1].decode(), int(update[2])]]
    return [[start[1].decode(), None]] if start else []


# The processes that make spans


@dataclass(frozen=True, slots=True)
class Plan:
    """What one process does.

    Attributes:
        name: of its random numbers: seed, round, actor.
        url, folder: of the server and the spool.
        threads: what each thread does: "steady", "bursts" or "compute".
        end: "kill" (-9), "terminate" (SIGTERM) or "exit".
        life: seconds until then.
        forks: whether it forks children.
        disk: `WORKS`, `FULL` or `READ_ONLY`.
        warm: whether it waits until its first span is processed before it begins.
        exit_flush, flush_interval, batch: settings.
    """

    name: str
    url: str
    folder: str
    threads: tuple[str, ...] = ()
    end: str = "exit"
    life: float = 0.0
    forks: bool = False
    disk: str = WORKS
    warm: bool = False
    exit_flush: float = 5.0
    flush_interval: float = 0.05
    batch: int = 100

    def tracer(self, **settings: Any) -> HoneyHiveTracer:
        return HoneyHiveTracer.init(
            api_key=KEY,
            server_url=self.url,
            session_name=self.name,
            spool=True,
            spool_dir=self.folder,
            exit_flush_seconds=self.exit_flush,
            flush_interval=self.flush_interval,
            batch_size=self.batch,
            api_timeout=1.0,
            export_timeout=1.5,
            **settings,
        )


class Notes:
    """A process's own file: what it made and when, a line each, written by one `write`, so kept when it is killed."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def __call__(self, kind: str, *values: object) -> None:
        text = " ".join([kind, str(now()), str(os.getpid()), *map(str, values)])
        os.write(self._file, text.encode() + b"\n")


class Producer:
    """Makes sessions, spans and updates as its plan says, forks, and flushes at random moments."""

    def __init__(self, plan: Plan, notes: Notes) -> None:
        self.plan, self.notes = plan, notes
        self.rng = random.Random(plan.name)
        self.stopping = False
        self.children: set[int] = set()

    def run(self) -> None:
        _note_connections(self.notes)
        parent = os.getppid()
        self.tracer = self.plan.tracer()
        own = self._new_session("main")
        if self.plan.warm:
            self._span(own, self.rng)
            self.tracer.wait_processed(10.0)
        self.notes("begin", os.getppid(), len(self.plan.threads), "compute" in self.plan.threads, self.plan.warm)
        threads = self._start(self.plan.threads, self.plan.name)
        until = time.monotonic() + (self.plan.life if self.plan.end == "exit" else 60.0)
        while time.monotonic() < until and os.getppid() == parent:
            time.sleep(self.rng.uniform(0.005, 0.12))
            if self.plan.forks and self.rng.random() < 0.3 and len(self.children) < 4:
                self._fork(own)
            elif self.rng.random() < 0.7:
                self._flush(self.rng.choice([0, 1, 20, 100, 500, 2_000]))
            self._reap()
        self.stopping = True
        for thread in threads:
            thread.join()
        self.notes("end", "exit")

    def _start(self, kinds: Sequence[str], name: str) -> list[threading.Thread]:
        works = [
            threading.Thread(target=self._work, args=(kind, random.Random(f"{name}/{n}")), daemon=True)
            for n, kind in enumerate(kinds)
        ]
        for thread in (threading.Thread(target=self._tick, daemon=True), *works):
            thread.start()
        return works

    def _tick(self) -> None:
        """Note every 10 ms that the process runs: a machine that stops it for longer is no fault of the exporter."""
        while True:
            time.sleep(0.01)
            self.notes("tick")

    def _work(self, kind: str, rng: random.Random) -> None:
        session, updates = self._new_session(kind), 0
        while not self.stopping:
            if rng.random() < 0.02:
                session, updates = self._new_session(kind), 0
            elif rng.random() < 0.05:
                updates += 1
                self.tracer.enrich_session(metadata={"number": updates}, session_id=session)
                self.notes("update", session, updates)
            if kind == "steady":
                self._span(session, rng, depth=rng.randint(0, 3))
                time.sleep(rng.uniform(0.0, 0.02))
            elif kind == "bursts":
                for _ in range(rng.randint(100, 1_000)):
                    self._span(session, rng)
                time.sleep(rng.uniform(0.1, 0.4))
            else:
                for _ in range(rng.randint(1, 20)):
                    sum(number * number for number in range(5_000))
                self._span(session, rng)

    def _new_session(self, name: str) -> str:
        session = self.tracer.create_session(name)
        self.notes("session", session)
        return session

    def _span(self, session: str, rng: random.Random, depth: int = 0) -> None:
        text = "x" * (5_000 if rng.random() < 0.01 else 50)
        with self.tracer.start_span("work", attributes={"pid": os.getpid(), "text": text}) as span:
            if depth:
                self._span(session, rng, depth - 1)
        span_id = span.get_span_context().span_id
        self.notes("span", session, format(span_id, "016x")) if span_id else self.notes("unrecorded")

    def _flush(self, timeout: float) -> bool:
        began = now()
        done = self.tracer.force_flush(timeout)
        self.notes("flush", began, timeout, int(done))
        return done

    # Forked children

    def _fork(self, inherited: str) -> None:
        child = os.fork()
        if child:
            self.children.add(child)
            return
        self.children = set()
        self.rng = random.Random(self.rng.random())
        threads = [self.rng.choice(["steady", "bursts"])] if self.rng.random() < 0.3 else []
        self.notes("begin", os.getppid(), 1 + len(threads), False, True)
        self.stopping = False
        started = self._start(threads, f"{self.plan.name}/{self.rng.random()}")
        session = inherited if self.rng.random() < 0.3 else self._new_session("child")
        for _ in range(self.rng.randint(0, 200)):
            self._span(session, self.rng)
        end = self.rng.choice(["exit", "_exit", "kill"])
        if self.rng.random() < 0.5 or end == "_exit":
            self._flush(self.rng.choice([0, 50, 1_000]))
        self.stopping = end == "exit"
        for thread in started if end == "exit" else ():
            thread.join()
        self.notes("end", end)
        if end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if end == "_exit":
            os._exit(0)
        sys.exit(0)

    def _reap(self) -> None:
        for child in list(self.children):
            if os.waitpid(child, os.WNOHANG)[0]:
                self.children.discard(child)


def _note_connections(notes: Notes) -> None:
    """Note the port of each connection, so that the judge knows which process sent a request."""
    connect = socket.socket.connect

    def noting(self: socket.socket, address: Any, /) -> None:
        connect(self, address)
        notes("connect", self.getsockname()[1])

    socket.socket.connect = noting  # type: ignore[method-assign, assignment]


def read_sessions(folder: str) -> None:
    """List the spool's sessions again and again, in local mode, as another kernel's `%hh sessions` does."""
    parent = os.getppid()
    tracer = HoneyHiveTracer.init(spool=True, spool_dir=folder)
    assert tracer.spool is not None
    while os.getppid() == parent:
        tracer.spool.sessions()
        time.sleep(0.05)


def send_the_rest(plan: Plan, notes: Notes) -> None:
    """Adopt what dead processes left and send it; print what came of it."""
    _note_connections(notes)
    tracer = plan.tracer()
    assert tracer.spool is not None
    notes("begin", os.getppid(), 0, False, False)
    time.sleep(1.0)  # Adoption begins a little after the start.
    done, rejected, until = False, 0, time.monotonic() + 40.0
    while not done and time.monotonic() < until:
        state = tracer.export_state()
        rejected = max(rejected, state.rejected + state.requests_rejected)
        tracer.send_again()
        done = tracer.force_flush(5_000)
        state = tracer.export_state()
        done = done and not (state.waiting or state.rejected or state.requests_waiting or state.requests_rejected)
        done = done and not any(session.unsent for session in tracer.spool.sessions() if "#" in session.destination)
    print(json.dumps({"done": done, "rejected": rejected, "problem": tracer.spool.problem, "state": repr(state)}))
    notes("end", "exit")


# One round


@dataclass
class Process:
    """What one process noted, and how it ended. Times are nanoseconds of the common clock.

    Attributes:
        threads: number of threads that make spans.
        compute: several threads only compute.
        warm: its first span had been processed when it began.
        spans: time, session and id of each span.
        unrecorded: when spans were made that the tracer did not record, because it was shut down.
        updates: time, session and number of each update.
        flushes: began, ended, timeout in milliseconds, result.
        connections: time and port.
        end: how it ended by itself: "exit", "_exit" or "kill"; "" if it did not.
        last: its last sign of life.
        killed, terminated: when another process killed or terminated it, or had terminated its parent before the fork.
        gone: when it was found to have ended.
    """

    pid: int
    name: str = ""
    parent: int = 0
    began: int = 0
    threads: int = 0
    compute: bool = False
    warm: bool = True
    disk: str = WORKS
    exit_flush: float = 0.0
    spans: list[tuple[int, str, str]] = field(default_factory=list)
    unrecorded: list[int] = field(default_factory=list)
    sessions: list[tuple[int, str]] = field(default_factory=list)
    updates: list[tuple[int, str, int]] = field(default_factory=list)
    flushes: list[tuple[int, int, float, bool]] = field(default_factory=list)
    connections: list[tuple[int, int]] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)
    end: str = ""
    ended: int = 0
    last: int = 0
    killed: int = 0
    terminated: int = 0
    gone: int = 0


@dataclass
class Evidence:
    """All that the judge knows of one round."""

    seed: int
    round: int
    processes: dict[int, Process] = field(default_factory=dict)
    record: list[dict[str, Any]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    successors: list[dict[str, Any]] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)


LONGER = 1.0
"""Seconds after the chaos at which a process is killed or terminated at the latest."""

FLAVOURS = ("mixed", "forks", "compute", "disks")


class Round:
    """Starts and ends the processes of one round.

    Args:
        seed, number: decide everything.
        seconds: of chaos.
        folder: an empty one.
    """

    def __init__(self, seed: int, number: int, seconds: float, folder: Path) -> None:
        self.name, self.seconds, self.folder = f"{seed}/{number}", seconds, folder
        self.flavour = FLAVOURS[number % len(FLAVOURS)]
        self.evidence = Evidence(seed, number)
        self.rng = random.Random(f"{self.name}/director")
        self.spool = folder / "spool"
        self.running: dict[subprocess.Popen[str], tuple[Plan, Path]] = {}
        self.due: dict[subprocess.Popen[str], float] = {}
        self.marks: dict[int, dict[str, int]] = defaultdict(dict)
        self.notes: list[tuple[Plan, Path]] = []
        self.pipes: list[subprocess.Popen[bytes]] = []
        self.started = 0

    def run(self) -> Evidence:
        """Run the round and return the evidence. No process of it is left behind."""
        server = self._popen("server", f"{self.name}/server", self.folder / "record", stdin=True)
        assert server.stdin is not None
        assert server.stdout is not None
        self.url = server.stdout.readline().strip()
        reader = self._popen("reader", self.spool)
        try:
            self._cause_chaos(reader)
            self._end_all()
            server.stdin.write("healthy\n")
            server.stdin.flush()
            server.stdout.readline()
            self._send_the_rest()
        finally:
            for process in (reader, *self.running):
                process.kill()
                process.wait()
            for pipe in self.pipes:
                pipe.terminate()  # It has ended by itself if its producer ever began.
                pipe.wait()
            server.stdin.close()
            server.wait()
            server.stdout.close()
            self._gather()
        return self.evidence

    def _popen(self, *command: object, stdin: bool = False, disk: str = WORKS) -> subprocess.Popen[str]:
        role, first = str(command[0]), str(command[1]).replace("/", "-") if command[0] == "producer" else ""
        self.started += 1
        errors = self.folder / f"{role}{self.started}{first and '-' + disk}.errors"
        arguments = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.export.chaos", *map(str, command)]
        with errors.open("w") as file:
            return subprocess.Popen(
                _on_disk(disk, self.folder / disk, arguments),
                cwd=ROOT,
                env={**_clean_environment(), "HH_CHAOS_STACKS": str(errors.with_suffix(".stacks"))},
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE if role in ("server", "rest") else file,
                stderr=file,
                text=True,
            )

    def _cause_chaos(self, reader: subprocess.Popen[str]) -> None:
        self.until = time.monotonic() + self.seconds
        stopped_until, stop_at, most = 0.0, time.monotonic() + 1.0, self.rng.choice([2, 3])
        while time.monotonic() < self.until:
            while len(self.running) < most:
                self._start_producer()
            for process in list(self.running):
                self._look_after(process)
            if not stopped_until and time.monotonic() > stop_at:
                reader.send_signal(signal.SIGSTOP)
                stopped_until = time.monotonic() + self.rng.uniform(0.2, 2.0)
            elif stopped_until and time.monotonic() > stopped_until:
                reader.send_signal(signal.SIGCONT)
                stopped_until, stop_at = 0.0, time.monotonic() + self.rng.uniform(0.2, 1.0)
            time.sleep(0.003)
        reader.send_signal(signal.SIGCONT)
        if reader.poll() is not None:
            self.evidence.trouble.append("the reader of the spool ended by itself")

    def _start_producer(self) -> None:
        plan = self._plan(len(self.notes))
        path = self.folder / f"notes-{len(self.notes)}"
        self.evidence.decisions.append(repr(plan))
        written = path
        if plan.disk == FULL and not _can_mount():  # The limit on the size of files is not to apply to the notes.
            written = path.with_suffix(".pipe")
            os.mkfifo(written)
            with path.open("w") as file:
                self.pipes.append(subprocess.Popen(["cat", str(written)], stdout=file))
        process = self._popen("producer", json.dumps(asdict(plan)), written, disk=plan.disk)
        self.running[process] = plan, path
        self.notes.append((plan, path))

    def _plan(self, number: int) -> Plan:
        name = f"{self.name}/producer/{number}"
        rng = random.Random(name)
        compute = rng.random() < (0.7 if self.flavour == "compute" else 0.1)
        threads = ["compute"] * 4 if compute else rng.choices(["steady", "bursts"], k=rng.randint(1, 3))
        disk = rng.choice([FULL, READ_ONLY, WORKS]) if self.flavour == "disks" else WORKS
        return Plan(
            name=name,
            url=self.url,
            folder=str(self.spool if disk == WORKS else self.folder / disk / "spool"),
            threads=tuple(threads),
            end=rng.choices(["kill", "terminate", "exit"], [5, 2, 3])[0],
            life=rng.uniform(0.2, 2.5) + (rng.random() < 0.3) * 3 * compute,
            forks=rng.random() < (0.9 if self.flavour == "forks" else 0.3),
            disk=disk,
            warm=rng.random() < 0.7,
            exit_flush=rng.choice([0.5, 1.0, 2.0]),
            flush_interval=rng.choice([0.05, 0.3, 1.0]),
            batch=rng.choice([10, 100]),
        )

    def _look_after(self, process: subprocess.Popen[str]) -> None:
        """End a process when its time has come, and note when it has ended."""
        plan, path = self.running[process]
        if process.poll() is not None:
            self.marks[process.pid]["gone"] = now()
            del self.running[process]
            return
        if process not in self.due:
            if path.exists() and path.stat().st_size:
                self.due[process] = min(time.monotonic() + plan.life, self.until + LONGER)
            return
        late = time.monotonic() - self.due[process]
        marks = self.marks[process.pid]
        if late > 20.0:
            self._hung(process.pid, f"the process of {plan.name} ({plan.end})")
        elif late > 0 and plan.end == "kill" and "killed" not in marks:
            marks["killed"] = now()
            process.kill()
        elif late > 0 and plan.end == "terminate" and "terminated" not in marks:
            marks["terminated"] = now()
            process.terminate()

    def _end_all(self) -> None:
        """Wait for all processes, forked ones included."""
        deadline = time.monotonic() + 30.0
        while self.running:
            for process in list(self.running):
                self._look_after(process)
                if process in self.running and process not in self.due and time.monotonic() > deadline:
                    self._hung(process.pid, "a process that did not begin")
            time.sleep(0.003)
        children = {int(line.split()[2]) for _, path in self.notes for line in _lines(path, "begin")}
        deadline = time.monotonic() + 20.0
        while alive := [pid for pid in children if _alive(pid)]:
            if time.monotonic() > deadline:
                for pid in alive:
                    self._hung(pid, "a forked process")
            time.sleep(0.01)

    def _hung(self, pid: int, what: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1)  # It prints its stacks; see `main`.
            time.sleep(0.3)
            os.kill(pid, signal.SIGKILL)
        self.marks[pid].setdefault("killed", now())
        stacks = "\n".join(path.read_text() for path in self.folder.glob("*.stacks"))
        self.evidence.trouble.append(f"{what} (process {pid}) hung\n{stacks}")

    def _send_the_rest(self) -> None:
        """Let two processes at a time send what is left, until nothing more comes."""
        for number in range(6):
            before = _stored_lines(self.folder / "record")
            pair = []
            for one in range(2):
                plan = Plan(f"{self.name}/rest/{number}/{one}", self.url, str(self.spool))
                path = self.folder / f"rest-{number}-{one}"
                pair.append(self._popen("rest", json.dumps(asdict(plan)), path))
                self.notes.append((plan, path))
            results = [process.communicate()[0] for process in pair]
            for process in pair:
                self.marks[process.pid]["gone"] = now()
            found = [
                json.loads(result) if result else {"done": False, "rejected": 0, "problem": "it failed"}
                for result in results
            ]
            self.evidence.successors += found
            complete = all(one["done"] for one in found)
            more = (
                _stored_lines(self.folder / "record") - before - len(pair)
            )  # Each sends the start of its own session.
            if complete and (more <= 0 or not missing_in(self._gather())):
                return
        self.evidence.trouble.append("after six pairs of processes the spool still has something to send")

    def _gather(self) -> Evidence:
        evidence = self.evidence
        evidence.record = [json.loads(line) for line in (self.folder / "record").read_text().splitlines()]
        evidence.processes = {}
        for plan, path in self.notes:
            read_notes(evidence.processes, plan, path)
        for pid, marks in self.marks.items():
            process = evidence.processes.setdefault(pid, Process(pid))
            for name, moment in marks.items():
                setattr(process, name, moment)
        for process in evidence.processes.values():  # A child inherits a tracer that is shut down.
            parent = evidence.processes.get(process.parent)
            if parent is not None and 0 < parent.terminated < process.began:
                process.terminated = process.began
        evidence.errors = {path.name: path.read_text() for path in self.folder.glob("*.errors")}
        return evidence


def read_notes(processes: dict[int, Process], plan: Plan, path: Path) -> None:
    """Add what a process and its forked children noted to `processes`."""
    for line in path.read_text().splitlines() if path.exists() else ():
        _read_note(processes, plan, line.split())


def _read_note(processes: dict[int, Process], plan: Plan, words: list[str]) -> None:
    kind, moment, pid, values = words[0], int(words[1]), int(words[2]), words[3:]
    process = processes.setdefault(pid, Process(pid, plan.name, disk=plan.disk, exit_flush=plan.exit_flush))
    process.last = max(process.last, moment)
    if kind == "begin":
        process.parent, process.began = int(values[0]), moment
        process.threads, process.compute, process.warm = int(values[1]), values[2] == "True", values[3] == "True"
    elif kind == "span":
        process.spans.append((moment, values[0], values[1]))
    elif kind == "unrecorded":
        process.unrecorded.append(moment)
    elif kind == "session":
        process.sessions.append((moment, values[0]))
    elif kind == "update":
        process.updates.append((moment, values[0], int(values[1])))
    elif kind == "flush":
        process.flushes.append((int(values[0]), moment, float(values[1]), values[2] == "1"))
    elif kind == "connect":
        process.connections.append((moment, int(values[0])))
    elif kind == "tick":
        process.ticks.append(moment)
    elif kind == "end":
        process.end, process.ended = values[0], moment


def _lines(path: Path, kind: str) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith(kind)] if path.exists() else []


def _stored_lines(record: Path) -> int:
    return record.read_text().count('"stored": true')


def _alive(pid: int) -> bool:
    import psutil  # type: ignore[import-untyped]  # ipykernel brings it.

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _clean_environment() -> dict[str, str]:
    ours = ("HH_", "HONEYHIVE_", "OTEL_", "TRACELOOP_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {"NO_PROXY": "127.0.0.1"}


def _on_disk(disk: str, folder: Path, command: list[str]) -> list[str]:
    """Return a command that runs with a small or a read-only file system at `folder`, which ends with its processes.

    Where that is not possible, the process limits the size of its files, or uses a folder that cannot be made.
    """
    if disk == WORKS:
        return command
    folder.mkdir(exist_ok=True)
    options = "size=192k,mode=0700" if disk == FULL else "ro,size=64k,mode=0700"
    script = f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"'
    if _can_mount():
        return [*UNSHARE, "sh", "-c", script, str(folder), *command]
    if disk == READ_ONLY:
        folder.chmod(0o500)
        return command
    return ["sh", "-c", 'ulimit -f 64; exec "$@"', "sh", *command]


UNSHARE = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]


@functools.cache
def _can_mount() -> bool:
    try:
        done = subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, timeout=10)
    except OSError:
        return False
    return done.returncode == 0


# The judge


@dataclass(frozen=True, slots=True)
class Limits:
    """What is allowed, in milliseconds.

    Attributes:
        window: spans that ended this long before their process was killed may be lost.
        compute_window: the same where several threads only compute.
        start: from the beginning until the promise holds in a process that is not warm; it still imports.
        compute_start: the same where several threads only compute.
        flush: a flush may take this much longer than its time.
        compute_flush: the same where several threads only compute, which take turns at the interpreter.
        slack: for a machine that does other things; to all of them.
        exit: a process may take this much longer to exit than its last flush.
    """

    window: float = 50.0
    compute_window: float = 250.0
    start: float = 2_000.0
    compute_start: float = 4_000.0
    flush: float = 50.0
    compute_flush: float = 100.0
    slack: float = 50.0
    exit: float = 3_000.0


@dataclass
class Verdict:
    """What the judge found.

    Attributes:
        faults: broken promises, a sentence each.
        figures: counts of what happened, by name.
        windows: milliseconds before its death of which each killed process lost spans, by kind of process.
        overtimes: by how many milliseconds flushes were late, beyond the stops of their process.
    """

    faults: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)
    windows: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    overtimes: list[float] = field(default_factory=list)


SUSPICIOUS = re.compile(r"Traceback|Exception|\w+Error\b|Fatal Python error|Segmentation|Bus error")
AT_EXIT = SECOND // 2
"""A request that was answered this shortly before its process began to exit, or later, may have been cut off."""


class Judge:
    """Compares the server's record with the notes of the processes."""

    def __init__(self, evidence: Evidence, limits: Limits) -> None:
        self.evidence, self.limits = evidence, limits
        self.found = Verdict()
        self.stores: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.calls: dict[tuple[str, int | None], list[dict[str, Any]]] = defaultdict(list)
        self.answered: dict[int, int] = {}
        self.refused = Counter[str]()
        for entry in evidence.record:
            if "answered" in entry:
                self.answered[entry["answered"]] = entry["at"]
            for span, *_ in entry.get("spans", ()):
                if entry["stored"]:
                    self.stores[span].append(entry)
                elif entry["mode"] in ("500", "503"):
                    self.refused[span] += 1
            for session, number in entry.get("calls", ()):
                self.calls[session, number].append(entry)
        self.makers = {span: one for one in evidence.processes.values() for _, _, span in one.spans}
        self.ports: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for process in evidence.processes.values():
            for moment, port in process.connections:
                self.ports[port].append((moment, process.pid))

    def verdict(self) -> Verdict:
        """Return what was found."""
        self._check_processes()
        self._check_arrival()
        self._check_content()
        self._check_order()
        self._check_repeats()
        self._check_flushes()
        return self.found

    def _fault(self, text: str) -> None:
        self.found.faults.append(text)

    # Processes

    def _check_processes(self) -> None:
        self.found.faults += self.evidence.trouble
        for name, text in self.evidence.errors.items():
            if match := SUSPICIOUS.search(text):
                self._fault(f"{name} has {match[0]!r}:\n{text[-3_000:]}")
        for successor in self.evidence.successors:
            if successor["problem"]:
                self._fault(f"the spool has a problem: {successor['problem']}")
            self.found.figures["rows that were rejected and sent again"] += successor["rejected"]
        if self.evidence.successors and not self.evidence.successors[-1]["done"]:
            self._fault(f"the last process could not send everything: {self.evidence.successors[-1]}")
        for process in self.evidence.processes.values():
            self.found.figures[f"processes: {self._how(process)}"] += 1
            if process.unrecorded and not 0 < process.terminated < process.unrecorded[0]:
                self._fault(f"process {process.pid} of {process.name} made spans that were not recorded")
            if process.last and not (process.end or process.killed or process.terminated):
                self._fault(f"process {process.pid} of {process.name} ended without a reason")
            leaves = process.terminated or (process.ended if process.end == "exit" else 0)
            late = (process.gone - leaves) / MILLISECOND - process.exit_flush * 1000 if leaves and process.gone else 0.0
            if late > self.limits.exit + 1000 * process.compute and not process.killed:
                self._fault(
                    f"process {process.pid} of {process.name} took {late:.0f} ms longer to end than its flush may"
                )

    def _how(self, process: Process) -> str:
        return "killed" if process.killed else "terminated" if process.terminated else process.end or "crashed"

    # Spans and updates arrive

    def _death(self, process: Process) -> int | None:
        """When the process was killed, at the earliest; None if it ended by itself.

        The last sign of life counts: a machine that does not run a process for a while gives it no time.
        """
        if process.killed:
            return min(process.killed, process.last)
        if process.terminated or process.end in ("_exit", "kill", ""):
            return process.ended or process.last
        return None

    def promised(self, process: Process, moment: int) -> bool:
        """Return whether what ended at this moment must have arrived."""
        death = self._death(process)
        if process.disk != WORKS:
            return False
        if process.killed and not self._has_started(process):
            return False
        if death is None or process.terminated:
            return not process.terminated or moment < process.terminated
        window = self.limits.compute_window if process.compute else self.limits.window
        allowed = (window + self.limits.slack) * MILLISECOND * _slowness(process, death - SECOND, death)
        return moment < death - allowed - _stops(process, death - SECOND, death)

    def _has_started(self, process: Process) -> bool:
        start = self.limits.compute_start if process.compute else self.limits.start
        return process.warm or process.last > process.began + (start + self.limits.slack) * MILLISECOND

    def missing(self) -> dict[int, list[tuple[int, str]]]:
        """Return time and id of the promised spans that did not arrive, by process."""
        lost: dict[int, list[tuple[int, str]]] = {}
        for process in self.evidence.processes.values():
            gone = [(moment, span) for moment, _, span in process.spans if span not in self.stores]
            if broken := [(moment, span) for moment, span in gone if self.promised(process, moment)]:
                lost[process.pid] = broken
        return lost

    def _check_arrival(self) -> None:
        for pid, lost in self.missing().items():
            process = self.evidence.processes[pid]
            death = self._death(process) or process.last
            self._fault(
                f"{len(lost)} of {len(process.spans)} spans of process {pid} ({process.name}, {self._how(process)},"
                f" {process.disk}) did not arrive; they ended {(death - lost[-1][0]) / MILLISECOND:.0f} to"
                f" {(death - lost[0][0]) / MILLISECOND:.0f} ms before its end; the first is {lost[0][1]}"
            )
        for process in self.evidence.processes.values():
            gone = [moment for moment, _, span in process.spans if span not in self.stores]
            self.found.figures["spans made"] += len(process.spans)
            self.found.figures["spans lost"] += len(gone)
            killed = self._death(process)
            if killed is not None and process.disk == WORKS and process.threads and not process.terminated:
                kind = "computing" if process.compute else "other"
                kind += " processes" if self._has_started(process) else " processes that had just started"
                self.found.windows[kind].append((killed - min(gone, default=killed)) / MILLISECOND)
            for moment, session, number in process.updates:
                arrived = any(entry["stored"] for entry in self.calls.get((session, number), ()))
                self.found.figures["updates made"] += 1
                if not arrived and self.promised(process, moment):
                    self._fault(f"update {number} of session {session} of process {process.pid} did not arrive")
        self.found.figures["spans arrived"] = len(self.stores)

    def _check_content(self) -> None:
        """What arrived is what was made, but a process may be killed before it notes its last span."""
        made = {span: (p.pid, session) for p in self.evidence.processes.values() for _, session, span in p.spans}
        unknown = Counter[int]()
        for entry in self.evidence.record:
            for span, session, pid in entry.get("spans", ()) if entry.get("stored") else ():
                if span not in made:
                    unknown[pid] += len(self.stores[span]) > 0 and entry is self.stores[span][0]
                elif made[span] != (pid, session):
                    self._fault(f"span {span} of process {made[span][0]} arrived with session {session}, process {pid}")
        for pid, number in unknown.items():
            process = self.evidence.processes.get(pid)
            if process is None or number > (4 * process.threads if self._death(process) is not None else 0):
                self._fault(f"{number} spans of process {pid} arrived that it did not make")

    # Order

    def _failures(self, session: str, number: int | None, before: int) -> int:
        """Return how many requests for a start or an update failed before this line of the record."""
        tries = [entry for entry in self.calls.get((session, number), ()) if entry["number"] < before]
        return sum(not self._well_answered(entry, before) for entry in tries)

    def _well_answered(self, entry: dict[str, Any], before: float = float("inf")) -> bool:
        return self.answered.get(entry["number"], before) < before

    def _check_order(self) -> None:
        """A session's start comes before its spans and updates; a forked child cannot know of its parent's starts."""
        creator = {session: p for p in self.evidence.processes.values() for _, session in p.sessions}
        first: dict[str, tuple[int, str]] = {}
        for entry in self.evidence.record:
            spans = [(session, f"span {span}", pid) for span, session, pid in entry.get("spans", ())]
            updates = [(session, f"update {number}", None) for session, number in entry.get("calls", ()) if number]
            for session, what, pid in [*spans, *updates] if entry.get("stored") else ():
                if session in creator and pid in (None, creator[session].pid):
                    first.setdefault(session, (entry["number"], what))
        for session, (before, what) in first.items():
            stored = [entry["number"] for entry in self.calls.get((session, None), ()) if entry["stored"]]
            if stored and stored[0] < before:
                continue
            failures = self._failures(session, None, before)
            if failures:
                self.found.figures["sessions whose spans came first, as their start had failed"] += 1
            else:
                when = f"at line {stored[0]}" if stored else "not at all"
                self._fault(f"the start of session {session} came {when}, {what} at line {before}")
            if not stored and creator[session].disk == WORKS:
                self._fault(f"the start of session {session} is lost, though {what} arrived")
        self._check_updates()

    def _check_updates(self) -> None:
        firsts: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for (session, number), entries in self.calls.items():
            if number is not None and (stored := [entry["number"] for entry in entries if entry["stored"]]):
                firsts[session].append((number, stored[0]))
        for session, numbers in firsts.items():
            numbers.sort()
            for (earlier, line), (later, next_line) in itertools.pairwise(numbers):
                if next_line > line:
                    continue
                if self._failures(session, earlier, next_line) >= 3:
                    self.found.figures["updates overtaken, as they had failed"] += 1
                else:
                    self._fault(
                        f"update {later} of session {session} came at line {next_line}, before {earlier} at {line}"
                    )

    # Repeats

    def _check_repeats(self) -> None:
        unexplained: dict[str, list[str]] = defaultdict(list)
        for span, entries in self.stores.items():
            for entry, again in itertools.pairwise(entries):
                why = self._why_again(span, entry, again)
                self.found.figures[f"repeats: {why}"] += 1
                if why.startswith("unexplained"):
                    unexplained[why].append(span)
        for why, spans in unexplained.items():
            self._fault(f"{len(spans)} spans were sent again though they had arrived ({why}); the first is {spans[0]}")

    def _why_again(self, span: str, entry: dict[str, Any], again: dict[str, Any]) -> str:
        answered = self.answered.get(entry["number"])
        if answered is None:
            return "no good answer"
        sender = self._sender(entry)
        if sender is None:
            return "unexplained, unknown sender"
        leaves = sender.killed or sender.terminated or sender.ended
        if answered > leaves - AT_EXIT:
            return f"answered at the end of its sender ({self._how(sender)})"
        if not sender.terminated and self._death(sender) is not None:
            name = "longest time from an answer to the end of a killed sender whose spans were repeated, ms"
            self.found.figures[name] = max(self.found.figures[name], (leaves - answered) // MILLISECOND)
            return f"the sender was killed ({self._how(sender)})"
        if self._adopter_died(span, again["at"]):
            return "a process was killed while it may have been adopting them, so that two files had them"
        return f"unexplained, sent by process {sender.pid} of {sender.name}"

    def _adopter_died(self, span: str, before: int) -> bool:
        """Whether a process that adopts rows died after the maker of a span, and before it was sent again."""
        maker, processes = self.makers.get(span), self.evidence.processes
        if maker is None or not (gone := maker.killed or maker.terminated or maker.ended):
            return False
        adopters = [one for one in processes.values() if one.disk == WORKS and one.parent not in processes]
        return any(gone < (self._death(one) or 0) < before for one in adopters)

    def _sender(self, entry: dict[str, Any]) -> Process | None:
        earlier = [(moment, pid) for moment, pid in self.ports.get(entry["port"], ()) if moment - SECOND < entry["at"]]
        return self.evidence.processes[max(earlier)[1]] if earlier else None

    # Flushes

    def _check_flushes(self) -> None:
        for process in self.evidence.processes.values():
            limit = (self.limits.compute_flush if process.compute else self.limits.flush) + self.limits.slack
            failed_before = False
            for began, ended, timeout, done in process.flushes:
                self.found.figures[f"flushes: {done}"] += 1
                stop = _stops(process, began, ended) / MILLISECOND
                over = (ended - began) / MILLISECOND - timeout - stop
                self.found.overtimes.append(over)
                in_handler = began < process.terminated < ended  # SIGTERM's flush ran inside this one.
                if over > limit * _slowness(process, began - SECOND, ended) and not in_handler:
                    self._fault(
                        f"a flush of process {process.pid} ({process.name}) within {timeout:.0f} ms took"
                        f" {(ended - began) / MILLISECOND:.0f} ms, {stop:.0f} of which it did not run"
                    )
                if done:
                    self._check_true_flush(process, began, ended, failed_before=failed_before)
                failed_before |= not done

    def _check_true_flush(self, process: Process, began: int, ended: int, *, failed_before: bool) -> None:
        for moment, _, span in process.spans:
            if moment >= began:
                continue
            entries = self.stores.get(span)
            if entries and entries[0]["at"] <= ended:
                continue
            if failed_before and self.refused[span] >= 5:
                self.found.figures["spans that an earlier flush reported as rejected"] += 1
                continue
            self._fault(f"a flush of process {process.pid} ({process.name}) was True without span {span}")
            return


def _stops(process: Process, began: int, ended: int) -> int:
    """Return for how long the machine did not run the process between two moments: the long times without a tick.

    Four computing threads alone make a tick up to 40 ms late, which is not counted.
    """
    return sum(gap - 10 * MILLISECOND for gap in _gaps(process, began, ended) if gap > LONG_GAP)


def _slowness(process: Process, began: int, ended: int) -> float:
    """Return how many times longer than on an idle machine a thread of the process waited for its turn; at least 1.

    What a busy machine leaves a process makes each gap longer, but none long.
    """
    gaps = [gap for gap in _gaps(process, began, ended) if gap <= LONG_GAP]
    usual = USUAL_COMPUTE_GAP if process.compute else USUAL_GAP
    return max(1.0, statistics.mean(gaps) / usual) if gaps else 1.0


USUAL_GAP, USUAL_COMPUTE_GAP, LONG_GAP = 12 * MILLISECOND, 18 * MILLISECOND, 60 * MILLISECOND
"""Between two ticks: the mean on an idle machine, the same beside four computing threads, and when it did not run."""


def _gaps(process: Process, began: int, ended: int) -> list[int]:
    ticks = [tick for tick in process.ticks if began < tick < ended]
    return [later - earlier for earlier, later in itertools.pairwise([began, *ticks, ended])] if ticks else []


def judged(evidence: Evidence, limits: Limits = Limits()) -> Verdict:
    """Return what the judge found in a round."""
    return Judge(evidence, limits).verdict()


def missing_in(evidence: Evidence) -> bool:
    """Return whether a promised span has not arrived yet."""
    return bool(Judge(evidence, Limits()).missing())


# The program


def run_round(seed: int, number: int, seconds: float, folder: Path) -> Evidence:
    """Run one round in an empty folder and return the evidence."""
    return Round(seed, number, seconds, folder).run()


def report(evidence: Evidence, verdict: Verdict) -> str:
    """Return the result as text: figures, and with faults every decision and the server's behaviour."""
    lines = [f"round {evidence.round} of seed {evidence.seed} ({FLAVOURS[evidence.round % len(FLAVOURS)]})"]
    lines += [f"  {name}: {count}" for name, count in sorted(verdict.figures.items())]
    for kind, windows in sorted(verdict.windows.items()):
        lines.append(f"  lost before a kill, {kind}: at most {max(windows):.0f} ms ({len(windows)} kills)")
    if verdict.overtimes:
        lines.append(f"  flushes late by at most {max(verdict.overtimes):.0f} ms")
    if verdict.faults:
        lines += ["", *(f"FAULT: {fault}" for fault in verdict.faults), "", "Decisions:", *evidence.decisions]
        began = evidence.record[0]["at"]
        lines += [
            f"{(entry['at'] - began) / SECOND:7.3f} s  {entry['mode']} {entry['scope']}"
            for entry in evidence.record
            if "scope" in entry
        ]
        lines.append(f"Repeat it with: python -m tests.export.chaos --seed {evidence.seed} --round {evidence.round}")
    return "\n".join(lines)


def main() -> int:
    if stacks := os.environ.get("HH_CHAOS_STACKS"):
        faulthandler.register(signal.SIGUSR1, file=Path(stacks).open("w"), all_threads=True)  # noqa: SIM115
    roles: dict[str, Callable[..., None]] = {
        "server": lambda name, record: Server(random.Random(name) if name else None, Path(record)).run(),
        "producer": lambda plan, path: Producer(_plan_from(plan), Notes(path)).run(),
        "reader": read_sessions,
        "rest": lambda plan, path: send_the_rest(_plan_from(plan), Notes(path)),
    }
    if len(sys.argv) > 1 and sys.argv[1] in roles:
        roles[sys.argv[1]](*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description="Random faults against the exporter, and a judge of what arrived.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on, in rounds")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--round", type=int, help="run only this round")
    parser.add_argument("--round-seconds", type=float, default=8.0, help="of chaos in a round")
    parser.add_argument("--keep", type=Path, help="folder for the notes and records of rounds with faults")
    for name, value in asdict(Limits()).items():
        parser.add_argument(f"--{name.replace('_', '-')}-ms", dest=name, type=float, default=value)
    options = parser.parse_args()
    limits = Limits(**{name: getattr(options, name) for name in asdict(Limits())})
    until, number, faults = time.monotonic() + options.seconds, options.round or 0, 0
    while True:
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            evidence = run_round(options.seed, number, options.round_seconds, Path(folder))
            verdict = judged(evidence, limits)
            print(report(evidence, verdict), flush=True)
            if verdict.faults and options.keep:
                shutil.copytree(folder, options.keep / f"{options.seed}-{number}", dirs_exist_ok=True)
        faults += len(verdict.faults)
        number += 1
        if options.round is not None or time.monotonic() > until:
            break
    print(f"{faults} faults")
    return 1 if faults else 0


def _plan_from(text: str) -> Plan:
    fields = json.loads(text)
    return Plan(**{**fields, "threads": tuple(fields["threads"])})


if __name__ == "__main__":
    sys.exit(main())
