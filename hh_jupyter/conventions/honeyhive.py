"""Spans of `@trace`, `start_span` and `enrich_span`, ours and the official SDK's: attributes `honeyhive_*`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hh_jupyter import attributes as keys
from hh_jupyter.conventions import plain
from hh_jupyter.conventions.event_type import CHAIN, EXPLICIT, MODEL, TOOL
from hh_jupyter.conventions.facts import EventLike, SpanContent, SpanFacts
from hh_jupyter.conventions.values import parsed

FAMILY = "honeyhive"
_KINDS = {MODEL: "llm", TOOL: "tool", CHAIN: "chain"}


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """The facts of a span that carries an event type, else None. Only a type that was chosen makes a kind."""
    if any(key in attributes for key in EXPLICIT):
        return plain.shared(_KINDS.get(event_type, "other"), event_type, FAMILY)
    return None


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """Inputs, outputs and config as nested data, None without any of them."""
    inputs = _nested(attributes, keys.INPUTS)
    outputs = _nested(attributes, keys.OUTPUTS)
    config = _nested(attributes, keys.CONFIG)
    if inputs is None and outputs is None and config is None:
        return None
    if isinstance(outputs, dict) and len(outputs) == 1 and keys.RESULT in outputs:
        outputs = outputs[keys.RESULT]
    return SpanContent(input=inputs, output=outputs, params=config if isinstance(config, dict) else {})


def _nested(attributes: Mapping[str, Any], namespace: str) -> Any:
    """The entries `namespace.a.b` as {"a": {"b": value}}; None if there are none."""
    root: dict[str, Any] = {}
    start = len(namespace) + 1
    for key, value in attributes.items():
        if not key.startswith(namespace) or key[start - 1 : start] != ".":
            continue
        at, parts = root, key[start:].split(".")
        for part in parts[:-1]:
            below = at.setdefault(part, {})
            if not isinstance(below, dict):
                # A scalar was written under the same name earlier: both are kept.
                below = at[part] = {"": below}
            at = below
        at[parts[-1]] = parsed(value)
    return _with_lists(root) if root else None


def _with_lists(value: Any) -> Any:
    """Dicts whose keys are list indexes become lists; positions that were None are missing and stay out."""
    if not isinstance(value, dict):
        return value
    filled = {key: _with_lists(below) for key, below in value.items()}
    if all(key.isdecimal() for key in filled):
        return [filled[key] for key in sorted(filled, key=int)]
    return filled
