"""What of honeyhive 1.7's public surface is the same here, and why the rest is not.

Every name, parameter and setting of `tests/data/surface/honeyhive-1.7.0.json` stands here exactly once: a call
`f(a, b)` in `SAME` stands for the name `f` and the parameters `f(a)` and `f(b)`; settings of the tracer are
`init(name)`. What is the same is importable from `hh_jupyter`, types of results only from
`hh_jupyter.experiments`. The table of the page `notebooks/from-honeyhive.md` is made from `OTHERS`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from hh_jupyter.settings import UNUSED


class Mark(enum.Enum):
    """How the package treats a name of the official client; the value is the word in the page."""

    SAME = "same"
    IGNORED = "accepted and ignored"
    NOT_OFFERED = "not offered"


@dataclass(frozen=True, slots=True)
class Other:
    """Names, parameters (`f(a)`) or settings (`init(a)`) that are not the same, for one reason, one sentence."""

    mark: Mark
    names: str
    reason: str


SAME: Final = """
HoneyHiveTracer(config, session_config, evaluation_config, api_key, ingestion_api_key, project, session_name, source)
HoneyHiveTracer(server_url, session_id, disable_batch, verbose, inputs, is_evaluation, run_id, dataset_id, datapoint_id)
HoneyHiveTracer(test_mode, requests_session, disable_http_tracing, link_carrier, **kwargs)
HoneyHiveTracer.init(config, session_config, evaluation_config, **kwargs)
HoneyHiveTracer.create_session(session_name, session_id, inputs, metadata, user_properties, source, skip_api_call)
HoneyHiveTracer.acreate_session(session_name, session_id, inputs, metadata, user_properties, source, skip_api_call)
HoneyHiveTracer.with_session(session_name, inputs, metadata, user_properties, source)
HoneyHiveTracer.session_start()
HoneyHiveTracer.enrich_session(metadata, inputs, outputs, config, feedback, metrics, user_properties, session_id)
HoneyHiveTracer.enrich_session(**kwargs)
HoneyHiveTracer.start_span(name, kind, attributes, links, start_time, record_exception, set_status_on_exception)
HoneyHiveTracer.trace(name, event_type, **kwargs)
HoneyHiveTracer.enrich_span(attributes, metadata, metrics, feedback, inputs, outputs, config, user_properties, error)
HoneyHiveTracer.enrich_span(event_id, update_event_id, **kwargs)
HoneyHiveTracer.create_event(event_name_or_dict, event_type, inputs, outputs, error, duration, metadata, config)
HoneyHiveTracer.create_event(feedback, metrics, **kwargs)
HoneyHiveTracer.inject_context(carrier)
HoneyHiveTracer.inject(carrier)
HoneyHiveTracer.extract_context(carrier)
HoneyHiveTracer.link(carrier)
HoneyHiveTracer.unlink(_token)
HoneyHiveTracer.set_baggage(key, value)
HoneyHiveTracer.get_baggage(key)
HoneyHiveTracer.force_flush(timeout_millis)
HoneyHiveTracer.flush(timeout_millis)
HoneyHiveTracer.flush_all(timeout_millis)
HoneyHiveTracer.shutdown()
HoneyHiveTracer.session_id
HoneyHiveTracer.session_name
HoneyHiveTracer.project
HoneyHiveTracer.project_name
HoneyHiveTracer.source
HoneyHiveTracer.source_environment
HoneyHiveTracer.server_url
HoneyHiveTracer.provider
HoneyHiveTracer.test_mode
HoneyHiveTracer.is_test_mode
HoneyHiveTracer.is_initialized
HoneyHiveTracer.is_evaluation
HoneyHiveTracer.run_id
HoneyHiveTracer.dataset_id
HoneyHiveTracer.datapoint_id
init(api_key, ingestion_api_key, server_url, project, test_mode, verbose, session_name, source, disable_batch)
init(disable_tracing, span_name_filters, max_attributes, max_events, max_links, max_span_size, requests_session)
init(session_id, inputs, skip_backend_session_creation, is_evaluation, run_id, dataset_id, datapoint_id)
trace(event_type, event_name, **kwargs)
atrace(event_type, event_name, **kwargs)
trace_class(cls)
enrich_span(attributes, metadata, metrics, feedback, inputs, outputs, config, error, event_id, tracer, **kwargs)
enrich_session(session_id, metadata, tracer, tracer_instance)
flush(tracer_instance, timeout_millis)
set_default_tracer(tracer)
get_default_tracer()
shutdown_tracer(tracer_instance)
with_distributed_trace_context(carrier, tracer_instance, session_id)
enrich_span_context(event_name, attributes, inputs, outputs, metadata, metrics, feedback, config, user_properties)
enrich_span_context(error, event_id, session_id, project, source, tracer_instance)
inject_context_into_carrier(carrier, tracer_instance)
extract_context_from_carrier(carrier)
evaluate(function, dataset, dataset_id, evaluators, instrumentors, api_key, ingestion_api_key, server_url, project)
evaluate(name, run_id, max_workers, aggregate_function, verbose, print_results)
evaluator()
aevaluator()
get_run_result(client, run_id, project_id, aggregate_function)
compare_runs(client, new_run_id, old_run_id, project_id, aggregate_function)
HoneyHive(api_key, server_url, base_url)
ExperimentResultSummary(run_id, status, success, passed, failed, metrics, datapoints)
EventType
EventType.model
EventType.tool
EventType.chain
EventType.session
RunComparisonResult(new_run_id, old_run_id, common_datapoints, new_only_datapoints, old_only_datapoints, metric_deltas)
"""

IGNORED_SETTINGS: Final = [
    "cache_enabled",
    "cache_max_size",
    "cache_ttl",
    "cache_cleanup_interval",
    "preserve_core_attributes",
    "disable_http_tracing",
    "link_carrier",
]
"""Accepted without effect; the reasons are in `hh_jupyter.settings`, from which the reference takes them."""

OTHERS: Final = (
    Other(
        Mark.IGNORED,
        "extract_context_from_carrier(tracer_instance)",
        "Headers are read in the same way for every tracer.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "HoneyHive(project) HoneyHive(ingestion_api_key) HoneyHive(data_plane_api_key) HoneyHive(cp_base_url) "
        "HoneyHive(timeout) HoneyHive(retry_config) HoneyHive(rate_limit_calls) HoneyHive(rate_limit_window) "
        "HoneyHive(max_connections) HoneyHive(max_keepalive) HoneyHive(test_mode) HoneyHive(verbose) "
        "HoneyHive(tracer_instance) HoneyHiveTracer.client MissingApiKeyError",
        "The REST interface stays with the honeyhive package, which can be installed beside this one; here `HoneyHive` "
        "only names address and key for `get_run_result` and `compare_runs`.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "HoneyHiveTracer.api_key HoneyHiveTracer.ingestion_api_key",
        "A tracer does not hand out its key.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "HoneyHiveTracer.config HoneyHiveTracer.verbose",
        "All settings in force are in `tracer.settings`.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "HoneyHiveTracer.tracer",
        "`tracer.provider.get_tracer(__name__)` gives an OpenTelemetry tracer.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "HoneyHiveTracer.is_main_provider HoneyHiveTracer.otlp_exporter HoneyHiveTracer.span_processor "
        "HoneyHiveTracer.propagator HoneyHiveSpanProcessor",
        "Internals of honeyhive; instrumentors take `tracer.provider`.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "set_global_provider get_global_provider",
        "OpenTelemetry's `set_tracer_provider` and `get_tracer_provider` do it, and the first tracer does it itself.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "clear_registry graceful_shutdown_all HoneyHiveTracer.reset",
        "`tracer.shutdown()` ends one tracer, and at exit all of them deliver and end.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "get_current_baggage setup_baggage_context",
        "`opentelemetry.baggage.get_all()` reads baggage, and nothing has to be set up.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "BaseEvaluator EvalResult EvalSettings EvaluatorSettings evaluator(*args) evaluator(**kwargs) "
        "aevaluator(*args) aevaluator(**kwargs)",
        "Any function is an evaluator, and a dict with `score` its result; there is nothing to subclass or configure.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "run_experiment ExperimentContext generate_external_dataset_id generate_external_datapoint_id "
        "prepare_external_dataset prepare_run_request_data",
        "Steps inside `evaluate`, which takes them.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "get_run_metrics",
        "`get_run_result(...).metrics` has them.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "ExperimentRun ExperimentRunStatus AggregatedMetrics",
        "Types of parts of a result; it is an `ExperimentResultSummary`, and its status is text.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "TracerConfig SessionConfig EvaluationConfig",
        "Settings are keywords of `init`; a dict, or such an object of the honeyhive package, may stand before them.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "EventType.generic",
        "The backend's documentation knows the other four; any text is taken as an `event_type`.",
    ),
    Other(
        Mark.NOT_OFFERED,
        "DotDict get_logger",
        "Not about tracing; the log is Python's, under the logger `hh_jupyter`.",
    ),
)

OTHER_DEFAULTS: Final = {
    "ExperimentResultSummary(passed) ExperimentResultSummary(failed) ExperimentResultSummary(datapoints)": (
        "A result is made by `evaluate`, which knows them."
    ),
}
"""Parameters that are the same but for their default, and why."""


def table() -> dict[str, tuple[Mark, str]]:
    """Mark and reason of every name, parameter and setting.

    Raises:
        ValueError: one of them stands here twice.
    """
    found: dict[str, tuple[Mark, str]] = {}
    for key, mark, reason in _entries():
        if found.setdefault(key, (mark, reason)) != (mark, reason):
            raise ValueError(f"{key} stands in the table twice")
    return found


def _entries() -> Iterator[tuple[str, Mark, str]]:
    for line in SAME.split("\n"):
        name, _, parameters = line.rstrip(")").partition("(")
        for key in (name, *(f"{name}({parameter})" for parameter in parameters.split(", ") if parameter)):
            if key not in ("", "init"):
                yield key, Mark.SAME, ""
    for other in OTHERS:
        for key in other.names.split():
            yield key, other.mark, other.reason
    for reason, names in UNUSED.items():
        for name in set(names.split()).intersection(IGNORED_SETTINGS):
            yield f"init({name})", Mark.IGNORED, reason


def differences_table() -> str:
    """What is not the same, in Markdown, for the page; settings have tables of their own in the reference."""
    lines = ["| honeyhive | here | |", "| --- | --- | --- |"]
    for other in OTHERS:
        names = ", ".join(f"`{name}`" for name in other.names.split())
        lines.append(f"| {names} | {other.mark.value} | {other.reason} |")
    return "\n".join(lines) + "\n"


def official(data: Mapping[str, Mapping[str, Mapping[str, str | None]]]) -> dict[str, str | None]:
    """The official calls by the names of the table, each with its parameters as in a `def`; None: no call."""
    found: dict[str, str | None] = {}
    for names in data["modules"].values():
        # One name in two modules is one thing here; the spelling with a readable signature counts.
        found |= {name: text for name, text in names.items() if text is not None or name not in found}
    tracer = data["tracer"]
    found |= {f"HoneyHiveTracer.{name}": text for name, text in tracer["calls"].items() if name != "__init__"}
    found |= {f"HoneyHiveTracer.{name}": None for name in tracer["attributes"]}
    return found


PARAMETER: Final = re.compile(r"(.+)\((.+)\)")
