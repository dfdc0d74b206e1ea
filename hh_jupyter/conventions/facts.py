"""What a span says about itself, in one shape whichever instrumentor made it.

Two depths: `SpanFacts` is what a row of a tree and the totals need, read once when the span is sealed; `SpanContent` is
what the detail pane shows, read when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol


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
