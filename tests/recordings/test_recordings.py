"""`hh_jupyter.recording`: what is answered from a file, what is sent, and what is kept."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

import hh_jupyter
from hh_jupyter.errors import SettingError
from hh_jupyter.recordings import matching
from hh_jupyter.recordings.recorder import Recorder
from tests.conftest import TESTS
from tests.recordings.fake_apis import FakeAPIs
from tests.token_examples import BEFORE, FORMS, example

pytestmark = pytest.mark.usefixtures("clients_dropped")


@pytest.fixture
def fake() -> Iterator[FakeAPIs]:
    with FakeAPIs() as running:
        yield running


@pytest.fixture
def client(fake: FakeAPIs) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{fake.url}/v1", api_key="sk-fake", max_retries=0) as found:
        yield found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recordings" / "calls.jsonl"


def ask(client: openai.OpenAI, text: str = "hello", model: str = "gpt-4o", **options: Any) -> str:
    """The id of the answer, which is another one each time the server answers."""
    messages: Any = [{"role": "user", "content": text}]
    found: Any = client.chat.completions.create(model=model, messages=messages, **options)
    return str([chunk.id for chunk in found].pop()) if options.get("stream") else str(found.id)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def statuses(path: Path) -> list[int]:
    return [line["response"]["status"] for line in lines(path)]


# Equal requests


def test_the_nth_of_equal_requests_gets_the_nth_answer(client: openai.OpenAI, path: Path) -> None:
    with hh_jupyter.recording(path):
        first = [ask(client), ask(client), ask(client)]
    assert len(set(first)) == 3
    with hh_jupyter.recording(path):
        assert [ask(client), ask(client), ask(client)] == first


def test_beyond_the_recorded_ones_auto_sends_and_only_repeats_the_last(
    client: openai.OpenAI, fake: FakeAPIs, path: Path
) -> None:
    with hh_jupyter.recording(path):
        one, two = ask(client), ask(client)
    with hh_jupyter.recording(path, "only"):
        assert [ask(client), ask(client), ask(client)] == [one, two, two]
    with hh_jupyter.recording(path):
        found = [ask(client), ask(client), ask(client)]
    assert found[:2] == [one, two]
    assert found[2] not in found[:2]
    assert len(fake.log) == 3
    with hh_jupyter.recording(path, "only"):
        assert [ask(client), ask(client), ask(client)] == found


def test_a_changed_prompt_is_sent(client: openai.OpenAI, fake: FakeAPIs, path: Path) -> None:
    with hh_jupyter.recording(path):
        ask(client, "hello")
    with hh_jupyter.recording(path):
        ask(client, "hello!")
        ask(client, "hello", temperature=0.1)
        ask(client, "hello", model="gpt-4o-mini")
    assert len(fake.log) == 4


def test_an_answer_of_the_same_run_is_not_used_again(client: openai.OpenAI, path: Path) -> None:
    with hh_jupyter.recording(path) as recorder:
        assert ask(client) != ask(client)
        assert recorder is not None
        recorder.begin_run()
        ask(client)
        assert recorder.counts.replayed == 1


# Modes


def test_record_sends_everything_and_replaces_what_was_recorded(
    client: openai.OpenAI, fake: FakeAPIs, path: Path
) -> None:
    with hh_jupyter.recording(path):
        ask(client, "one"), ask(client, "two"), ask(client, "two")
    with hh_jupyter.recording(path, "record"):
        anew = ask(client, "two")
    assert len(fake.log) == 4
    asked = [line["request"]["body"]["messages"][0]["content"] for line in lines(path)]
    assert asked == ["one", "two"]
    with hh_jupyter.recording(path, "only"):
        assert ask(client, "two") == anew


def test_off_neither_answers_nor_records_inside_another_block_too(
    client: openai.OpenAI, fake: FakeAPIs, path: Path
) -> None:
    with hh_jupyter.recording(path):
        one = ask(client)
        with hh_jupyter.recording(path, "off"):
            ask(client)
    assert len(lines(path)) == 1
    with hh_jupyter.recording(path):
        with hh_jupyter.recording(path, "off"), hh_jupyter.recording(path, "off"):
            assert ask(client) != one
        assert ask(client) == one


def test_the_innermost_block_counts(client: openai.OpenAI, path: Path, tmp_path: Path) -> None:
    with hh_jupyter.recording(path), hh_jupyter.recording(tmp_path / "inner.jsonl"):
        ask(client)
    assert not path.exists()
    assert len(lines(tmp_path / "inner.jsonl")) == 1


def test_only_answers_what_is_not_recorded_with_an_error_that_says_what_differs(
    client: openai.OpenAI, fake: FakeAPIs, path: Path
) -> None:
    with hh_jupyter.recording(path):
        ask(client, "Tell me about the weather in Lima today", temperature=0)
        ask(client, "something else entirely")
    with hh_jupyter.recording(path, "only") as recorder, pytest.raises(openai.NotFoundError) as caught:
        ask(client, "Tell me about the weather in Oslo today", temperature=1)
    message = str(caught.value)
    assert "Oslo" in message
    assert "Lima" in message
    assert "temperature is 1, was 0" in message
    assert "mode auto" in message
    assert len(fake.log) == 2
    assert recorder is not None
    assert len(recorder.counts.missed) == 1


def test_only_without_a_recording_sends_nothing(client: openai.OpenAI, fake: FakeAPIs, path: Path) -> None:
    with hh_jupyter.recording(path, "only"), pytest.raises(openai.NotFoundError, match="no recorded request"):
        ask(client)
    assert fake.log == []
    assert not path.exists()


def test_an_unknown_mode_is_an_error_that_lists_the_modes(path: Path) -> None:
    wrong: Any = "replay"
    block = hh_jupyter.recording(path, wrong)
    with pytest.raises(hh_jupyter.SettingError, match=r"mode='replay'.*auto, only, record, off"):
        block.__enter__()


# Errors and streams that were cut


def test_an_error_is_never_answered_by_auto_but_by_only(client: openai.OpenAI, fake: FakeAPIs, path: Path) -> None:
    for _ in range(3):
        with hh_jupyter.recording(path), pytest.raises(openai.RateLimitError):
            ask(client, model="gpt-4o-err429")
    assert len(fake.log) == 3
    assert statuses(path) == [429]
    with hh_jupyter.recording(path, "only"), pytest.raises(openai.RateLimitError):
        ask(client, model="gpt-4o-err429")
    assert len(fake.log) == 3


def test_the_answer_after_a_retry_is_replayed_without_the_retry(
    client: openai.OpenAI, fake: FakeAPIs, path: Path
) -> None:
    patient = client.with_options(max_retries=2)
    with hh_jupyter.recording(path):
        found = ask(patient, model="gpt-4o-flaky")
    assert statuses(path) == [429, 200]
    for mode, replayed in (("auto", 1), ("only", 2)):
        with hh_jupyter.recording(path, mode) as recorder:  # type: ignore[arg-type]
            assert ask(patient, model="gpt-4o-flaky") == found
        assert recorder is not None
        assert recorder.counts.replayed == replayed
    assert len(fake.log) == 2


def test_a_stream_that_was_cut_is_sent_again_by_auto_and_breaks_off_again_in_only(
    client: openai.OpenAI, fake: FakeAPIs, path: Path
) -> None:
    def read() -> tuple[list[str], str]:
        chunks: list[str] = []
        messages: Any = [{"role": "user", "content": "hello"}]
        stream = client.chat.completions.create(model="gpt-4o-cut", messages=messages, stream=True)
        with pytest.raises(openai.APIConnectionError) as caught:
            chunks.extend(chunk.id for chunk in stream)
        return chunks, repr(caught.value.__cause__)

    with hh_jupyter.recording(path):
        first = read()
    assert first[0]
    with hh_jupyter.recording(path):
        second = read()
    assert len(fake.log) == 2
    with hh_jupyter.recording(path, "only"):
        assert read() == second
    assert len(fake.log) == 2
    assert [line["response"]["complete"] for line in lines(path)] == [False]


def test_a_stream_that_the_program_leaves_is_not_complete(client: openai.OpenAI, fake: FakeAPIs, path: Path) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    for _ in range(2):
        with (
            hh_jupyter.recording(path),
            client.chat.completions.create(model="gpt-4o", messages=messages, stream=True) as stream,
        ):
            next(iter(stream))
    assert len(fake.log) == 2


def test_a_stream_that_was_cut_inside_a_character_is_readable_and_redacted(path: Path) -> None:
    secret = example("OpenAI")
    body = f'data: {{"choices": [{{"delta": {{"content": "{secret}"}}}}]}}\n\ndata: {{"x": "é'.encode()[:-1]
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body, headers=headers))
    with hh_jupyter.recording(path), httpx.Client(transport=transport) as plain:
        plain.post("https://api.openai.com/v1/chat/completions", json={"model": "m"})
    (line,) = lines(path)
    assert "[redacted: " in line["response"]["events"][0]["data"]["choices"][0]["delta"]["content"]
    with hh_jupyter.recording(path, "only"), httpx.Client(transport=transport) as plain:
        again = plain.post("https://api.openai.com/v1/chat/completions", json={"model": "m"}).content
    assert again.endswith(body[-10:])
    assert secret not in again.decode(errors="replace")


@pytest.mark.parametrize("mode", ["auto", "only"])
def test_a_redirect_is_replayed_with_its_target(path: Path, mode: Any) -> None:
    sent = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        if request.url.path == "/v1/chat/completions":
            return httpx.Response(307, headers={"location": "/v2/chat/completions"})
        return httpx.Response(200, json={"id": "moved"})

    def run(mode: Any) -> str:
        with (
            hh_jupyter.recording(path, mode),
            httpx.Client(transport=httpx.MockTransport(handler), follow_redirects=True) as plain,
        ):
            return str(plain.post("https://api.openai.com/v1/chat/completions", json={"model": "m"}).json()["id"])

    assert run("auto") == run(mode) == "moved"
    assert sent == ["/v1/chat/completions", "/v2/chat/completions"]


def test_the_next_turn_of_a_chat_matches_although_the_replayed_answer_is_redacted(path: Path) -> None:
    sent: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        call = {"name": "login", "arguments": json.dumps({"user": "a", "password": f"hunter{len(sent)}-secret"})}
        return httpx.Response(200, json={"message": {"tool_calls": [{"function": call}]}})

    def chat(mode: Any, last: str = "ok") -> int:
        with hh_jupyter.recording(path, mode), httpx.Client(transport=httpx.MockTransport(handler)) as plain:
            url, messages = "https://api.openai.com/v1/chat/completions", [{"role": "user", "content": "log in"}]
            for text in ("next", last):
                answer = plain.post(url, json={"model": "m", "messages": messages})
                if answer.status_code != 200:
                    return answer.status_code
                messages += [answer.json()["message"], {"role": "user", "content": text}]
            return plain.post(url, json={"model": "m", "messages": messages}).status_code

    assert chat("auto") == 200
    assert len(sent) == 3
    assert "hunter" not in path.read_text()
    assert chat("only") == chat("auto") == 200
    assert len(sent) == 3
    assert chat("only", last="changed") == 404


@pytest.mark.parametrize("mode", ["auto", "record", "off"])
@pytest.mark.parametrize("value", ["only", " ONLY ", "onyl"])
def test_no_block_sends_if_the_environment_forbids_it(
    client: openai.OpenAI, path: Path, fake: FakeAPIs, monkeypatch: pytest.MonkeyPatch, mode: Any, value: str
) -> None:
    """Nor if the variable holds what is no mode."""
    monkeypatch.setenv("HH_REPLAY", value)
    with hh_jupyter.recording(path, mode=mode), pytest.raises(openai.NotFoundError):
        ask(client)
    assert not fake.log


# Where it holds


def test_calls_of_an_application_in_the_same_process_are_recorded(fake: FakeAPIs, path: Path) -> None:
    async def app(_: Any, __: Any, send: Any) -> None:
        async with openai.AsyncOpenAI(base_url=f"{fake.url}/v1", api_key="sk-fake") as inner:
            messages: Any = [{"role": "user", "content": "hello"}]
            found = await inner.chat.completions.create(model="gpt-4o", messages=messages)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": found.id.encode()})

    async def run() -> str:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as plain:
            return (await plain.post("/chat", json={"question": "hello"})).text  # Its path is that of a model API.

    with hh_jupyter.recording(path):
        first = asyncio.run(run())
    with hh_jupyter.recording(path, "only"):
        assert asyncio.run(run()) == first
    assert len(fake.log) == 1


def test_a_forked_child_records_although_it_ends_without_notice(client: openai.OpenAI, path: Path) -> None:
    fork = multiprocessing.get_context("fork")

    def child() -> None:
        ask(client, "in the child")
        os._exit(0)

    with hh_jupyter.recording(path) as recorder:
        assert recorder is not None
        ask(client, "in the parent")
        with recorder._lock:  # A thread of the parent may hold it.
            process = fork.Process(target=child)
            process.start()
        process.join(20)
        assert process.exitcode == 0
    with hh_jupyter.recording(path, "only"):
        ask(client, "in the parent"), ask(client, "in the child")


@pytest.mark.slow
def test_a_response_may_end_in_a_destructor_wherever_that_runs(
    fake: FakeAPIs, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, body = f"{fake.url}/v1/chat/completions", {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    digest = matching.canonical_digest

    def collecting(*args: Any) -> str:
        gc.collect()
        return digest(*args)

    def run() -> None:
        with hh_jupyter.recording(path), httpx.Client() as plain:
            left: list[Any] = [plain.send(plain.build_request("POST", url, json={**body, "n": 2}), stream=True)]
            left.append(left)
            del left
            plain.post(url, json=body)

    with hh_jupyter.recording(path), httpx.Client() as plain:
        plain.post(url, json={**body, "n": 3})
    monkeypatch.setattr(matching, "canonical_digest", collecting)
    gc.disable()
    try:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    finally:
        gc.enable()


@pytest.mark.parametrize("with_context", [True, False])
def test_threads_share_the_recording_with_and_without_the_context(
    client: openai.OpenAI, fake: FakeAPIs, path: Path, with_context: bool
) -> None:
    texts = [f"question {n % 10}" for n in range(50)]

    def run() -> list[tuple[str, str]]:
        def one(text: str) -> tuple[str, str]:
            return text, ask(client, text)

        with ThreadPoolExecutor(8) as pool:
            if with_context:
                return [
                    future.result() for future in [pool.submit(contextvars.copy_context().run, one, t) for t in texts]
                ]
            return list(pool.map(one, texts))

    with hh_jupyter.recording(path):
        first = run()
    with hh_jupyter.recording(path) as recorder:
        assert sorted(run()) == sorted(first)
    assert recorder is not None
    assert recorder.counts.replayed == len(texts) == len(fake.log)


def test_concurrent_blocks_keep_their_requests_apart(fake: FakeAPIs, tmp_path: Path) -> None:
    async def one(name: str) -> None:
        async with openai.AsyncOpenAI(base_url=f"{fake.url}/v1", api_key="sk-fake") as client:
            with hh_jupyter.recording(tmp_path / f"{name}.jsonl"):
                messages: Any = [{"role": "user", "content": name}]
                await asyncio.gather(
                    *(client.chat.completions.create(model="gpt-4o", messages=messages) for _ in "abc")
                )

    async def both() -> None:
        await asyncio.gather(one("one"), one("two"))

    asyncio.run(both())
    for name in ("one", "two"):
        asked = [line["request"]["body"]["messages"][0]["content"] for line in lines(tmp_path / f"{name}.jsonl")]
        assert asked == [name] * 3


def test_what_outlives_the_block_is_neither_answered_nor_recorded(
    client: openai.OpenAI, fake: FakeAPIs, path: Path
) -> None:
    go, done = threading.Event(), threading.Event()

    def late() -> None:
        go.wait(20)
        ask(client)
        done.set()

    with hh_jupyter.recording(path):
        ask(client)
        threading.Thread(target=contextvars.copy_context().run, args=(late,)).start()
    with hh_jupyter.recording(path.with_name("other.jsonl"), "off"):
        go.set()
        assert done.wait(20)
    assert len(fake.log) == 2
    assert len(lines(path)) == 1


def test_no_thread_stays_for_a_stream_that_ends_after_the_block(
    client: openai.OpenAI, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hh_jupyter.recordings.recorder._IDLE_SECONDS", 0.01)
    messages: Any = [{"role": "user", "content": "hello"}]
    with hh_jupyter.recording(path):
        before = set(threading.enumerate())
        stream = client.chat.completions.create(model="gpt-4o", messages=messages, stream=True)
    list(stream)
    for thread in set(threading.enumerate()) - before:
        if thread.name == "hh_jupyter-recording":
            thread.join(20)
            assert not thread.is_alive()
    assert len(lines(path)) == 1


def test_other_requests_pass_untouched(path: Path) -> None:
    sent = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(str(request.url))
        return httpx.Response(200, json={"ok": True})

    with httpx.Client(transport=httpx.MockTransport(handler)) as plain, hh_jupyter.recording(path, "only"):
        plain.get("https://example.com/")
        plain.post("https://example.com/v1/messages", json={"text": "a chat of people"})
        plain.post("https://example.com/orders", json={"model": "T"})
        assert plain.post("https://example.com/v1/messages", json={"model": "m"}).status_code == 404
        assert plain.get("https://api.openai.com/v1/models").status_code == 404
    assert len(sent) == 3
    with httpx.Client(transport=httpx.MockTransport(handler)) as plain:
        with hh_jupyter.recording(path, "only", hosts=["Example.com:443", "local:80"]):
            plain.get("https://example.com/")  # Port 443 is not in the address.
        for base in ("https://example.com", "https://Example.com/v1/", "//example.com/v1"):
            with hh_jupyter.recording(path, "only", hosts=[base]):
                assert plain.get("https://example.com/").status_code == 404
        with hh_jupyter.recording(path, "only", hosts="example.com"):
            assert plain.get("https://example.com/").status_code == 404
            assert plain.get("https://example.com:8443/").status_code == 404
            assert plain.get("https://not-example.com/").status_code == 200


@pytest.mark.parametrize(
    "path_of_model",
    [
        "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        "/openai/deployments/embed-3/embeddings",
        "/model/anthropic.claude-3-haiku/invoke",
        "/model/arn:aws:bedrock:eu:1:inference-profile/x/converse-stream",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
    ],
)
def test_a_gateway_that_names_the_model_in_the_address_is_a_model_api(path: Path, path_of_model: str) -> None:
    with hh_jupyter.recording(path, "only"), httpx.Client() as plain:
        found = plain.post(f"http://gateway.corp{path_of_model}", json={"messages": []})
    assert "is not recorded" in found.text


# Matching


def post(path: Path, *requests: dict[str, Any], mode: Any = "auto", ignore: Any = ()) -> list[int]:
    """Post requests to a model API in one run, and return the serial numbers of the answers."""

    def handler(request: httpx.Request) -> httpx.Response:
        post.serial += 1  # type: ignore[attr-defined]
        return httpx.Response(200, json={"n": post.serial})  # type: ignore[attr-defined]

    with (
        httpx.Client(transport=httpx.MockTransport(handler), base_url="https://api.openai.com") as plain,
        hh_jupyter.recording(path, mode, ignore=ignore),
    ):
        return [plain.post(**{"url": "/v1/chat/completions", **one}).json()["n"] for one in requests]


post.serial = 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ('{"a": 1, "b": [1, 2]}', '{"b":[1,2],"a":1}', True),
        ('{"a": 1}', '{"a": 1.0}', True),
        ('{"a": 0.70}', '{"a": 7e-1}', True),
        ('{"a": "é"}', '{"a": "\\u00e9"}', True),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', False),
        ('{"a": true}', '{"a": 1}', False),
        ('{"a": null}', "{}", False),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": 9007199254740993}', '{"a": 9007199254740992}', False),
        ('{"a": 1e400}', '{"a": 1e401}', False),
        ('{"a": "x "}', '{"a": "x"}', False),
        ("not JSON", "not  JSON", False),
        ("[" * 5000, "[" * 5000, True),
    ],
)
def test_a_body_matches_however_its_json_is_spelled(path: Path, one: str, other: str, equal: bool) -> None:
    first = post(path, {"content": one})
    assert (post(path, {"content": other}) == first) is equal
    assert post(path, {"content": one}) == first


def test_keys_in_an_address_are_neither_compared_nor_written(path: Path) -> None:
    url = "/v1beta/models/gemini:generateContent"
    first = post(path, {"url": f"{url}?key=AIzaSecret1&alt=sse", "content": "{}"})
    assert post(path, {"url": f"{url}?alt=sse&key=AIzaSecret2", "content": "{}"}) == first
    assert post(path, {"url": f"{url}?alt=json&key=AIzaSecret2", "content": "{}"}) != first
    assert "Secret" not in path.read_text()


def test_a_form_matches_whatever_its_boundary_is(path: Path) -> None:
    form: Any = {"data": {"model": "whisper-1"}, "files": {"file": ("a.wav", b"\xff\x00sound")}}
    url = {"url": "/v1/audio/transcriptions"}
    first = post(path, {**url, **form})
    assert post(path, {**url, **form}) == first
    form["files"] = {"file": ("a.wav", b"\xff\x00other")}
    assert post(path, {**url, **form}) != first


def test_ignored_fields_do_not_matter_and_may_be_named_later(path: Path) -> None:
    def body(user: str, run: int, text: str = "hi") -> dict[str, Any]:
        return {"json": {"user": user, "metadata": {"run": run}, "messages": [{"id": run, "content": text}]}}

    ignore = ("user", "metadata.run", "messages.id")
    first = post(path, body("a", 1))
    assert post(path, body("b", 2), ignore=ignore) == first
    assert post(path, body("b", 2, "other"), ignore=ignore) != first
    assert post(path, body("b", 2)) != first


# The file


def test_the_file_is_for_its_owner_and_holds_no_headers_but_type_and_request_id(
    client: openai.OpenAI, path: Path
) -> None:
    with hh_jupyter.recording(path):
        ask(client)
        ask(client, stream=True)
    assert path.stat().st_mode & 0o777 == 0o600
    for line in lines(path):
        assert line["response"]["headers"].keys() <= {"content-type", "x-request-id"}
        assert line["request"].keys() == {"method", "target", "body"}
    assert lines(path)[1]["response"]["events"][-1] == {"text": "[DONE]"}
    assert lines(path)[1]["response"]["events"][0]["data"]["object"] == "chat.completion.chunk"


def test_recording_again_changes_only_the_lines_of_changed_answers(client: openai.OpenAI, path: Path) -> None:
    texts = ["one", "two", "three"]
    with hh_jupyter.recording(path):
        for text in texts:
            ask(client, text)
    before = path.read_text().splitlines()
    with hh_jupyter.recording(path):
        for text in [*reversed(texts), "four"]:
            ask(client, text)
    assert path.read_text().splitlines()[:3] == before
    with hh_jupyter.recording(path, "record"):
        ask(client, "two")
    after = path.read_text().splitlines()
    assert [after[0], after[2]] == [before[0], before[2]]
    assert after[1] != before[1]


def test_concurrent_requests_are_written_in_the_order_in_which_they_began(fake: FakeAPIs, path: Path) -> None:
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=f"{fake.url}/v1", api_key="sk-fake") as client:
            await client.models.list()  # Before its first request the client looks at the platform in a thread.
            asked: list[Any] = [[{"role": "user", "content": f"q{n}"}] for n in range(20)]
            models = ["gpt-4o-slow" if n == 0 else "gpt-4o" for n in range(20)]
            pairs = zip(models, asked, strict=True)
            await asyncio.gather(*(client.chat.completions.create(model=m, messages=one) for m, one in pairs))

    with hh_jupyter.recording(path):
        asyncio.run(run())
    texts = [line["request"]["body"]["messages"][0]["content"] for line in lines(path)]
    assert texts == [f"q{n}" for n in range(20)]


def test_damaged_lines_are_reported_skipped_and_kept(
    client: openai.OpenAI, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with hh_jupyter.recording(path):
        one, two = ask(client, "one"), ask(client, "two")
    good = path.read_text().splitlines()
    damaged = ["<<<<<<< HEAD", good[0][:-20], '{"request": 1}', "[1]", '{"response": {"status": "200"}}']
    path.write_text("\n".join([good[0], *damaged, good[1]]))  # No line end after the last one.
    with hh_jupyter.recording(path):
        assert (ask(client, "one"), ask(client, "two")) == (one, two)
        ask(client, "three")
    assert path.read_text().splitlines()[:7] == [good[0], *damaged, good[1]]
    assert len(path.read_text().splitlines()) == 8
    assert [record.getMessage().partition(": ")[2].partition(": ")[2] for record in caplog.records] == [
        "lines 2, 3, 4, 5, 6 are damaged and skipped"
    ]


def test_no_secret_is_written(path: Path) -> None:
    secrets = [example(provider) for provider in FORMS]
    texts = [f"we use {BEFORE.get(provider, '')}{example(provider)} here" for provider in FORMS]
    answers = iter(texts)

    def handler(request: httpx.Request) -> httpx.Response:
        text = next(answers)
        if request.url.path.endswith("/responses"):
            data = json.dumps({"type": "response.output_text.delta", "delta": text})
            end = 'data: {"type": "response.completed"}'
            return httpx.Response(200, text=f"data: {data}\n\n{end}\n\n", headers={"content-type": "text/event-stream"})
        return httpx.Response(200, json={"choices": [{"message": {"content": text}}]})

    url = "https://api.openai.com/v1"
    with httpx.Client(transport=httpx.MockTransport(handler)) as plain:

        def run(path: Path, mode: Any) -> list[int]:
            with hh_jupyter.recording(path, mode):
                return [
                    plain.post(
                        f"{url}/{'responses' if number % 2 else 'chat/completions'}",
                        json={"model": "m", "messages": [{"role": "user", "content": text}]},
                        headers={"authorization": f"Bearer {secrets[number]}"},
                    ).status_code
                    for number, text in enumerate(texts)
                ]

        run(path, "auto")
        written = path.read_text()
        assert [secret for secret in secrets if secret in written] == []
        assert run(path, "only") == [200] * len(texts)  # The original decides what is equal.


@pytest.mark.parametrize("mode", ["auto", "record"])
def test_a_folder_that_cannot_be_written_is_said_once_and_the_requests_go_out(
    client: openai.OpenAI, fake: FakeAPIs, tmp_path: Path, mode: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with hh_jupyter.recording(tmp_path / "file" / "calls.jsonl", mode):
        ask(client, "one"), ask(client, "two")
    assert len(fake.log) == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "calls.jsonl cannot be" in caplog.records[0].getMessage()


def test_what_is_no_regular_file_is_neither_read_nor_replaced(
    client: openai.OpenAI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder):
        with hh_jupyter.recording(path):
            ask(client)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [record.getMessage().rpartition(" cannot ")[2] for record in caplog.records] == [
        "be read: it is not a regular file"
    ] * 2


@pytest.mark.parametrize("bad", ["", "a\0b"])
def test_a_path_that_is_none_is_an_error(bad: str) -> None:
    with pytest.raises(SettingError, match="must be the path of a file"), hh_jupyter.recording(bad):
        pass


@pytest.mark.parametrize("name", ["hosts", "ignore"])
@pytest.mark.parametrize("bad", [None, 5, [1], [""]])
def test_names_that_are_none_are_an_error(path: Path, name: str, bad: Any) -> None:
    options: Any = {name: bad}
    with pytest.raises(SettingError, match=f"{name}=.*must be names, such as"), hh_jupyter.recording(path, **options):
        pass


FULL_DISK = """
import resource, sys
import openai, hh_jupyter
path, url = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key="sk-fake")
def ask(text):
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": text}])
with hh_jupyter.recording(path) as recorder:
    ask("one")
    recorder.end_run()
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    ask("two" * 1000), ask("three" * 1000)
"""


@pytest.mark.slow
def test_a_full_disk_is_said_once_the_requests_go_out_and_no_line_is_half_written(fake: FakeAPIs, path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(path), f"{fake.url}/v1"]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, timeout=100, check=True)
    assert len(fake.log) == 3
    assert done.stderr.count("calls.jsonl") == done.stderr.count("\n") == 1
    assert "cannot be written: File too large; answers are not recorded" in done.stderr
    assert len(lines(path)) == 1


def test_two_recorders_of_one_file_lose_nothing(client: openai.OpenAI, path: Path) -> None:
    with hh_jupyter.recording(path):
        ask(client, "zero")
    one, two = Recorder(path), Recorder(path)
    from hh_jupyter.recordings.hooks import Interception

    for recorder in (one, two):
        recorder.begin_run()
    for number in range(4):
        recorder = (one, two)[number % 2]
        with Interception(recorder, replaces=Recorder):
            ask(client, f"question {number}")
        recorder.end_run()
    one.close()
    two.close()
    with hh_jupyter.recording(path, "only") as found:
        for number in range(4):
            ask(client, f"question {number}")
        ask(client, "zero")
    assert found is not None
    assert found.counts.replayed == 5


def test_prune_removes_what_no_request_got(client: openai.OpenAI, path: Path) -> None:
    with hh_jupyter.recording(path):
        ask(client, "one"), ask(client, "two")
    with hh_jupyter.recording(path) as recorder:
        assert recorder is not None
        ask(client, "two"), ask(client, "three")
        assert recorder.unused() == 1
        assert recorder.prune() == 1
    asked = [line["request"]["body"]["messages"][0]["content"] for line in lines(path)]
    assert asked == ["two", "three"]


# Bodies that are no JSON


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("audio/mpeg", b"\xff\xfb\x90\x00 sound"),
        ("text/plain; charset=utf-8", "plain é\u2028 text\r\n".encode()),
        ("application/x-ndjson", b'{"done": false}\n{"done": true}\n'),
        ("text/event-stream", b': ping\n\nevent: a\ndata: {"x": 1}\n\ndata: one\ndata: two\n\nid: 7\ndata: [DONE]\n\n'),
        ("text/event-stream", b'data: {"x": "\\u2028"}\r\n\r\ndata: [DONE]\r\n\r\n'),
        ("application/json", b'{"a": 1, "a": "\\ud800"}'),
        ("application/json", b""),
    ],
)
def test_any_body_comes_back(path: Path, content_type: str, body: bytes) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=body, headers={"content-type": content_type})

    def events(text: str) -> list[Any]:
        blocks = [block for block in text.replace("\r\n", "\n").split("\n\n") if block]
        return [[_value(line) for line in block.split("\n")] for block in blocks]

    with httpx.Client(transport=httpx.MockTransport(handler)) as plain:

        def run(mode: Any) -> httpx.Response:
            with hh_jupyter.recording(path, mode):
                return plain.post("https://api.openai.com/v1/audio/speech", json={"model": "m"})

        first, second = run("auto"), run("only")
    assert second.status_code == 200
    assert second.headers["content-type"] == content_type
    if "json" in content_type and "x-" not in content_type and body:
        assert second.json() == first.json()
    elif "json" in content_type and body:
        assert [json.loads(line) for line in second.iter_lines()] == [json.loads(line) for line in first.iter_lines()]
    elif content_type.startswith("text/event"):
        assert events(second.text) == events(first.text)
    else:
        assert second.content == first.content


def _value(line: str) -> Any:
    """A line of an event, with JSON as its value."""
    name, _, value = line.partition(": ")
    try:
        return name, json.loads(value)
    except ValueError:
        return line
