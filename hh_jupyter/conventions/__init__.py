"""Reading spans, whoever made them: one module per convention of attributes, all with the same two functions.

    facts(attributes, events, start_ns, event_type) -> SpanFacts | None
    content(attributes, events) -> SpanContent | None

None means "not mine". To read another convention, write its module and add it to `CONVENTIONS`. One that has `SIGNS` is
asked for facts only where a span has one of these attributes: most spans are of no dialect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, Final, Protocol

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
from hh_jupyter.conventions.evaluations import evaluations
from hh_jupyter.conventions.event_type import event_type
from hh_jupyter.conventions.facts import EventLike, SpanContent, SpanFacts
from hh_jupyter.conventions.messages import once
from hh_jupyter.conventions.names import readable_name

__all__ = ["CONVENTIONS", "Convention", "content", "describe", "event_type", "readable_name"]


class Convention(Protocol):
    """What a module in `CONVENTIONS` offers."""

    def facts(
        self, attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str, /
    ) -> SpanFacts | None: ...

    def content(self, attributes: Mapping[str, Any], events: Sequence[EventLike], /) -> SpanContent | None: ...


CONVENTIONS: tuple[Convention, ...] = (
    openinference, langsmith, vercel, mlflow, mcp, openllmetry, otel_genai, langfuse, plain, honeyhive,
)  # fmt: skip
"""In order of precedence. An instrumentor's own attributes say more than an event type, which the official SDK writes
on every span of its provider, HTTP clients included. LangSmith, the AI SDK and MCP write some of OpenTelemetry's names
beside their own, which say more; Langfuse's SDK adds its own to the spans of others."""

_SIGNS: tuple[str, ...] = tuple(sign for convention in CONVENTIONS for sign in getattr(convention, "SIGNS", ()))
_COMMON = tuple(convention for convention in CONVENTIONS if not hasattr(convention, "SIGNS"))


def describe(
    name: str, attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, scope: str = ""
) -> SpanFacts:
    """The facts of a row, read once when the span is sealed.

    Args:
        name: of the span.
        attributes: as the span ended with them, redacted, before the sealer writes an event type of its own: that would
            look like one that somebody chose.
        events: of the span.
        start_ns: Unix nanoseconds.
        scope: name of the instrumentation scope; it tells what some instrumentors leave out.
    """
    named = event_type(name, attributes)
    asked = _COMMON
    for sign in _SIGNS:
        if sign in attributes:
            asked = CONVENTIONS
            break
    for convention in asked:
        found = convention.facts(attributes, events, start_ns, named)
        if found is not None:
            return _corrected(found, name, attributes, scope)
    return plain.shared("other", named, plain.FAMILY)


def _corrected(facts: SpanFacts, name: str, attributes: Mapping[str, Any], scope: str) -> SpanFacts:
    """The facts with what only the scope tells about an instrumentor."""
    usage = facts.usage
    changed: dict[str, Any] = {}
    if facts.kind == "llm" and facts.family != honeyhive.FAMILY:
        if facts.cost is None and (cost := langfuse.cost_told(attributes)) is not None:
            changed["cost"] = cost
        if not facts.streamed and (
            _names_stream(name)
            or _names_stream(str(attributes.get(_METHOD, "")))
            or (scope == _OPENAI_V2 and _streamed_by_openai_v2(attributes))
        ):
            changed["streamed"] = True
        if usage is None and scope == _LLAMA_INDEX and _prepares_a_call(facts, name):
            changed["kind"] = "chain"
    if usage is not None:
        whole = usage.whole(without_cached=_leaves_out_cached(scope))
        if whole is not usage:
            changed["usage"] = whole
    return replace(facts, **changed) if changed else facts


_METHOD: Final = "rpc.method"
_STREAM = re.compile(r"(?:(?<![A-Za-z])[Ss]|(?<=[a-z])S)tream(?:ing)?(?![a-z])")
_OPENAI_V2: Final = "opentelemetry.instrumentation.openai_v2"
_LLAMA_INDEX: Final = "openinference.instrumentation.llama_index"


def _leaves_out_cached(scope: str) -> bool:
    """Bedrock's API counts cached tokens apart from the prompt; OpenInference adds them, the others do not."""
    return "bedrock" in scope and not scope.startswith("openinference")


@lru_cache(maxsize=1024)
def _names_stream(name: str) -> bool:
    """Whether the operation, which a model's name may follow, is a stream: "GenerateContentStream", "stream_chat"."""
    return _STREAM.search(name.partition(" ")[0]) is not None


def _streamed_by_openai_v2(attributes: Mapping[str, Any]) -> bool:
    """It writes finish reasons on every answer but those it streamed."""
    return "gen_ai.response.id" in attributes and "gen_ai.response.finish_reasons" not in attributes


def _prepares_a_call(facts: SpanFacts, name: str) -> bool:
    """Whether a span of LlamaIndex is a helper of its model class, which makes no request itself."""
    return name.rpartition(".")[2].startswith("_") and facts.response_id is None and not facts.streamed


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent:
    """Everything for the detail pane, read when somebody asks.

    A span of two conventions gives what the first one has; what only another has is added.
    """
    found: list[SpanContent] = []
    for convention in CONVENTIONS:
        # What a model's client notes of HTTP is neither its input nor its output.
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
    if judged := evaluations(events):
        missing["metrics"] = {**missing.get("metrics", first.metrics), **judged}
    if len(first.input_messages) > 1 or "input_messages" in missing:
        missing["input_messages"] = once(missing.get("input_messages", first.input_messages))
    return replace(first, **missing) if missing else first


_FIELDS = tuple(field.name for field in fields(SpanContent))


def _empty(value: Any) -> bool:
    """Nothing to show; 0 and False are something."""
    return value is None or value in ("", (), [], {})
