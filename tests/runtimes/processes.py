"""Servers of several processes, started by their own commands on a socket that is ours."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from hh_jupyter.testing import Backend
from tests.conftest import TESTS

SECONDS = 60.0
ASGI, WSGI = "tests.guide.programs.fastapi_middleware:app", "tests.guide.programs.flask_middleware:app"
_GUNICORN = ("gunicorn", "--workers", "2", "--log-level", "error", "--bind", "fd://{fd}")
_UVICORN = ("uvicorn", "--log-level", "error", "--fd", "{fd}")
_UVICORN_WORKER = ("--worker-class", "uvicorn_worker.UvicornWorker")
SERVERS: dict[str, tuple[str, ...]] = {
    "uvicorn": (*_UVICORN, ASGI),
    "uvicorn workers": (*_UVICORN, "--workers", "2", ASGI),
    "gunicorn": (*_GUNICORN, WSGI),
    "gunicorn preload": (*_GUNICORN, "--preload", WSGI),
    "gunicorn threads": (*_GUNICORN, "--threads", "4", WSGI),
    "gunicorn threads preload": (*_GUNICORN, "--threads", "4", "--preload", WSGI),
    "gunicorn uvicorn": (*_GUNICORN, *_UVICORN_WORKER, ASGI),
    "gunicorn uvicorn preload": (*_GUNICORN, *_UVICORN_WORKER, "--preload", ASGI),
}


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    url: str
    process: subprocess.Popen[bytes]

    def ask(self, question: str) -> str:
        """The session of one request; asked again while no worker listens."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                answer = httpx.get(f"{self.url}/ask/{question}", timeout=SECONDS)
            except httpx.TransportError:
                assert time.monotonic() < deadline, "no worker answers"
                assert self.process.poll() is None, "the server has ended"
                time.sleep(0.05)
                continue
            assert answer.status_code == 200
            return answer.headers["X-Session-ID"]

    def end(self, by: signal.Signals) -> None:
        """End the server and all its processes."""
        self.process.send_signal(by)
        self.process.wait(SECONDS)

    def workers(self) -> list[int]:
        """The processes that it started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


@contextmanager
def running(server: str, backend: Backend, **env: str) -> Iterator[Running]:
    """A server whose spans wait for a minute, so that only its end sends them."""
    settings = {"HH_API_KEY": "test-key-0001", "HH_API_URL": backend.url, "HH_FLUSH_INTERVAL": "60", **env}
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        listening.set_inheritable(True)
        command = [part.format(fd=listening.fileno()) for part in SERVERS[server]]
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=TESTS.parent,
            env={**os.environ, **settings},
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        yield Running(url, process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(SECONDS)
