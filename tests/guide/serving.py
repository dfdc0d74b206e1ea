"""Real web servers on the loopback interface: uvicorn and werkzeug, in a thread or in a separate process.

python -m tests.guide.serving service 1   # serves the program of that name with one thread, prints its address
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"


def load(name: str) -> ModuleType:
    """Run the program of this name, which makes its tracer, and return its module."""
    spec = importlib.util.spec_from_file_location(name, PROGRAMS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def asgi(app: Any) -> Iterator[str]:
    """Serve with uvicorn; yields the URL."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True, name="uvicorn")
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


@contextmanager
def wsgi(app: Any, threads: int | None = None) -> Iterator[str]:
    """Serve with werkzeug; yields the URL.

    Args:
        threads: number of threads, each of which serves one request after the other, as those of gunicorn and
            waitress do; default: a new thread for each request, as werkzeug does.
    """
    from werkzeug.serving import BaseWSGIServer, make_server

    with ThreadPoolExecutor(threads) as pool:

        class Pooled(BaseWSGIServer):
            multithread = True

            def process_request(self, request: Any, client_address: Any) -> None:
                pool.submit(self._serve, request, client_address)

            def _serve(self, request: Any, client_address: Any) -> None:
                try:
                    self.finish_request(request, client_address)
                finally:
                    self.shutdown_request(request)

        server = Pooled("127.0.0.1", 0, app) if threads else make_server("127.0.0.1", 0, app, threaded=True)
        with running(server) as url:
            yield url


@contextmanager
def running(server: HTTPServer) -> Iterator[str]:
    """Run an `HTTPServer`, such as those of werkzeug and Django, on a thread; yields the URL."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True, name=type(server).__name__)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(20)
        server.server_close()


def main() -> None:
    """Serve one program until standard input ends."""
    name, *threads = sys.argv[1:]
    app = load(name).app
    with wsgi(app, *map(int, threads)) if type(app).__name__ == "Flask" else asgi(app) as url:
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
