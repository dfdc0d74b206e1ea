"""Reading attribute values that may be missing, of another type, or JSON in a string."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from sys import intern
from typing import Any, Final

from hh_jupyter.conventions.facts import Usage

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
