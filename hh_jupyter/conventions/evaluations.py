"""Evaluation results in OpenTelemetry's GenAI conventions: events `gen_ai.evaluation.result` of the evaluated span."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from hh_jupyter.conventions.facts import EventLike, text

EVENT: Final = "gen_ai.evaluation.result"
_FIELDS: Final = {
    "value": "gen_ai.evaluation.score.value",
    "label": "gen_ai.evaluation.score.label",
    "explanation": "gen_ai.evaluation.explanation",
    "error": "error.type",
}


def evaluations(events: Iterable[EventLike]) -> dict[str, Any]:
    """Results by the name of the metric: the score if there is nothing else, otherwise {value, label, ...}.

    They count as metrics, not as feedback, because they are computed. Several results of one metric form a list.
    """
    found: dict[str, list[Any]] = {}
    for event in events:
        if event.name == EVENT and event.attributes:
            name = text(event.attributes.get("gen_ai.evaluation.name")) or "evaluation"
            found.setdefault(name, []).append(_result(event.attributes))
    return {name: results[0] if len(results) == 1 else results for name, results in found.items()}


def _result(attributes: Mapping[str, Any]) -> Any:
    known = {name: attributes[key] for name, key in _FIELDS.items() if attributes.get(key) is not None}
    return known["value"] if known.keys() == {"value"} else known
