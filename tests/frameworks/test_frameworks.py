"""Agent frameworks, LLM clients and MCP, traced for real through `%hh instrument`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.driver import Kernel

AGENT = """
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
agent = create_agent(ChatOpenAI(model="gpt-4o"), [get_weather])
agent.invoke({"messages": [("user", hello)]});
"""
GRAPH = """
from typing import TypedDict
from langgraph.graph import END, START, StateGraph
from langchain_openai import ChatOpenAI
class State(TypedDict):
    plan: str
def plan(state):
    return {"plan": ChatOpenAI(model="gpt-4o-mini").invoke("Suggest a plan").content}
graph = StateGraph(State).add_node("plan", plan).add_edge(START, "plan").add_edge("plan", END).compile()
graph.invoke({"plan": ""});
"""
INDEX = """
from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI
Settings.llm, Settings.embed_model = OpenAI(model="gpt-4o-mini"), OpenAIEmbedding(model="text-embedding-3-small")
index = VectorStoreIndex.from_documents([Document(text="Refunds are paid within five working days.")])
index.as_query_engine().query("When are refunds paid?");
"""
PYDANTIC_AI = """
from pydantic_ai import Agent
trip = Agent("openai-chat:gpt-4o", tools=[get_weather], name="trip")
await trip.run(hello);
"""
AGENTS = """
from agents import Agent, Runner, function_tool
helper = Agent(name="helper", model="gpt-4.1", tools=[function_tool(get_weather)])
await Runner.run(helper, hello);
"""
STRANDS = """
from strands import Agent, tool
from strands.models.openai import OpenAIModel
Agent(model=OpenAIModel(model_id="gpt-4o"), tools=[tool(get_weather)], callback_handler=None)(hello);
"""
MCP = """
from mcp.client import Client
from mcp.server.mcpserver import MCPServer
server = MCPServer("weather")
server.add_tool(get_weather)
async with Client(server) as client:
    await client.call_tool("get_weather", {"city": "Paris"})
"""
OPENLLMETRY = {
    "langchain": "opentelemetry.instrumentation.langchain:LangchainInstrumentor",
    "llama_index": "opentelemetry.instrumentation.llamaindex:LlamaIndexInstrumentor",
}


def traced(kernel: Kernel, library: str, code: str, *, family: str = "") -> dict[str, Any]:
    """What the spans of a cell add up to, its library traced by `%hh instrument` or by OpenLLMetry."""
    if family == "openllmetry":
        module, _, name = OPENLLMETRY[library].partition(":")
        switch = f"from {module} import {name} as I\nI().instrument(tracer_provider=hh.get_tracer().provider)"
    else:
        switch = f"%hh instrument {library}"
    on = kernel.run(switch)
    assert on.reply == "ok", on
    cell = kernel.run(code)
    assert (cell.reply, cell.errors) == ("ok", []), cell
    assert cell.outputs, cell
    found: dict[str, Any] = kernel.value("totals()")
    return found


@pytest.mark.parametrize("family", ["openinference", "openllmetry"])
def test_an_agent_of_langchain(kernel: Kernel, family: str) -> None:
    found = traced(kernel, "langchain", AGENT, family=family)
    assert (found["llm_calls"], found["tool_calls_requested"], found["tools_run"]) == (2, 1, 1)
    assert (found["tool_call_names"], found["tools_run_names"]) == (["get_weather"], ["get_weather"])
    assert found["total_tokens"] > 0
    assert "unknown_usage_calls" not in found


@pytest.mark.parametrize("family", ["openinference", "openllmetry"])
def test_a_graph_of_langgraph(kernel: Kernel, family: str) -> None:
    found = traced(kernel, "langchain", GRAPH, family=family)
    assert (found["llm_calls"], found["models_requested"]) == (1, ["gpt-4o-mini"])
    assert found["spans"] > 2


@pytest.mark.parametrize("family", ["openinference", "openllmetry"])
def test_an_index_of_llama_index(kernel: Kernel, family: str) -> None:
    if family == "openllmetry":  # It leaves model calls to the client's instrumentor, which sees embeddings as well.
        kernel.run("%hh instrument openai")
    found = traced(kernel, "llama_index", INDEX, family=family)
    assert (found["llm_calls"], found["embedding_calls"]) == (1, 2)
    assert found["total_tokens"] > 0


def test_pydantic_ai_traces_itself(kernel: Kernel) -> None:
    found = traced(kernel, "pydantic_ai", PYDANTIC_AI)
    assert (found["llm_calls"], found["tools_run_names"]) == (2, ["get_weather"])
    assert found["total_tokens"] > 0
    assert "on   its own tracing" in kernel.run("%hh instrument --list").stdout
    kernel.run("%hh instrument --off pydantic_ai")
    assert kernel.run("await trip.run(hello);").outputs == []


def test_the_agents_sdk_is_traced_by_its_instrumentor(kernel: Kernel) -> None:
    found = traced(kernel, "openai-agents", AGENTS)
    assert (found["llm_calls"], found["tools_run_names"]) == (2, ["get_weather"])
    assert "unknown_usage_calls" not in found


def test_the_agents_sdk_traces_itself_where_no_instrumentor_is(kernel: Kernel) -> None:
    kernel.run(
        "from hh_jupyter.notebook.instrument import OpenAIAgents\n"
        "OpenAIAgents().instrument(tracer_provider=hh.get_tracer().provider)"
    )
    cell = kernel.run(AGENTS)
    assert cell.reply == "ok", cell
    found = kernel.value("totals()")
    assert (found["llm_calls"], found["tools_run_names"]) == (2, ["get_weather"])
    assert (found["tool_calls_requested"], found["tool_call_names"]) == (1, ["get_weather"])
    assert found["models_served"] == ["gpt-4.1-2025-04-14"]
    kernel.run("OpenAIAgents().uninstrument()")
    assert kernel.run("await Runner.run(helper, hello);").outputs == []


@pytest.mark.parametrize(("library", "code", "calls"), [("strands", STRANDS, 2), ("mcp", MCP, 0)])
def test_a_library_that_traces_itself_is_left_to_itself(kernel: Kernel, library: str, code: str, calls: int) -> None:
    assert f"hh: {library} on its own tracing" in " ".join(kernel.run("%hh instrument --list").stdout.split())
    found = traced(kernel, library, code)
    assert (found.get("llm_calls", 0), found["tools_run_names"]) == (calls, ["get_weather"])
    assert "unknown_usage_calls" not in found


def test_everything_at_once_counts_each_call_once(kernel: Kernel) -> None:
    listed = kernel.run("%hh instrument").stdout
    assert "anthropic, langchain, llama_index, mcp, openai, openai_agents, pydantic_ai, strands" in listed
    for code, calls in ((AGENT, 2), (PYDANTIC_AI, 2), (AGENTS, 2), (INDEX, 1), (STRANDS, 2)):
        cell = kernel.run(code)
        assert cell.reply == "ok", cell
        assert kernel.value("totals()")["llm_calls"] == calls, code
    unloaded = kernel.run("%unload_ext hh_jupyter")
    assert (unloaded.reply, unloaded.stderr) == ("ok", "")


@pytest.mark.parametrize(
    ("library", "code"), [("langchain", AGENT), ("llama_index", INDEX), ("pydantic_ai", PYDANTIC_AI)]
)
def test_an_untraced_framework_is_hinted_at(kernel: Kernel, library: str, code: str) -> None:
    cell = kernel.run(code)
    assert f"hh: {library} is not traced. %hh instrument {library}" in cell.stdout
