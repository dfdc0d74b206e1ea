"""The hooks in httpx, httpx2 and aiohttp: what they see, beside whom, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import respx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from pytest_httpx import HTTPXMock

import hh_jupyter
from hh_jupyter.recordings.exchange import Answer, Interceptor, Outcome, Request
from hh_jupyter.recordings.hooks import Interception
from tests.recordings.fake_apis import FakeAPIs

pytestmark = pytest.mark.usefixtures("clients_dropped")

METHODS: list[tuple[type, str]] = [
    *((owner, "_transport_for_url") for owner in (httpx.Client, httpx.AsyncClient, httpx2.Client, httpx2.AsyncClient)),
    (aiohttp.ClientSession, "_request"),
]
ORIGINALS = [vars(owner)[name] for owner, name in METHODS]
URL = "https://api.openai.com/v1/chat/completions"
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


class Seen(Interceptor):
    """Notes what it sees, and may answer."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer, self.requests, self.outcomes = answer, list[Request](), list[Outcome]()

    def before(self, request: Request) -> Answer | None:
        self.requests.append(request)
        return self.answer

    def after(self, request: Request, outcome: Outcome) -> None:
        assert request in self.requests
        self.outcomes.append(outcome)


def installed() -> list[Any]:
    return [vars(owner)[name] for owner, name in METHODS]


@pytest.fixture
def fake() -> Iterator[FakeAPIs]:
    with FakeAPIs() as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    assert installed() == ORIGINALS


# Installing and removing


def test_the_methods_are_replaced_only_while_a_block_needs_it(tmp_path: Path) -> None:
    with hh_jupyter.recording(tmp_path / "a.jsonl", "off"):
        assert installed() == ORIGINALS
    with hh_jupyter.recording(tmp_path / "a.jsonl"):
        assert all(now is not original for now, original in zip(installed(), ORIGINALS, strict=True))
        with hh_jupyter.recording(tmp_path / "b.jsonl"):
            inside = installed()
        assert installed() == inside
    assert installed() == ORIGINALS


def test_a_later_patch_of_another_library_stays_and_ours_below_it_does_nothing() -> None:
    seen = Seen(Answer(200, {}, b"answered"))
    original = httpx.Client._transport_for_url

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="sent")

    def texts() -> str:
        with httpx.Client(transport=httpx.MockTransport(handler)) as client:
            return client.post(URL, json=HELLO).text

    with Interception(seen):
        ours = httpx.Client._transport_for_url

        def theirs(self: httpx.Client, url: httpx.URL) -> Any:
            return ours(self, url)

        httpx.Client._transport_for_url = theirs  # type: ignore[method-assign]
        assert texts() == "answered"
    assert httpx.Client._transport_for_url is theirs
    assert texts() == "sent"
    with Interception(seen):
        assert texts() == "answered"
        assert len(seen.requests) == 2
    assert texts() == "sent"
    httpx.Client._transport_for_url = ours  # type: ignore[method-assign]
    assert texts() == "sent"
    with Interception(seen):
        assert texts() == "answered"
    assert httpx.Client._transport_for_url is original


def test_a_failing_interceptor_harms_no_request(fake: FakeAPIs, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Interceptor):
        def before(self, request: Request) -> Answer | None:
            raise RuntimeError("before")

        def after(self, request: Request, outcome: Outcome) -> None:
            raise RuntimeError("after")

    with Interception(Failing()), httpx.Client(headers={"authorization": "Bearer x"}) as client:
        assert client.post(f"{fake.url}/v1/chat/completions", json=HELLO).status_code == 200
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["before", "after"]


# Beside others


def test_the_span_of_the_httpx_instrumentor_is_that_of_a_request_that_is_sent(fake: FakeAPIs, tmp_path: Path) -> None:
    from hh_jupyter.testing import capture_spans

    HTTPXClientInstrumentor().instrument()
    try:
        with capture_spans() as spans, httpx.Client(headers={"authorization": "Bearer x"}) as client:
            for _ in range(2):
                with hh_jupyter.recording(tmp_path / "a.jsonl"):
                    assert client.post(f"{fake.url}/v1/chat/completions", json=HELLO).status_code == 200
    finally:
        HTTPXClientInstrumentor().uninstrument()
    del spans
    assert len(fake.log) == 1


@pytest.mark.parametrize("using", ["httpcore", "httpx"])
@pytest.mark.parametrize("inside", [True, False])
def test_respx_and_a_recording_work_beside_each_other(tmp_path: Path, inside: bool, using: str) -> None:
    path = tmp_path / "a.jsonl"

    def run() -> int:
        with httpx.Client() as client:
            found: int = client.post(URL, json=HELLO).json()["n"]
            return found

    with respx.mock(assert_all_called=False, using=using) as mock, hh_jupyter.recording(path) as recorder:
        mock.post(URL).respond(200, json={"n": 1})
        assert run() == 1
    assert recorder is not None
    assert recorder.counts.sent == 1
    if inside:
        with hh_jupyter.recording(path), respx.mock(assert_all_called=False, using=using) as mock:
            mock.post(URL).respond(200, json={"n": 2})
            assert run() == (2 if using == "httpx" else 1)  # That one replaces the same method, later.
    else:
        with respx.mock(assert_all_called=False, using=using) as mock, hh_jupyter.recording(path):
            mock.post(URL).respond(200, json={"n": 2})
            assert run() == 1


def test_pytest_httpx_and_a_recording_work_beside_each_other(tmp_path: Path, httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_response(json={"n": 1})
    for _ in range(2):
        with hh_jupyter.recording(tmp_path / "a.jsonl"), httpx.Client() as client:
            assert client.post(URL, json=HELLO).json() == {"n": 1}
    assert len(httpx_mock.get_requests()) == 1


# aiohttp


@contextmanager
def served(fake: FakeAPIs, interceptor: Interceptor) -> Iterator[Callable[..., Any]]:
    """A function that posts with aiohttp and returns status and text."""

    def run(path: str = "/v1/chat/completions", read: Any = None, **options: Any) -> Any:
        async def post() -> Any:
            async with (
                aiohttp.ClientSession(headers={"authorization": "Bearer x"}) as session,
                session.post(f"{fake.url}{path}", **options) as response,
            ):
                return await read(response) if read else (response.status, await response.text())

        return asyncio.run(post())

    with Interception(interceptor):
        yield run


def test_aiohttp_requests_are_seen_with_their_bodies(fake: FakeAPIs) -> None:
    seen = Seen()
    with served(fake, seen) as post:
        status, text = post(json=HELLO)
        assert (status, seen.outcomes[-1].body.decode()) == (200, text)
        post(data=json.dumps(HELLO))
        post(data=json.dumps(HELLO).encode(), params={"api-version": "1"})
        form = aiohttp.FormData({"model": "whisper-1"})
        form.add_field("file", b"\xff\x00", filename="a.wav")
        post("/v1/audio/transcriptions", data=form)
    assert [json.loads(one.body) for one in seen.requests[:3]] == [HELLO] * 3
    assert seen.requests[2].target.endswith("?api-version=1")
    assert b'name="model"' in seen.requests[3].body
    assert "boundary=" in seen.requests[3].headers["Content-Type"]
    assert [one.ended for one in seen.outcomes] == [True] * 4


def test_aiohttp_streams_are_seen_however_they_are_read(fake: FakeAPIs) -> None:
    async def chunks(response: Any) -> bytes:
        return b"".join([chunk async for chunk in response.content.iter_any()])

    async def sized(response: Any) -> bytes:
        return b"".join([chunk async for chunk in response.content.iter_chunked(7)])

    async def pairs(response: Any) -> bytes:
        return b"".join([chunk async for chunk, _ in response.content.iter_chunks()])

    async def by_line(response: Any) -> bytes:
        return b"".join([line async for line in response.content])

    async def whole(response: Any) -> bytes:
        return bytes(await response.read())

    async def first(response: Any) -> bytes:
        return bytes(await response.content.readline())

    seen = Seen()
    with served(fake, seen) as post:
        for read in (chunks, sized, pairs, by_line, whole):
            assert post(json={**HELLO, "stream": True}, read=read) == seen.outcomes[-1].body
            assert seen.outcomes[-1].ended
        assert post(json={**HELLO, "stream": True}, read=first) == seen.outcomes[-1].body
        assert not seen.outcomes[-1].ended
    assert len(seen.outcomes) == 6


def test_only_sends_no_body_that_can_be_read_only_once(fake: FakeAPIs, tmp_path: Path) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield json.dumps(HELLO).encode()

    async def run() -> tuple[int, str]:
        url = f"{fake.url}/v1/chat/completions"
        async with aiohttp.ClientSession() as session, session.post(url, data=parts()) as response:
            return response.status, await response.text()

    with hh_jupyter.recording(tmp_path / "calls.jsonl", "only"):
        status, text = asyncio.run(run())
    assert (status, fake.log) == (404, [])
    assert "has a body that can be read only once; send it as bytes or as JSON" in text


def test_an_answer_is_a_response_of_aiohttp_itself(fake: FakeAPIs) -> None:
    seen = Seen(Answer(404, {"content-type": "application/json", "x": "y"}, b'{"a": 1}'))
    with served(fake, seen) as post:

        async def read(response: Any) -> Any:
            assert isinstance(response, aiohttp.ClientResponse)
            return response.status, response.headers["x"], await response.json(), response.method

        assert post(json=HELLO, read=read) == (404, "y", {"a": 1}, "POST")
        with pytest.raises(aiohttp.ClientResponseError, match="404"):
            post(json=HELLO, raise_for_status=True)
        seen.answer = Answer(200, {}, b"", None)
        assert post(json=HELLO) == (200, "")
        seen.answer = Answer(200, {}, b"begin", ("ClientPayloadError", "cut"))
        with pytest.raises(aiohttp.ClientPayloadError):
            post(json=HELLO)
    assert fake.log == []


def test_a_request_that_passes_two_libraries_is_seen_once(fake: FakeAPIs) -> None:
    class OverAiohttp(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            async with (
                aiohttp.ClientSession(headers={"authorization": "Bearer x"}) as session,
                session.post(str(request.url), data=request.content) as response,
            ):
                return httpx.Response(response.status, content=await response.read())

    async def run() -> None:
        async with httpx.AsyncClient(transport=OverAiohttp()) as client:
            assert (await client.post(f"{fake.url}/v1/chat/completions", json=HELLO)).status_code == 200

    seen = Seen()
    with Interception(seen):
        asyncio.run(run())
    assert len(seen.requests) == len(seen.outcomes) == len(fake.log) == 1


def test_a_cancelled_request_ends_too(fake: FakeAPIs) -> None:
    class Begun(Seen):
        async def before_async(self, request: Request) -> Answer | None:
            begun.set()
            return self.before(request)

    async def run() -> None:
        async with httpx.AsyncClient(headers={"authorization": "Bearer x"}) as client:
            body = {**HELLO, "model": "gpt-4o-slow"}
            task = asyncio.create_task(client.post(f"{fake.url}/v1/chat/completions", json=body))
            await begun.wait()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    seen, begun = Begun(), asyncio.Event()
    with Interception(seen):
        asyncio.run(run())
    assert [type(one.error) for one in seen.outcomes] == [asyncio.CancelledError]


# Any requests in any order


documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def canonical(document: Any) -> Any:
    """What makes two documents equal for an API: 1 and 1.0 are, True and 1 are not."""
    if isinstance(document, dict):
        return frozenset((key, canonical(value)) for key, value in document.items())
    if isinstance(document, list):
        return tuple(map(canonical, document))
    return type(document) if isinstance(document, bool | None) else "", document


def respelled(document: Any, seed: int) -> str:
    """The same document with another order of keys and other white space."""
    if isinstance(document, dict):
        document = dict(reversed(document.items())) if seed % 2 else document
    return json.dumps(document, indent=seed % 3 or None, ensure_ascii=bool(seed % 2))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(documents, max_size=8), st.data())
def test_any_requests_in_any_order_and_concurrently_get_their_own_answers(
    tmp_path: Path, found: list[Any], data: st.DataObject
) -> None:
    path = tmp_path / f"{uuid.uuid4()}.jsonl"  # A fresh one for each example.
    sent: list[Any] = []

    async def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        number = len(sent)
        await asyncio.sleep(0)

        async def events() -> AsyncIterator[bytes]:
            yield b'data: {"n": %d, "asked": ' % number
            yield request.content.replace(b"\n", b" ") + b"}\n\ndata: [DONE]\n\n"

        return httpx.Response(200, content=events(), headers={"content-type": "text/event-stream"})

    async def run(bodies: list[Any], spelling: int) -> list[Any]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:

            async def ask(body: Any) -> Any:
                response = await client.post(URL, content=respelled(body, spelling))
                return json.loads(response.text.partition("\n")[0].removeprefix("data: "))

            return await asyncio.gather(*map(ask, bodies))

    bodies = [*found, *data.draw(st.lists(st.sampled_from(found), max_size=4) if found else st.just([]))]
    with hh_jupyter.recording(path):
        first = asyncio.run(run(bodies, 0))
    assert len(sent) == len(bodies)
    order = data.draw(st.permutations(range(len(bodies))))
    with hh_jupyter.recording(path, data.draw(st.sampled_from(["auto", "only"]))):
        second = asyncio.run(run([bodies[index] for index in order], data.draw(st.integers(0, 5))))
    assert len(sent) == len(bodies)
    for index, answer in zip(order, second, strict=True):
        assert canonical(answer["asked"]) == canonical(bodies[index])
    assert sorted(one["n"] for one in second) == sorted(one["n"] for one in first)
