"""Spans of LangSmith's OpenTelemetry exporter: `langsmith.*`, with `gen_ai.prompt` and `gen_ai.completion` as JSON.

It writes the operation "chat" for prompt templates and "embeddings" for retrievers; `langsmith.span.kind` has the real
type of the run.
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
    as_amount,
    documents_of,
    json_value,
    mapping,
    parsed,
    prefixed,
    provider_name,
    text,
    usage_of,
)
from hh_jupyter.conventions.messages import (
    MAX_PARSED_LENGTH,
    finish_reason_of,
    input_and_output,
    model_and_response_id,
    params_of,
    tools_asked,
    tools_offered,
)
from hh_jupyter.conventions.otel_genai import MODEL_KINDS

FAMILY: Final = "langsmith"
MARKER_KEYS: Final = (LANGSMITH_KIND,)

_KINDS: Final = {
    "llm": "llm", "embedding": "embedding", "tool": "tool", "retriever": "retriever", "chain": "chain",
    "prompt": "chain", "parser": "chain",
}  # fmt: skip
_PROMPT: Final = "gen_ai.prompt"
_COMPLETION: Final = "gen_ai.completion"
_METADATA: Final = "langsmith.metadata."
_USAGE: Final = _METADATA + "usage_metadata"
_STREAM: Final = ("langsmith.request.streaming", _METADATA + "stream")
_SESSION: Final = ("session_id", "thread_id", "conversation_id")
_OWN_METADATA: Final = ("ls_", "lc_", "LANGSMITH_", "LANGCHAIN_", "_type", "usage_metadata")
_CHUNK: Final = '"ChatGenerationChunk"'
"""LangChain's type of a response that was assembled from a stream; inside message text its quotes are escaped."""

_PARAMS: Final = {"ls_temperature": "temperature", "ls_max_tokens": "max_tokens", "ls_stop": "stop"}


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """Facts of a LangSmith run; otherwise None."""
    run_type = attributes.get(LANGSMITH_KIND)
    if run_type is None:
        return None
    get, kind = attributes.get, _KINDS.get(str(run_type).lower(), "other")
    metadata = mapping(get(_USAGE))
    usage, cost = _usage(attributes, metadata), as_amount(metadata.get("total_cost")) or None
    if kind not in MODEL_KINDS and usage is None and cost is None:
        return plain.shared_facts(kind, event_type, FAMILY, text(get("gen_ai.tool.name")) if kind == "tool" else None)
    answer = get(_COMPLETION)
    small = isinstance(answer, str) and len(answer) <= MAX_PARSED_LENGTH and kind in MODEL_KINDS
    model, response_id = model_and_response_id(mapping(answer)) if small else (None, None)
    requested = text(get("gen_ai.request.model")) or text(get(_METADATA + "ls_model_name"))
    return SpanFacts(
        kind=kind,
        event_type=event_type,
        family=FAMILY,
        model=text(get("gen_ai.response.model")) or model or requested,
        model_requested=requested,
        provider=provider_name(get(_METADATA + "ls_provider") or get("gen_ai.system")),
        usage=usage,
        cost=cost,
        response_id=(text(get("gen_ai.response.id")) or response_id) if kind == "llm" else None,
        tools_asked=tools_asked(answer) if kind == "llm" else (),
        streamed=any(json_value(get(key)) is True for key in _STREAM) or (small and _CHUNK in str(answer)),
    )


def _usage(attributes: Mapping[str, Any], metadata: Mapping[str, Any]) -> Usage | None:
    """Token counts, with details from a Python literal or from the usage metadata."""
    get = attributes.get
    prompt_details, completion_details = (
        mapping(get(f"gen_ai.usage.{side}_token_details")) or mapping(metadata.get(f"{side}_token_details"))
        for side in ("input", "output")
    )
    prompt, completion, total = (
        metadata.get(name) if (count := get(f"gen_ai.usage.{name}")) is None else count
        for name in ("input_tokens", "output_tokens", "total_tokens")
    )
    return usage_of(
        prompt,
        completion,
        total,
        prompt_details.get("cache_read"),
        prompt_details.get("cache_creation"),
        completion_details.get("reasoning"),
    )


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """Content of a LangSmith run; None for other spans."""
    if LANGSMITH_KIND not in attributes:
        return None
    get = attributes.get
    kind = _KINDS.get(str(get(LANGSMITH_KIND)).lower(), "other")
    request, response = parsed(get(_PROMPT)), parsed(get(_COMPLETION))
    documents = documents_of(response) if kind == "retriever" else ()
    arguments, result = _unwrapped(request, ("input", "query")), _unwrapped(response, ("output",))
    metadata = {name: json_value(value) for name, value in prefixed(attributes, _METADATA).items()}
    offered = get("gen_ai.tool.definitions") or (request.get("tools") if isinstance(request, Mapping) else None)
    return SpanContent(
        **input_and_output(kind, request, response, documents, arguments=arguments, result=result),
        tool_name=text(get("gen_ai.tool.name")),
        tool_call_id=text(get("gen_ai.tool.call.id")),
        params=_params(attributes, request, metadata) if kind in MODEL_KINDS else {},
        tools_offered=tools_offered(offered),
        finish_reason=finish_reason_of(response),
        metadata=_metadata(attributes, metadata),
        session_id=next(filter(None, (text(metadata.get(name)) for name in _SESSION)), None),
        user_id=text(metadata.get("user_id")),
    )


def _unwrapped(value: Any, names: Sequence[str]) -> Any:
    """Input or output of a run, without the name under which LangSmith wraps a value that is not a mapping."""
    if isinstance(value, Mapping) and len(value) == 1:
        return next((parsed(value[name]) for name in names if name in value), value)
    return value


def _params(attributes: Mapping[str, Any], request: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    found = params_of(request)
    found.update((name, metadata[key]) for key, name in _PARAMS.items() if metadata.get(key) is not None)
    request_params = prefixed(attributes, "gen_ai.request.")
    request_params.pop("model", None)
    return {**found, **request_params}


def _metadata(attributes: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The user's metadata and tags, without those that LangSmith and LangChain add."""
    own = {name: value for name, value in metadata.items() if not name.startswith(_OWN_METADATA)}
    tags = attributes.get("langsmith.span.tags")
    return {**own, "tags": tags.split(", ")} if isinstance(tags, str) and tags else own
