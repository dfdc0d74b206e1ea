"""What the detail pane shows: messages, tool calls, documents, inputs and outputs."""

from __future__ import annotations

from hh_jupyter.conventions import content
from hh_jupyter.conventions.facts import SpanContent, ToolCall
from tests.spans import recorded


def contents(name: str, kind: str) -> list[SpanContent]:
    return [
        content(dict(span.attributes or {}), span.events)
        for span in recorded(name)
        if (span.attributes or {}).get("openinference.span.kind") == kind
    ]


def test_messages_of_a_chat_are_in_order_with_their_roles() -> None:
    (chat,) = contents("openinference-openai-chat.json", "LLM")
    assert [message.role for message in chat.input_messages] == ["system", "user"]
    assert chat.output_messages[0].text == "The capital of France is Paris."
    assert chat.params["model"] == "gpt-4o-mini"
    assert chat.finish_reason == "stop"


def test_a_tool_call_is_read_once_with_its_arguments_parsed() -> None:
    first = contents("openinference-anthropic-tools-stream.json", "LLM")[0]
    (message,) = first.output_messages
    assert message.text == "Let me look that up."
    assert message.tool_calls == (ToolCall("get_weather", {"city": "London"}, "toolu_000001_0"),)
    assert message.parts == ()


def test_messages_whose_first_indexes_were_dropped_are_all_there() -> None:
    (call,) = contents("openinference-openai-many-messages.json", "LLM")
    assert len(call.input_messages) > 50
    assert call.input_messages[-1].text
    assert call.input is None


def test_a_reasoning_part_is_kept_though_it_has_no_text() -> None:
    first = contents("openinference-openai-responses.json", "LLM")[0]
    assert first.output_messages[0].parts == ({"message_content.type": "reasoning"},)
    assert (first.output_messages[1].text or "").startswith("Quiet spans unfold")


def test_documents_have_text_score_and_parsed_metadata() -> None:
    found = contents("openinference-llamaindex-rag.json", "RETRIEVER")[1].documents
    assert found[0]["metadata"] == {"source": "refunds"}
    assert found[0]["text"].startswith("Refunds are paid")
    assert found[0]["score"] > found[1]["score"]


def test_messages_are_ordered_as_numbers_whatever_the_order_of_attributes() -> None:
    attributes = {f"llm.input_messages.{n}.message.content": f"m{n}" for n in (10, 9, 2)}
    found = content({"openinference.span.kind": "LLM", **attributes}, ())
    assert [message.text for message in found.input_messages] == ["m2", "m9", "m10"]


def test_embedding_vectors_are_never_copied() -> None:
    for name in ("openinference-llamaindex-rag.json", "openinference-openai-rag.json"):
        embedding = contents(name, "EMBEDDING")[0]
        assert isinstance(embedding.input, list)
        assert len(embedding.input) == 5
        assert all(isinstance(text, str) for text in embedding.input)
        assert embedding.output is None


def test_a_tool_span_has_its_name_input_and_output() -> None:
    tool = contents("openinference-langchain-and-openai.json", "TOOL")[0]
    assert (tool.tool_name, tool.input) == ("get_weather", "Berlin")
    assert tool.output == "Berlin: 11C, windy"


def test_inputs_and_outputs_of_a_traced_function_are_nested_again() -> None:
    span = next(s for s in recorded("honeyhive-sdk-mixed.json") if s.name == "plan_trip")
    found = content(dict(span.attributes or {}), span.events)
    assert found.input == {"city": "Paris", "budget": 250}
    assert str(found.output).startswith("I would start")
    assert found.params == {"k": 2}


def test_flattened_lists_become_lists_and_json_text_is_parsed() -> None:
    found = content(
        {
            "honeyhive_event_type": "tool",
            "honeyhive_inputs.rows": '[{"a": 1}]',
            "honeyhive_inputs.note": "[not json",
            "honeyhive_outputs.result.items.10": "k",
            "honeyhive_outputs.result.items.2": "c",
            "honeyhive_outputs_other.result": "not ours",
        },
        (),
    )
    assert found.input == {"rows": [{"a": 1}], "note": "[not json"}
    assert found.output == {"items": ["c", "k"]}


def test_config_of_an_enriched_instrumentor_span_is_shown_beside_its_messages() -> None:
    span = next(s for s in recorded("openinference-openai-redacted.json"))
    attributes = dict(span.attributes or {}) | {"honeyhive_outputs.grade": 1, "output.value": ""}
    found = content(attributes, ())
    assert found.input == "__REDACTED__"
    assert found.output == {"grade": 1}


def test_a_span_of_no_convention_has_no_content() -> None:
    assert content({"app.top_k": 2}, ()) == SpanContent()
