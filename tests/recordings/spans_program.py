"""A program that calls a model twice, with a recording and under one instrumentor, and prints totals of each run.

python -m tests.recordings.spans_program MODULE CLASS FILE URL
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import hh_jupyter
from hh_jupyter.records import prices

HELLO: Any = [{"role": "user", "content": "hello"}]


def call_openai(url: str) -> None:
    """Chat, chat streamed, an embedding and, for instrumentors that trace it, a response streamed."""
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-fake")
    client.chat.completions.create(model="gpt-4o", messages=HELLO)
    list(client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
    client.embeddings.create(model="text-embedding-3-small", input="hello")
    list(client.responses.create(model="gpt-4o", input="hello", stream=True))


def call_anthropic(url: str) -> None:
    """A message, and one streamed."""
    import anthropic

    client = anthropic.Anthropic(base_url=url, api_key="sk-fake")
    options: Any = {"model": "claude-3-5-haiku-latest", "max_tokens": 50, "messages": HELLO}
    client.messages.create(**options)
    list(client.messages.create(stream=True, **options))


def main(module: str, name: str, path: str, url: str) -> None:
    """Run it."""
    prices.load()
    tracer = hh_jupyter.HoneyHiveTracer.init()
    getattr(importlib.import_module(module), name)().instrument()
    call = call_anthropic if "anthropic" in module else call_openai
    found = []
    for _ in range(2):
        with hh_jupyter.recording(path), tracer.start_span("run") as span:
            call(url)
        tracer.force_flush()
        trace_id = span.get_span_context().trace_id
        rows = [row for row in hh_jupyter.spans() if row.trace_id == trace_id]
        found.append(hh_jupyter.summarize(rows).to_dict())
    every = hh_jupyter.summarize(hh_jupyter.spans()).to_dict()
    print(json.dumps([*found, every]))


if __name__ == "__main__":
    main(*sys.argv[1:])
