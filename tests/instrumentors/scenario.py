"""A program that calls a model in every way, traced by one instrumentor; prints the session of each labelled call.

    python -m tests.instrumentors.scenario openinference.instrumentation.openai OpenAIInstrumentor [private]

With `private`, another provider is the global one, so that only `tracer.provider` records spans.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import TracerProvider

from hh_jupyter import HoneyHiveTracer, trace

MESSAGES: Any = [{"role": "user", "content": "Hello"}]
TASKS = 4


class OpenAI:
    """Chat completions and an embedding with the real client."""

    model = "gpt-4o"

    def __init__(self, url: str) -> None:
        import openai

        options: dict[str, Any] = {"base_url": f"{url}/v1", "api_key": "sk-fake", "max_retries": 0}
        self.refused: type[Exception] = openai.BadRequestError
        self.sync, self.other = openai.OpenAI(**options), openai.AsyncOpenAI(**options)

    def ask(self, model: str = model, **options: Any) -> Any:
        return self.sync.chat.completions.create(model=model, messages=MESSAGES, **options)

    async def aask(self, **options: Any) -> Any:
        return await self.other.chat.completions.create(model=self.model, messages=MESSAGES, **options)

    def embed(self) -> None:
        self.sync.embeddings.create(model="text-embedding-3-small", input="Hello")


class Anthropic:
    """Messages with the real client."""

    model = "claude-3-5-haiku-latest"

    def __init__(self, url: str) -> None:
        import anthropic

        options: dict[str, Any] = {"base_url": url, "api_key": "sk-fake", "max_retries": 0}
        self.refused: type[Exception] = anthropic.BadRequestError
        self.sync, self.other = anthropic.Anthropic(**options), anthropic.AsyncAnthropic(**options)

    def ask(self, model: str = model, **options: Any) -> Any:
        return self.sync.messages.create(model=model, max_tokens=50, messages=MESSAGES, **options)

    async def aask(self, **options: Any) -> Any:
        return await self.other.messages.create(model=self.model, max_tokens=50, messages=MESSAGES, **options)


class Scenario:
    """Makes each call inside a span of ours, whose name is the call's label."""

    def __init__(self, tracer: HoneyHiveTracer, client: OpenAI | Anthropic) -> None:
        self.tracer, self.client = tracer, client
        self.sessions: dict[str, str | None] = {}

    def run(self) -> None:
        """Make all calls one after the other, and the asynchronous ones concurrently."""
        with self.tracer.start_span("own session"):
            self.client.ask()
        self.sessions["own session"] = self.tracer.session_id
        for label, call in (("block", self.client.ask), ("stream", self._stream), ("error", self._fail)):
            with self._labelled(label):
                call()
        if isinstance(self.client, OpenAI):
            with self._labelled("embedding"):
                self.client.embed()
        contextvars.copy_context().run(self._created)
        self._stream_read_in_another_session()
        asyncio.run(self._tasks())

    @contextmanager
    def _labelled(self, label: str) -> Iterator[None]:
        with self.tracer.with_session(label) as self.sessions[label], self.tracer.start_span(label):
            yield

    def _stream(self) -> None:
        assert list(self.client.ask(stream=True))

    def _fail(self) -> None:
        with pytest.raises(self.client.refused):
            self.client.ask(f"{self.client.model}-err400")

    def _created(self) -> None:
        @trace(event_name="created, decorated", event_type="chain")
        def decorated() -> None:
            self.client.ask()

        self.sessions["created, decorated"] = self.tracer.create_session("created")
        decorated()

    def _stream_read_in_another_session(self) -> None:
        with self._labelled("read later"):
            chunks = self.client.ask(stream=True)
        with self.tracer.with_session("another"):
            assert list(chunks)

    async def _tasks(self) -> None:
        async def one(label: str, stream: bool) -> None:
            with self._labelled(label):
                if stream:
                    assert [chunk async for chunk in await self.client.aask(stream=True)]
                else:
                    await self.client.aask()

        await asyncio.gather(*(one(f"task {number}", bool(number % 2)) for number in range(TASKS)))


def main(module: str, name: str, private: str = "") -> None:
    """Instrument the client, run the scenario, print the sessions."""
    if private:
        otel_trace.set_tracer_provider(TracerProvider())
    tracer = HoneyHiveTracer.init(session_name="scenario", project="shop", source="qa")
    instrumentor = getattr(importlib.import_module(module), name)()
    instrumentor.instrument(tracer_provider=tracer.provider)
    client = (OpenAI if "openai" in module else Anthropic)(os.environ["FAKE_LLM"])
    scenario = Scenario(tracer, client)
    scenario.run()
    assert tracer.flush()
    print(json.dumps(scenario.sessions))


if __name__ == "__main__":
    main(*sys.argv[1:])
