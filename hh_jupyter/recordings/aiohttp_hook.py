"""The hook in aiohttp: the one method that every request of a session goes through."""

from __future__ import annotations

import asyncio
import json as json_module
import logging
from collections.abc import Callable, Iterator
from functools import wraps
from http import HTTPStatus
from importlib.util import find_spec
from typing import Any, Final

from hh_jupyter.recordings.exchange import Answer, Exchange, Method, Request, asked

logger = logging.getLogger(__name__)


def methods() -> Iterator[Method]:
    """The method to replace, if the library is installed."""
    if find_spec("aiohttp") is None:
        return
    try:
        import aiohttp
    except ImportError as error:
        logger.warning("hh_jupyter: requests of aiohttp are not seen: %s", error)
        return
    yield aiohttp.ClientSession, "_request", _make


def _make(original: Any, applies: Callable[[], bool]) -> Any:
    @wraps(original)  # google-genai reads its signature.
    async def _request(self: Any, method: str, str_or_url: Any, **options: Any) -> Any:
        if not applies():
            return await original(self, method, str_or_url, **options)
        url = _address(self, str_or_url, options.get("params"))
        active = asked(url.raw_authority.rpartition("@")[2].lower(), url.raw_path) if url is not None else ()
        if not active:
            return await original(self, method, str_or_url, **options)
        body = await _body(self, options)
        headers = _headers(options)
        exchange = Exchange(Request(method.upper(), str(url), headers, body or b"", body is not None), active)
        if (answer := await exchange.answer_async()) is not None:
            return await _response(self, original, method, url, options, answer)
        with exchange.sending():
            response = await original(self, method, str_or_url, **options)
        if exchange.watched:
            exchange.begin(response.status, response.headers)
            _watch(response, exchange)
        return response

    return _request


def _address(session: Any, str_or_url: Any, params: Any) -> Any:
    """The address as the session completes it; None if it is invalid, which the session then reports."""
    from yarl import URL

    try:
        url = session._build_url(str_or_url) if hasattr(session, "_build_url") else URL(str_or_url)
        return url.update_query(params) if params else url
    except (TypeError, ValueError):
        return None


async def _body(session: Any, options: dict[str, Any]) -> bytes | None:
    """The body that will be sent; a form is encoded here, once. None for a body that can be read only once."""
    from aiohttp import BytesPayload, FormData

    if options.get("json") is not None:
        text = getattr(session, "_json_serialize", json_module.dumps)(options["json"])
        return text if isinstance(text, bytes) else str(text).encode()
    data = options.get("data")
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if isinstance(data, dict):
        data = FormData(data)
    if isinstance(data, FormData):
        payload = data()
        body = bytes(await payload.as_bytes()) if hasattr(payload, "as_bytes") else b""
        if body:
            options["data"] = BytesPayload(body, content_type=payload.content_type, headers=payload.headers)
        else:
            options["data"] = payload
        return body or None
    return b"" if data is None else None


def _headers(options: dict[str, Any]) -> Any:
    """The headers of a request, with the type of its body."""
    from multidict import CIMultiDict

    found = CIMultiDict(options.get("headers") or ())
    content_type = "application/json" if options.get("json") is not None else None
    content_type = content_type or getattr(options.get("data"), "content_type", None)
    if content_type is not None:
        found.setdefault("content-type", content_type)
    return found


# What the client reads

_READERS: Final = ("read", "readany", "readline", "readuntil", "readexactly", "readchunk")


def _watch(response: Any, exchange: Exchange) -> None:
    """Collect what is read of a response's body, and notice when the response is closed before its end."""
    if response.content is None or response.status == HTTPStatus.SWITCHING_PROTOCOLS or response.content.at_eof():
        exchange.end(ended=True)
        return
    response.content = _Tee(response.content, exchange)
    for name in ("close", "release"):
        setattr(response, name, _closing(getattr(response, name), exchange))


def _closing(close: Any, exchange: Exchange) -> Any:
    @wraps(close)
    def closing() -> Any:
        exchange.end()
        return close()

    return closing


def _reading(name: str) -> Any:
    async def read(self: _Tee, *args: Any, **options: Any) -> Any:
        stream, exchange = self._stream, self._exchange
        try:
            found = await getattr(stream, name)(*args, **options)
        except BaseException as error:  # boundary: raised again.
            exchange.end(error=error)
            raise
        exchange.feed(found[0] if isinstance(found, tuple) else found)
        if stream.at_eof():
            exchange.end(ended=True)
        return found

    read.__name__ = name
    return read


class _Tee:
    """The body of a response, which collects what is read of it. Compression is removed already."""

    def __init__(self, stream: Any, exchange: Exchange) -> None:
        self._stream, self._exchange = stream, exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __del__(self) -> None:
        self._exchange.end()

    def read_nowait(self, n: int = -1) -> bytes:
        found: bytes = self._stream.read_nowait(n)
        self._exchange.feed(found)
        if self._stream.at_eof():
            self._exchange.end(ended=True)
        return found

    def __aiter__(self) -> Any:
        return self._iterate(self.readline)

    def iter_any(self) -> Any:
        return self._iterate(self.readany)

    def iter_chunked(self, n: int) -> Any:
        return self._iterate(lambda: self.read(n))

    def iter_chunks(self) -> Any:
        from aiohttp.streams import ChunkTupleAsyncStreamIterator

        return ChunkTupleAsyncStreamIterator(self)

    def _iterate(self, read: Any) -> Any:
        from aiohttp.streams import AsyncStreamIterator

        return AsyncStreamIterator(read)

    read = _reading("read")
    readany = _reading("readany")
    readline = _reading("readline")
    readuntil = _reading("readuntil")
    readexactly = _reading("readexactly")
    readchunk = _reading("readchunk")


# An answer as a response

_KEPT: Final = ("raise_for_status", "auto_decompress", "read_bufsize")
"""Options of a request that decide what its response is like."""


async def _response(session: Any, original: Any, method: str, url: Any, options: dict[str, Any], answer: Answer) -> Any:
    """The library's own response: it parses the bytes of the answer, as if a server had sent them."""
    connector = _connector_class()(answer)
    import aiohttp

    local = aiohttp.ClientSession(
        connector=connector,
        response_class=getattr(session, "_response_class", None) or aiohttp.ClientResponse,
        raise_for_status=getattr(session, "_raise_for_status", False),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )
    kept = {name: options[name] for name in _KEPT if options.get(name) is not None}
    try:
        return await original(local, method, url, allow_redirects=False, **kept)
    finally:
        local.detach()


def _wire(answer: Answer) -> bytes:
    """The answer in HTTP/1.1. One that breaks off promises more than it has."""
    length = len(answer.body) + (1 if answer.error is not None else 0)
    skipped = ("content-length", "transfer-encoding", "content-encoding", "connection")
    lines = [f"HTTP/1.1 {answer.status} Replayed"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items() if name.lower() not in skipped]
    lines += [f"content-length: {length}", "connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace") + answer.body


def _connector_class() -> Any:
    import aiohttp

    class Connector(aiohttp.BaseConnector):  # type: ignore[misc]
        """Connects to nothing but an answer."""

        def __init__(self, answer: Answer) -> None:
            super().__init__(force_close=True)
            self._answer = answer

        async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ASYNC109
            protocol = self._factory()
            protocol.connection_made(_Line(protocol, _wire(self._answer)))
            return protocol

    return Connector


class _Line(asyncio.Transport):
    """Answers the first bytes that are written to it, then hangs up."""

    def __init__(self, protocol: Any, data: bytes) -> None:
        super().__init__()
        self._protocol, self._data, self._closing = protocol, data, False

    def write(self, data: Any) -> None:
        if self._data:
            answer, self._data = self._data, b""
            asyncio.get_running_loop().call_soon(self._deliver, answer)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def _deliver(self, answer: bytes) -> None:
        if not self._closing:
            self._protocol.data_received(answer)
            self.close()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0
