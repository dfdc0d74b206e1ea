"""What a session costs a request: the same application with and without the middleware, in turn, in one process.

    python -m tests.benchmarks.requests

Prints the median of the added time for each server. Budget: 0.3 ms.
"""

from __future__ import annotations

import http.client
import logging
import statistics
import subprocess
import sys
import time
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import FastAPI
from flask import Flask

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.runtimes.asgi import SessionMiddleware
from hh_jupyter.runtimes.flask import init_app
from tests.guide import serving

ROUNDS: Final = 1_500
WARM_UP: Final = 200


def fastapi_app(*, sessions: bool) -> FastAPI:
    app = FastAPI()
    app.get("/items/{item}")(_endpoint)
    if sessions:
        app.add_middleware(SessionMiddleware)
    return app


async def _endpoint(item: str) -> str:
    return item


def flask_app(*, sessions: bool) -> Flask:
    app = Flask(__name__)
    app.get("/items/<item>")(lambda item: item)
    if sessions:
        init_app(app)
    return app


def seconds(connection: http.client.HTTPConnection) -> float:
    """Of one request."""
    began = time.perf_counter()
    connection.request("GET", "/items/7")
    connection.getresponse().read()
    return time.perf_counter() - began


def measure(name: str, serve: Any, make: Any) -> None:
    """Ask both in turn and print the medians."""
    with serve(make(sessions=False)) as plain, serve(make(sessions=True)) as ours:
        connections = [http.client.HTTPConnection(urlsplit(url).netloc) for url in (plain, ours)]
        pairs = [[seconds(connection) for connection in connections] for _ in range(ROUNDS)][WARM_UP:]
        for connection in connections:
            connection.close()
    medians = [statistics.median(column) * 1000 for column in zip(*pairs, strict=True)]
    added = statistics.median(with_it - without for without, with_it in pairs) * 1000
    print(f"{name:10} plain {medians[0]:.3f} ms, with sessions {medians[1]:.3f} ms, added {added:.3f} ms")


def main() -> None:
    """Measure against a backend in a process of its own."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    command, pipe = [sys.executable, "-m", "tests.benchmarks.sink"], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as sink:
        assert sink.stdout is not None
        with HoneyHiveTracer.init(api_key="test-key-0001", server_url=sink.stdout.readline().strip()):
            measure("FastAPI", serving.asgi, fastapi_app)
            measure("Flask", serving.wsgi, flask_app)
        sink.kill()


if __name__ == "__main__":
    main()
