"""Names on the wire: attribute keys, event types and baggage keys of the HoneyHive backend.

Constants only. The keys are those of the official SDK (honeyhive 1.7), so that a backend that accepts its spans accepts
ours. Attribute keys of instrumentors are in `hh_jupyter.conventions`, next to the code that reads them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

SESSION_ID: Final = "honeyhive.session_id"
"""The session of a span, a UUID in lower case. Example: "3f2504e0-4f89-41d3-9a0c-0305e82c3301"."""

PROJECT: Final = "honeyhive.project"
"""The project's name; absent if not set, since the key determines the project."""

SOURCE: Final = "honeyhive.source"
"""Environment in which the code ran. Example: "dev"."""

PARENT_ID: Final = "honeyhive.parent_id"
"""Parent event, received in the baggage of another service."""

SESSION_AUTO_CREATE: Final = "honeyhive.session_auto_create"
"""True on the spans of an unregistered session, which the backend creates when they arrive."""

AUTO_SESSION_NAME: Final = "honeyhive.session_name"
"""Name of an unregistered session."""

ASSOCIATION_PREFIX: Final = "traceloop.association.properties."
"""The backend also reads session, project, source and parent under this prefix; both are written."""

BAGGAGE_PREFIX: Final = "baggage."
"""Prefix of every other baggage entry, as text."""

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
"""An older name of `EVENT_TYPE`, read but never written."""

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
"""Text of an error passed to `enrich_span(error=...)`. Example: "bad thing"."""

ERROR_TYPE: Final = "honeyhive_error_type"
DURATION_MS: Final = "honeyhive_duration_ms"
"""Duration of a decorated function in milliseconds, a float; absent after an exception."""

INPUTS: Final = "honeyhive_inputs"
OUTPUTS: Final = "honeyhive_outputs"
METADATA: Final = "honeyhive_metadata"
METRICS: Final = "honeyhive_metrics"
FEEDBACK: Final = "honeyhive_feedback"
CONFIG: Final = "honeyhive_config"
USER_PROPERTIES: Final = "honeyhive_user_properties"

TRUNCATED: Final = "honeyhive_metadata.hh_truncated"
"""What the span limits removed, as text. Example: "12 attributes"."""

SESSION_ID_GIVEN: Final = "honeyhive_metadata.session_id_given"
"""The id passed to `@trace(session_id=...)`, if a name-based UUID replaces it."""

REDACTED: Final = "honeyhive_metadata.hh_redacted"
"""Number of redacted values, an int; absent if there are none."""

CANCELLED: Final = "honeyhive_metadata.hh_cancelled"
"""True on a span that a cancellation ended, or another exception that is no `Exception`; absent otherwise."""

REPLAYED: Final = "honeyhive_metadata.hh_replayed"
"""True on a model's span whose answer came from a recording; absent otherwise."""

REPLAYED_MS: Final = "honeyhive_metadata.hh_replayed_ms"
"""Duration of the original call of a replayed one in milliseconds, an int."""

REPLAYED_COST: Final = "honeyhive_metadata.hh_replayed_cost"
"""US dollars that a replayed call would have cost, a float; absent if unknown."""

VARIANT: Final = "honeyhive_metadata.hh_variant"
"""On the span around a call that was made again with changes: its number among those of the same call, from 1."""

VARIANT_OF: Final = "honeyhive_metadata.hh_variant_of"
"""On the same span: the id of the original span, 16 hex digits."""

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
"""The backend's field names -> attribute prefix: `honeyhive_inputs.question`."""

RESULT: Final = "result"
"""The return value of a decorated function is written to `honeyhive_outputs.result`."""

EVENT_TYPES: Final = ("model", "tool", "chain")
"""Event types of spans; the backend's fourth, `session`, is never a span."""

BAGGAGE_SESSION_ID: Final = "session_id"
BAGGAGE_PROJECT: Final = "project"
BAGGAGE_SOURCE: Final = "source"
BAGGAGE_PARENT_ID: Final = "parent_id"
BAGGAGE_RUN_KEYS: Final = ("run_id", "dataset_id", "datapoint_id")
"""Experiment ids; written as `honeyhive_metadata.run_id` and so on."""

BAGGAGE_FOREIGN: Final = "honeyhive_tracer_id"
"""The official SDK sends a memory address under this key; it is never written, and ignored when received."""

# Not on the wire: where a context of this process holds the budget of its session.

CONTEXT_BUDGET: Final = "hh_jupyter-budget"
"""A `hh_jupyter.recordings.budget.Budget`."""
