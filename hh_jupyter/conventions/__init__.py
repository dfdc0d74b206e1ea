"""Reads spans of any instrumentor. One module per attribute convention, each with the same two functions:

    facts(attributes, events, start_ns, event_type) -> SpanFacts | None
    content(attributes, events) -> SpanContent | None

None means that the span follows another convention. To read a new convention, write its module and add it to
`CONVENTIONS`. A module with `MARKER_KEYS` is asked for facts only if the span has one of these attributes, which most
spans do not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, Final, Protocol

from hh_jupyter.attributes import REPLAYED, REPLAYED_MS
from hh_jupyter.conventions import (
    honeyhive,
    langfuse,
    langsmith,
    mcp,
    mlflow,
    openinference,
    openllmetry,
    otel_genai,
    plain,
    vercel,
)
from hh_jupyter.conventions.event_type import event_type
from hh_jupyter.conventions.facts import EventLike, SpanContent, SpanFacts, as_count, first_of, text
from hh_jupyter.conventions.messages import without_repeated_prompts

__all__ = ["CONVENTIONS", "Convention", "content", "describe", "evaluations", "event_type", "readable_name"]


class Convention(Protocol):
    """The functions of a module in `CONVENTIONS`."""

    def facts(
        self, attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str, /
    ) -> SpanFacts | None: ...

    def content(self, attributes: Mapping[str, Any], events: Sequence[EventLike], /) -> SpanContent | None: ...


CONVENTIONS: tuple[Convention, ...] = (
    openinference, langsmith, vercel, mlflow, mcp, openllmetry, otel_genai, langfuse, plain, honeyhive,
)  # fmt: skip
"""In order of precedence. An instrumentor's own attributes are more precise than an event type, which the official SDK
writes on every span of its provider, HTTP clients included. LangSmith, the AI SDK and MCP write some of OpenTelemetry's
names beside their own, more precise ones; Langfuse's SDK adds its attributes to spans of other instrumentors."""

_MARKER_KEYS: tuple[str, ...] = tuple(
    sign for convention in CONVENTIONS for sign in getattr(convention, "MARKER_KEYS", ())
)
_COMMON = tuple(convention for convention in CONVENTIONS if not hasattr(convention, "MARKER_KEYS"))


def describe(
    name: str, attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, scope: str = ""
) -> SpanFacts:
    """Facts of a span's record, read once when the span is finalized.

    Args:
        name: of the span.
        attributes: at the end of the span, redacted, without the event type that the finalizer adds: it would look like
            a type that the caller chose.
        events: of the span.
        start_ns: Unix nanoseconds.
        scope: name of the instrumentation scope; some instrumentors are recognized only by it.
    """
    found_type = event_type(name, attributes)
    candidates = _COMMON
    for key in _MARKER_KEYS:
        if key in attributes:
            candidates = CONVENTIONS
            break
    for convention in candidates:
        found = convention.facts(attributes, events, start_ns, found_type)
        if found is not None:
            found = _with_scope_facts(found, name, attributes, scope)
            break
    else:
        found = plain.shared_facts("other", found_type, plain.FAMILY)
    if REPLAYED in attributes:
        found = replace(found, replayed=True, replayed_ms=as_count(attributes.get(REPLAYED_MS)))
    feedback = honeyhive.feedback(attributes)
    return replace(found, feedback=feedback) if feedback else found


def _with_scope_facts(facts: SpanFacts, name: str, attributes: Mapping[str, Any], scope: str) -> SpanFacts:
    """The facts, completed by what the span's name and scope show and its own convention does not."""
    usage = facts.usage
    changed: dict[str, Any] = {}
    if facts.kind == "llm" and facts.family != honeyhive.FAMILY:
        if facts.cost is None and (cost := langfuse.langfuse_cost(attributes)) is not None:
            changed["cost"] = cost
        if not facts.streamed and (
            _is_stream_name(name)
            or _is_stream_name(str(attributes.get(_METHOD, "")))
            or (scope == _OPENAI_V2 and _streamed_by_openai_v2(attributes))
        ):
            changed["streamed"] = True
        if usage is None and scope == _LLAMA_INDEX and _is_llama_index_helper(facts, name):
            changed["kind"] = "chain"
    if usage is not None:
        completed = usage.with_all_parts(without_cached=_excludes_cached_tokens(scope))
        if completed is not usage:
            changed["usage"] = completed
    return replace(facts, **changed) if changed else facts


_METHOD: Final = "rpc.method"
_STREAM = re.compile(r"(?:(?<![A-Za-z])[Ss]|(?<=[a-z])S)tream(?:ing)?(?![a-z])")
_OPENAI_V2: Final = "opentelemetry.instrumentation.openai_v2"
_LLAMA_INDEX: Final = "openinference.instrumentation.llama_index"


def _excludes_cached_tokens(scope: str) -> bool:
    """Whether cached tokens are not in the prompt: Bedrock counts them apart, and only OpenInference adds them."""
    return "bedrock" in scope and not scope.startswith("openinference")


@lru_cache(maxsize=1024)
def _is_stream_name(name: str) -> bool:
    """Whether the first word names a stream: "GenerateContentStream", "stream_chat gpt-4o"."""
    return _STREAM.search(name.partition(" ")[0]) is not None


def _streamed_by_openai_v2(attributes: Mapping[str, Any]) -> bool:
    """Whether a response was streamed: this instrumentor writes finish reasons on all others."""
    return "gen_ai.response.id" in attributes and "gen_ai.response.finish_reasons" not in attributes


def _is_llama_index_helper(facts: SpanFacts, name: str) -> bool:
    """Whether a LlamaIndex span is a private helper of a model class, which makes no request itself."""
    return name.rpartition(".")[2].startswith("_") and facts.response_id is None and not facts.streamed


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent:
    """Everything for the detail pane, read on demand.

    If a span follows several conventions, the first one wins and the others fill its gaps.
    """
    found: list[SpanContent] = []
    for convention in CONVENTIONS:
        # The HTTP attributes of a model call are neither its input nor its output.
        if found and convention is plain:
            continue
        part = convention.content(attributes, events)
        if part is not None:
            found.append(part)
    first = found[0] if found else SpanContent()
    missing = {
        name: value
        for other in reversed(found[1:])
        for name in _FIELDS
        if _empty(getattr(first, name)) and not _empty(value := getattr(other, name))
    }
    if results := evaluations(events):
        missing["metrics"] = {**results, **missing.get("metrics", first.metrics)}
    if len(first.input_messages) > 1 or "input_messages" in missing:
        missing["input_messages"] = without_repeated_prompts(missing.get("input_messages", first.input_messages))
    return replace(first, **missing) if missing else first


_FIELDS = tuple(field.name for field in fields(SpanContent))


def _empty(value: Any) -> bool:
    """Whether there is nothing to show; 0 and False are values."""
    return value is None or value in ("", (), [], {})


# Evaluation results.

EVALUATION: Final = "gen_ai.evaluation.result"
"""Event with the result of an evaluation, on the evaluated span."""

_EVALUATION_NAME: Final = "gen_ai.evaluation.name"
_RESULT_FIELDS: Final = {
    "value": "gen_ai.evaluation.score.value",
    "label": "gen_ai.evaluation.score.label",
    "explanation": "gen_ai.evaluation.explanation",
    "error": "error.type",
}


def evaluations(events: Iterable[EventLike]) -> dict[str, Any]:
    """Results by the name of the metric: the score if there is nothing else, otherwise {value, label, ...}.

    Read from OpenTelemetry's events of the evaluated span. They count as metrics, not as feedback, because they are
    computed. Several results of one metric form a list.
    """
    found: dict[str, list[Any]] = {}
    for event in events:
        if event.name == EVALUATION and event.attributes:
            name = text(event.attributes.get(_EVALUATION_NAME)) or "evaluation"
            found.setdefault(name, []).append(_result(event.attributes))
    return {name: results[0] if len(results) == 1 else results for name, results in found.items()}


def evaluation_attributes(
    name: str, value: Any, label: Any = None, explanation: str | None = None, error_type: str | None = None
) -> dict[str, Any]:
    """Attributes of the event with one result. A bool is 1 or 0, with the label yes or no; a text is a label.

    Args:
        error_type: class of the exception that the evaluation raised.
    """
    is_number = isinstance(value, int | float) and abs(value) <= sys.float_info.max
    if label is None:
        label = ("yes" if value else "no") if isinstance(value, bool) else value if isinstance(value, str) else None
    found = {"value": float(value) if is_number else None, "label": label, "explanation": explanation}
    known = {**found, "error": error_type}
    results = {_RESULT_FIELDS[field]: one for field, one in known.items() if one is not None}
    return {_EVALUATION_NAME: name, **results}


def _result(attributes: Mapping[str, Any]) -> Any:
    known = {name: attributes[key] for name, key in _RESULT_FIELDS.items() if attributes.get(key) is not None}
    return known["value"] if known.keys() == {"value"} else known


# The name that displays show.

_MESSAGE: Final = "logfire.msg"
"""The name of a Logfire or Pydantic AI span with its values filled in."""

_TOOL: Final = ("gen_ai.tool.name", "tool.name", "ai.toolCall.name", "tool_name", "traceloop.entity.name")
_AGENT: Final = ("gen_ai.agent.name", "agent.name", "agent_name")
_GENERIC_NAMES: Final = {
    **dict.fromkeys(
        (
            "running tool", "running tools", "running output function", "execute_tool", "Tool Execution", "ai.toolCall",
            "SimpleTool", "Tool", "StructuredTool", "FunctionTool", "FunctionTool.call", "FunctionTool.acall",
            "FunctionTool.run_json", "CrewStructuredTool", "CrewStructuredTool.invoke", "BaseTool.run",
            "ToolUsage._use",
        ),
        _TOOL,
    ),
    **dict.fromkeys(("agent run", "invoke_agent", "create_agent"), _AGENT),
}  # fmt: skip
"""Span name common to all tools or agents -> attributes with the specific name."""


def readable_name(name: str, attributes: Mapping[str, Any]) -> str:
    """The name of a span in displays and queries: its own, unless that is a template or common to all tools or agents.

    A function of the notebook itself is `search`, not `__main__.search`. The wire keeps the name that the span has.

    Args:
        name: of the span.
        attributes: of the span, redacted.
    """
    name_keys = _GENERIC_NAMES.get(name)
    name = name.removeprefix("__main__.")
    if name_keys is None and "{" not in name:
        return name
    found = attributes.get(_MESSAGE) or (first_of(attributes, name_keys) if name_keys else None)
    return found if isinstance(found, str) and found else name
