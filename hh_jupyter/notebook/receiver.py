"""The OTLP/HTTP receiver: a server on 127.0.0.1 that decodes the spans of other programs, within limits.

It accepts what OpenTelemetry's exporters send: protobuf and JSON, compressed or not, in one piece or in chunks. Each
connection serves one request, so that none is idle. The address ends with a random token; any other is not found.

Other programs must not slow the notebook, however much they send. A request waits for its turn: one at a time is
decoded and finalized, a few spans at once, and all requests together take a small share of the time of one core and
a limited amount of memory. A sender notices slow responses. What would wait too long is rejected, which the response
says as OTLP defines it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import secrets
import socket
import socketserver
import threading
import time
import weakref
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hh_jupyter.export.received import InvalidSpanError, ReceivedSpan, spans_of
from hh_jupyter.otlp_files.json_lines import NotOtlpError, added_spans
from hh_jupyter.threads import start_thread

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

logger = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"

MAX_BODY: Final = 16 * 1024 * 1024
"""Size limit of a request, compressed and not, in bytes."""

MAX_HELD: Final = 4 * MAX_BODY
"""Size limit of all requests that are held in memory at a time, compressed and not, in bytes."""

MAX_GROUPS: Final = 10_000
MAX_PARTS: Final = 1_000_000
"""Limits of a request: `resourceSpans` and `scopeSpans`, and in JSON objects and lists of any kind. However small, each
takes memory, and Python's time for JSON is not shared with the cells."""

MAX_CONNECTIONS: Final = 32
READ_SECONDS: Final = 10.0
"""Longest time in which a request must have arrived; OpenTelemetry's exporters give up after as long."""

LINGER_SECONDS: Final = 2.0
"""How long a refused request is read on and discarded: many clients read the response only when they have sent all."""

TURN_SECONDS: Final = 5.0
"""Longest time that a request waits for its turns."""

POLL_SECONDS: Final = 0.1
"""Between two checks whether to stop listening; closing waits as long."""

SPANS_PER_TURN: Final = 50

SHARE: Final = 0.1
"""Share of the time that receiving may take."""

DELAY_SECONDS: Final = 20.0
"""Longest time that one turn delays later ones, however long it took."""

SAVED_SECONDS: Final = 0.5
"""Time that receiving may take at once after it took less than its share."""

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"


class Response(NamedTuple):
    """The response to a request.

    Attributes:
        message: what is wrong; empty if nothing is.
        rejected: number of spans of an accepted request that were rejected.
    """

    status: int
    message: str = ""
    rejected: int = 0


class RefusedError(Exception):
    """The request is refused with this response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.response = Response(status, message)


BUSY: Final = Response(503, "the notebook is busy; send again later")


class Memory:
    """Counts the bytes that all requests hold in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = 0

    @contextmanager
    def claims(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that claims bytes until the block ends; it raises `RefusedError` if there are too many."""
        claimed = 0

        def claim(size: int) -> None:
            nonlocal claimed
            with self._lock:
                if self._held + size > MAX_HELD:
                    raise RefusedError(*BUSY[:2])
                self._held += size
            claimed += size

        try:
            yield claim
        finally:
            with self._lock:
                self._held -= claimed


class Throttle:
    """Grants turns, one at a time, so that all of them together take `SHARE` of the time."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._account = threading.Lock()
        self._saved, self._counted = SAVED_SECONDS, time.monotonic()
        self.closing = threading.Event()

    @contextmanager
    def turn(self, deadline: float) -> Iterator[bool]:
        """Wait for a turn, which lasts until the block ends. Yields False if there is none before the deadline.

        Args:
            deadline: on the `time.monotonic` clock.
        """
        if not self._turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            yield False
            return
        try:
            granted = self.wait(deadline)
            began = time.monotonic()
            try:
                yield granted
            finally:
                self.spend(time.monotonic() - began)
        finally:
            self._turn.release()

    def wait(self, deadline: float) -> bool:
        """Wait until receiving has taken less than its share. Returns False at the deadline, or while closing."""
        while (seconds := -self._balance() / SHARE) > 0:
            if self.closing.wait(max(0.0, min(seconds, deadline - time.monotonic()))) or time.monotonic() >= deadline:
                return False
        return not self.closing.is_set()

    def close(self) -> None:
        """Grant no more turns; waits for the current one, `TURN_SECONDS` at most."""
        self.closing.set()
        if self._turn.acquire(timeout=TURN_SECONDS):
            self._turn.release()

    def spend(self, seconds: float) -> None:
        """Count time that receiving took. It delays later turns, by `DELAY_SECONDS` at most."""
        self._balance(-seconds)

    def _balance(self, change: float = 0.0) -> float:
        with self._account:
            now = time.monotonic()
            earned, self._counted = (now - self._counted) * SHARE, now
            self._saved = max(min(self._saved + earned, SAVED_SECONDS) + change, -SHARE * DELAY_SECONDS)
            return self._saved


class Receiver:
    """Receives spans until it is closed.

    Args:
        take: takes spans that have been received, and returns when they are finalized: None, or why it rejects them.

    Attributes:
        port: where it listens.
        received, rejected: number of spans so far; the rejected ones by reason.
        refused: number of requests that came too fast, too slowly or were too large, by reason.

    Raises:
        OSError: there is no free port.
        RuntimeError: no thread can be started.
    """

    def __init__(self, take: Callable[[Sequence[ReceivedSpan]], str | None]) -> None:
        self._take = take
        self.received = 0
        self.rejected: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._counting = threading.Lock()
        self.throttle, self.memory = Throttle(), Memory()
        self.path = f"/{secrets.token_urlsafe(24)}/v1/traces"
        self._server = _Server(self)
        self.port = int(self._server.server_address[1])
        if start_thread(self._server.serve_forever, "hh_jupyter-receiver", (POLL_SECONDS,)) is None:
            self._server.server_close()
            raise RuntimeError("no thread can be started here")
        _open.add(self)

    @property
    def url(self) -> str:
        """The address to which an exporter sends spans. It holds the token."""
        return f"http://{HOST}:{self.port}{self.path}"

    def close(self) -> None:
        """Stop listening and close all connections. Nothing is taken afterwards."""
        self.throttle.close()
        self._server.shutdown()
        self._server.server_close()
        self._server.close_connections()
        _open.discard(self)

    def close_in_child(self) -> None:
        """Close the sockets that a forked child has inherited; the parent goes on listening."""
        self._server.server_close()

    def receive(self, body: Body, claim: Callable[[int], None]) -> Response:
        """Decode a request and have its spans taken.

        Args:
            claim: claims the memory for what is unpacked; see `Memory`.

        Raises:
            RefusedError: the body is not an OTLP request, is too large, or needs too much memory.
        """
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        deadline = time.monotonic() + TURN_SECONDS
        request = ExportTraceServiceRequest()
        steps, done = _decode(body, request, claim), False
        while not done:
            with self.throttle.turn(deadline) as granted:
                if not granted:
                    return BUSY
                done = next(steps, True)
        left = sum(len(part.spans) for group in request.resource_spans for part in group.scope_spans)
        spans = spans_of(request)
        problems: Counter[str] = Counter()
        while left:
            with self.throttle.turn(deadline) as granted:
                if not granted:
                    problems["more spans than the notebook can take without being slowed"] += left
                    break
                some = list(islice(spans, SPANS_PER_TURN))
                left -= len(some)
                problems.update(self._have_taken(some))
        with self._counting:
            self.rejected.update(problems)
        return Response(200, "; ".join(problems), problems.total())

    def note_refused(self, response: Response) -> None:
        """Count a request that was refused, if its sender could do better; not those of strangers."""
        if response.status in {408, 413, 503}:
            with self._counting:
                self.refused[response.message] += 1

    def _have_taken(self, some: Sequence[ReceivedSpan | InvalidSpanError]) -> Counter[str]:
        """Have spans taken, and return the numbers of those that were rejected, by reason."""
        problems = Counter(str(each) for each in some if isinstance(each, InvalidSpanError))
        valid = [each for each in some if isinstance(each, ReceivedSpan)]
        try:
            reason = self._take(valid) if valid else None
        except Exception as error:  # boundary: the other spans of the request can be taken.
            logger.debug("received spans could not be taken", exc_info=True)
            reason = f"the notebook failed to record them ({type(error).__name__})"
        if reason is None:
            self.received += len(valid)
        else:
            problems[reason] += len(valid)
        return problems


_open: Final[weakref.WeakSet[Receiver]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for receiver in list(_open):
        receiver.close_in_child()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Body(NamedTuple):
    """The body of a request, as it was sent."""

    data: bytes
    is_json: bool
    is_packed: bool


def _decode(body: Body, request: ExportTraceServiceRequest, claim: Callable[[int], None]) -> Iterator[bool]:
    """Decode a body into a request, in steps that each take a short time; yields False after each but the last."""
    from google.protobuf.message import DecodeError

    data = body.data
    if body.is_packed:
        data = _unpacked(data)
        claim(len(data))
        yield False
    try:
        if not body.is_json:
            request.ParseFromString(data)
        elif data.count(b"{") + data.count(b"[") > MAX_PARTS:
            raise RefusedError(413, f"the body holds more than {MAX_PARTS:,} objects and lists")
        else:
            for number, _ in enumerate(added_spans(json.loads(data), request), 1):
                if number % SPANS_PER_TURN == 0:
                    yield False
    except NotOtlpError as error:
        raise RefusedError(400, str(error)) from None
    except (ValueError, RecursionError, DecodeError):
        raise RefusedError(400, f"the body is not {'JSON' if body.is_json else 'protobuf'}") from None
    groups = len(request.resource_spans)
    if groups > MAX_GROUPS or groups + sum(len(group.scope_spans) for group in request.resource_spans) > MAX_GROUPS:
        raise RefusedError(413, f"the spans are in more than {MAX_GROUPS:,} resourceSpans and scopeSpans")


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # Either format.
    try:
        body = unpacker.decompress(data, MAX_BODY + 1)
    except zlib.error:
        raise RefusedError(400, "the compressed body is damaged") from None
    if len(body) > MAX_BODY:
        raise _too_large()
    if not unpacker.eof or unpacker.unused_data:
        raise RefusedError(400, "the compressed body is damaged")
    return body


# HTTP


class _Server(socketserver.TCPServer):
    """Serves each connection in a thread, up to a number of them."""

    request_queue_size = 64

    def __init__(self, receiver: Receiver) -> None:
        super().__init__((HOST, 0), _Handler)
        self.receiver = receiver
        self._connections: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, but none while receiving has taken more than its share."""
        self.receiver.throttle.wait(time.monotonic() + TURN_SECONDS)
        return super().get_request()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread; refuse it if there are too many."""
        if len(self._connections) < MAX_CONNECTIONS:
            self._connections.add(request)
            if start_thread(self._serve, "hh_jupyter-receiver", (request, client_address)) is not None:
                return
        self.receiver.note_refused(BUSY)
        with suppress(OSError):
            request.setblocking(False)
            request.send(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
        self.shutdown_request(request)

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # The client has closed the connection.
        except Exception:  # boundary: a request that fails must neither stop the receiver nor print into a cell.
            logger.debug("a request of the receiver failed", exc_info=True)
        finally:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Interrupt the requests that are being read."""
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no traceback into a cell: a connection could not be handed over."""


class _Input(io.RawIOBase):
    """Reads from a socket until a deadline, however slowly the client sends."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    """Reads one request and sends the response."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Input(self.connection, time.monotonic() + READ_SECONDS), 256 * 1024)

    def handle(self) -> None:
        """Serve one request."""
        self.handle_one_request()

    def version_string(self) -> str:
        """The `Server` header."""
        return "hh_jupyter"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # The base class names it so.
        """Log nothing: the path holds the token."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request that is not HTTP, or whose method is unknown."""
        self.command = getattr(self, "command", None) or ""
        self._respond(Response(code, message.partition("(")[0].strip() if message else ""))

    def handle_expect_100(self) -> bool:
        """Refuse a request before the client sends its body, if possible."""
        try:
            self._check_headers()
        except RefusedError as error:
            self.server.receiver.note_refused(error.response)
            self._respond(error.response)
            return False
        return super().handle_expect_100()

    def _handle(self) -> None:
        receiver, used = self.server.receiver, time.thread_time()
        try:
            with receiver.memory.claims() as claim:
                try:
                    self._check_headers()
                    body = self._body(claim)
                finally:
                    receiver.throttle.spend(time.thread_time() - used)
                response = receiver.receive(body, claim)
        except RefusedError as error:
            response = error.response
        except TimeoutError:
            response = Response(408, f"the request did not arrive within {READ_SECONDS:.0f} s")
        receiver.note_refused(response)
        self._respond(response)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _handle  # noqa: N815  # http.server's.

    def _content_type(self) -> str:
        return str(self.headers.get("content-type", "")).partition(";")[0].strip().lower()

    def _check_headers(self) -> None:
        """Refuse a request whose headers suffice for that."""
        if not compare_digest(self.path.encode(), self.server.receiver.path.encode()):
            raise RefusedError(404, "nothing is here; %hh listen prints the address")
        if self.command != "POST":
            raise RefusedError(405, "spans are sent with POST")
        if self._content_type() not in {PROTOBUF, JSON}:
            raise RefusedError(415, f"the content type must be {PROTOBUF} or {JSON}")
        if self._encoding() not in {"identity", "gzip", "deflate"}:
            raise RefusedError(415, "the content encoding must be gzip or deflate, or none")
        if not self._is_chunked():
            length = self.headers.get("content-length")
            if length is None:
                raise RefusedError(411, "the request needs a Content-Length")
            if not (length.isascii() and length.isdecimal()):
                raise RefusedError(400, "the Content-Length is not a number")
            if len(length) > 18 or int(length) > MAX_BODY:
                raise _too_large()

    def _encoding(self) -> str:
        return str(self.headers.get("content-encoding", "identity")).strip().lower()

    def _is_chunked(self) -> bool:
        return str(self.headers.get("transfer-encoding", "")).strip().lower() == "chunked"

    def _body(self, claim: Callable[[int], None]) -> Body:
        if self._is_chunked():
            data = b"".join(self._chunks(claim))
        else:
            claim(size := int(self.headers["content-length"]))
            data = self._read(size)
        return Body(data, self._content_type() == JSON, self._encoding() != "identity")

    def _chunks(self, claim: Callable[[int], None]) -> Iterator[bytes]:
        room = MAX_BODY
        while True:
            line = self.rfile.readline(256).partition(b";")[0].strip()
            if not line or len(line) > 8 or line.strip(b"0123456789abcdefABCDEF"):
                raise RefusedError(400, "a chunk of the body has no valid size")
            size = int(line, 16)
            if size == 0:
                return
            room -= size
            if room < 0:
                raise _too_large()
            claim(size)
            yield self._read(size)
            if self.rfile.readline(3) != b"\r\n":
                raise RefusedError(400, "a chunk of the body is longer than its size")

    def _read(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise RefusedError(400, "the body is shorter than its length")
        return data

    def _respond(self, response: Response) -> None:
        headers = getattr(self, "headers", None)
        is_json = headers is None or self._content_type() != PROTOBUF
        data = _encoded(response, is_json=is_json)
        self.close_connection = True
        self.connection.settimeout(LINGER_SECONDS)
        self.send_response(response.status)
        self.send_header("Content-Type", JSON if is_json else PROTOBUF)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        if response.status == 405:
            self.send_header("Allow", "POST")
        elif response.status == 503:
            self.send_header("Retry-After", "2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        if response.status >= 400:
            self._linger()

    def _linger(self) -> None:
        """Discard what the client still sends; closing the connection at once might destroy the response."""
        deadline, buffer = time.monotonic() + LINGER_SECONDS, bytearray(256 * 1024)
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self.connection.settimeout(left)
                if not self.connection.recv_into(buffer):
                    return


def _too_large() -> RefusedError:
    return RefusedError(413, f"the body is larger than {MAX_BODY // 1024 // 1024} MiB")


def _encoded(response: Response, *, is_json: bool) -> bytes:
    """Return the body of a response: an `ExportTraceServiceResponse`, or for an error a `google.rpc.Status`."""
    if is_json and response.status != 200:
        return json.dumps({"message": response.message}).encode()
    if is_json:
        partial = {"rejectedSpans": str(response.rejected), "errorMessage": response.message}
        return json.dumps({"partialSuccess": partial} if response.rejected else {}).encode()
    if response.status != 200:
        text = response.message.encode()[:127]
        return b"\x12" + bytes([len(text)]) + text  # Field 2 of `Status`; its module may not be installed.
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    message = ExportTraceServiceResponse()
    if response.rejected:
        message.partial_success.rejected_spans = response.rejected
        message.partial_success.error_message = response.message
    return message.SerializeToString()
