"""A stand-in for the HoneyHive backend: real HTTP on the loopback interface, requests kept and decoded.

    with Backend() as backend:
        tracer = HoneyHiveTracer.init(api_key="key", server_url=backend.url)
        ...
        assert backend.wait_for(lambda b: len(b.spans()) == 3)

It answers as a real backend was seen to answer; `Behaviour` makes it slow, mute or hostile, and may be changed while
it runs (`backend.behaviour.hang = ()`).
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from google.protobuf.json_format import ParseError
from google.protobuf.message import DecodeError

from tests import otlp
from tests.backend_answers import SESSION_START, TRACES, Answers, Behaviour


@dataclass(slots=True)
class Request:
    """One request as it arrived.

    Attributes:
        headers: names in lower case.
        body: parsed JSON; for trace exports, protobuf or JSON, the list of spans (see `tests.otlp.spans`).
        undecodable: why the body could not be read; such a request is answered with 400.
        size: bytes on the wire.
        status: what was answered; None while no answer was given.
        answer: the answered JSON.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    size: int
    undecodable: str | None = None
    status: int | None = None
    answer: Any = None

    @property
    def accepted(self) -> bool:
        return self.status == 200 and self.answer is not None


class Backend:
    """The server and what it received. A context manager; the port is free again after it.

    Args:
        refuse: nothing listens at `url` until `listen()`.
        behaviour: fields of `Behaviour`.
    """

    def __init__(self, *, refuse: bool = False, **behaviour: Any) -> None:
        self.behaviour = Behaviour(**behaviour)
        self._answers = Answers(self.behaviour)
        self._forced = {prefix: list(codes) for prefix, codes in self.behaviour.statuses.items()}
        self._received: list[Request] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._server: _Server | None = None
        self._refuse = refuse
        self._port = _free_port() if refuse else 0

    def __enter__(self) -> Self:
        if not self._refuse:
            self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Base address, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    def listen(self) -> None:
        """Accept connections from now on; after a `close()` at the same address."""
        self._closing.clear()
        self._server = _Server(("127.0.0.1", self._port), _handler_for(self))
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True, name="stand-in backend").start()

    def close(self) -> None:
        """Stop listening, drop open connections and let go of requests that hang."""
        self._closing.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.drop_connections()
            self._server = None

    @property
    def requests(self) -> list[Request]:
        """Everything received so far, in order of arrival."""
        with self._changed:
            return list(self._received)

    def spans(self, name: str | None = None) -> list[dict[str, Any]]:
        """The spans of accepted exports in order of arrival, of that name if one is given."""
        exports = [request for request in self.requests if request.path == TRACES and request.accepted]
        return [span for request in exports for span in request.body if name in (None, span["name"])]

    def sessions(self) -> list[dict[str, Any]]:
        """The sessions that were registered: what was asked for, with the id that was answered."""
        starts = [request for request in self.requests if request.path == SESSION_START and request.accepted]
        return [{**start.body["session"], "session_id": start.answer["session_id"]} for start in starts]

    def wait_for(self, condition: Callable[[Backend], object], timeout: float = 10.0) -> bool:
        """Whether `condition(backend)` became true within `timeout` seconds; looked at after each answer."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(condition(self)), timeout)

    def receive(self, request: Request) -> None:
        """Keep the request and decide on its answer; leaves `status` None for one that must hang."""
        body, path = request.body, request.path
        with self._changed:
            self._received.append(request)
            self._changed.notify_all()
            forced = 307 if self.behaviour.redirect_to else self._forced_status(path)
        self._closing.wait(self.behaviour.delay.get(path, 0))
        if any(path.startswith(prefix) for prefix in self.behaviour.hang):
            self._closing.wait()
            return
        answer: dict[str, Any] | None
        status, answer = forced, {"message": f"the test asked for {forced}"}
        if self.behaviour.page is not None:
            status, answer = 200, None
        elif request.undecodable:
            status, answer = 400, {"message": request.undecodable}
        elif forced is None:
            status, answer = self._answers.answer(request.method, path, request.query, body)
        with self._changed:
            request.status, request.answer = status, answer
            self._changed.notify_all()

    def _forced_status(self, path: str) -> int | None:
        for prefix, codes in self._forced.items():
            if path.startswith(prefix) and codes:
                keep = self.behaviour.repeat_last_status and len(codes) == 1
                return codes[0] if keep else codes.pop(0)
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._connections: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        """End kept connections: their threads would go on answering after the server closed."""
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up early is part of the tests and not worth a traceback."""


def _handler_for(backend: Backend) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # Else every kept connection costs 40 ms per answer.

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

        def _handle(self) -> None:
            request = _read(self)
            backend.receive(request)
            if request.status is None:
                self.close_connection = True
                return
            page, target = backend.behaviour.page, backend.behaviour.redirect_to
            data = json.dumps(request.answer).encode() if page is None else page.encode()
            self.send_response(request.status)
            self.send_header("Content-Type", "application/json" if page is None else "text/html")
            if target:
                self.send_header("Location", target + self.path)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _handle  # noqa: N815 - http.server's names

    return Handler


def _read(handler: BaseHTTPRequestHandler) -> Request:
    raw = handler.rfile.read(int(handler.headers.get("content-length") or 0))
    address = urlsplit(handler.path)
    headers = {name.lower(): value for name, value in handler.headers.items()}
    request = Request(
        method=handler.command,
        path=address.path,
        query=dict(parse_qsl(address.query, keep_blank_values=True)),
        headers=headers,
        body=[] if address.path == TRACES else None,
        size=len(raw),
    )
    try:
        request.body = _decode(request.path, headers, raw)
    except (ValueError, OSError, DecodeError, ParseError) as error:
        request.undecodable = f"{type(error).__name__}: {error}"
    return request


def _decode(path: str, headers: dict[str, str], raw: bytes) -> Any:
    data = gzip.decompress(raw) if headers.get("content-encoding") == "gzip" else raw
    if path == TRACES:
        protobuf = "protobuf" in headers.get("content-type", "")
        return list(otlp.spans(otlp.from_protobuf(data) if protobuf else otlp.from_json(json.loads(data))))
    return json.loads(data) if data else None
