"""Requests and answers in the shapes of providers and frameworks are messages, one as the other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hh_jupyter.conventions import content, describe
from hh_jupyter.conventions.facts import ToolCall
from hh_jupyter.conventions.messages import (
    messages_of,
    model_and_response_id,
    request_messages,
    response_messages,
    tools_asked,
    tools_offered,
    without_repeated_prompts,
)
from tests.records.events import NamedEvent

CALL = ToolCall("get_weather", {"city": "Lima"}, "c1")
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
LANGCHAIN: dict[str, Any] = {
    "lc": 1,
    "id": ["langchain", "schema", "messages", "AIMessage"],
    "kwargs": {
        "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"city": "Lima"}},
        ],
        "tool_calls": [{"name": "get_weather", "args": {"city": "Lima"}, "id": "c1", "type": "tool_call"}],
        "response_metadata": {"model_name": "m-1", "id": "msg_1"},
        "type": "ai",
    },
}
ANSWERS: dict[str, Any] = {
    "openai": {
        "choices": [
            {
                "message": {
                    "role": "assistant",
                    "content": "Hi",
                    "reasoning_content": "hm",
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city": "Lima"}'},
                        }
                    ],
                }
            }
        ]
    },
    "anthropic": {"role": "assistant", "content": LANGCHAIN["kwargs"]["content"]},
    "bedrock": {
        "output": {
            "message": {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "hm"}}},
                    {"text": "Hi"},
                    {"toolUse": {"toolUseId": "c1", "name": "get_weather", "input": {"city": "Lima"}}},
                ],
            }
        }
    },
    "gemini": {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "hm", "thought": True},
                        {"text": "Hi"},
                        {"functionCall": {"id": "c1", "name": "get_weather", "args": {"city": "Lima"}}},
                    ],
                }
            }
        ]
    },
    "langchain": {"generations": [[{"text": "Hi", "message": LANGCHAIN}]]},
}


@pytest.mark.parametrize("provider", ANSWERS)
def test_a_response_has_its_text_its_tool_call_and_separate_reasoning(provider: str) -> None:
    for given in (ANSWERS[provider], json.dumps(ANSWERS[provider]), repr(ANSWERS[provider])):
        (message,) = response_messages(given)
        assert (message.role, message.text, message.tool_calls) == ("assistant", "Hi", (CALL,))
        (thought,) = message.parts
        assert "hm" in json.dumps(thought)
        assert tools_asked(given) == ("get_weather",)


def test_the_items_of_a_response_are_messages_in_their_order() -> None:
    found = response_messages(
        {
            "output": [
                {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]},
                {
                    "type": "function_call",
                    "id": "fc_1",
                    "call_id": "c1",
                    "name": "get_weather",
                    "arguments": '{"city": "Lima"}',
                },
                {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            ]
        }
    )
    assert [message.text for message in found] == [None, "Hi", None, None]
    assert found[2].tool_calls == (CALL,)
    assert [part["type"] for message in found for part in message.parts] == ["reasoning", "web_search_call"]


REQUESTS: dict[str, Any] = {
    "openai": {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}],
    },
    "responses": {"instructions": "Be brief", "input": "Hi"},
    "anthropic": {
        "system": [{"type": "text", "text": "Be brief"}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    },
    "gemini": {
        "config": {"system_instruction": "Be brief"},
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
    },
    "bedrock": {"system": [{"text": "Be brief"}], "messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
    "langchain": {
        "messages": [[{"type": "system", "data": {"content": "Be brief"}}, {"type": "human", "content": "Hi"}]]
    },
    "vercel": {"system": "Be brief", "prompt": "Hi"},
    "arguments": {"args": [], "kwargs": {"messages": [{"role": "system", "content": "Be brief"}, "Hi"]}},
}


@pytest.mark.parametrize("provider", REQUESTS)
def test_a_request_has_its_system_prompt_and_its_turns(provider: str) -> None:
    found = request_messages(json.dumps(REQUESTS[provider]))
    assert [(message.role, message.text) for message in found] == [("system", "Be brief"), ("user", "Hi")]


RESULTS: list[Any] = [
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "sunny"}]}],
    },
    {"role": "user", "content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "sunny"}]}}]},
    {"role": "user", "parts": [{"functionResponse": {"id": "c1", "response": "sunny"}}]},
    {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    {
        "role": "tool",
        "content": [{"type": "tool-result", "toolCallId": "c1", "output": {"type": "text", "value": "sunny"}}],
    },
    {"type": "tool", "content": "sunny", "tool_call_id": "c1"},
]


@pytest.mark.parametrize("given", RESULTS, ids=range(len(RESULTS)))
def test_a_tools_result_names_the_call_that_it_answers(given: dict[str, Any]) -> None:
    assert [(m.role, m.text, m.tool_call_id) for m in messages_of([given])] == [("tool", "sunny", "c1")]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "image", "source": {"type": "base64", "data": "aGk="}},
        {"image": {"format": "png", "source": {"bytes": "aGk="}}},
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        {"type": "blob", "mime_type": "image/png", "content": "aGk="},
        {"type": "uri", "uri": "https://example.org/a.png"},
        {"type": "file", "file_id": "f1"},
        {"type": "server_tool_call", "name": "web_search"},
    ],
)
def test_images_and_files_stay_parts_in_messages_and_in_results_and_their_data_is_no_text(part: dict[str, Any]) -> None:
    (asked_for,) = messages_of([{"role": "user", "content": [{"type": "text", "text": "Look"}, part]}])
    assert (asked_for.text, asked_for.parts) == ("Look", (part,))
    result = {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "Here"}, part]}
    (returned,) = messages_of([{"role": "user", "content": [result]}])
    assert "aGk=" not in (returned.text or "")


@pytest.mark.parametrize("row", [{"type": "cafe", "name": "A"}, {"text": "B", "score": 1}])
def test_data_of_a_tool_that_looks_like_parts_stays_whole(row: dict[str, Any]) -> None:
    (found,) = messages_of([{"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": [row]}]}])
    assert json.loads(found.text or "") == [row]


@pytest.mark.parametrize(
    "tool",
    [
        {"name": "f", "description": "d", "input_schema": {}},
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}},
        {"toolSpec": {"name": "f", "description": "d", "inputSchema": {"json": {}}}},
        {"functionDeclarations": [{"name": "f", "description": "d"}]},
        '{"type": "function", "name": "f", "description": "d", "inputSchema": {}}',
    ],
)
def test_a_tool_offered_is_its_name_and_description_in_every_shape(tool: Any) -> None:
    assert tools_offered([tool]) == ({"name": "f", "description": "d"},)


def test_a_providers_own_tool_goes_by_its_type() -> None:
    assert tools_offered([{"type": "web_search"}]) == ({"name": "web_search"},)


def test_an_answer_that_is_too_long_is_left_to_the_detail_pane() -> None:
    answer = '[{"role": "assistant", "tool_calls": [{"name": "f"}]}'
    assert tools_asked(answer + "]") == ("f",)
    assert tools_asked(answer + " " * 300_000 + "]") == ()


def test_the_model_and_the_id_of_langchains_answer_are_found_in_its_message() -> None:
    assert model_and_response_id(ANSWERS["langchain"]) == ("m-1", "msg_1")
    assert model_and_response_id({"id": "chatcmpl-1", "model": "m-2"}) == ("m-2", "chatcmpl-1")


def test_a_system_prompt_that_is_repeated_is_shown_once_and_one_sent_again_later_stays() -> None:
    given = {
        **CHAT,
        "gen_ai.system_instructions": '[{"type": "text", "content": "Be  brief"}]',
        "gen_ai.input.messages": json.dumps(
            [
                {"role": "system", "parts": [{"type": "text", "content": "Be brief"}]},
                {"role": "system", "parts": [{"type": "text", "content": "Be kind"}]},
                {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
                {"role": "system", "parts": [{"type": "text", "content": "Be brief"}]},
            ]
        ),
    }
    roles = [message.role for message in content(given, ()).input_messages]
    assert roles == ["system", "system", "user", "system"]
    assert without_repeated_prompts(messages_of([{"role": "user", "content": "Hi"}])) == messages_of(
        [{"role": "user", "content": "Hi"}]
    )


def test_messages_of_several_details_events_are_one_conversation_each_message_once() -> None:
    user = {"role": "user", "parts": [{"type": "text", "content": "Hi"}]}
    tool = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "sunny"}]}
    name, key = "gen_ai.client.inference.operation.details", "gen_ai.input.messages"
    events = [
        NamedEvent(name, 1, {key: json.dumps([user]), "gen_ai.request.temperature": 1}),
        NamedEvent(name, 2, {key: [user, tool]}),
        NamedEvent(
            name, 3, {"gen_ai.output.messages": [{"role": "assistant", "parts": [{"type": "tool_call", "name": "f"}]}]}
        ),
    ]
    said = content(CHAT, events)
    assert [message.role for message in said.input_messages] == ["user", "tool"]
    assert said.params == {"temperature": 1}
    assert describe("chat", CHAT, events, 0).tools_asked == ("f",)


def test_a_choice_in_an_event_asks_for_its_tools() -> None:
    body = {"index": 0, "message": {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f"}}]}}
    assert describe("chat", CHAT, [NamedEvent("gen_ai.choice", 1, body)], 0).tools_asked == ("f",)


def test_whole_requests_and_answers_stand_in_for_messages() -> None:
    given = CHAT | {
        "request_data": '{"messages": [{"role": "user", "content": "Hi"}]}',
        "response_data": '{"message": {"role": "assistant", "content": "Ho"}}',
    }
    said = content(given, ())
    assert (said.input_messages[0].text, said.output_messages[0].text) == ("Hi", "Ho")
    events = [
        NamedEvent("gen_ai.content.prompt", 1, {"gen_ai.prompt": "Hi"}),
        NamedEvent("gen_ai.content.completion", 2, {"gen_ai.completion": "Ho"}),
    ]
    said = content(CHAT, events)
    assert (said.input_messages[0].text, said.output_messages[0].text) == ("Hi", "Ho")
