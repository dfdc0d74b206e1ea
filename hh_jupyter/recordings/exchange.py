"""One request to a model API and its outcome, and the interceptors that are asked about it.

An `Interceptor` is asked before a request is sent, may answer it, and gets the outcome when the response has been read.
Those in force are found in the OpenTelemetry context, so that threads and tasks that carry it share them, else among
those of the whole process (`hh_jupyter.recordings.hooks` puts them there). No client library is
imported here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from opentelemetry import context as otel_context

from hh_jupyter.recordings.hosts import host_is_among, is_known_host, may_be_model_path, names_model

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A request to a model API. One object stands for one attempt, so it can be a key of a dict.

    Attributes:
        method: upper case.
        url: complete, with the query.
        headers: as the client sends them; read-only. Names in any case. They hold keys.
        body: as sent; empty without one.
        readable: whether the body is known. aiohttp can send one that can be read only once.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    readable: bool = True

    @property
    def host(self) -> str:
        """Host and port, in lower case: "api.openai.com", "127.0.0.1:8000"."""
        return urlsplit(self.url).netloc.rpartition("@")[2].lower()

    @property
    def target(self) -> str:
        """Path and query."""
        parts = urlsplit(self.url)
        return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that replaces the response of the network.

    Attributes:
        body: not compressed.
        error: type and message of the error that breaks the body off at its end; None for a complete body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    error: tuple[str, str] | None = None


@dataclass(slots=True)
class Outcome:
    """How a request ended.

    Attributes:
        status: None if there was no response.
        headers: of the response, names in any case.
        ended: the body was read to its end. Clients stop reading at an end mark of the API, which is earlier.
        error: what broke the request or the body off.
        duration_ns: nanoseconds from the request to the end of the body.
        answered: another interceptor answered; nothing was sent.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    ended: bool = False
    error: BaseException | None = None
    duration_ns: int = 0
    answered: bool = False
    _chunks: list[bytes] = field(default_factory=list)
    _decode: Callable[[Mapping[str, str], bytes], bytes] | None = None
    _body: bytes | None = None

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case: "text/event-stream"."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def body(self) -> bytes:
        """What was read of the body, without compression; decoded on first use."""
        if self._body is None:
            raw = b"".join(self._chunks)
            self._body = self._decode(self.headers, raw) if self._decode is not None else raw
            self._chunks = []
        return self._body


class Interceptor:
    """Asked before each request to a model API that is sent while it is in force. Subclasses override what they need.

    Each request that `before` lets pass has exactly one `after` with the same object. The methods run where the client
    runs, on any thread, and several at once.

    Attributes:
        order: interceptors with a lower number are asked first; one that answers ends the round.
        hosts: further hosts ("gateway.corp", "localhost:8000") whose every request counts as one to a model API.
        closed: set at its end; from then on it is not asked.
    """

    order: ClassVar[int] = 0
    hosts: Collection[str] = ()
    closed: bool = False

    def before(self, request: Request) -> Answer | None:
        """Return an answer, or None to send the request. May block."""

    async def before_async(self, request: Request) -> Answer | None:
        """The same for asynchronous clients; must not block the loop."""
        return self.before(request)

    def begin(self, request: Request, status: int, headers: Mapping[str, str]) -> None:
        """Note that the response begins; its body is still to be read. Must not block."""

    def after(self, request: Request, outcome: Outcome) -> None:
        """Receive the outcome: at the end of the body, when it is closed earlier, or after an error. Must not block."""


# What is in force

Interceptors = tuple[Interceptor, ...]

IN_FORCE: Final = otel_context.create_key("hh_jupyter-interceptors")
"""Where a context holds its interceptors."""

everywhere: list[list[Interceptor]] = []
"""For code without such a context; the last entry counts."""


def in_force() -> Interceptors:
    """The interceptors of the current context, in the order they are asked; without any, or once one of them is closed,
    those of the whole process.
    """
    found = otel_context.get_value(IN_FORCE)
    if isinstance(found, list) and not any(one.closed for one in found):
        return tuple(found)
    return tuple(one for one in everywhere[-1] if not one.closed) if everywhere else ()


# One request

_SEEN: Final[ContextVar[bool]] = ContextVar("hh_jupyter-request-seen", default=False)
"""Set while the transport of a request works, which may use another of the libraries."""


def asked(host: str, path: str) -> Interceptors:
    """The interceptors to ask about a request, as far as its address decides; none for other than model APIs.

    Args:
        host: with the port, in lower case.
    """
    if _SEEN.get():
        return ()
    active = in_force()
    if not active or is_known_host(host) or may_be_model_path(path):
        return active
    return tuple(one for one in active if host_is_among(host, one.hosts))


class Exchange:
    """One request and its outcome, for the interceptors that are asked about it.

    Args:
        decode: removes the compression of a body.
    """

    def __init__(
        self, request: Request, active: Interceptors, decode: Callable[[Mapping[str, str], bytes], bytes] | None = None
    ) -> None:
        self.request = request
        host = request.host
        if not (is_known_host(host) or names_model(request.url, request.body if request.readable else None)):
            active = tuple(one for one in active if host_is_among(host, one.hosts))
        self._active = active
        self._asked: list[Interceptor] = []
        self._outcome = Outcome(_decode=decode)
        self._start = time.perf_counter_ns()
        self._done = False

    def answer(self) -> Answer | None:
        """Ask the interceptors."""
        for one in self._active:
            answer = None
            try:
                answer = one.before(self.request)
            except Exception:  # boundary: a fault of ours must not become the caller's; the request is sent.
                logger.exception("hh_jupyter: %s failed before a request", type(one).__name__)
            except BaseException as error:  # boundary: raised again. A caller that is interrupted while it waits.
                self._asked.append(one)
                self.end(error=error)
                raise
            if answer is not None:
                return self._answered(answer)
            self._asked.append(one)
        return None

    async def answer_async(self) -> Answer | None:
        """Ask the interceptors of an asynchronous client."""
        for one in self._active:
            answer = None
            try:
                answer = await one.before_async(self.request)
            except Exception:  # boundary: the same.
                logger.exception("hh_jupyter: %s failed before a request", type(one).__name__)
            except BaseException as error:  # boundary: raised again. A task that is cancelled while it waits.
                self._asked.append(one)
                self.end(error=error)
                raise
            if answer is not None:
                return self._answered(answer)
            self._asked.append(one)
        return None

    def _answered(self, answer: Answer) -> Answer:
        self._outcome.answered, self._outcome._body = True, answer.body
        self.begin(answer.status, answer.headers)
        self.end(ended=answer.error is None)
        return answer

    @property
    def watched(self) -> bool:
        """Whether an interceptor waits for the outcome."""
        return bool(self._asked) and not self._done

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Note the beginning of the response."""
        self._outcome.status, self._outcome.headers = status, headers
        for one in () if self._outcome.answered else self._asked:
            try:
                one.begin(self.request, status, headers)
            except Exception:  # boundary: the same.
                logger.exception("hh_jupyter: %s failed at the beginning of a response", type(one).__name__)

    def feed(self, chunk: bytes) -> None:
        """Collect a part of the body."""
        self._outcome._chunks.append(chunk)

    def end(self, *, ended: bool = False, error: BaseException | None = None) -> None:
        """Hand over the outcome; only the first call counts."""
        if self._done:
            return
        self._done = True
        outcome = self._outcome
        outcome.ended, outcome.error = ended, error
        outcome.duration_ns = time.perf_counter_ns() - self._start
        for one in self._asked:
            try:
                one.after(self.request, outcome)
            except Exception:  # boundary: the same.
                logger.exception("hh_jupyter: %s failed after a request", type(one).__name__)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """The transport works: what it uses is no further request, and its error ends the exchange.

        A request that no interceptor is asked about may be answered by an application in this process, whose own
        requests are seen.
        """
        token = _SEEN.set(_SEEN.get() or bool(self._active))
        try:
            yield
        except BaseException as error:  # boundary: raised again.
            self.end(error=error)
            raise
        finally:
            _SEEN.reset(token)


Method = tuple[type, str, Callable[[Any, Callable[[], bool]], Any]]
"""A method to replace: its class, its name, and a function that makes the replacement from the original and from a
function that says whether to act."""
