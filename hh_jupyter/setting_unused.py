"""Settings of the official client, and standard variables, that are accepted and have nothing to do here.

They are listed so that nobody has to wonder: a program that sets them keeps working, and the README says why nothing
happens. Imported only where somebody asks.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Unused(NamedTuple):
    """Settings without effect.

    Attributes:
        arguments: of `HoneyHiveTracer.init`.
        variables: of the environment.
        reason: one sentence.
    """

    arguments: tuple[str, ...]
    variables: tuple[str, ...]
    reason: str


def _unused(arguments: str, variables: str, reason: str) -> Unused:
    return Unused(tuple(arguments.split()), tuple(variables.split()), reason)


UNUSED: Final = (
    _unused(
        "cache_enabled cache_max_size cache_ttl cache_cleanup_interval",
        "HH_CACHE_ENABLED HH_CACHE_MAX_SIZE HH_CACHE_TTL HH_CACHE_CLEANUP_INTERVAL",
        "There are no caches to tune.",
    ),
    _unused(
        "preserve_core_attributes",
        "HH_PRESERVE_CORE_ATTRIBUTES",
        "Session, source, project and event type are never cut.",
    ),
    _unused(
        "disable_http_tracing",
        "HH_DISABLE_HTTP_TRACING",
        "Spans of HTTP clients come from the instrumentor that you switch on, and from nobody else.",
    ),
    _unused("", "HH_HIGH_CONCURRENCY", "No lock is taken on your threads, so there is none to tune."),
    _unused("follow_redirects", "HH_FOLLOW_REDIRECTS", "The key never follows a redirect."),
    _unused(
        "max_retries",
        "HH_MAX_RETRIES",
        "What cannot be delivered yet is tried again, with growing pauses, for as long as the process lives.",
    ),
    _unused(
        "max_connections max_keepalive_connections keepalive_expiry pool_timeout",
        "HH_MAX_CONNECTIONS HH_MAX_KEEPALIVE_CONNECTIONS HH_KEEPALIVE_EXPIRY HH_POOL_TIMEOUT",
        "The few connections that are needed are kept; nobody waits for a place in a pool.",
    ),
    _unused(
        "rate_limit_calls rate_limit_window",
        "HH_RATE_LIMIT_CALLS HH_RATE_LIMIT_WINDOW",
        "Spans go in batches; a backend that says it is asked too often is left alone for a while.",
    ),
    _unused("timeout", "", "See `api_timeout` and `export_timeout`; the variable `HH_TIMEOUT` sets both."),
    _unused("", "HH_EXPORT_TIMEOUT_SECONDS", "For reading events back, which nothing here does."),
    _unused("", "HH_SAMPLING_RATE", "Every span is kept. OpenTelemetry's own `OTEL_TRACES_SAMPLER` works."),
    _unused("", "HH_SANITIZE_INPUTS HH_SANITIZE_OUTPUTS", "Secrets are replaced everywhere, unless `redact` is off."),
    _unused("", "HH_CP_API_URL", "There is one address, `server_url`."),
    _unused(
        "metadata user_properties",
        "",
        "The official `init` ignores them too; `create_session` and `enrich_session` take them.",
    ),
    _unused("link_carrier", "", "The official `init` ignores it too; `tracer.link(carrier)` does what it says."),
    _unused(
        "",
        "OTEL_EXPORTER_OTLP_ENDPOINT OTEL_EXPORTER_OTLP_HEADERS OTEL_EXPORTER_OTLP_CERTIFICATE "
        "OTEL_EXPORTER_OTLP_COMPRESSION OTEL_EXPORTER_OTLP_TIMEOUT",
        "They are for OpenTelemetry's own exporters; spans go to `server_url` or `otlp_endpoint`, always compressed.",
    ),
    _unused(
        "",
        "OTEL_BSP_SCHEDULE_DELAY OTEL_BSP_MAX_QUEUE_SIZE OTEL_BSP_MAX_EXPORT_BATCH_SIZE OTEL_BSP_EXPORT_TIMEOUT",
        "OpenTelemetry's batch processor is not used; see `batch_size` and `flush_interval`.",
    ),
)

ARGUMENTS: Final = frozenset(name for row in UNUSED for name in row.arguments)
