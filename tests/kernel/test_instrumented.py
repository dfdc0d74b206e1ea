"""A real LLM client, traced by its real instrumentor: calls, tokens and an estimated cost under the cell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fake_llm import FakeLLM
from tests.kernel.conftest import StartKernel
from tests.kernel.driver import Kernel

ASK = "client.chat.completions.create(model='gpt-4o', messages=[{'role': 'user', 'content': 'Hello'}]);"


@pytest.fixture
def instrumented(start_kernel: StartKernel) -> Iterator[Kernel]:
    """A kernel whose `client` talks to the fake server."""
    with FakeLLM() as fake:
        kernel = start_kernel(OPENAI_BASE_URL=f"{fake.url}/v1", OPENAI_API_KEY="sk-fake")
        kernel.run("%hh instrument\nimport openai\nclient = openai.OpenAI()")
        yield kernel


@pytest.mark.slow
def test_tokens_and_cost_of_a_call_are_in_the_saved_output_of_a_headless_run(instrumented: Kernel) -> None:
    cell = instrumented.run(ASK)
    assert "tokens" in cell.output.versions[0]["text/plain"]
    assert "~$" in cell.output.versions[0]["text/plain"]


@pytest.mark.slow
def test_in_a_notebook_the_cost_follows_when_the_prices_are_loaded(instrumented: Kernel) -> None:
    cell = instrumented.run(ASK, cell_id="cell-1")
    instrumented.wait_for(lambda: "~$" in cell.output.text and "~$" in cell.output.html, "no cost was shown")


@pytest.mark.slow
def test_calls_are_no_longer_traced_after_unloading(instrumented: Kernel) -> None:
    instrumented.run("%unload_ext hh_jupyter")
    cell = instrumented.run(ASK)
    assert (cell.reply, cell.outputs, cell.stderr) == ("ok", [], "")
    assert (
        instrumented.value(
            "__import__('openinference.instrumentation.openai').instrumentation.openai."
            "OpenAIInstrumentor().is_instrumented_by_opentelemetry"
        )
        is False
    )
