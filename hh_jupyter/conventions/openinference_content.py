"""Messages, documents, inputs and outputs of OpenInference spans, for the detail pane."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hh_jupyter.conventions.event_type import OPENINFERENCE_KIND
from hh_jupyter.conventions.facts import EventLike, Message, SpanContent, ToolCall
from hh_jupyter.conventions.messages import tools_offered
from hh_jupyter.conventions.values import (
    MOST_DIGITS,
    first_of,
    grouped,
    items_of,
    mapping,
    parsed,
    shown_text,
    text,
    tool_answer,
)

_INPUTS: Final = ("input.value", "reranker.query")
_PROMPTS: Final = ("llm.prompts", "prompt.text", "user")
_CHOICES: Final = ("llm.choices", "completion.text", "assistant")
_TEXTS: Final = frozenset({"text", "input_text", "output_text", None})
_FUNCTION: Final = re.compile(rf"function\.\d{{1,{MOST_DIGITS}}}")
_COST: Final = "llm.cost."
_EXTRA: Final = {
    "llm.prompt_template.template": "prompt template",
    "llm.prompt_template.version": "prompt version",
    "llm.prompt_template.variables": "prompt variables",
    "agent.name": "agent",
    "graph.node.id": "node",
    "graph.node.name": "node name",
    "graph.node.parent_id": "node above",
    "tool.description": "tool description",
    "reranker.top_k": "top_k",
    "prompt.id": "prompt id",
    "prompt.url": "prompt url",
}


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """What an OpenInference span holds, None for another's."""
    if OPENINFERENCE_KIND not in attributes:
        return None
    get, items = attributes.get, attributes.items()
    params = get("llm.invocation_parameters") or get("embedding.invocation_parameters")
    return SpanContent(
        input_messages=_messages(attributes, "llm.input_messages") or _completions(attributes, *_PROMPTS),
        output_messages=_messages(attributes, "llm.output_messages") or _completions(attributes, *_CHOICES),
        input=_input(attributes),
        # The output of an embedding is vectors, thousands of numbers each: nothing to read.
        output=None if "embedding.model_name" in attributes else tool_answer(parsed(get("output.value"))),
        tool_name=text(get("tool.name")),
        tool_call_id=text(get("tool_call.id")),
        params=_params(params),
        documents=_documents(attributes),
        tools_offered=tuple(tool for entry in grouped(items, "llm.tools") for tool in _offered(entry)),
        finish_reason=text(get("llm.finish_reason")),
        metadata=_metadata(attributes),
        session_id=text(get("session.id")),
        user_id=text(get("user.id")),
    )


def _params(value: Any) -> Mapping[str, Any]:
    """The request's parameters; LangChain repeats the tools among them."""
    return {name: given for name, given in mapping(value).items() if name not in ("tools", "functions")}


def _metadata(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The user's metadata, tags among them, and what the span says of its agent, tool, prompt and cost."""
    get = attributes.get
    extra = {
        "tags": list(items_of(get("tag.tags"))) or None,
        **{name: parsed(get(key)) for key, name in _EXTRA.items()},
        "cost": {key.removeprefix(_COST): value for key, value in attributes.items() if key.startswith(_COST)},
    }
    return {**mapping(get("metadata")), **{name: value for name, value in extra.items() if value}}


def _input(attributes: Mapping[str, Any]) -> Any:
    """The input as given; of an embedding its texts."""
    texts = [entry.get("embedding.text") for entry in grouped(attributes.items(), "embedding.embeddings")]
    given = [found for found in texts if found is not None] or parsed(first_of(attributes, _INPUTS))
    is_tool = str(attributes.get(OPENINFERENCE_KIND)).upper() == "TOOL"
    return parsed(attributes.get("tool.parameters")) if given is None and is_tool else given


def _messages(attributes: Mapping[str, Any], prefix: str) -> tuple[Message, ...]:
    return tuple(message for fields in grouped(attributes.items(), prefix) for message in _message(fields))


def _completions(attributes: Mapping[str, Any], prefix: str, key: str, role: str) -> tuple[Message, ...]:
    """The texts of a completion without roles."""
    texts = [entry.get(key) for entry in grouped(attributes.items(), prefix)]
    return tuple(Message(role, found) for found in texts if isinstance(found, str))


def _message(fields: Mapping[str, Any]) -> list[Message]:
    """One message; of AutoGen's with results of functions as many."""
    results = _function_results(fields)
    if results:
        return results
    texts: list[str] = []
    parts: list[Any] = []
    for part in grouped(fields.items(), "message.contents"):
        said, kind = part.get("message_content.text"), part.get("message_content.type")
        if isinstance(said, str) and kind in _TEXTS:
            texts.append(said)
        elif kind != "tool_use":  # repeated under message.tool_calls
            parts.append(part)
    whole_text = fields.get("message.content")
    if not texts and isinstance(whole_text, str):
        texts.append(whole_text)
    calls = [_tool_call(call) for call in grouped(fields.items(), "message.tool_calls")]
    if name := text(fields.get("message.function_call_name")):
        calls.append(ToolCall(name, parsed(fields.get("message.function_call_arguments_json"))))
    own = Message(
        role=text(fields.get("message.role")) or "",
        text="\n".join(texts) if texts else None,
        tool_calls=tuple(calls),
        tool_call_id=text(fields.get("message.tool_call_id")),
        parts=tuple(parts),
    )
    return [own]


def _function_results(fields: Mapping[str, Any]) -> list[Message]:
    """The results under `function.N`, each as JSON."""
    keys = sorted((key for key in fields if _FUNCTION.fullmatch(key)), key=lambda key: int(key.partition(".")[2]))
    found = (mapping(fields[key]) for key in keys)
    return [
        Message("tool", shown_text(result.get("content")), tool_call_id=text(result.get("call_id")))
        for result in found
        if result
    ]


def _offered(tool: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """A tool by the name beside its schema, else by the one in it."""
    name, description = tool.get("tool.name"), tool.get("tool.description")
    if isinstance(name, str) and name:
        return ({"name": name, **({"description": description} if description else {})},)
    return tools_offered([tool.get("tool.json_schema")])


def _tool_call(fields: Mapping[str, Any]) -> ToolCall:
    return ToolCall(
        name=text(fields.get("tool_call.function.name")) or "?",
        arguments=parsed(fields.get("tool_call.function.arguments")),
        id=text(fields.get("tool_call.id")),
    )


def _documents(attributes: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Retrieved documents as {id, text, score, metadata}, without the fields that are missing."""
    return tuple(
        {
            name: parsed(entry[key]) if name == "metadata" else entry[key]
            for name, key in _DOCUMENT_FIELDS.items()
            if key in entry
        }
        for prefix in ("retrieval.documents", "reranker.output_documents", "output.documents")
        for entry in grouped(attributes.items(), prefix)
    )


_DOCUMENT_FIELDS = {
    "id": "document.id",
    "text": "document.content",
    "score": "document.score",
    "metadata": "document.metadata",
}
