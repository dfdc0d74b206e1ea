"""Vocabularies of their own: MLflow, Langfuse, LangSmith, the AI SDK, MCP; and names that say nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hh_jupyter.conventions import content, describe, event_type, readable_name
from hh_jupyter.conventions.facts import Usage
from tests.records.events import NamedEvent


@pytest.mark.parametrize(
    ("attributes", "kind", "type_"),
    [
        ({"mlflow.spanType": '"CHAT_MODEL"'}, "llm", "model"),
        ({"mlflow.spanType": '"PARSER"'}, "chain", "chain"),
        ({"mlflow.spanType": '"RERANKER"'}, "reranker", "tool"),
        ({"mlflow.spanType": '"UNKNOWN"'}, "other", "tool"),
        ({"langfuse.observation.type": "generation"}, "llm", "model"),
        ({"langfuse.observation.type": "guardrail"}, "guardrail", "tool"),
        ({"langfuse.observation.type": "span"}, "other", "tool"),
        ({"langsmith.span.kind": "prompt", "gen_ai.operation.name": "chat"}, "chain", "chain"),
        ({"langsmith.span.kind": "retriever", "gen_ai.operation.name": "embeddings"}, "retriever", "tool"),
        ({"langsmith.span.kind": "parser", "gen_ai.operation.name": "parser"}, "chain", "chain"),
        ({"ai.operationId": "ai.generateObject"}, "agent", "chain"),
        ({"ai.operationId": "ai.embedMany.doEmbed"}, "embedding", "model"),
        ({"ai.operationId": "ai.rerank"}, "reranker", "tool"),
        ({"mcp.method.name": "tools/call", "gen_ai.tool.name": "f"}, "tool", "tool"),
        ({"mcp.method.name": "resources/read"}, "retriever", "tool"),
        ({"mcp.method.name": "initialize"}, "other", "tool"),
        ({"mcp.method": "prompts/get"}, "chain", "tool"),
        ({"traceloop.entity.input": '{"method":"resources/read","params":{"uri":"file:///a"}}'}, "retriever", "tool"),
        ({"traceloop.entity.input": '{"other": 1}'}, "other", "tool"),
        ({"gen_ai.tool.name": "f", "tool_arguments": "{}"}, "tool", "tool"),
        ({"agent_name": "guide", "model_name": "m"}, "agent", "model"),
        ({"gen_ai.request.model": "m", "http.request.method": "POST"}, "llm", "model"),
        (
            {
                "gen_ai.request.model": "m",
                "http.request.method": "POST",
                "mistral_ai.operation.id": "embeddings_v1",
            },
            "embedding",
            "model",
        ),
    ],
)
def test_each_dialect_has_its_kinds_and_event_types(attributes: dict[str, Any], kind: str, type_: str) -> None:
    facts = describe("work", attributes, (), 0)
    assert (facts.kind, facts.event_type, event_type("work", attributes)) == (kind, type_, type_)


def langfuse(counts: dict[str, Any]) -> Usage | None:
    given = {"langfuse.observation.type": "generation", "langfuse.observation.usage_details": json.dumps(counts)}
    return describe("g", given, (), 0).usage


def test_langfuses_own_kinds_of_tokens_exclude_each_other_and_openais_do_not() -> None:
    own = {"input": 56, "input_cached_tokens": 64, "output": 20, "output_reasoning_tokens": 10, "total": 150}
    assert langfuse(own) == Usage(120, 30, 150, 64, None, 10)
    openai = {
        "prompt_tokens": 120,
        "completion_tokens": 30,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 10},
    }
    assert langfuse(openai) == Usage(120, 30, 150, 64, None, 10)
    assert langfuse({"input": 120, "output": 30, "total": 150, "input_cached_tokens": 64}) == Usage(120, 30, 150, 64)


def test_langfuses_cost_is_its_total_or_the_sum_of_its_parts_and_its_first_token_a_time() -> None:
    given = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.cost_details": '{"input": 0.25, "output": 0.5}',
        "langfuse.observation.completion_start_time": '"1970-01-01T00:00:02Z"',
    }
    facts = describe("g", given, (), 1_500_000_000)
    assert (facts.cost, facts.first_token_ns, facts.streamed) == (0.75, 500_000_000, True)
    assert describe("g", given | {"langfuse.observation.cost_details": '{"total": 0}'}, (), 0).cost is None


def test_langfuse_attributes_on_other_spans_are_added() -> None:
    given = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "langfuse.observation.type": "generation",
        "langfuse.observation.input": '[{"role": "user", "content": "Hi"}]',
        "langfuse.observation.metadata.stage": '"beta"',
    }
    said = content(given, ())
    assert (said.input_messages[0].text, said.metadata["stage"]) == ("Hi", "beta")
    assert describe("chat m", given, (), 0).model == "m"


def test_mlflow_has_cost_first_chunk_and_tags() -> None:
    given = {
        "mlflow.spanType": '"LLM"',
        "mlflow.llm.cost": '{"input_cost": 0.1, "output_cost": 0.2, "total_cost": 0.3}',
        "mlflow.traceTag.stage": "beta",
        "session.id": "s1",
    }
    chunks = [NamedEvent("mlflow.chunk.item.0", 7, {}), NamedEvent("mlflow.chunk.item.1", 9, {})]
    facts = describe("x", given, chunks, 2)
    assert (facts.cost, facts.first_token_ns, facts.streamed) == (0.3, 5, True)
    said = content(given, chunks)
    assert (said.metadata["stage"], said.session_id) == ("beta", "s1")


def test_the_ai_sdk_has_separate_reasoning_and_up_to_version_4_cached_tokens_of_the_provider() -> None:
    given = {
        "ai.operationId": "ai.streamText.doStream",
        "ai.model.provider": "anthropic.messages",
        "ai.model.id": "claude",
        "ai.usage.promptTokens": 120,
        "ai.usage.completionTokens": 30,
        "ai.response.providerMetadata": '{"anthropic": {"cacheReadInputTokens": 64, "cacheCreationInputTokens": 5}}',
        "ai.response.msToFirstChunk": 6.5,
        "ai.response.text": "Hi",
        "ai.response.reasoning": "hm",
    }
    facts = describe("x", given, (), 0)
    assert facts.usage == Usage(120, 30, None, 64, 5)
    assert (facts.provider, facts.first_token_ns, facts.streamed) == ("anthropic", 6_500_000, True)
    (message,) = content(given, ()).output_messages
    assert (message.text, message.parts) == ("Hi", ({"type": "reasoning", "content": "hm"},))


def test_a_request_of_mcp_shows_what_was_asked_and_what_came_back() -> None:
    call = {
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "get_weather",
        "gen_ai.tool.call.arguments": '{"city": "Lima"}',
        "gen_ai.tool.call.result": '{"content": [{"type": "text", "text": "sunny"}], "isError": false}',
        "mcp.session.id": "m1",
    }
    said = content(call, ())
    assert (said.tool_name, said.input, said.output) == ("get_weather", {"city": "Lima"}, "sunny")
    assert (said.metadata["session"], said.session_id) == ("m1", None)
    assert content({"mcp.method.name": "resources/read", "mcp.resource.uri": "file:///a"}, ()).input == "file:///a"


def test_names_of_the_conventions_are_shown_where_a_reader_expects_them() -> None:
    said = content(
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.id": "a1",
            "gen_ai.agent.version": "2",
            "gen_ai.workflow.name": "trip",
            "gen_ai.data_source.id": "d1",
            "gen_ai.output.type": "json",
            "gen_ai.retrieval.top_k": 3,
            "openai.request.service_tier": "auto",
            "openai.response.service_tier": "flex",
        },
        (),
    )
    wanted = {"agent id": "a1", "agent version": "2", "workflow": "trip", "data source": "d1", "service tier": "flex"}
    assert said.metadata == wanted
    assert said.params == {"output_type": "json", "top_k": 3, "service_tier": "auto"}


def test_graph_nodes_and_costs_of_openinference_are_metadata() -> None:
    said = content(
        {
            "openinference.span.kind": "AGENT",
            "graph.node.id": "n2",
            "graph.node.parent_id": "n1",
            "llm.cost.prompt_details.cache_read": 0.1,
        },
        (),
    )
    assert said.metadata == {"node": "n2", "node above": "n1", "cost": {"prompt_details.cache_read": 0.1}}


def test_thoughts_of_openllmetry_before_an_answer_are_a_part_of_it() -> None:
    given = {
        "llm.request.type": "chat",
        "gen_ai.completion.0.role": "thinking",
        "gen_ai.completion.0.content": "hm",
        "gen_ai.completion.1.role": "assistant",
        "gen_ai.completion.1.content": "Hi",
    }
    (message,) = content(given, ()).output_messages
    assert (message.text, message.parts) == ("Hi", ({"type": "thinking", "content": "hm"},))


def test_a_query_in_a_vector_database_has_documents_with_scores_as_numbers_and_distances_as_text() -> None:
    results = [
        NamedEvent("db.query.result", 1, {"db.query.result.id": "a", "db.query.result.score": 0.5}),
        NamedEvent("db.search.result", 1, {"db.search.result.id": "b", "db.search.result.distance": 0.25}),
        NamedEvent("db.query.embeddings", 1, {"db.query.embeddings.vector": (0.1, 0.2)}),
    ]
    said = content({"db.system": "pinecone"}, results)
    assert said.documents == ({"id": "a", "score": 0.5}, {"id": "b", "score": "0.25"})


@pytest.mark.parametrize(
    ("name", "attributes", "wanted"),
    [
        ("Chat with {model!r}", {"logfire.msg": "Chat with 'gpt-4o'"}, "Chat with 'gpt-4o'"),
        ("Chat with {model!r}", {}, "Chat with {model!r}"),
        ("SimpleTool", {"tool.name": "get_weather"}, "get_weather"),
        ("ai.toolCall", {"ai.toolCall.name": "get_weather"}, "get_weather"),
        ("running tool", {"gen_ai.tool.name": "f", "logfire.msg": "running tool: f"}, "running tool: f"),
        ("agent run", {"agent_name": "guide"}, "guide"),
        ("WeatherTool", {"tool.name": "get_weather"}, "WeatherTool"),
        ("chat gpt-4o", {"logfire.msg": "other"}, "chat gpt-4o"),
        ("SimpleTool", {"tool.name": 5}, "SimpleTool"),
    ],
)
def test_a_generic_span_name_is_replaced_by_the_name_in_attributes(
    name: str, attributes: dict[str, Any], wanted: str
) -> None:
    assert readable_name(name, attributes) == wanted


def test_a_cost_that_langfuse_wrote_counts_on_spans_of_other_conventions_too() -> None:
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "langfuse.observation.cost_details": '{"input": 0.1, "output": 0.2}',
    }
    assert describe("chat gpt-4o", attributes, (), 0).cost == pytest.approx(0.3)
