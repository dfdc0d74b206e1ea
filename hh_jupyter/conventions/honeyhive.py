"""Spans of `@trace`, `start_span` and `enrich_span`, of this package and of the official SDK: `honeyhive_*`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hh_jupyter import attributes as keys
from hh_jupyter.conventions import plain
from hh_jupyter.conventions.event_type import CHAIN, EXPLICIT, MODEL, TOOL
from hh_jupyter.conventions.facts import MAX_DEPTH, EventLike, SpanContent, SpanFacts, parsed

FAMILY = "honeyhive"
_OWN_PREFIX = "hh_"
"""Prefix of metadata that the finalizer adds to a span; it is shown elsewhere."""

_KINDS = {MODEL: "llm", TOOL: "tool", CHAIN: "chain"}


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """Facts of a span with an explicit event type, which determines its kind; otherwise None."""
    for key in EXPLICIT:
        if key in attributes:
            return plain.shared_facts(_KINDS.get(event_type, "other"), event_type, FAMILY)
    return None


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """Inputs, outputs and enrichments as nested data; None if there are none."""
    names = (keys.INPUTS, keys.OUTPUTS, keys.CONFIG, keys.METADATA, keys.METRICS, keys.FEEDBACK)
    inputs, outputs, config, metadata, metrics, feedback = (_nested(attributes, name) for name in names)
    truncated, session_id = attributes.get(keys.TRUNCATED), attributes.get(keys.SESSION_ID)
    if all(found is None for found in (inputs, outputs, config, metadata, metrics, feedback, truncated, session_id)):
        return None
    if isinstance(outputs, dict) and len(outputs) == 1 and keys.RESULT in outputs:
        outputs = outputs[keys.RESULT]
    return SpanContent(
        input=inputs,
        output=outputs,
        params=_named(config),
        metadata={name: value for name, value in _named(metadata).items() if not name.startswith(_OWN_PREFIX)},
        metrics=_named(metrics),
        feedback=_named(feedback),
        session_id=session_id if isinstance(session_id, str) else None,
        truncated=truncated if isinstance(truncated, str) else None,
    )


MAX_FEEDBACK: Final = 20
MAX_FEEDBACK_LENGTH: Final = 300
"""Names of feedback that a record holds, and characters of a text."""

_FEEDBACK_WITHOUT_NAME: Final = "value"
"""What an update of an event calls feedback that is not a dict."""


def feedback(attributes: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Name and value of each feedback in the attributes, for the facts: `("ok", False)`, `("by.team", "support")`."""
    found = [key for key in attributes if key.startswith(keys.FEEDBACK)]
    if not found:
        return ()
    start = len(keys.FEEDBACK)
    named = {
        key[start + 1 :] or _FEEDBACK_WITHOUT_NAME: attributes[key] for key in found if key[start:][:1] in ("", ".")
    }
    return tuple((name, comparable_feedback(value)) for name, value in list(named.items())[:MAX_FEEDBACK])


def comparable_feedback(value: Any) -> Any:
    """Return a value of feedback as the facts hold it: hashable, and a text cut to its beginning."""
    if isinstance(value, list | tuple):
        return tuple(map(comparable_feedback, value))
    return value[:MAX_FEEDBACK_LENGTH] if isinstance(value, str) else value


def _named(found: Any) -> dict[str, Any]:
    """Entries by name, also if all names in the namespace are numbers."""
    if isinstance(found, list):
        return {str(index): value for index, value in enumerate(found)}
    return found if isinstance(found, dict) else {}


def _nested(attributes: Mapping[str, Any], namespace: str) -> Any:
    """The entries `namespace.a.b` as {"a": {"b": value}}; None if there are none."""
    root: dict[str, Any] = {}
    start = len(namespace) + 1
    for key, value in attributes.items():
        if not key.startswith(namespace) or key[start - 1 : start] != ".":
            continue
        at, parts = root, key[start:].split(".", MAX_DEPTH)
        for part in parts[:-1]:
            below = at.setdefault(part, {})
            if not isinstance(below, dict):
                # An earlier scalar has the same name: keep both.
                below = at[part] = {"": below}
            at = below
        at[parts[-1]] = parsed(value)
    return _with_lists(root) if root else None


def _with_lists(value: Any) -> Any:
    """Replace dicts whose keys are list indexes by lists; positions that were None are missing and are left out."""
    if not isinstance(value, dict):
        return value
    filled = {key: _with_lists(below) for key, below in value.items()}
    if all(key.isdecimal() for key in filled):
        return [filled[key] for key in sorted(filled, key=int)]
    return filled
