"""The line under a cell against the log of the server that it called: each framework, provider, streaming and not.

With plain `%hh instrument` a call makes up to three spans: the framework's, its client's and the client's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hh_jupyter.conventions.facts import SpanFacts, Usage
from hh_jupyter.display import format as fmt
from hh_jupyter.records import prices as price_table
from hh_jupyter.records.totals import Totals
from tests.fake_llm import FakeLLM
from tests.frameworks.conftest import PRELUDE
from tests.kernel.driver import PROJECT, PYTHON, Cell, Kernel, kernel_with

OLD_CLIENT = Path(PYTHON).parents[1] / "anthropic-0"
"""The client that LlamaIndex's Anthropic is written for, see anthropic-0.txt."""
PROVIDERS = ("openai", "openai_without_usage", "anthropic")
"""OpenAI streams usage only where it is asked to: LangChain does unless a base URL is given, LlamaIndex does not."""
CHATS = """
import os
def chat_of(provider, streaming):
    if provider == "anthropic":
        from langchain_anthropic import ChatAnthropic
        return ChatAnthropic(model="claude-3-5-haiku-latest", base_url=os.environ["FAKE"], api_key="sk-fake")
    from langchain_openai import ChatOpenAI
    return ChatOpenAI(model="gpt-4o-mini", stream_usage=provider == "openai")
"""
GRAPH = f"""{CHATS}
from typing import TypedDict
from langgraph.graph import END, START, StateGraph
class State(TypedDict):
    answer: str
def graph_of(chat):
    def ask(state):
        return {{"answer": chat.invoke("Suggest a plan").content}}
    return StateGraph(State).add_node("ask", ask).add_edge(START, "ask").add_edge("ask", END).compile()
"""
AGENT = f"{CHATS}\nfrom langchain.agents import create_agent\nasked = {{'messages': [('user', hello)]}}"
LLMS = """
import os
from llama_index.core.llms import ChatMessage
def llm_of(provider, streaming):
    if provider == "anthropic":
        from llama_index.llms.anthropic import Anthropic
        return Anthropic(model="claude-3-5-haiku-latest", base_url=os.environ["FAKE"], api_key="sk-fake")
    from llama_index.llms.openai import OpenAI
    asked = {"stream_options": {"include_usage": True}} if streaming and provider == "openai" else {}
    return OpenAI(model="gpt-4o-mini", additional_kwargs=asked)
"""
QUERY = f"""{LLMS}
from llama_index.core import Document, SummaryIndex
index = SummaryIndex.from_documents([Document(text="Refunds are paid within five working days.")])
def engine_of(provider, streaming):
    return index.as_query_engine(llm=llm_of(provider, streaming), streaming=streaming)
"""
FUNCTION_AGENT = f"{LLMS}\nfrom llama_index.core.agent.workflow import FunctionAgent"
SCENARIOS = {
    "langchain": (
        CHATS,
        "chat_of(provider, False).invoke(hello);",
        "list(chat_of(provider, True).stream(hello));",
    ),
    "langchain_async": (
        CHATS,
        "await chat_of(provider, False).ainvoke(hello);",
        "[part async for part in chat_of(provider, True).astream(hello)];",
    ),
    "langgraph": (
        GRAPH,
        "graph_of(chat_of(provider, False)).invoke({'answer': ''});",
        "list(graph_of(chat_of(provider, True)).stream({'answer': ''}, stream_mode='messages'));",
    ),
    "langgraph_agent": (
        AGENT,
        "create_agent(chat_of(provider, False), [get_weather]).invoke(asked);",
        "list(create_agent(chat_of(provider, True), [get_weather]).stream(asked, stream_mode='messages'));",
    ),
    "llama_index": (
        LLMS,
        "llm_of(provider, False).chat([ChatMessage(hello)]);",
        "list(llm_of(provider, True).stream_chat([ChatMessage(hello)]));",
    ),
    "llama_index_query": (
        QUERY,
        "engine_of(provider, False).query('When are refunds paid?');",
        "list(engine_of(provider, True).query('When are refunds paid?').response_gen);",
    ),
    "llama_index_agent": (
        FUNCTION_AGENT,
        "await FunctionAgent(tools=[get_weather], llm=llm_of(provider, False), streaming=False).run(hello);",
        "await FunctionAgent(tools=[get_weather], llm=llm_of(provider, True)).run(hello);",
    ),
}
"""What each kernel runs first, then the cell without and the cell with streaming."""
CELLS = [
    (name, provider, streaming)
    for name in SCENARIOS
    for provider in PROVIDERS
    for streaming in (False, True)
    if streaming or provider != "openai_without_usage"
]


@contextmanager
def kernel_for(folder: Path, fake: FakeLLM, *, old_client: bool) -> Iterator[Kernel]:
    """A kernel in which plain `%hh instrument` has run, and whose clients talk to the fake server."""
    with kernel_with(
        folder,
        OPENAI_BASE_URL=f"{fake.url}/v1",
        OPENAI_API_BASE=f"{fake.url}/v1",
        OPENAI_API_KEY="sk-fake",
        FAKE=fake.url,
        PYTHONPATH=os.pathsep.join(map(str, (PROJECT, *([OLD_CLIENT] if old_client else [])))),
    ) as kernel:
        on = kernel.run(f"%hh instrument\n{PRELUDE}")
        assert {"anthropic", "langchain", "llama_index", "openai"} <= set(re.findall(r"\w+", on.stdout)), on
        yield kernel


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeLLM]:
    with FakeLLM() as fake:
        yield fake


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory, fake: FakeLLM) -> Iterator[Kernel]:
    with kernel_for(tmp_path_factory.mktemp("newest"), fake, old_client=False) as kernel:
        yield kernel


@pytest.fixture(scope="module")
def with_old_client(tmp_path_factory: pytest.TempPathFactory, fake: FakeLLM) -> Iterator[Kernel]:
    with kernel_for(tmp_path_factory.mktemp("old"), fake, old_client=True) as kernel:
        yield kernel


def run(kernel: Kernel, fake: FakeLLM, name: str, provider: str, streaming: bool) -> Cell:
    """The cell of one scenario; the fake server's log has only its calls then."""
    first, plain, streamed = SCENARIOS[name]
    prepared = kernel.run(f"{first}\nprovider = {provider!r}")
    assert prepared.reply == "ok", prepared.tracebacks
    fake.reset()
    cell = kernel.run(streamed if streaming else plain)
    assert (cell.reply, cell.errors) == ("ok", []), cell.tracebacks
    return cell


def expected(log: list[dict[str, Any]]) -> dict[str, Any]:
    """What a cell's totals must be, from the server's log. Tokens and cost cover the calls whose usage was sent."""
    calls = [entry for entry in log if entry["status"] == 200]
    known = [(entry, _usage(entry["usage"])) for entry in calls if entry["usage_sent"]]
    price_table.load()
    prices = [
        price_table.estimate(SpanFacts(kind="llm", model=entry["model_served"], provider=_provider(entry), usage=usage))
        for entry, usage in known
    ]
    return {
        "llm_calls": len(calls),
        "streamed_calls": sum(entry["stream"] for entry in calls),
        "tool_calls_requested": sum(len(entry["tool_calls"]) for entry in calls),
        "unknown_usage_calls": len(calls) - len(known),
        "prompt_tokens": sum(usage.prompt or 0 for _, usage in known),
        "completion_tokens": sum(usage.completion or 0 for _, usage in known),
        "total_tokens": sum((usage.prompt or 0) + (usage.completion or 0) for _, usage in known),
        "cost": pytest.approx(sum(price or 0 for price in prices)) if known else None,
    }


def _usage(sent: dict[str, Any]) -> Usage:
    if "prompt_tokens" in sent:
        return Usage(prompt=sent["prompt_tokens"], completion=sent["completion_tokens"])
    cached = sent["cache_creation_input_tokens"] + sent["cache_read_input_tokens"]
    return Usage(prompt=sent["input_tokens"] + cached, completion=sent["output_tokens"])


def _provider(entry: dict[str, Any]) -> str:
    return "anthropic" if entry["api"] == "messages" else "openai"


@pytest.mark.parametrize(("name", "provider", "streaming"), CELLS)
def test_the_line_under_a_cell_says_what_the_server_served(
    request: pytest.FixtureRequest, fake: FakeLLM, name: str, provider: str, streaming: bool
) -> None:
    old_client = name.startswith("llama_index") and provider == "anthropic"
    kernel: Kernel = request.getfixturevalue("with_old_client" if old_client else "newest")
    cell = run(kernel, fake, name, provider, streaming)
    wanted = expected(fake.log)
    totals = dict.fromkeys(wanted, 0) | {"cost": None} | kernel.value("totals()")
    assert {field: totals[field] for field in wanted} == wanted
    line = cell.output.text.splitlines()[0]
    if totals["spans"] > 1:  # A single span is one call.
        assert f"  {wanted['llm_calls']} LLM call" in line
    if wanted["unknown_usage_calls"]:
        assert "tokens unknown" in line
    else:
        assert re.search(rf"(^|\s){wanted['total_tokens']:,} tokens\s", line), line
        assert f"{fmt.cost(Totals(cost=wanted['cost'].expected, cost_estimated=True))}  " in line
