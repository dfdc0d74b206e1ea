"""Programs of real clients, each in every way that its API is used; what they return can be compared.

    python -m tests.recordings.clients FILE MODE URL CLIENT ...

runs some of them with a recording, for an environment that is not the tests' own, and prints what they returned.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

HELLO: Any = [{"role": "user", "content": "hello"}]
WEATHER: Any = [{"role": "user", "content": "What is the weather in Paris and in Lima?"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
QUESTIONS = 8


def openai_chat(url: str) -> list[Any]:
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-fake")
    ask = client.chat.completions.create
    found: list[Any] = [ask(model="gpt-4o", messages=HELLO), ask(model="gpt-4o", messages=WEATHER, tools=[TOOL])]
    found.extend(ask(model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}))
    found.append(client.embeddings.create(model="text-embedding-3-small", input=["hello", "world"]))
    found.append(client.responses.create(model="gpt-4o", input="hello"))
    found.extend(client.responses.create(model="gpt-4o", input="hello", stream=True))
    with client.chat.completions.with_streaming_response.create(model="gpt-4o", messages=HELLO) as raw:
        found.append(json.loads(raw.read()))
    return [one if isinstance(one, dict) else one.model_dump(mode="json") for one in found]


def openai_async(url: str) -> list[Any]:
    import openai

    async def run() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-fake") as client:
            ask = client.chat.completions.create
            asked = [ask(model="gpt-4o", messages=[{"role": "user", "content": f"q{n}"}]) for n in range(QUESTIONS)]
            found: list[Any] = list(await asyncio.gather(*asked))
            found += [chunk async for chunk in await ask(model="gpt-4o", messages=HELLO, stream=True)]
            found += [event async for event in await client.responses.create(model="gpt-4o", input="hi", stream=True)]
            return [one.model_dump(mode="json") for one in found]

    return asyncio.run(run())


def anthropic_messages(url: str) -> list[Any]:
    import anthropic

    client = anthropic.Anthropic(base_url=url, api_key="sk-fake")
    tool: Any = {"name": "get_weather", "input_schema": PARAMETERS}
    options: Any = {"model": "claude-3-5-haiku-latest", "max_tokens": 100}
    found: list[Any] = [client.messages.create(messages=HELLO, **options)]
    found.append(client.messages.create(messages=WEATHER, tools=[tool], **options))
    found.extend(client.messages.create(messages=HELLO, stream=True, **options))
    with client.messages.stream(messages=HELLO, **options) as stream:
        found.append(stream.get_final_message())

    async def run() -> list[Any]:
        async with anthropic.AsyncAnthropic(base_url=url, api_key="sk-fake") as other:
            once = await other.messages.create(messages=HELLO, **options)
            return [
                once,
                *[event async for event in await other.messages.create(messages=HELLO, stream=True, **options)],
            ]

    found.extend(asyncio.run(run()))
    return [one.model_dump(mode="json") for one in found]


def google_genai(url: str) -> list[Any]:
    from google import genai

    options: Any = {"api_key": "fake", "http_options": {"base_url": url}}
    ask: Any = {"model": "gemini-2.5-flash", "contents": "hello"}
    client = genai.Client(**options)
    found: list[Any] = [client.models.generate_content(**ask), *client.models.generate_content_stream(**ask)]
    found.append(client.models.embed_content(model="gemini-embedding-001", contents=["hello", "world"]))

    async def run() -> list[Any]:
        async with genai.Client(**options).aio as other:
            once = await other.models.generate_content(**ask)
            return [once, *[chunk async for chunk in await other.models.generate_content_stream(**ask)]]

    found.extend(asyncio.run(run()))
    return [one.model_dump(mode="json", exclude={"sdk_http_response"}) for one in found]


def mistral(url: str) -> list[Any]:
    from mistralai.client import Mistral

    client = Mistral(api_key="fake", server_url=url)
    ask: Any = {"model": "mistral-small-latest", "messages": HELLO}
    found: list[Any] = [client.chat.complete(**ask)]
    with client.chat.stream(**ask) as stream:
        found.extend(stream)

    async def run() -> list[Any]:
        async with Mistral(api_key="fake", server_url=url) as other:
            once = await other.chat.complete_async(**ask)
            return [once, *[event async for event in await other.chat.stream_async(**ask)]]

    found.extend(asyncio.run(run()))
    return [one.model_dump(mode="json") for one in found]


def cohere_chat(url: str) -> list[Any]:
    import cohere

    client = cohere.ClientV2(api_key="fake", base_url=url)
    found: list[Any] = [client.chat(model="command-r", messages=HELLO)]
    found.extend(client.chat_stream(model="command-r", messages=HELLO))
    found.append(client.embed(model="embed-v4", texts=["hello"], input_type="search_query", embedding_types=["float"]))

    async def run() -> list[Any]:
        other = cohere.AsyncClientV2(api_key="fake", base_url=url)
        once = await other.chat(model="command-r", messages=HELLO)
        return [once, *[event async for event in other.chat_stream(model="command-r", messages=HELLO)]]

    found.extend(asyncio.run(run()))
    return [json.loads(one.json()) for one in found]


def litellm_completion(url: str) -> list[Any]:
    import litellm

    options: Any = {"model": "openai/gpt-4o", "messages": HELLO, "api_base": f"{url}/v1", "api_key": "sk-fake"}
    claude: Any = {
        "model": "anthropic/claude-3-5-haiku-latest",
        "messages": HELLO,
        "api_base": url,
        "api_key": "sk-fake",
    }
    found: list[Any] = [litellm.completion(**options), litellm.completion(**claude)]
    found.extend(litellm.completion(**options, stream=True))

    async def run() -> list[Any]:
        once = [await litellm.acompletion(**options), await litellm.acompletion(**claude)]
        return [*once, *[chunk async for chunk in await litellm.acompletion(**claude, stream=True)]]

    found.extend(asyncio.run(run()))
    return [_without_made_up(one.model_dump(mode="json")) for one in found]


def langchain_openai(url: str) -> list[Any]:
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    model: Any = ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="sk-fake")
    found: list[Any] = [model.invoke("hello"), *model.stream("hello"), *model.batch(["one", "two", "three"])]
    found.append(asyncio.run(model.ainvoke("hello")))
    embed: Any = OpenAIEmbeddings(base_url=f"{url}/v1", api_key="sk-fake", check_embedding_ctx_length=False)
    return [*(_without_made_up(one.model_dump(mode="json")) for one in found), embed.embed_query("hello")]


def llama_index(url: str) -> list[Any]:
    from llama_index.llms.openai import OpenAI

    model = OpenAI(model="gpt-4o", api_base=f"{url}/v1", api_key="sk-fake")
    found: list[Any] = [str(model.complete("hello")), *(chunk.delta for chunk in model.stream_complete("hello"))]
    found.append(str(asyncio.run(model.acomplete("hello"))))
    return found


def _without_made_up(document: dict[str, Any]) -> dict[str, Any]:
    """Without what the client itself makes up: ids of chunks, the time, and how long the call took."""
    return {key: value for key, value in document.items() if key not in {"id", "created"}}


CLIENTS: dict[str, Callable[[str], list[Any]]] = {
    one.__name__: one
    for one in (
        openai_chat, openai_async, anthropic_messages, google_genai, mistral, cohere_chat, litellm_completion,
        langchain_openai, llama_index,
    )
}  # fmt: skip


def main(path: str, mode: Any, url: str, *names: str) -> None:
    """Run clients with a recording, and print what they returned."""
    import hh_jupyter

    with hh_jupyter.recording(path, mode):
        found = {name: CLIENTS[name](url) for name in names}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
