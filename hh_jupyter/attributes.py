"""The vocabulary on the wire: attribute keys, event types and baggage keys of the HoneyHive backend.

Constants only. The keys are those the official SDK (honeyhive 1.7) writes; a backend that accepts its spans accepts
ours. Attribute keys of instrumentors live in `hh_jupyter.conventions`, next to the code that reads them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

SESSION_ID: Final = "honeyhive.session_id"
"""The session a span belongs to, a UUID in lower case. Example: "3f2504e0-4f89-41d3-9a0c-0305e82c3301"."""

PROJECT: Final = "honeyhive.project"
"""The project's name; absent when none was given, since the key decides the project."""

SOURCE: Final = "honeyhive.source"
"""Where the code ran. Example: "dev"."""

PARENT_ID: Final = "honeyhive.parent_id"
"""Parent event handed over in baggage by another service."""

SESSION_AUTO_CREATE: Final = "honeyhive.session_auto_create"
"""True on the spans of a session that nobody registered: the backend makes it when they arrive."""

AUTO_SESSION_NAME: Final = "honeyhive.session_name"
"""Name of such a session."""

ASSOCIATION_PREFIX: Final = "traceloop.association.properties."
"""The backend reads session, project, source and parent under this prefix as well; both are written."""

BAGGAGE_PREFIX: Final = "baggage."
"""Every other baggage entry, as text."""

EXPERIMENT: Final = MappingProxyType(
    {
        "experiment_id": "honeyhive.experiment_id",
        "experiment_name": "honeyhive.experiment_name",
        "experiment_variant": "honeyhive.experiment_variant",
        "experiment_group": "honeyhive.experiment_group",
    }
)
"""Setting -> attribute of every span. Example: "B"."""

EXPERIMENT_METADATA: Final = "honeyhive.experiment_metadata"
"""Each entry of the setting `experiment_metadata`, as text: `honeyhive.experiment_metadata.temperature` "0.5"."""

EVENT_TYPE: Final = "honeyhive_event_type"
"""One of `EVENT_TYPES`, or any text that a caller chose."""

EVENT_TYPE_RAW: Final = "honeyhive_event_type_raw"
"""An older spelling of the same, read but never written."""

EVENT_TYPE_DOTTED: Final = "honeyhive.event_type"
"""Written beside `EVENT_TYPE` by `tracer.trace(name, event_type=...)`."""

EVENT_NAME: Final = "honeyhive_event_name"
EVENT_ID: Final = "honeyhive_event_id"
USER_ID: Final = "honeyhive_user_id"
SESSION_NAME: Final = "honeyhive_session_name"
EVENT_SOURCE: Final = "honeyhive_source"
EVENT_PROJECT: Final = "honeyhive_project"
EVENT_SESSION_ID: Final = "honeyhive_session_id"

ERROR: Final = "honeyhive_error"
"""Text of an error given to `enrich_span(error=...)`. Example: "bad thing"."""

ERROR_TYPE: Final = "honeyhive_error_type"
DURATION_MS: Final = "honeyhive_duration_ms"
"""Milliseconds a decorated function took, a float; absent after an exception."""

INPUTS: Final = "honeyhive_inputs"
OUTPUTS: Final = "honeyhive_outputs"
METADATA: Final = "honeyhive_metadata"
METRICS: Final = "honeyhive_metrics"
FEEDBACK: Final = "honeyhive_feedback"
CONFIG: Final = "honeyhive_config"
USER_PROPERTIES: Final = "honeyhive_user_properties"

TRUNCATED: Final = "honeyhive_metadata.hh_truncated"
"""What the span limits cut, as text. Example: "12 attributes"."""

SESSION_ID_GIVEN: Final = "honeyhive_metadata.session_id_given"
"""The id that `@trace(session_id=...)` was given, where a name-based UUID stands in for it."""

REDACTED: Final = "honeyhive_metadata.hh_redacted"
"""How many values were redacted, an int; absent when none was."""

NAMESPACES: Final = MappingProxyType(
    {
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "metadata": METADATA,
        "metrics": METRICS,
        "feedback": FEEDBACK,
        "config": CONFIG,
        "user_properties": USER_PROPERTIES,
    }
)
"""The backend's field names and the attribute prefix of each: `honeyhive_inputs.question`."""

RESULT: Final = "result"
"""A decorated function's return value is written under `honeyhive_outputs.result`."""

EVENT_TYPES: Final = ("model", "tool", "chain")
"""Event types of spans; the backend's fourth, `session`, is never a span."""

BAGGAGE_SESSION_ID: Final = "session_id"
BAGGAGE_PROJECT: Final = "project"
BAGGAGE_SOURCE: Final = "source"
BAGGAGE_PARENT_ID: Final = "parent_id"
BAGGAGE_RUN_KEYS: Final = ("run_id", "dataset_id", "datapoint_id")
"""Experiment ids; written as `honeyhive_metadata.run_id` and so on."""

BAGGAGE_FOREIGN: Final = "honeyhive_tracer_id"
"""The official SDK sends a memory address under this key; never written, and ignored when it arrives."""
