"""A stand-in for a model: the notebooks run without a key and without a network.

    client = openai.OpenAI(**fake_model())  # a small server on this machine answers
    client = openai.OpenAI()  # OpenAI answers, with your key in OPENAI_API_KEY

Client, requests, streams and spans are real; only the answers are made up, by simple rules. The server calls each
offered tool once, answers a question from the context in the prompt, and counts tokens. A model name that ends in
`-err400` is answered with that error, one that ends in `-slow` takes a second longer, and a stream of one that ends in
`-cut` breaks off.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path

ANSWER_MILLIS, CHUNK_MILLIS = 150, 20
"""How long an answer and each part of a stream take, so that the waterfalls look like those of a real model."""


def fake_model() -> dict[str, str]:
    """The arguments of an OpenAI client that talks to the stand-in, which the first call starts.

    With FAKE_MODEL=off in the environment there are none, and the client talks to OpenAI: `make demo` sets it if you
    have a key.
    """
    if os.environ.get("FAKE_MODEL") == "off":
        return {}
    return {"base_url": f"{_server_url()}/v1", "api_key": "none-is-needed"}


@functools.cache
def _server_url() -> str:
    """Start the server; its thread ends with this process."""
    path = Path(__file__).parents[1] / "tests" / "fake_llm.py"
    spec = importlib.util.spec_from_file_location("fake_llm", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.FakeLLM(latency_ms=ANSWER_MILLIS, chunk_delay_ms=CHUNK_MILLIS).start().url)
