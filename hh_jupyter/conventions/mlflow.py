"""Spans of MLflow tracing and autologging: `mlflow.*`, with every value as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hh_jupyter.conventions import plain
from hh_jupyter.conventions.event_type import MLFLOW_TYPE
from hh_jupyter.conventions.facts import (
    EventLike,
    SpanContent,
    SpanFacts,
    Usage,
    as_amount,
    counts_of,
    documents_of,
    first_of,
    json_value,
    mapping,
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

FAMILY: Final = "mlflow"
MARKER_KEYS: Final = (MLFLOW_TYPE,)

_KINDS: Final = {
    "LLM": "llm", "CHAT_MODEL": "llm", "EMBEDDING": "embedding", "TOOL": "tool", "AGENT": "agent", "CHAIN": "chain",
    "PARSER": "chain", "WORKFLOW": "chain", "TASK": "chain", "RETRIEVER": "retriever", "RERANKER": "reranker",
    "GUARDRAIL": "guardrail", "EVALUATOR": "evaluator",
}  # fmt: skip
_INPUTS: Final = "mlflow.spanInputs"
_OUTPUTS: Final = "mlflow.spanOutputs"
_USAGE: Final = "mlflow.chat.tokenUsage"
_COST: Final = "mlflow.llm.cost"
_CHUNK_EVENT: Final = "mlflow.chunk.item."
_TAG: Final = "mlflow.traceTag."
_MODEL: Final = "mlflow.llm.model"
"""The answering model if autologging knows it, else the requested one."""

_MODELS: Final = ("model", "model_name", _MODEL)
_METADATA: Final = {"linkedPrompts": "prompts", "spanDescription": "description", "message.format": "format"}
_SESSION: Final = ("session.id", "mlflow.trace.session")
_USER: Final = ("user.id", "mlflow.trace.user")


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """Facts of a span with an MLflow type; otherwise None."""
    span_type = attributes.get(MLFLOW_TYPE)
    if span_type is None:
        return None
    get, kind = attributes.get, _KINDS.get(str(json_value(span_type)).upper(), "other")
    counts, cost = mapping(get(_USAGE)), as_amount(mapping(get(_COST)).get("total_cost")) or None
    if kind not in MODEL_KINDS and not counts and cost is None:
        return plain.shared_facts(kind, event_type, FAMILY)
    output = get(_OUTPUTS)
    small = isinstance(output, str) and len(output) <= MAX_PARSED_LENGTH and kind in MODEL_KINDS
    answer = mapping(output) if small else {}
    model, response_id = model_and_response_id(answer)
    requested = text(json_value(first_of(attributes, _MODELS)))
    first_token = next((e.timestamp - start_ns for e in events if e.name.startswith(_CHUNK_EVENT)), None)
    return SpanFacts(
        kind=kind,
        event_type=event_type,
        family=FAMILY,
        model=model or text(json_value(get(_MODEL))) or requested,
        model_requested=requested,
        provider=provider_name(json_value(get("mlflow.llm.provider"))),
        usage=_usage(counts, answer.get("usage")),
        cost=cost,
        first_token_ns=first_token if first_token is not None and first_token >= 0 else None,
        response_id=response_id if kind == "llm" else None,
        tools_asked=tools_asked(output) if kind == "llm" else (),
        streamed=first_token is not None or json_value(get("stream")) is True,
    )


def _usage(counts: Mapping[str, Any], raw: Any) -> Usage | None:
    """MLflow's counts; those it omits, of reasoning and embeddings, come from the response itself."""
    raw_counts = counts_of(raw if isinstance(raw, Mapping) else {})
    prompt, completion, total, cached, written, _ = counts_of(counts) if counts else raw_counts
    return usage_of(prompt, completion, total, cached, written, raw_counts[-1])


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """Content of an MLflow span; None for other spans."""
    if MLFLOW_TYPE not in attributes:
        return None
    get = attributes.get
    kind = _KINDS.get(str(json_value(get(MLFLOW_TYPE))).upper(), "other")
    inputs, outputs = json_value(get(_INPUTS)), json_value(get(_OUTPUTS))
    documents = documents_of(outputs) if kind in ("retriever", "reranker") else ()
    params = params_of(inputs) or params_of(get("invocation_params"))
    extra = {name: json_value(get(f"mlflow.{key}")) for key, name in _METADATA.items()}
    metadata = {**prefixed(attributes, _TAG), **extra}
    return SpanContent(
        **input_and_output(kind, inputs, outputs, documents, arguments=inputs, result=outputs),
        params=params if kind in MODEL_KINDS else {},
        tools_offered=tools_offered(get("mlflow.chat.tools")),
        finish_reason=finish_reason_of(outputs) if kind == "llm" else None,
        metadata={name: value for name, value in metadata.items() if value},
        session_id=text(json_value(first_of(attributes, _SESSION))),
        user_id=text(json_value(first_of(attributes, _USER))),
    )
