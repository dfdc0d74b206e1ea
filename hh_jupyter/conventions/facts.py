"""Facts and content of a span in one shape for all instrumentors, and helpers that read attribute values.

`SpanFacts` holds what a row of a tree and the totals need, read once when the span is finalized. `SpanContent` holds
what the detail pane shows, read on demand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from sys import intern
from typing import Any, Final, Protocol

from hh_jupyter.conventions.literals import literal
from hh_jupyter.values import json_text


class EventLike(Protocol):
    """A span event, of OpenTelemetry or decoded."""

    @property
    def name(self) -> str: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def attributes(self) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call; None means unknown, not 0.

    `prompt` includes cached, cache-written and audio tokens; `completion` includes reasoning and audio tokens.
    """

    prompt: int | None = None
    completion: int | None = None
    total: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    audio_prompt: int | None = None
    audio_completion: int | None = None

    @property
    def tokens(self) -> int | None:
        """The number that displays show: prompt plus completion, or the total if that is larger."""
        if self.prompt is None and self.completion is None:
            return self.total
        parts = (self.prompt or 0) + (self.completion or 0)
        return parts if self.total is None or self.total < parts else self.total

    @property
    def unexplained(self) -> bool:
        """Whether the total exceeds the sum of the parts, which makes the price of the parts a lower bound."""
        if self.total is None or (self.prompt is None and self.completion is None):
            return False
        return self.total > (self.prompt or 0) + (self.completion or 0)

    def with_all_parts(self, *, without_cached: bool = False) -> Usage:
        """The same usage with cached tokens in the prompt and reasoning tokens in the completion.

        Some providers and instrumentors count them separately. The numbers reveal it: a part was not included if it is
        larger than its whole, or if it equals the difference to the total.

        Args:
            without_cached: the prompt is known to exclude cached tokens, whatever the numbers look like.
        """
        cached, reasoning = (self.cached or 0) + (self.cache_write or 0), self.reasoning or 0
        if not cached and not reasoning:
            return self
        prompt, completion = self.prompt or 0, self.completion or 0
        missing = self.total - prompt - completion if self.total is not None else 0
        if without_cached or cached > prompt or (cached and missing in (cached, cached + reasoning)):
            prompt, missing = prompt + cached, missing - cached
        if reasoning > completion or (reasoning and missing == reasoning):
            completion += reasoning
        if (prompt, completion) == (self.prompt or 0, self.completion or 0):
            return self
        total = None if self.total is None else max(self.total, prompt + completion)
        return replace(self, prompt=prompt or None, completion=completion, total=total)


@dataclass(frozen=True, slots=True)
class SpanFacts:
    """What a row of a tree and the totals need to know about a span.

    Attributes:
        kind: llm, embedding, tool, agent, chain, retriever, reranker, guardrail, http, db or other.
        event_type: model, tool, chain, or any text that the caller chose.
        family: the convention that it was read from: openinference, honeyhive, ... or other.
        model: the model that answered, else the requested one.
        model_requested: the requested model, if known.
        provider: of the model, in lower case.
        cost: US dollars recorded on the span; None if there are none.
        first_token_ns: nanoseconds from the start to the first token of a stream.
        response_id: the provider's id of the response; spans with equal ids describe one call.
        tools_asked: names of the tools that the response calls, in order.
        tool_name: the tool's own name, of a tool span; None if only the span's name identifies it.
        http_status: of a failed request, 400 and above.
        service_tier: the provider's price tier, such as "flex" or "priority"; None for the standard tier.
        from_cache: a local cache answered: there was no request, and no cost.
        replayed: the answer came from a recording: nothing was sent, and nothing was paid.
        replayed_ms: duration of the original of a replayed call in milliseconds, if known.
        feedback: name and value of each feedback on the span's event; long texts are cut.
    """

    kind: str = "other"
    event_type: str = "tool"
    family: str = "other"
    model: str | None = None
    model_requested: str | None = None
    provider: str | None = None
    usage: Usage | None = None
    cost: float | None = None
    first_token_ns: int | None = None
    response_id: str | None = None
    tools_asked: tuple[str, ...] = ()
    streamed: bool = False
    tool_name: str | None = None
    http_status: int | None = None
    service_tier: str | None = None
    from_cache: bool = False
    replayed: bool = False
    replayed_ms: int | None = None
    feedback: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call in a message; `arguments` is parsed JSON, or the text if it is not valid JSON."""

    name: str
    arguments: Any = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. `parts` holds everything but text as plain data: images, files, unknown parts."""

    role: str
    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    parts: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class SpanContent:
    """What the detail pane shows, read on demand. Unknown fields are None or empty.

    Attributes:
        input: arguments of a tool or a step; parsed JSON, or the text if it is not valid JSON.
        output: result of a tool or a step, likewise.
        params: parameters of the model request: temperature, top_p, max_tokens, seed and so on.
        documents: retrieved documents, each with some of id, text, score and metadata.
        tools_offered: the tools that the model could call, each with some of name, description, parameters (a JSON
            schema) and strict.
        metrics, feedback: those that the user's code added through HoneyHive; the metrics include the results of
            `gen_ai.evaluation.result` events, by name.
        session_id, user_id: as written by the instrumentor; the session that a span is exported under is in its record.
        truncated: what our span limits removed, such as "4 events".
    """

    input_messages: tuple[Message, ...] = ()
    output_messages: tuple[Message, ...] = ()
    input: Any = None
    output: Any = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    documents: Sequence[Mapping[str, Any]] = ()
    tools_offered: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    feedback: Mapping[str, Any] = field(default_factory=dict)
    session_id: str | None = None
    user_id: str | None = None
    truncated: str | None = None


# Helpers for attribute values, which may be missing, of another type, or JSON text.

Groups = dict[int, dict[str, Any]]

MAX_DEPTH: Final = 64
"""Nesting levels of data in a text. Deeper data stays text: reading and showing it would exceed the recursion limit."""

MAX_LITERAL_LENGTH: Final = 20_000
"""Characters of a Python literal that is parsed; it takes longer than JSON."""

MAX_INDEX_DIGITS: Final = 9
"""Digits of an index in a flattened key."""

MAX_COUNT: Final = 2**53
"""Larger numbers are not accepted as counts or amounts; JSON parsers would round them."""

_FRAMEWORKS: Final = frozenset(
    {
        "ag2", "agno", "autogen", "crewai", "dspy", "google_adk", "haystack", "langchain", "langgraph", "llama_index",
        "llamaindex", "microsoft.agent_framework", "openai_agents", "pydantic-ai", "pydantic_ai", "semantic_kernel",
        "smolagents", "strands-agents", "strands_agents",
    }
)  # fmt: skip
_STANDARD_TIERS: Final = frozenset({"auto", "default", "standard", "standard_only"})
_OPENING: Final = frozenset("{[(")
_SCALAR = re.compile(r"-?(?:0|[1-9]\d{0,15})(?:\.\d{1,17})?(?:[eE][-+]?\d{1,2})?|true|false|null")
_TEXT_BLOCK: Final = frozenset({"type", "text", "annotations", "_meta", "meta"})


def as_count(value: Any) -> int | None:
    """The value as a count; None if it is not one: a missing count is not zero."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MAX_COUNT:
        return int(value)
    return None


def as_amount(value: Any) -> float | None:
    """The value as a float of 0 or more; None if it is negative, infinite, NaN or of another type."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MAX_COUNT:
        return float(value)
    return None


def usage_of(
    prompt: Any,
    completion: Any,
    total: Any,
    cached: Any = None,
    cache_write: Any = None,
    reasoning: Any = None,
    audio_prompt: Any = None,
    audio_completion: Any = None,
) -> Usage | None:
    """Usage from attribute values; None if they have none. A prompt of 0 counts as unknown."""
    prompt, completion, total = as_count(prompt) or None, as_count(completion), as_count(total) or None
    if prompt is None and total is None and not completion:
        return None
    audio = as_count(audio_prompt) or None, as_count(audio_completion) or None
    return Usage(prompt, completion, total, as_count(cached), as_count(cache_write), as_count(reasoning), *audio)


def provider_name(value: Any) -> str | None:
    """The provider of a model in lower case; None for a framework, which some instrumentors write in its place."""
    lower = value.lower() if isinstance(value, str) else None
    return None if lower in _FRAMEWORKS else text(lower)


def service_tier(value: Any) -> str | None:
    """The price tier of a call; None for the standard one and for a request that leaves the choice to the provider."""
    lower = value.lower() if isinstance(value, str) else None
    return None if lower in _STANDARD_TIERS else text(lower)


def counts_of(usage: Mapping[str, Any]) -> tuple[int | None, ...]:
    """Prompt, completion, total, cached, cache_write and reasoning tokens of any provider's usage object."""
    found: list[int | None] = []
    for names, details, inner in _COUNTS:
        count = as_count(first_of(usage, names))
        part = first_of(usage, details) if count is None else None
        found.append(as_count(first_of(part, inner)) if isinstance(part, Mapping) else count)
    return tuple(found)


_PROMPT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_COMPLETION_DETAILS: Final = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_COUNTS: Final[tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...]] = (
    (("input", "input_tokens", "prompt_tokens", "promptTokens", "inputTokens", "prompt_token_count"), (), ()),
    (
        ("output", "output_tokens", "completion_tokens", "completionTokens", "outputTokens", "candidates_token_count"),
        (),
        (),
    ),
    (("total", "total_tokens", "totalTokens", "total_token_count"), (), ()),
    (
        (
            "input_cached_tokens", "input_cache_read", "input_cached", "cache_read_input_tokens", "cached_tokens",
            "cached_content_token_count",
        ),
        _PROMPT_DETAILS,
        ("cached_tokens", "cache_read"),
    ),
    (
        ("input_cache_creation", "input_cache_write", "cache_creation_input_tokens"),
        _PROMPT_DETAILS,
        ("cache_write_tokens", "cache_creation_tokens", "cache_creation"),
    ),
    (
        ("output_reasoning_tokens", "output_reasoning", "reasoning_tokens", "thoughts_token_count"),
        _COMPLETION_DETAILS,
        ("reasoning_tokens", "reasoning"),
    ),
)  # fmt: skip


def text(value: Any) -> str | None:
    """Non-empty text, else None. It is interned, since names of models and providers recur on every span."""
    return intern(value) if type(value) is str and value else None


def parsed(value: Any) -> Any:
    """The JSON or the Python literal in a string; any other value unchanged."""
    if not isinstance(value, str) or value[:1] not in _OPENING:
        return value
    try:
        return from_json(value)
    except ValueError:
        return _literal(value)


def from_json(text: str) -> Any:
    """The value of JSON text.

    Raises:
        ValueError: invalid JSON, or data nested deeper than `MAX_DEPTH`.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if is_too_deep(text, value):
        raise ValueError("nested too deeply")
    return value


def is_too_deep(text: str, value: Any) -> bool:
    """Whether the value of a text is nested deeper than `MAX_DEPTH`."""
    if sum(map(text.count, "[{(")) <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [below for outer in level for below in _below(outer)]
        if not level:
            return False
    return True


def _below(value: Any) -> Iterable[Any]:
    """The containers directly inside a value."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return (below for below in inside if isinstance(below, dict | list | tuple))


def _literal(value: str) -> Any:
    """The value of a literal such as `{'city': 'Lima'}`, else the text. Nothing is executed."""
    if len(value) > MAX_LITERAL_LENGTH or value[-1] not in "}])":
        return value
    try:
        return literal(value, MAX_DEPTH)
    except (ValueError, RecursionError):
        return value


def mapping(value: Any) -> Mapping[str, Any]:
    """The JSON object in a string; empty if there is none."""
    found = parsed(value)
    return found if isinstance(found, dict) else {}


def grouped(attributes: Iterable[tuple[str, Any]], prefix: str) -> list[dict[str, Any]]:
    """Flattened entries `prefix.N.rest` as one dict of `rest` for each N, in numeric order.

    Indexes may have gaps and may not start at 0: the SDK's limits remove the oldest attributes first.
    """
    groups: Groups = {}
    start = len(prefix) + 1
    for key, value in attributes:
        if key.startswith(prefix) and key[start - 1 : start] == ".":
            index, _, rest = key[start:].partition(".")
            if index.isdecimal() and len(index) <= MAX_INDEX_DIGITS:
                groups.setdefault(int(index), {})[rest] = value
    return [groups[index] for index in sorted(groups)]


def first_of(fields: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first value that is not None, by these names."""
    for name in names:
        value = fields.get(name)
        if value is not None:
            return value
    return None


def prefixed(attributes: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries `prefix + rest`, by `rest`."""
    return {key[len(prefix) :]: value for key, value in attributes.items() if key.startswith(prefix)}


def items_of(value: Any) -> Sequence[Any]:
    """The items of a list, which may be JSON text or a Python literal; a mapping counts as a list of one."""
    found = parsed(value)
    if isinstance(found, Mapping):
        return (found,)
    return found if isinstance(found, list | tuple) else ()


def as_text(value: Any) -> str:
    """A value as text: strings unchanged, None as "", everything else as JSON."""
    return "" if value is None else json_text(value)


def tool_result(value: Any) -> Any:
    """The result of a tool without its wrapper; any other value unchanged.

    Wrappers are a serialized LangChain ToolMessage, and a list of text blocks as in MCP and Bedrock.
    """
    if isinstance(value, Mapping):
        for name in ("kwargs", "data"):
            inner = value.get(name)
            if isinstance(inner, Mapping) and "content" in inner and "tool" in (value.get("type"), inner.get("type")):
                return inner["content"]
        if value.get("type") == "tool" and "tool_call_id" in value and "content" in value:
            return value["content"]
        if "isError" not in value and "is_error" not in value:
            return value
        blocks = value.get("content")
    else:
        blocks = value
    if isinstance(blocks, list) and blocks and all(map(_is_text, blocks)):
        return "\n".join(block["text"] for block in blocks)
    return value


def _is_text(block: Any) -> bool:
    """Whether a block holds text only."""
    return isinstance(block, Mapping) and isinstance(block.get("text"), str) and block.keys() <= _TEXT_BLOCK


def json_value(value: Any) -> Any:
    """The value of JSON text, including quoted strings, numbers and booleans; any other value unchanged."""
    if not isinstance(value, str) or not (value[:1] == '"' or _SCALAR.fullmatch(value)):
        return parsed(value)
    try:
        return json.loads(value)
    except ValueError:
        return value


def documents_of(value: Any) -> tuple[dict[str, Any], ...]:
    """Retrieved documents as {id, text, score, metadata}, from lists of LangChain or LlamaIndex, or from flat lists."""
    if isinstance(value, Mapping):
        value = first_of(value, ("documents", "docs", "results", "nodes", "output", "context")) or value
    return tuple(document for entry in items_of(value) if (document := _document(entry)))


def _document(entry: Any) -> dict[str, Any]:
    if isinstance(entry, str):
        return {"text": entry}
    if not isinstance(entry, Mapping):
        return {}
    score = entry.get("score")
    wrapped = (entry[name] for name in ("node", "document", "kwargs") if isinstance(entry.get(name), Mapping))
    inner = next(wrapped, entry)
    names = {"id": ("id", "id_", "doc_id"), "text": ("page_content", "text", "content"), "metadata": ("metadata",)}
    found = {name: first_of(inner, keys) for name, keys in names.items()}
    found["score"] = first_of(inner, ("score", "relevance_score")) if score is None else score
    return {name: found[name] for name in ("id", "text", "score", "metadata") if found[name] not in (None, "", {}, [])}


def texts_of(value: Any) -> Any:
    """The texts of an embedding request; the request itself if they are not found."""
    if isinstance(value, Mapping):
        return first_of(value, ("input", "texts", "text", "inputs", "contents", "query", "prompt")) or value
    return value
