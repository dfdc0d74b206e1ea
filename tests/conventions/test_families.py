"""One shape, whichever instrumentor made the span: facts of a row and content of the detail pane, family by family."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from hh_jupyter.conventions import content, describe
from hh_jupyter.conventions.facts import SpanContent, SpanFacts, ToolCall, Usage
from tests.spans import EXPECTED, RECORDINGS, recorded


def facts_of(span: ReadableSpan) -> SpanFacts:
    scope = span.instrumentation_scope
    given = span.name, dict(span.attributes or {}), span.events, span.start_time or 0
    return describe(*given, scope.name if scope else "")


def content_of(span: ReadableSpan) -> SpanContent:
    return content(dict(span.attributes or {}), span.events)


def spans_of(name: str, kind: str) -> list[ReadableSpan]:
    return [span for span in recorded(f"{name}.json") if facts_of(span).kind == kind]


def first(name: str, kind: str) -> tuple[SpanFacts, SpanContent]:
    span = spans_of(name, kind)[0]
    return facts_of(span), content_of(span)


KINDS = {
    "openllmetry-decorators-rag": ["embedding", "embedding", "tool", "llm", "chain", "agent", "chain"],
    "otel-langchain-agent": [*["llm", "tool"] * 3, "llm", "agent", "retriever", "llm", "chain"],
    "otel-pydanticai-agent": ["llm", "tool", "llm", "tool", "llm", "agent"],
    "otel-http-under-llm": ["http", "http", "db", "http", "llm", "http", "llm", "http"],
    "openinference-openai-agents-handoff": [
        *["llm", "tool", "chain", "agent", "llm", "tool", "chain", "llm", "chain", "agent", "chain", "agent"]
    ],
}


@pytest.mark.parametrize("name", KINDS)
def test_every_span_has_its_kind(name: str) -> None:
    assert [facts_of(span).kind for span in recorded(f"{name}.json")] == KINDS[name]


def test_a_graph_is_an_agent_and_its_nodes_are_steps() -> None:
    kinds = [facts_of(span).kind for span in recorded("openllmetry-langchain-graph.json")]
    assert (kinds.count("agent"), kinds.count("llm"), kinds.count("tool")) == (5, 6, 2)
    assert set(kinds) == {"agent", "llm", "tool", "chain"}


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_model_that_answered_and_its_response_id_are_those_of_the_server(name: str) -> None:
    """Each id that a span tells belongs to a call that was made, with the model that the server named."""
    served = {call.get("response_id"): call for call in EXPECTED[name]["calls"]}
    for span in recorded(name):
        facts = facts_of(span)
        if facts.response_id is not None:
            call = served[facts.response_id]
            assert facts.model == call["model_served"]
            assert facts.model_requested in (None, call["model_requested"])


@pytest.mark.parametrize("name", [name for name in RECORDINGS if not name.startswith("openinference")])
def test_usage_of_each_answered_call_is_the_servers(name: str) -> None:
    served = {call.get("response_id"): call.get("usage") or {} for call in EXPECTED[name]["calls"]}
    for span in recorded(name):
        facts = facts_of(span)
        if facts.response_id and facts.usage:
            usage = served[facts.response_id]
            prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
            if prompt is not None:
                assert (facts.usage.prompt, facts.usage.completion) == (prompt, completion)


def test_flattened_messages_of_openllmetry_are_messages() -> None:
    facts, said = first("openllmetry040-openai-tools-stream", "llm")
    assert (facts.family, facts.provider, facts.tools_asked) == ("openllmetry", "openai", ("get_weather",))
    assert [message.role for message in said.input_messages] == ["system", "user"]
    assert said.output_messages[0].tool_calls == (ToolCall("get_weather", {"city": "Madrid"}, "call_000001_0"),)
    assert [tool["name"] for tool in said.tools_offered] == ["get_weather", "convert_currency", "search_docs"]
    assert (said.finish_reason, said.params) == ("tool_calls", {"temperature": 0})
    second = content_of(spans_of("openllmetry040-openai-tools-stream", "llm")[1])
    assert (second.input_messages[-1].role, second.input_messages[-1].tool_call_id) == ("tool", "call_000001_0")


def test_anthropics_parts_inside_a_flattened_message_are_read() -> None:
    said = content_of(spans_of("openllmetry040-anthropic", "llm")[1])
    asked, answered = said.input_messages[-2:]
    assert (asked.text, asked.tool_calls[0].arguments) == ("Let me look that up.", {"city": "London"})
    assert (answered.role, answered.text, answered.tool_call_id) == ("tool", "London: 14C, cloudy", "toolu_000001_0")


def test_the_quotes_of_an_empty_text_are_no_text() -> None:
    _, said = first("openllmetry040-langchain-agent", "llm")
    assert said.output_messages[0].text is None
    assert said.output_messages[0].tool_calls[0].name == "get_weather"


@pytest.mark.parametrize("name", ["openllmetry-langchain-graph", "openllmetry040-langchain-agent"])
def test_a_python_repr_inside_json_is_arguments_and_a_serialised_message_its_content(name: str) -> None:
    facts, said = first(name, "tool")
    assert (facts.tool_name, said.tool_name) == ("get_weather", "get_weather")
    assert said.input in ({"city": "Lima"}, {"city": "Paris"})
    assert said.output in ("Lima: 19C, mist", "Paris: 18C, light rain")
    assert (said.tool_call_id or "").startswith("call_")


def test_decorators_arguments_and_results_are_unwrapped() -> None:
    _, said = first("openllmetry-decorators-rag", "tool")
    assert said.input == "How many requests per minute does the API allow?"
    assert said.output == "The API allows 600 requests per minute and a payload of at most 5 MB."
    assert (said.session_id, said.user_id) == ("s-1", "user-42")


def test_messages_of_the_official_conventions_have_parts_and_tool_calls() -> None:
    spans = spans_of("otel-openai-mixed", "llm")
    said = content_of(spans[4])
    assert said.output_messages[0].tool_calls == (ToolCall("get_weather", {"city": "Paris"}, "call_000005_0"),)
    assert said.tools_offered[0]["name"] == "get_weather"
    answered = content_of(spans[5]).input_messages[-1]
    assert (answered.role, answered.text) == ("tool", "Paris: 18C, light rain")
    assert said.params == {"temperature": 0}


def test_system_instructions_come_first() -> None:
    span = next(
        s for s in spans_of("otel-anthropic-tools", "llm") if "gen_ai.system_instructions" in (s.attributes or {})
    )
    assert content_of(span).input_messages[0].role == "system"
    assert content_of(span).input_messages[0].text == "You are a travel agent."


def test_pydantic_ai_arguments_are_parsed_its_cost_is_read_and_the_runs_sum_is_the_agents() -> None:
    facts, said = first("otel-pydanticai-agent", "llm")
    assert (facts.cost, facts.provider) == (0.0006825, "openai")
    assert said.output_messages[0].tool_calls[0].arguments == {"city": "Madrid"}
    assert said.session_id == "01a20410-5029-7700-a2b1-83d7155976dd"
    agent, run = first("otel-pydanticai-agent", "agent")
    assert agent.usage is not None
    assert (agent.usage.prompt, agent.usage.completion) == (769, 43)
    assert run.output == {"city": "Madrid", "days": 3}
    last = content_of(spans_of("otel-pydanticai-agent", "llm")[-1])
    assert [message.role for message in last.input_messages].count("tool") == 2


def test_retrieved_documents_of_the_official_conventions_have_ids() -> None:
    _, said = first("otel-langchain-agent", "retriever")
    assert said.input == "When are refunds paid?"
    assert [list(document) for document in said.documents] == [["id"], ["id"]]


def test_an_http_and_a_database_span_say_what_was_asked() -> None:
    _, said = first("otel-http-under-llm", "http")
    assert str(said.input).startswith("GET http://127.0.0.1")
    assert said.output == 200
    _, query = first("otel-http-under-llm", "db")
    assert query.input == "SELECT id, total FROM orders WHERE day = $1"


def test_metrics_feedback_and_metadata_of_our_own_spans_are_read() -> None:
    said = content_of(next(s for s in recorded("honeyhive-sdk-mixed.json") if s.name == "plan_trip"))
    assert (said.metrics, said.feedback, said.params) == ({"quality": 0.9}, {"rating": 5}, {"k": 2})
    assert said.metadata["stage"] == "beta"
    assert said.session_id == "26309f73-86dc-42b2-8dfd-b38a2ecab73b"


@pytest.mark.parametrize(
    ("name", "streams"),
    [
        ("otel-openai-streaming-responses", 4),
        ("otel-openaiv2-legacy-events", 3),
        ("openllmetry-openai-streaming-responses", 4),
        ("openllmetry040-openai-tools-stream", 3),
        ("openllmetry040-anthropic", 1),
    ],
)
def test_streams_are_known_in_every_family(name: str, streams: int) -> None:
    assert sum(facts_of(span).streamed for span in spans_of(name, "llm")) == streams


def test_the_first_token_is_in_nanoseconds_from_an_attribute_or_an_event() -> None:
    facts, _ = first("otel-openai-streaming-responses", "llm")
    assert facts.first_token_ns == 28_446_806
    chunk = next(span for span in spans_of("openllmetry040-openai-tools-stream", "llm") if span.events)
    assert facts_of(chunk).first_token_ns == chunk.events[0].timestamp - (chunk.start_time or 0)


def test_zeros_that_stand_for_unknown_are_no_usage() -> None:
    (silent,) = [facts_of(span) for span in spans_of("openllmetry040-anthropic", "llm") if facts_of(span).streamed]
    assert silent.usage is None


CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}


@pytest.mark.parametrize(
    ("attributes", "usage"),
    [
        ({"gen_ai.usage.input_tokens": 3, "gen_ai.usage.prompt_tokens": 4, "gen_ai.usage.output_tokens": 2}, (3, 2)),
        ({"gen_ai.usage.prompt_tokens": 4, "gen_ai.usage.completion_tokens": 1}, (4, 1)),
        ({"gen_ai.usage.input_tokens": 3.0, "gen_ai.usage.output_tokens": 0}, (3, 0)),
        ({"gen_ai.usage.input_tokens": "3"}, None),
        ({"gen_ai.usage.input_tokens": True}, None),
        ({"gen_ai.usage.input_tokens": float("nan")}, None),
        ({"gen_ai.usage.input_tokens": float("inf")}, None),
        ({"gen_ai.usage.input_tokens": -5, "gen_ai.usage.output_tokens": 0}, None),
    ],
)
def test_of_two_names_of_one_quantity_the_first_is_read(
    attributes: dict[str, Any], usage: tuple[int, int] | None
) -> None:
    found = describe("chat m", CHAT | attributes, (), 0).usage
    assert (None if found is None else (found.prompt, found.completion)) == usage


@pytest.mark.parametrize("key", ["gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"])
def test_both_names_of_written_cache_are_accepted(key: str) -> None:
    found = describe("chat m", CHAT | {"gen_ai.usage.input_tokens": 9, key: 4}, (), 0).usage
    assert found == Usage(prompt=9, cache_write=4)


def test_a_model_span_of_the_first_conventions_without_an_operation_is_a_model_span() -> None:
    facts = describe("openai.chat", {"gen_ai.system": "openai", "gen_ai.request.model": "gpt-4"}, (), 0)
    assert (facts.kind, facts.model, facts.provider) == ("llm", "gpt-4", "openai")


def test_association_properties_alone_make_no_openllmetry_span() -> None:
    facts = describe("work", {"traceloop.association.properties.session_id": "s"}, (), 0)
    assert (facts.kind, facts.family) == ("other", "other")


def test_several_tool_results_in_one_message_are_several_messages() -> None:
    parts = [{"type": "tool_call_response", "id": f"c{n}", "result": {"n": n}} for n in (1, 2)]
    said = content(CHAT | {"gen_ai.input.messages": repr([{"role": "user", "parts": parts}])}, ())
    assert [(m.role, m.tool_call_id, m.text) for m in said.input_messages] == [
        ("tool", "c1", '{"n": 1}'),
        ("tool", "c2", '{"n": 2}'),
    ]


def test_unknown_parts_are_kept() -> None:
    part = {"type": "blob", "mime_type": "image/png", "content": "aGk="}
    said = content(CHAT | {"gen_ai.output.messages": repr([{"role": "assistant", "parts": [part]}])}, ())
    assert said.output_messages[0].parts == (part,)


def test_a_python_repr_is_read_if_it_is_the_only_source_of_arguments() -> None:
    given = {
        "traceloop.span.kind": "tool",
        "traceloop.entity.input": '{"input_str": "{\'city\': \'Lima\'}", "tags": []}',
    }
    assert content(given, ()).input == {"city": "Lima"}
