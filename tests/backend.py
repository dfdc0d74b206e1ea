"""A stand-in for the HoneyHive backend: real HTTP on the loopback interface, requests kept and decoded.

    with Backend() as backend:
        tracer = HoneyHiveTracer.init(api_key="key", server_url=backend.url)
        ...
        assert backend.wait_for(lambda b: len(b.spans()) == 3)

It answers as a real backend was seen to answer; `Behaviour` makes it slow, mute or hostile, and may be changed while
it runs (`backend.behaviour.hang = ()`).
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from tests.backend_answers import SESSION_START, TRACES, Answers, Behaviour
from tests.backend_server import Request, Server, handler_for

__all__ = ["Backend", "Request", "reserved_address"]


class Backend:
    """The server and what it received. A context manager; the port is free again after it.

    Args:
        refuse: nothing listens at `url` until `listen()`.
        tls: the server's side of TLS; `url` then says https.
        behaviour: fields of `Behaviour`.
    """

    def __init__(self, *, refuse: bool = False, tls: ssl.SSLContext | None = None, **behaviour: Any) -> None:
        self.behaviour = Behaviour(**behaviour)
        self._answers = Answers(self.behaviour)
        self._forced = {prefix: list(codes) for prefix, codes in self.behaviour.statuses.items()}
        self._received: list[Request] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._server: Server | None = None
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
        """Base address, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._address.getsockname()[1]}"

    def listen(self) -> None:
        """Accept connections from now on; after a `close()` at the same address."""
        self._closing.clear()
        self._server = Server(self._address.getsockname(), handler_for(self))
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
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
        broken = self.behaviour.page is not None or self.behaviour.garbage is not None or self.behaviour.break_off
        if broken and forced is None:
            status, answer = 200, None
        elif request.undecodable:
            status, answer = 400, {"message": request.undecodable}
        elif forced is None:
            status, answer = self._answers.answer(request.method, path, request.query, body)
        with self._changed:
            request.status, request.answer = status, answer
            self._changed.notify_all()

    def force(self, statuses: Mapping[str, Sequence[int]]) -> None:
        """Forced status codes by path prefix from now on, as in `Behaviour.statuses`."""
        with self._changed:
            self._forced = {prefix: list(codes) for prefix, codes in statuses.items()}

    def wait_until_closed(self) -> None:
        """What a handler does that hangs."""
        self._closing.wait()

    def _forced_status(self, path: str) -> int | None:
        for prefix, codes in self._forced.items():
            if path.startswith(prefix) and codes:
                keep = self.behaviour.repeat_last_status and len(codes) == 1
                return codes[0] if keep else codes.pop(0)
        return None


def reserved_address() -> socket.socket:
    """A bound socket that never listens: connections are refused, and nobody else is given its port meanwhile.

    A server may listen at the same address, since both allow it (`SO_REUSEADDR`).
    """
    address = socket.socket()
    address.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    address.bind(("127.0.0.1", 0))
    return address
