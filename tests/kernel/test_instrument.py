"""`%hh instrument` in a real kernel, with the real clients of OpenAI and Anthropic against the fake server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_llm import FakeLLM
from tests.kernel.driver import Kernel, kernel_with

PRELUDE = """
import openai, anthropic, os
client = openai.OpenAI()
claude = anthropic.Anthropic(base_url=os.environ["FAKE"], api_key="sk-fake", max_retries=0)
hello = [{"role": "user", "content": "Hello"}]
def totals():
    hh.get_tracer().wait_processed()
    key = [row.cell for row in span_log().records()][-1]
    found = hh.summarize(span_log().records(cell=key)).to_dict()
    return {name: value for name, value in found.items() if value}
"""
CHAT = "client.chat.completions.create(model='gpt-4o', messages=hello);"
CLAUDE = "claude.messages.create(model='claude-3-5-haiku-latest', max_tokens=50, messages=hello);"
HINT = "hh: openai is not traced. %hh instrument openai\n"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel in which nothing is instrumented between tests."""
    with (
        FakeLLM() as fake,
        kernel_with(
            tmp_path_factory.mktemp("kernel"), OPENAI_BASE_URL=f"{fake.url}/v1", OPENAI_API_KEY="sk-fake", FAKE=fake.url
        ) as kernel,
    ):
        assert kernel.run(PRELUDE).reply == "ok"
        yield kernel


@pytest.fixture(autouse=True)
def nothing_is_traced(kernel: Kernel) -> Iterator[None]:
    yield
    kernel.run("%hh instrument --off")


@pytest.mark.slow
def test_a_cell_that_used_an_untraced_library_says_so_once(kernel: Kernel) -> None:
    unused = kernel.run("openai.OpenAI(); client; 1 + 1")
    assert unused.stdout == ""
    assert kernel.run(CHAT).stdout == HINT
    assert kernel.run(CHAT).stdout == ""
    assert kernel.run(f"def ask():\n    {CLAUDE}").stdout == ""


def listing(kernel: Kernel) -> str:
    """What `--list` says, without the widths of its columns, which depend on what is installed."""
    return re.sub(" +", " ", kernel.run("%hh instrument --list").stdout)


def test_a_client_that_traces_itself_gets_messages_from_an_instrumentor(kernel: Kernel) -> None:
    alone = kernel.run(CLAUDE)
    assert (alone.output.text.splitlines()[0].split()[1], alone.stdout) == ("anthropic.messages.create", "")
    assert kernel.run("claude.models").stdout == ""
    listed = "hh: anthropic on its own tracing; with messages: %hh instrument anthropic"
    assert listed in listing(kernel)
    kernel.run("%hh instrument anthropic")
    assert "hh: anthropic on OpenInference 3." in listing(kernel)


def test_without_names_installed_libraries_are_traced_and_repeating_it_is_silent(kernel: Kernel) -> None:
    first, second = kernel.run("%hh instrument"), kernel.run("%hh instrument")
    assert re.match(r"hh: tracing anthropic, (mcp, )?openai\.", first.stdout)
    assert (second.stdout, second.stderr) == (first.stdout, "")
    cell = kernel.run(CHAT)
    assert "ChatCompletion" in cell.output.text
    assert cell.stdout == ""


def test_chat_stream_tools_responses_and_embeddings_of_openai_add_up(kernel: Kernel) -> None:
    kernel.run("%hh instrument openai")
    kernel.run(
        "tool = {'type': 'function', 'function': {'name': 'get_weather', 'parameters': {'type': 'object', "
        "'properties': {'city': {'type': 'string'}}, 'required': ['city']}}}\n"
        "list(client.chat.completions.create(model='gpt-4o', messages=hello, stream=True,"
        " stream_options={'include_usage': True}))\n"
        "client.chat.completions.create(model='gpt-4o', tools=[tool],"
        " messages=[{'role': 'user', 'content': 'What is the weather in Paris?'}])\n"
        "client.responses.create(model='gpt-4.1', input='Hello')\n"
        f"client.embeddings.create(model='text-embedding-3-small', input='Hello')\n{CHAT}"
    )
    found = kernel.value("totals()")
    assert (found["llm_calls"], found["embedding_calls"], found["streamed_calls"]) == (4, 1, 1)
    assert (found["tool_calls_requested"], found["tool_call_names"]) == (1, ["get_weather"])
    assert found["embedding_tokens"] > 0
    assert "unknown_usage_calls" not in found


@pytest.mark.parametrize(
    "instrumentor",
    ["openinference.instrumentation.anthropic", "opentelemetry.instrumentation.anthropic"],
)
def test_a_call_of_anthropic_counts_once_although_its_client_traces_itself(kernel: Kernel, instrumentor: str) -> None:
    if instrumentor.startswith("openinference"):
        kernel.run("%hh instrument anthropic")
    else:
        kernel.run(
            f"from {instrumentor} import AnthropicInstrumentor as I\n"
            "I().instrument(tracer_provider=hh.get_tracer().provider)"
        )
    stream = "claude.messages.stream(model='claude-3-5-haiku-latest', max_tokens=50, messages=hello)"
    kernel.run(f"{CLAUDE}\nwith {stream} as s:\n    s.get_final_message()")
    found = kernel.value("totals()")
    kernel.run(f"import {instrumentor} as i; i.AnthropicInstrumentor().uninstrument()")
    assert found["llm_calls"] == 2
    assert found["spans"] > 2


def test_a_later_explicit_instrument_causes_no_warning_and_no_duplicates(kernel: Kernel) -> None:
    kernel.run("%hh instrument openai")
    explicit = kernel.run("from openinference.instrumentation.openai import OpenAIInstrumentor as I; I().instrument()")
    assert (explicit.reply, explicit.stderr) == ("ok", "")
    kernel.run(CHAT)
    assert (kernel.value("totals()")["llm_calls"], kernel.value("totals()")["spans"]) == (1, 1)


def test_another_provider_takes_the_library_over(kernel: Kernel) -> None:
    kernel.run("%hh instrument openai")
    kernel.run(
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from openinference.instrumentation.openai import OpenAIInstrumentor as I\n"
        "I().instrument(tracer_provider=TracerProvider())"
    )
    assert "on   OpenInference" in kernel.run("%hh instrument --list").stdout
    off = kernel.run("%hh instrument --off openai")
    assert off.stdout == "hh: openai was not switched on with %hh instrument.\n"
    assert kernel.value("I().is_instrumented_by_opentelemetry")
    kernel.run("I().uninstrument()")


def test_after_the_users_own_uninstrument_there_is_nothing_to_switch_off(kernel: Kernel) -> None:
    kernel.run("%hh instrument openai")
    kernel.run("from openinference.instrumentation.openai import OpenAIInstrumentor as I; I().uninstrument()")
    off = kernel.run("%hh instrument --off")
    assert (off.reply, off.stderr) == ("ok", "")
    assert kernel.value("I().is_instrumented_by_opentelemetry") is False
    assert "instrument" not in kernel.value("sorted(vars(I()))")


def test_the_list_shows_what_traces_each_library(kernel: Kernel) -> None:
    assert "hh: openai off OpenInference 0." in listing(kernel)
    kernel.run("%hh instrument openai")
    assert "hh: openai on OpenInference 0." in listing(kernel)
    assert kernel.run("%hh instrument --off openai").stdout == "hh: no library is traced by %hh instrument.\n"
    assert kernel.run(CHAT).outputs == []


def test_for_a_missing_instrumentor_the_install_command_is_shown(kernel: Kernel) -> None:
    cell = kernel.run("%hh instrument llama-index")
    assert cell.stdout == "hh: llama_index is not traced. %pip install openinference-instrumentation-llama-index\n"
    wrong = kernel.run("%hh instrument opnai")
    assert wrong.stderr.startswith("UsageError: %hh instrument: unknown library opnai. Did you mean openai?")
    known = kernel.run("%hh instrument nothing").stderr.partition("Known: ")[2].strip(" .\n").split(", ")
    assert "openai" in known
    assert known == sorted(known)


@pytest.mark.slow
def test_loading_with_auto_instrument_traces_at_once(tmp_path: Path) -> None:
    with (
        FakeLLM() as fake,
        kernel_with(
            tmp_path,
            HH_AUTO_INSTRUMENT="true",
            OPENAI_BASE_URL=f"{fake.url}/v1",
            OPENAI_API_KEY="sk-fake",
            FAKE=fake.url,
        ) as kernel,
    ):
        kernel.run(PRELUDE)
        assert "ChatCompletion" in kernel.run(CHAT).output.text
