"""A kernel of the environment that holds the frameworks; `make frameworks` makes it and sets KERNEL_PYTHON to it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.fake_llm import FakeLLM
from tests.kernel.driver import Kernel, kernel_with

HERE = os.environ.get("WITH_FRAMEWORKS")
PRELUDE = """
hello = "What is the weather in Paris?"
def get_weather(city: str) -> str:
    "Get the current weather for a city."
    return f"{city}: 18C, light rain"
def totals():
    hh.get_tracer().wait_processed()
    rows = span_log().records()
    found = hh.summarize([row for row in rows if row.cell == rows[-1].cell]).to_dict()
    return {name: value for name, value in found.items() if value}
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/frameworks" in item.path.as_posix():
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(300))
            if not HERE:
                item.add_marker(pytest.mark.skip(reason="needs the frameworks: make frameworks (a part of test-all)"))


@pytest.fixture
def fake() -> Iterator[FakeLLM]:
    """The server of all models."""
    with FakeLLM() as server:
        yield server


@pytest.fixture
def kernel(tmp_path_factory: pytest.TempPathFactory, fake: FakeLLM) -> Iterator[Kernel]:
    """A kernel with nothing instrumented, whose clients talk to the fake server."""
    with kernel_with(
        tmp_path_factory.mktemp("kernel"),
        OPENAI_BASE_URL=f"{fake.url}/v1",
        OPENAI_API_BASE=f"{fake.url}/v1",
        OPENAI_API_KEY="sk-fake",
        OPENAI_AGENTS_DISABLE_TRACING="0",
    ) as kernel:
        assert kernel.run(PRELUDE).reply == "ok"
        yield kernel
