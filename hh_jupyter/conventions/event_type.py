"""Event types: `EventType`, and the rules that classify a span as model, tool or chain.

The rules are those of the HoneyHive backend. They are applied when the span is finalized, to the attributes that it has
then. A type chosen by the caller or given by a convention takes precedence over a guess from the span's name. Names are
matched by whole words: `html_parse` is not a model although it contains "ml_".
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from hh_jupyter import attributes as keys

MODEL: Final = "model"
TOOL: Final = "tool"
CHAIN: Final = "chain"

OPERATION: Final = "gen_ai.operation.name"
OPENINFERENCE_KIND: Final = "openinference.span.kind"
TRACELOOP_KIND: Final = "traceloop.span.kind"
REQUEST_TYPE: Final = "llm.request.type"
"""OpenLLMetry up to 0.40, on the spans of model requests."""

LANGSMITH_KIND: Final = "langsmith.span.kind"
"""The type of a run; LangSmith writes the operation "chat" for prompt templates too."""

MLFLOW_TYPE: Final = "mlflow.spanType"
LANGFUSE_TYPE: Final = "langfuse.observation.type"
VERCEL_OPERATION: Final = "ai.operationId"

EXPLICIT: Final = (keys.EVENT_TYPE, keys.EVENT_TYPE_RAW, keys.EVENT_TYPE_DOTTED)
"""Attributes with a type that the caller chose; the first one found counts."""

_OPERATIONS = {
    **dict.fromkeys(("chat", "text_completion", "generate_content", "embeddings"), MODEL),
    **dict.fromkeys(("invoke_agent", "create_agent", "invoke_workflow", "plan"), CHAIN),
    **dict.fromkeys(("execute_tool", "retrieval"), TOOL),
}
_OPENINFERENCE = {"llm": MODEL, "chain": CHAIN, "agent": CHAIN}
_TRACELOOP = {"workflow": CHAIN, "task": CHAIN, "agent": CHAIN, "tool": TOOL}
_REQUESTS = {"chat": MODEL, "completion": MODEL, "embedding": MODEL, "rerank": TOOL}
_LANGSMITH = {"llm": MODEL, "embedding": MODEL, "chain": CHAIN, "prompt": CHAIN, "parser": CHAIN}
_DIALECTS = {
    **dict.fromkeys(('"llm"', '"chat_model"', '"embedding"'), MODEL),
    **dict.fromkeys(('"chain"', '"agent"', '"parser"', '"workflow"', '"task"'), CHAIN),
    **dict.fromkeys(("generation", "embedding"), MODEL),
    **dict.fromkeys(("chain", "agent"), CHAIN),
    **dict.fromkeys(("ai.embed", "ai.embedmany", "ai.embed.doembed", "ai.embedmany.doembed"), MODEL),
    **{f"ai.{run}": CHAIN for run in ("generatetext", "streamtext", "generateobject", "streamobject")},
    **{f"ai.generate{what}.dogenerate": MODEL for what in ("text", "object")},
    **{f"ai.stream{what}.dostream": MODEL for what in ("text", "object")},
}
"""Types of MLflow (JSON text) and of Langfuse, and operations of the AI SDK."""

_UNSURE = frozenset({"span", "event", '"unknown"'})
"""Defaults of MLflow and Langfuse; the span's name may be more specific."""

_WORDS = (
    "llm|model|gpt|claude|llama|gemini|mistral|palm|chat|completion|generate|inference|openai|anthropic|bedrock"
    "|generativeai"
)
# A word ends at a non-letter or at the next CamelCase word. "google" is not listed: it is also a search tool.
_MODEL_NAME = re.compile(
    rf"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(?i:{_WORDS})(?![a-z]|[A-Z](?![a-z]))|(?<![A-Za-z0-9])(?i:ai|ml|nlp)_"
)
_MODEL_ATTRIBUTES = frozenset(
    {
        "llm.request.model", "llm.response.model", "llm.model.name", "gen_ai.request.model", "gen_ai.response.model",
        "openai.model", "anthropic.model", "bedrock.model_id", "google.model",
        "model_name", "model_id", "model_type", "ai_model",
    }
)  # fmt: skip


def event_type(name: str, attributes: Mapping[str, Any]) -> str:
    """The event type: model, tool, chain, or any text that the caller chose.

    Args:
        name: of the ended span.
        attributes: of the ended span, without those that the finalizer adds.
    """
    get = attributes.get
    for key in EXPLICIT:
        if chosen := get(key):
            return str(chosen)
    if kind := get(LANGSMITH_KIND):
        return _LANGSMITH.get(str(kind).lower(), TOOL)
    if (operation := get(OPERATION)) and (found := _OPERATIONS.get(str(operation).lower())):
        return found
    if kind := get(OPENINFERENCE_KIND):
        return _OPENINFERENCE.get(str(kind).lower(), TOOL)
    if (kind := get(TRACELOOP_KIND)) and (found := _TRACELOOP.get(str(kind).lower())):
        return found
    if (kind := get(REQUEST_TYPE)) and (found := _REQUESTS.get(str(kind).lower())):
        return found
    kind = get(MLFLOW_TYPE) or get(LANGFUSE_TYPE) or get(VERCEL_OPERATION)
    if kind and (named := str(kind).lower()) not in _UNSURE:
        return _DIALECTS.get(named, TOOL)
    return MODEL if _names_model(name) or not _MODEL_ATTRIBUTES.isdisjoint(attributes) else TOOL


@lru_cache(maxsize=1024)
def _names_model(name: str) -> bool:
    return _MODEL_NAME.search(name) is not None


class EventType(enum.StrEnum):
    """An event type. Members are strings and are accepted wherever an event type is.

    Example:
        >>> @trace(event_type=EventType.tool)
        ... def search(query: str) -> list[str]: ...
    """

    model = "model"
    tool = "tool"
    chain = "chain"
    session = "session"
    """A session; spans never have this type."""
