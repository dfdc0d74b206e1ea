"""Spans of MLflow's tracing and its autologging: `mlflow.*`, every value as JSON."""

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
    amount,
    counts_of,
    documents_of,
    first_of,
    json_value,
    mapping,
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

FAMILY: Final = "mlflow"
SIGNS: Final = (MLFLOW_TYPE,)

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
"""The one that answered where autologging knows it, else the one asked for."""

_MODELS: Final = ("model", "model_name", _MODEL)
_METADATA: Final = {"linkedPrompts": "prompts", "spanDescription": "description", "message.format": "format"}
_SESSION: Final = ("session.id", "mlflow.trace.session")
_USER: Final = ("user.id", "mlflow.trace.user")


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """The facts of a span with a type of MLflow's, else None."""
    given = attributes.get(MLFLOW_TYPE)
    if given is None:
        return None
    get, kind = attributes.get, _KINDS.get(str(json_value(given)).upper(), "other")
    counts, cost = mapping(get(_USAGE)), amount(mapping(get(_COST)).get("total_cost")) or None
    if kind not in MODEL_KINDS and not counts and cost is None:
        return plain.shared(kind, event_type, FAMILY)
    output = get(_OUTPUTS)
    small = isinstance(output, str) and len(output) <= MOST_PARSED and kind in MODEL_KINDS
    answer = mapping(output) if small else {}
    model, response_id = served_by(answer)
    requested = text(json_value(first_of(attributes, _MODELS)))
    provider = json_value(get("mlflow.llm.provider"))
    first_token = next((e.timestamp - start_ns for e in events if e.name.startswith(_CHUNK_EVENT)), None)
    return SpanFacts(
        kind=kind,
        event_type=event_type,
        family=FAMILY,
        model=model or text(json_value(get(_MODEL))) or requested,
        model_requested=requested,
        provider=text(provider.lower()) if isinstance(provider, str) else None,
        usage=_usage(counts, answer.get("usage")),
        cost=cost,
        first_token_ns=first_token if first_token is not None and first_token >= 0 else None,
        response_id=response_id if kind == "llm" else None,
        tools_asked=tools_asked(output) if kind == "llm" else (),
        streamed=first_token is not None or json_value(get("stream")) is True,
    )


def _usage(counts: Mapping[str, Any], raw: Any) -> Usage | None:
    """What MLflow counts; what it leaves out, reasoning and embeddings, from the answer itself."""
    more = counts_of(raw if isinstance(raw, Mapping) else {})
    prompt, completion, total, cached, written, _ = counts_of(counts) if counts else more
    return usage_of(prompt, completion, total, cached, written, more[-1])


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """What a span of MLflow's holds, None for another's."""
    if MLFLOW_TYPE not in attributes:
        return None
    get = attributes.get
    kind = _KINDS.get(str(json_value(get(MLFLOW_TYPE))).upper(), "other")
    given, returned = json_value(get(_INPUTS)), json_value(get(_OUTPUTS))
    inputs, outputs = (asked(given), answered(returned)) if kind == "llm" else ((), ())
    documents = documents_of(returned) if kind in ("retriever", "reranker") else ()
    params = params_of(given) or params_of(get("invocation_params"))
    extra = {name: json_value(get(f"mlflow.{key}")) for key, name in _METADATA.items()}
    metadata = {**prefixed(attributes, _TAG), **extra}
    return SpanContent(
        input_messages=inputs,
        output_messages=outputs,
        input=texts_of(given) if kind == "embedding" else None if inputs else given,
        output=None if outputs or documents or kind == "embedding" else tool_answer(returned),
        params=params if kind in MODEL_KINDS else {},
        documents=documents,
        tools_offered=tools_offered(get("mlflow.chat.tools")),
        finish_reason=finish_reason_of(returned) if kind == "llm" else None,
        metadata={name: value for name, value in metadata.items() if value},
        session_id=text(json_value(first_of(attributes, _SESSION))),
        user_id=text(json_value(first_of(attributes, _USER))),
    )
