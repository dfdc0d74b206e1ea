"""The hook in httpx and httpx2: the transport that a client chooses for a request.

It covers custom transports, mounts, proxies, HTTP/2, and clients that exist already.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import cache, wraps
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

from hh_jupyter.recordings.exchange import Answer, Exchange, Interceptors, Method, Request, asked

logger = logging.getLogger(__name__)

_LIBRARIES: Final = ("httpx", "httpx2")


class _Library(NamedTuple):
    """One of the two libraries, with streams of its own classes.

    Attributes:
        module: httpx or httpx2, whose names are the same.
        tee: wraps the stream of a response.
        broken: a body that breaks off.
    """

    module: Any
    tee: type[Any]
    broken: type[Any]


def methods() -> Iterator[Method]:
    """The methods to replace, of each library that is installed."""
    seen = set()
    for name in _LIBRARIES:
        if find_spec(name) is None:
            continue
        try:
            module = import_module(name)
        except ImportError as error:
            logger.warning("hh_jupyter: requests of %s are not seen: %s", name, error)
            continue
        if module.Client not in seen:  # httpx2 can put itself in place of httpx.
            seen.add(module.Client)
            library = _library(module)
            yield module.Client, "_transport_for_url", _choosing(library, _Transport)
            yield module.AsyncClient, "_transport_for_url", _choosing(library, _AsyncTransport)


def _choosing(library: _Library, wrapper: type[_Wrapper]) -> Callable[[Any, Callable[[], bool]], Any]:
    def make(original: Any, applies: Callable[[], bool]) -> Any:
        @wraps(original)
        def _transport_for_url(self: Any, url: Any) -> Any:
            transport = original(self, url)
            if not applies() or isinstance(transport, _Wrapper):
                return transport
            active = asked(url.netloc.decode("ascii").lower(), url.path)
            return wrapper(transport, library, active) if active else transport

        return _transport_for_url

    return make


class _Wrapper:
    """A transport that asks the interceptors first. It is made for one request."""

    def __init__(self, transport: Any, library: _Library, active: Interceptors) -> None:
        self._transport, self._library, self._active = transport, library, active

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _exchange(self, request: Any) -> Exchange:
        seen = Request(request.method.upper(), str(request.url), request.headers, request.content)
        return Exchange(seen, self._active, self._library_decode)

    def _library_decode(self, headers: Mapping[str, str], raw: bytes) -> bytes:
        return _decoded(self._library.module, headers, raw)

    def _watch(self, response: Any, exchange: Exchange) -> None:
        if not exchange.watched:
            return
        exchange.begin(response.status_code, response.headers)
        if response.is_stream_consumed:  # A transport that mocks answers has the whole body, decoded.
            exchange.begin(response.status_code, {**response.headers, "content-encoding": ""})
            exchange.feed(response.content)
            exchange.end(ended=True)
        else:
            response.stream = self._library.tee(response.stream, exchange)

    def _response(self, request: Any, answer: Answer) -> Any:
        module, stream = self._library.module, self._library.module.ByteStream(answer.body)
        if answer.error is not None:
            stream = self._library.broken(answer.body, _error(module, *answer.error))
        return module.Response(answer.status, headers=dict(answer.headers), stream=stream, request=request)


class _Transport(_Wrapper):
    def handle_request(self, request: Any) -> Any:
        request.read()
        exchange = self._exchange(request)
        if (answer := exchange.answer()) is not None:
            return self._response(request, answer)
        with exchange.sending():
            response = self._transport.handle_request(request)
        self._watch(response, exchange)
        return response


class _AsyncTransport(_Wrapper):
    async def handle_async_request(self, request: Any) -> Any:
        await request.aread()
        exchange = self._exchange(request)
        if (answer := await exchange.answer_async()) is not None:
            return self._response(request, answer)
        with exchange.sending():
            response = await self._transport.handle_async_request(request)
        self._watch(response, exchange)
        return response


class _Tee:
    """The body of a response: passes its chunks on, and collects them."""

    def __init__(self, stream: Any, exchange: Exchange) -> None:
        self._stream, self._exchange = stream, exchange

    def __iter__(self) -> Iterator[bytes]:
        exchange = self._exchange
        try:
            for chunk in self._stream:
                exchange.feed(chunk)
                yield chunk
        except GeneratorExit:
            raise  # The client stops reading; `close` follows.
        except BaseException as error:  # boundary: raised again.
            exchange.end(error=error)
            raise
        exchange.end(ended=True)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange = self._exchange
        try:
            async for chunk in self._stream:
                exchange.feed(chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:  # boundary: raised again.
            exchange.end(error=error)
            raise
        exchange.end(ended=True)

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._exchange.end()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._exchange.end()

    def __del__(self) -> None:
        self._exchange.end()


class _Broken:
    """A body that ends with an error."""

    def __init__(self, body: bytes, error: Exception) -> None:
        self._body, self._error = body, error

    def __iter__(self) -> Iterator[bytes]:
        if self._body:
            yield self._body
        raise self._error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._body:
            yield self._body
        raise self._error


@cache
def _library(module: Any) -> _Library:
    """The streams of a library; it asserts that a stream is one of its own."""
    bases = (module.SyncByteStream, module.AsyncByteStream)
    return _Library(module, type("Tee", (_Tee, *bases), {}), type("Broken", (_Broken, *bases), {}))


def _error(module: Any, name: str, message: str) -> Exception:
    """The library's error of this name, which a client treats as it treated the original."""
    kind = getattr(module, name, None)
    if not (isinstance(kind, type) and issubclass(kind, module.TransportError)):
        kind = module.RemoteProtocolError
    error: Exception = kind(message)
    return error


def _decoded(module: Any, headers: Mapping[str, str], raw: bytes) -> bytes:
    """A body without its compression, as far as it can be read: a stream may have been left before its end."""
    encoding = headers.get("content-encoding")
    if not encoding or not raw:
        return raw
    response = module.Response(200, headers={"content-encoding": encoding}, stream=module.ByteStream(raw))
    parts: list[bytes] = []
    try:
        parts.extend(response.iter_bytes())
    except module.DecodingError as error:
        logger.debug("hh_jupyter: a body in %s is not complete: %s", encoding, error)
    return b"".join(parts)
