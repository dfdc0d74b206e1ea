"""A stand-in for the HoneyHive backend: a real HTTP server on 127.0.0.1 that keeps and decodes what it receives."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from google.protobuf.json_format import ParseError
from google.protobuf.message import DecodeError

from hh_jupyter.testing import otlp_decoder
from hh_jupyter.testing.responses import SESSION_START, TRACES, BackendResponses, Behaviour, ReceivedRequest


class Backend:
    """A stand-in for the HoneyHive backend. It accepts everything, unless `behaviour` says otherwise.

    Example:
        >>> with Backend() as backend:
        ...     tracer = HoneyHiveTracer.init(api_key="test", server_url=backend.url)
        ...     with tracer.start_span("work"):
        ...         pass
        ...     tracer.shutdown()
        ...     [span["name"] for span in backend.spans()]
        ['work']

    Args:
        refuse: connections are refused until `listen()` is called.
        tls: the server's certificate; `url` then begins with https.
        behaviour: fields of `Behaviour`, such as `statuses={"/": [503]}` or `delay={"/session/start": 2.0}`.

    Attributes:
        behaviour: may be changed while the backend runs.
    """

    def __init__(self, *, refuse: bool = False, tls: ssl.SSLContext | None = None, **behaviour: Any) -> None:
        self.behaviour = Behaviour(**behaviour)
        self._responses = BackendResponses(self.behaviour)
        self._statuses = {prefix: list(codes) for prefix, codes in self.behaviour.statuses.items()}
        self._received: list[ReceivedRequest] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._server: _Server | None = None
        self._refuse, self._tls = refuse, tls
        self._address = reserved_address()

    def __enter__(self) -> Self:
        if not self._refuse:
            self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._address.close()

    @property
    def url(self) -> str:
        """Base address, without a slash at the end: the setting `server_url`."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._address.getsockname()[1]}"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """All requests so far, in order of arrival."""
        with self._changed:
            return list(self._received)

    def spans(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the spans of accepted exports in order of arrival.

        A span is a dict with name, trace_id, span_id, parent_span_id, kind, status, attributes, events, links,
        start_ns, end_ns, resource and scope. Ids are hexadecimal, attributes plain values.

        Args:
            name: only the spans of this name.
        """
        exports = [request for request in self.requests if request.path == TRACES and request.accepted]
        return [span for request in exports for span in request.body if name in (None, span["name"])]

    def sessions(self) -> list[dict[str, Any]]:
        """Return the accepted session starts as they were sent, each with the id of the answer."""
        starts = [request for request in self.requests if request.path == SESSION_START and request.accepted]
        return [{**start.body["session"], "session_id": start.answer["session_id"]} for start in starts]

    def wait_for(self, condition: Callable[[Backend], object], timeout: float = 10.0) -> bool:
        """Wait until `condition(backend)` is true. Returns False if `timeout` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(condition(self)), timeout)

    def listen(self) -> None:
        """Accept connections; also after `close()`, at the same address."""
        self._closing.clear()
        self._server = _Server(self._address.getsockname(), self)
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True, name="stand-in backend").start()

    def close(self) -> None:
        """Stop listening, close open connections and release requests that hang."""
        self._closing.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.close_connections()
            self._server = None

    def force(self, statuses: Mapping[str, Sequence[int]]) -> None:
        """Answer with these status codes from now on, as `Behaviour.statuses`; `{}` answers normally again."""
        with self._changed:
            self._statuses = {prefix: list(codes) for prefix, codes in statuses.items()}

    def receive(self, request: ReceivedRequest) -> None:
        """Keep a request and set its status and answer. The status stays None if there must be no answer."""
        behaviour, path = self.behaviour, request.path
        with self._changed:
            self._received.append(request)
            self._changed.notify_all()
            forced = 307 if behaviour.redirect_to else self._forced_status(path)
        self._closing.wait(behaviour.delay.get(path, 0))
        if any(path.startswith(prefix) for prefix in self.behaviour.hang):
            self._closing.wait()
            return
        if behaviour.on_request is not None and (chosen := behaviour.on_request(request)) is not None:
            forced = chosen
        answer: dict[str, Any] | None
        status, answer = forced, {"message": f"the test asked for {forced}"}
        unusable = behaviour.html_page is not None or behaviour.raw_body is not None or behaviour.break_connection
        if unusable and forced is None:
            status, answer = 200, None
        elif request.undecodable:
            status, answer = 400, {"message": request.undecodable}
        elif forced is None:
            status, answer = self._responses.answer(request.method, path, request.query, request.body)
        with self._changed:
            request.status, request.answer, request.answered = status, answer, time.time()
            self._changed.notify_all()

    def wait_until_closed(self) -> None:
        """Wait until `close()` is called, as a request that hangs does."""
        self._closing.wait()

    def _forced_status(self, path: str) -> int | None:
        for prefix, codes in self._statuses.items():
            if path.startswith(prefix) and codes:
                keep = self.behaviour.repeat_last_status and len(codes) == 1
                return codes[0] if keep else codes.pop(0)
        return None


def reserved_address() -> socket.socket:
    """Return a bound socket that never listens: connections are refused, and the port is not given to another process.

    A server may still listen at the address, since both sockets allow it (`SO_REUSEADDR`).
    """
    address = socket.socket()
    address.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    address.bind(("127.0.0.1", 0))
    return address


class _Server(ThreadingHTTPServer):
    """Serves each connection in a thread, and can close them all."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], backend: Backend) -> None:
        super().__init__(address, _Handler)
        self.backend = backend
        self._connections: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Close connections that are kept alive: their threads would still answer after the server is closed."""
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no traceback when a client closes its connection early: tests do that on purpose."""


class _Handler(BaseHTTPRequestHandler):
    """Reads a request and sends the answer, or breaks the connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # Else each answer on a kept connection takes 40 ms.
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass

    def _handle(self) -> None:
        backend = self.server.backend
        behaviour = backend.behaviour
        if behaviour.break_connection == "request":
            self.rfile.read(1)
            self._reset()
            return
        request = self._read()
        backend.receive(request)
        if request.status is None:
            self.close_connection = True
            return
        data = json.dumps(request.answer).encode() if behaviour.html_page is None else behaviour.html_page.encode()
        data = data if behaviour.raw_body is None else behaviour.raw_body
        self.send_response(request.status)
        for name, value in behaviour.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json" if behaviour.html_page is None else "text/html")
        if behaviour.redirect_to:
            self.send_header("Location", behaviour.redirect_to + self.path)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if behaviour.break_connection is None:
            self.wfile.write(data)
            return
        self.wfile.write(data[:-1])
        if behaviour.break_connection == "hang":
            backend.wait_until_closed()
        self._reset()

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _handle  # noqa: N815 - http.server's names

    def _read(self) -> ReceivedRequest:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        address = urlsplit(self.path)
        request = ReceivedRequest(
            method=self.command,
            path=address.path,
            query=dict(parse_qsl(address.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=[] if address.path == TRACES else None,
            size=len(raw),
        )
        try:
            request.body = _decode(request.path, request.headers, raw)
        except (ValueError, OSError, DecodeError, ParseError) as error:
            request.undecodable = f"{type(error).__name__}: {error}"
        return request

    def _reset(self) -> None:
        """Close the connection so that the client sees a reset and not an ordinary end."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def _decode(path: str, headers: Mapping[str, str], raw: bytes) -> Any:
    data = gzip.decompress(raw) if headers.get("content-encoding") == "gzip" else raw
    protobuf = "protobuf" in headers.get("content-type", "")
    if path == TRACES or protobuf:
        message = otlp_decoder.from_protobuf(data) if protobuf else otlp_decoder.from_json(json.loads(data))
        return list(otlp_decoder.spans(message))
    return json.loads(data) if data else None
