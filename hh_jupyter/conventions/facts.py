"""What a span says about itself, in one shape whichever instrumentor made it; and how attributes are read.

Two depths: `SpanFacts` is what a row of a tree and the totals need, read once when the span is sealed; `SpanContent` is
what the detail pane shows, read when somebody asks.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from sys import intern
from typing import Any, Final, Protocol


class EventLike(Protocol):
    """A span event: OpenTelemetry's own or a decoded one."""

    @property
    def name(self) -> str: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def attributes(self) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call; None is unknown, not 0.

    `prompt` includes cached, written and audio tokens, `completion` includes reasoning and audio ones.
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
        """The number every display shows: prompt and completion, or the total where that is larger."""
        if self.prompt is None and self.completion is None:
            return self.total
        parts = (self.prompt or 0) + (self.completion or 0)
        return parts if self.total is None or self.total < parts else self.total

    @property
    def unexplained(self) -> bool:
        """Whether the total counts tokens that no part has. A price of the parts is a lower bound then."""
        if self.total is None or (self.prompt is None and self.completion is None):
            return False
        return self.total > (self.prompt or 0) + (self.completion or 0)

    def whole(self, *, without_cached: bool = False) -> Usage:
        """The same usage with cached tokens in the prompt and reasoning tokens in the completion.

        Some providers and instrumentors count them apart. The numbers show it: a part that is larger than its whole
        was left out of it, and so was a part that makes up the difference to the total.

        Args:
            without_cached: the prompt is known to leave cached tokens out, whatever the numbers look like.
        """
        cached, thought = (self.cached or 0) + (self.cache_write or 0), self.reasoning or 0
        if not cached and not thought:
            return self
        prompt, completion = self.prompt or 0, self.completion or 0
        missing = self.total - prompt - completion if self.total is not None else 0
        if without_cached or cached > prompt or (cached and missing in (cached, cached + thought)):
            prompt, missing = prompt + cached, missing - cached
        if thought > completion or (thought and missing == thought):
            completion += thought
        if (prompt, completion) == (self.prompt or 0, self.completion or 0):
            return self
        total = None if self.total is None else max(self.total, prompt + completion)
        return replace(self, prompt=prompt or None, completion=completion, total=total)


@dataclass(frozen=True, slots=True)
class SpanFacts:
    """The facts of a row.

    Attributes:
        kind: llm, embedding, tool, agent, chain, retriever, reranker, guardrail, http, db or other.
        event_type: model, tool or chain, or what the caller chose.
        family: the convention it was read from: openinference, honeyhive, ... or other.
        model: the model that answered, else the one asked for.
        model_requested: the model asked for, where it is known.
        provider: who serves it, in lower case.
        cost: US dollars as the span itself says; None if it does not.
        first_token_ns: nanoseconds from the start to the first token of a stream.
        response_id: the provider's id of the answer; equal ids are one call.
        tools_asked: names of the tools that the model's answer asks for, in order.
        tool_name: of a tool span, the tool's own name; None where only the span's name tells.
        http_status: of a request that failed, 400 and above.
        service_tier: what the provider priced the call by, "flex" or "priority"; None for the standard tier.
        from_cache: a cache on this side answered; no request was made, and nothing is paid.
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


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call asked for in a message; `arguments` is parsed JSON where it parses, else the text."""

    name: str
    arguments: Any = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. `parts` holds what is not text: images, files, unknown parts, as plain data."""

    role: str
    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    parts: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class SpanContent:
    """What the detail pane shows, read when somebody asks. What a span does not tell is None or empty.

    Attributes:
        input: of a tool its arguments, of a step what it was given; parsed where it parses, else as written.
        output: of a tool its result; the same.
        params: what the model was asked with: temperature, top_p, max_tokens, seed and so on.
        documents: those retrieved, each with some of id, text, score and metadata.
        tools_offered: the tools a model could ask for, each {name, description}.
        metrics, feedback: what the user's code noted, ours and the official SDK's only; among the metrics also the
            results of `gen_ai.evaluation.result` events, by name.
        session_id, user_id: as the instrumentor wrote them; the session that a span is delivered in is its record's.
        truncated: what our limits cut from the span, such as "4 events".
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


# Reading attribute values that may be missing, of another type, or JSON in a string.

Groups = dict[int, dict[str, Any]]

LONGEST_LITERAL: Final = 20_000
"""Characters of a Python literal that is read; compiling longer ones takes long and deep ones end in errors."""

MOST_DIGITS: Final = 9
"""Of an index in a flattened key."""

MOST: Final = 2**53
"""Counts and amounts above are no counts; JSON's readers would change them too."""

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
# No repr has one, and Python warns about it on standard error.
_ODD_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\(?![\\'\"abfnrtvxuUN0-7\n])")


def whole(value: Any) -> int | None:
    """A count, or None if the value is none: absent is not zero."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MOST:
        return int(value)
    return None


def amount(value: Any) -> float | None:
    """An amount as float, or None if the value is none: below 0, infinite, not a number, another type."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MOST:
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
    """The usage that attributes tell, None if they tell none. A prompt of 0 tokens is written where it is not known."""
    prompt, completion, total = whole(prompt) or None, whole(completion), whole(total) or None
    if prompt is None and total is None and not completion:
        return None
    audio = whole(audio_prompt) or None, whole(audio_completion) or None
    return Usage(prompt, completion, total, whole(cached), whole(cache_write), whole(reasoning), *audio)


def provider_name(value: Any) -> str | None:
    """Who serves a model, in lower case; None for a framework, which some write where the provider should stand."""
    lower = value.lower() if isinstance(value, str) else None
    return None if lower in _FRAMEWORKS else text(lower)


def service_tier(value: Any) -> str | None:
    """The tier a call was priced by; None for the standard one, and for a request that leaves it to the provider."""
    lower = value.lower() if isinstance(value, str) else None
    return None if lower in _STANDARD_TIERS else text(lower)


def counts_of(usage: Mapping[str, Any]) -> tuple[int | None, ...]:
    """Prompt, completion, total, cached, cache_write and reasoning of a provider's own usage, by whatever names."""
    found: list[int | None] = []
    for names, details, inner in _COUNTS:
        count = whole(first_of(usage, names))
        part = first_of(usage, details) if count is None else None
        found.append(whole(first_of(part, inner)) if isinstance(part, Mapping) else count)
    return tuple(found)


_BEFORE: Final = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_AFTER: Final = ("completion_tokens_details", "output_tokens_details", "output_token_details")
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
        _BEFORE,
        ("cached_tokens", "cache_read"),
    ),
    (
        ("input_cache_creation", "input_cache_write", "cache_creation_input_tokens"),
        _BEFORE,
        ("cache_write_tokens", "cache_creation_tokens", "cache_creation"),
    ),
    (
        ("output_reasoning_tokens", "output_reasoning", "reasoning_tokens", "thoughts_token_count"),
        _AFTER,
        ("reasoning_tokens", "reasoning"),
    ),
)  # fmt: skip


def text(value: Any) -> str | None:
    """Text that is not empty, one copy for all spans: names of models and providers come again and again."""
    return intern(value) if type(value) is str and value else None


def parsed(value: Any) -> Any:
    """The JSON in a string, or the Python literal that some write in its place; else the value itself."""
    if not isinstance(value, str) or value[:1] not in _OPENING:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return _literal(value)


def _literal(value: str) -> Any:
    """The value of `{'city': 'Lima'}`, the text itself if it is no literal. Nothing is executed."""
    if len(value) > LONGEST_LITERAL or value[-1] not in "}])" or _ODD_ESCAPE.search(value):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def mapping(value: Any) -> Mapping[str, Any]:
    """The JSON object in a string, empty if there is none."""
    found = parsed(value)
    return found if isinstance(found, dict) else {}


def grouped(attributes: Iterable[tuple[str, Any]], prefix: str) -> list[dict[str, Any]]:
    """Flattened entries `prefix.N.rest` as one dict of `rest` for each N, in numeric order.

    Indexes have gaps and need not begin at 0: the SDK's limits remove the oldest attributes first.
    """
    groups: Groups = {}
    start = len(prefix) + 1
    for key, value in attributes:
        if key.startswith(prefix) and key[start - 1 : start] == ".":
            index, _, rest = key[start:].partition(".")
            if index.isdecimal() and len(index) <= MOST_DIGITS:
                groups.setdefault(int(index), {})[rest] = value
    return [groups[index] for index in sorted(groups)]


def first_of(fields: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The value of the first of these names that is there and not None."""
    for name in names:
        value = fields.get(name)
        if value is not None:
            return value
    return None


def prefixed(attributes: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries `prefix + rest`, by `rest`."""
    return {key[len(prefix) :]: value for key, value in attributes.items() if key.startswith(prefix)}


def items_of(value: Any) -> Sequence[Any]:
    """The items of a list, also of one in JSON or as a Python literal; a single mapping is a list of one."""
    found = parsed(value)
    if isinstance(found, Mapping):
        return (found,)
    return found if isinstance(found, list | tuple) else ()


def shown_text(value: Any) -> str:
    """A value as text: texts as they are, None empty, the rest as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        return str(type(value))


def tool_answer(value: Any) -> Any:
    """What a tool returned, without the wrapping; else the value as it is.

    That is a LangChain ToolMessage that was serialised whole, or a list of blocks of text, as MCP and Bedrock write it.
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
    """Whether this is a block of text and nothing else."""
    return isinstance(block, Mapping) and isinstance(block.get("text"), str) and block.keys() <= _TEXT_BLOCK


def json_value(value: Any) -> Any:
    """What a text of JSON holds, quoted texts, numbers and truths among it; else the value itself."""
    if not isinstance(value, str) or not (value[:1] == '"' or _SCALAR.fullmatch(value)):
        return parsed(value)
    try:
        return json.loads(value)
    except ValueError:
        return value


def documents_of(value: Any) -> tuple[dict[str, Any], ...]:
    """Retrieved documents as {id, text, score, metadata}, of LangChain's or LlamaIndex' lists, or of flat ones."""
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
    """The texts to embed, of a whole request; the request itself where they are not found."""
    if isinstance(value, Mapping):
        return first_of(value, ("input", "texts", "text", "inputs", "contents", "query", "prompt")) or value
    return value
