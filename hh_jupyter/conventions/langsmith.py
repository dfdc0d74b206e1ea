"""Spans of LangSmith's OpenTelemetry exporter: `langsmith.*`, with `gen_ai.prompt` and `gen_ai.completion` as JSON.

Its `gen_ai.operation.name` says "chat" for prompt templates and "embeddings" for retrievers; `langsmith.span.kind` is
the type of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hh_jupyter.conventions import plain
from hh_jupyter.conventions.event_type import LANGSMITH_KIND
from hh_jupyter.conventions.facts import (
    EventLike,
    SpanContent,
    SpanFacts,
    Usage,
    amount,
    documents_of,
    json_value,
    mapping,
    parsed,
    prefixed,
    text,
    texts_of,
    tool_answer,
    usage_of,
)
from hh_jupyter.conventions.messages import (
    MOST_PARSED,
    answered,
    asked,
    finish_reason_of,
    params_of,
    served_by,
    tools_asked,
    tools_offered,
)
from hh_jupyter.conventions.otel_genai import MODEL_KINDS

FAMILY: Final = "langsmith"
SIGNS: Final = (LANGSMITH_KIND,)

_KINDS: Final = {
    "llm": "llm", "embedding": "embedding", "tool": "tool", "retriever": "retriever", "chain": "chain",
    "prompt": "chain", "parser": "chain",
}  # fmt: skip
_PROMPT: Final = "gen_ai.prompt"
_COMPLETION: Final = "gen_ai.completion"
_METADATA: Final = "langsmith.metadata."
_USAGE: Final = _METADATA + "usage_metadata"
_FRAMEWORK: Final = "langchain"
"""Written as the system where the provider is not known."""

_STREAM: Final = ("langsmith.request.streaming", _METADATA + "stream")
_SESSION: Final = ("session_id", "thread_id", "conversation_id")
_OWN_NOTES: Final = ("ls_", "lc_", "LANGSMITH_", "LANGCHAIN_", "_type", "usage_metadata")
_CHUNK: Final = '"ChatGenerationChunk"'
"""LangChain's type of an answer that was put together from a stream; in a text its quotes were escaped."""

_PARAMS: Final = {"ls_temperature": "temperature", "ls_max_tokens": "max_tokens", "ls_stop": "stop"}


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """The facts of a run of LangSmith's, else None."""
    given = attributes.get(LANGSMITH_KIND)
    if given is None:
        return None
    get, kind = attributes.get, _KINDS.get(str(given).lower(), "other")
    more = mapping(get(_USAGE))
    usage, cost = _usage(attributes, more), amount(more.get("total_cost")) or None
    if kind not in MODEL_KINDS and usage is None and cost is None:
        return plain.shared(kind, event_type, FAMILY, text(get("gen_ai.tool.name")) if kind == "tool" else None)
    answer = get(_COMPLETION)
    small = isinstance(answer, str) and len(answer) <= MOST_PARSED and kind in MODEL_KINDS
    model, response_id = served_by(mapping(answer)) if small else (None, None)
    requested = text(get("gen_ai.request.model")) or text(get(_METADATA + "ls_model_name"))
    provider = get(_METADATA + "ls_provider") or get("gen_ai.system")
    provider = provider.lower() if isinstance(provider, str) else None
    return SpanFacts(
        kind=kind,
        event_type=event_type,
        family=FAMILY,
        model=text(get("gen_ai.response.model")) or model or requested,
        model_requested=requested,
        provider=None if provider == _FRAMEWORK else text(provider),
        usage=usage,
        cost=cost,
        response_id=(text(get("gen_ai.response.id")) or response_id) if kind == "llm" else None,
        tools_asked=tools_asked(answer) if kind == "llm" else (),
        streamed=any(json_value(get(key)) is True for key in _STREAM) or (small and _CHUNK in str(answer)),
    )


def _usage(attributes: Mapping[str, Any], more: Mapping[str, Any]) -> Usage | None:
    """The counts, and their details, which are a Python literal of their own or in the metadata."""
    get = attributes.get
    before, after = (
        mapping(get(f"gen_ai.usage.{side}_token_details")) or mapping(more.get(f"{side}_token_details"))
        for side in ("input", "output")
    )
    prompt, completion, total = (
        more.get(name) if (count := get(f"gen_ai.usage.{name}")) is None else count
        for name in ("input_tokens", "output_tokens", "total_tokens")
    )
    return usage_of(
        prompt,
        completion,
        total,
        before.get("cache_read"),
        before.get("cache_creation"),
        after.get("reasoning"),
    )


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """What a run of LangSmith's holds, None for another's span."""
    if LANGSMITH_KIND not in attributes:
        return None
    get = attributes.get
    kind = _KINDS.get(str(get(LANGSMITH_KIND)).lower(), "other")
    given, returned = parsed(get(_PROMPT)), parsed(get(_COMPLETION))
    inputs, outputs = (asked(given), answered(returned)) if kind == "llm" else ((), ())
    documents = documents_of(returned) if kind == "retriever" else ()
    noted = {name: json_value(value) for name, value in prefixed(attributes, _METADATA).items()}
    offered = get("gen_ai.tool.definitions") or (given.get("tools") if isinstance(given, Mapping) else None)
    return SpanContent(
        input_messages=inputs,
        output_messages=outputs,
        input=texts_of(given) if kind == "embedding" else None if inputs else _inner(given, ("input", "query")),
        output=None if outputs or documents or kind == "embedding" else tool_answer(_inner(returned, ("output",))),
        tool_name=text(get("gen_ai.tool.name")),
        tool_call_id=text(get("gen_ai.tool.call.id")),
        params=_params(attributes, given, noted) if kind in MODEL_KINDS else {},
        documents=documents,
        tools_offered=tools_offered(offered),
        finish_reason=finish_reason_of(returned),
        metadata=_metadata(attributes, noted),
        session_id=next(filter(None, (text(noted.get(name)) for name in _SESSION)), None),
        user_id=text(noted.get("user_id")),
    )


def _inner(value: Any, names: Sequence[str]) -> Any:
    """What a run was given or returned, without the name that LangSmith gives to a value that is no mapping."""
    if isinstance(value, Mapping) and len(value) == 1:
        return next((parsed(value[name]) for name in names if name in value), value)
    return value


def _params(attributes: Mapping[str, Any], request: Any, noted: Mapping[str, Any]) -> dict[str, Any]:
    found = params_of(request)
    found.update((name, noted[key]) for key, name in _PARAMS.items() if noted.get(key) is not None)
    written = prefixed(attributes, "gen_ai.request.")
    written.pop("model", None)
    return {**found, **written}


def _metadata(attributes: Mapping[str, Any], noted: Mapping[str, Any]) -> dict[str, Any]:
    """The user's metadata and tags, without what LangSmith and LangChain note themselves."""
    own = {name: value for name, value in noted.items() if not name.startswith(_OWN_NOTES)}
    tags = attributes.get("langsmith.span.tags")
    return {**own, "tags": tags.split(", ")} if isinstance(tags, str) and tags else own
