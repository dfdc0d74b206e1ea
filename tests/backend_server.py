"""The HTTP side of the stand-in backend: reads requests, and answers or breaks off as it is told."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from google.protobuf.json_format import ParseError
from google.protobuf.message import DecodeError

from tests import otlp
from tests.backend_answers import TRACES, Behaviour


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
        received: Unix seconds.
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
    received: float = field(default_factory=time.time)

    @property
    def accepted(self) -> bool:
        return self.status == 200 and self.answer is not None


class Receiver(Protocol):
    """Who decides on answers."""

    behaviour: Behaviour

    def receive(self, request: Request) -> None: ...

    def wait_until_closed(self) -> None: ...


class Server(ThreadingHTTPServer):
    """A thread for each connection, which can be dropped."""

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


def handler_for(backend: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # Else every kept connection costs 40 ms per answer.

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

        def _handle(self) -> None:
            behaviour = backend.behaviour
            if behaviour.break_off == "request":
                self.rfile.read(1)
                reset(self)
                return
            request = _read(self)
            backend.receive(request)
            if request.status is None:
                self.close_connection = True
                return
            page, target = behaviour.page, behaviour.redirect_to
            data = json.dumps(request.answer).encode() if page is None else page.encode()
            data = data if behaviour.garbage is None else behaviour.garbage
            self.send_response(request.status)
            for name, value in behaviour.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json" if page is None else "text/html")
            if target:
                self.send_header("Location", target + self.path)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if behaviour.break_off is None:
                self.wfile.write(data)
                return
            self.wfile.write(data[:-1])
            if behaviour.break_off == "hang":
                backend.wait_until_closed()
            reset(self)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _handle  # noqa: N815 - http.server's names

    return Handler


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Break the connection off, so that the other side sees a reset and not an end."""
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


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
