"""Messages, documents, inputs and outputs of OpenInference spans, for the detail pane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hh_jupyter.conventions.event_type import OPENINFERENCE_KIND
from hh_jupyter.conventions.facts import EventLike, Message, SpanContent, ToolCall
from hh_jupyter.conventions.messages import tools_offered
from hh_jupyter.conventions.values import grouped, items_of, mapping, parsed, text, tool_answer


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """What an OpenInference span holds, None for another's."""
    if OPENINFERENCE_KIND not in attributes:
        return None
    get, items = attributes.get, attributes.items()
    params = get("llm.invocation_parameters") or get("embedding.invocation_parameters")
    return SpanContent(
        input_messages=_messages(attributes, "llm.input_messages"),
        output_messages=_messages(attributes, "llm.output_messages"),
        input=_input(attributes),
        # The output of an embedding is vectors, thousands of numbers each: nothing to read.
        output=None if "embedding.model_name" in attributes else tool_answer(parsed(get("output.value"))),
        tool_name=text(get("tool.name")),
        tool_call_id=text(get("tool_call.id")),
        params=_params(params),
        documents=_documents(attributes),
        tools_offered=tools_offered([tool.get("tool.json_schema") for tool in grouped(items, "llm.tools")]),
        finish_reason=text(get("llm.finish_reason")),
        metadata=_metadata(attributes),
        session_id=text(get("session.id")),
        user_id=text(get("user.id")),
    )


def _params(value: Any) -> Mapping[str, Any]:
    """The request's parameters; LangChain repeats the tools among them."""
    return {name: given for name, given in mapping(value).items() if name not in ("tools", "functions")}


def _metadata(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The user's metadata, tags among them, and the prompt's template with its variables."""
    get = attributes.get
    told = {
        "tags": list(items_of(get("tag.tags"))) or None,
        "prompt template": get("llm.prompt_template.template"),
        "prompt variables": parsed(get("llm.prompt_template.variables")),
    }
    return {**mapping(get("metadata")), **{name: value for name, value in told.items() if value}}


def _input(attributes: Mapping[str, Any]) -> Any:
    """The input as given; of an embedding its texts."""
    texts = [entry.get("embedding.text") for entry in grouped(attributes.items(), "embedding.embeddings")]
    return [found for found in texts if found is not None] or parsed(attributes.get("input.value"))


def _messages(attributes: Mapping[str, Any], prefix: str) -> tuple[Message, ...]:
    return tuple(_message(fields) for fields in grouped(attributes.items(), prefix))


def _message(fields: Mapping[str, Any]) -> Message:
    texts: list[str] = []
    parts: list[Any] = []
    for part in grouped(fields.items(), "message.contents"):
        said = part.get("message_content.text")
        if isinstance(said, str):
            texts.append(said)
        elif part.get("message_content.type") != "tool_use":  # repeated under message.tool_calls
            parts.append(part)
    whole_text = fields.get("message.content")
    if not texts and isinstance(whole_text, str):
        texts.append(whole_text)
    return Message(
        role=text(fields.get("message.role")) or "",
        text="\n".join(texts) if texts else None,
        tool_calls=tuple(_tool_call(call) for call in grouped(fields.items(), "message.tool_calls")),
        tool_call_id=text(fields.get("message.tool_call_id")),
        parts=tuple(parts),
    )


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
        for prefix in ("retrieval.documents", "reranker.output_documents")
        for entry in grouped(attributes.items(), prefix)
    )


_DOCUMENT_FIELDS = {
    "id": "document.id",
    "text": "document.content",
    "score": "document.score",
    "metadata": "document.metadata",
}
