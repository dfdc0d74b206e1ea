"""The settings: one table with a row for each, and the functions that determine their values.

`Settings` is what decides about tracing and sending: each tracer has its own. `DisplaySettings` is what decides about a
notebook's outputs: a process has one. Every field is one row: default, rule, environment variables, one sentence. The
reference, the notebook's traitlets and the checks are generated from the rows. A value comes from the argument, else
the trait, else the environment, else the default. The rules are in `hh_jupyter.setting_rules`.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from hh_jupyter import setting_rules as rules
from hh_jupyter.errors import SettingError, SettingTypeError

DEFAULT_SERVER_URL: Final = "https://api.dp1.us.honeyhive.ai"
_SHOWN: Final = 80
"""Characters of a value in `describe`."""

LOCAL: Final = object()
"""See `SettingRow.safe`."""


class SettingRow(NamedTuple):
    """One row of the settings table, apart from name and default.

    Attributes:
        help: one sentence.
        env: environment variables; the first one is documented.
        secret: the value is never shown or logged, and there is no trait for it.
        trait: the notebook offers it as `c.HHJupyter.<name>`.
        safe: the value to use if an `HH_*` or `HONEYHIVE_*` variable is invalid; None: the default. It is set if the
            default would send, record or write what the variable may have been meant to prevent. `LOCAL`: send nothing.
    """

    help: str
    rule: rules.SettingRule
    env: tuple[str, ...] = ()
    secret: bool = False
    trait: bool = True
    safe: Any = None


class SettingValue(NamedTuple):
    """A resolved setting, safe to display.

    Attributes:
        value: as text; for a secret only whether it is set.
        origin: "argument", "%config HHJupyter", the name of the environment variable, or "default"; in a notebook also
            "%hh login", "saved login", "configuration file" and "command line".
    """

    name: str
    value: str
    origin: str


def _row(
    default: Any,
    rule: rules.SettingRule,
    env: str,
    help: str,  # noqa: A002
    *,
    secret: bool = False,
    trait: bool = True,
    safe: Any = None,
) -> Any:
    row = SettingRow(help, rule, tuple(env.split()), secret, trait and not secret, safe)
    return field(default=default, metadata={"row": row})


class _ResolvedSettings:
    """Base class: settings with their values and where each comes from."""

    __slots__ = ()
    origins: Mapping[str, str]

    # Written out, because Python takes 2 ms at import to make these methods for 60 fields.

    def __init__(self, **values: Any) -> None:
        for one in dataclasses.fields(self):  # type: ignore[arg-type]
            default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
            object.__setattr__(self, one.name, values.pop(one.name, default))
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(values)}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        names = [one.name for one in dataclasses.fields(self) if one.compare]  # type: ignore[arg-type]
        return all(getattr(self, name) == getattr(other, name) for name in names)

    __hash__ = None  # type: ignore[assignment]  # Values such as `inputs` are dicts.

    def describe(self) -> tuple[SettingValue, ...]:
        """Every setting with its value and origin, in the order of the table, without secrets."""
        return tuple(
            SettingValue(name, self._shown(name, row), self.origins.get(name, "default"))
            for name, row in _rows(type(self)).items()
        )

    def _shown(self, name: str, row: SettingRow) -> str:
        value = getattr(self, name)
        if row.secret:
            return "set" if value else "not set"
        if value is None:
            return "-"
        from hh_jupyter.redaction import Redactor  # Its rules cost more to compile than a tracer to make.

        if isinstance(value, str):
            value = re.sub(r"://[^/@\s]*@", "://...@", value)
        return str(Redactor().document({name: value})[name])[:_SHOWN]  # Data such as `inputs` may hold secrets.

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value, origin in self.describe() if origin != "default")
        return f"{type(self).__name__}({', '.join(shown)})"


def _rows(kind: type[_ResolvedSettings]) -> dict[str, SettingRow]:
    fields: Any = dataclasses.fields(kind)  # type: ignore[arg-type]
    return {field.name: field.metadata["row"] for field in fields if "row" in field.metadata}


@dataclass(frozen=True, slots=True, kw_only=True, init=False, repr=False, eq=False)
class Settings(_ResolvedSettings):
    """What decides about tracing and sending, resolved. `origins` has the origin of each value by name."""

    # fmt: off
    # Who, and where to
    api_key: str | None = _row(None, rules.KEY, "HH_API_KEY HONEYHIVE_API_KEY",
        "Key of the project. Without one, local mode: nothing leaves the machine, unless `exporter` names a backend.",
        secret=True)
    ingestion_api_key: str | None = _row(None, rules.INGESTION, "HH_INGESTION_API_KEY",
        "Key that may only send; used for sessions, spans and events instead of `api_key`.", secret=True)
    server_url: str = _row(DEFAULT_SERVER_URL, rules.URL, "HH_API_URL HONEYHIVE_SERVER_URL HH_SERVER_URL",
        "Address of the backend.", safe=LOCAL)
    app_url: str | None = _row(None, rules.LINK, "HH_APP_URL",
        "Address of a session in the web application, with `{session_id}` in it; the summary then links there.")
    project: str | None = _row(None, rules.TEXT, "HH_PROJECT HONEYHIVE_PROJECT",
        "Project name; the key decides the project, so this is a label.")
    source: str = _row("dev", rules.TEXT, "HH_SOURCE", "Where the code runs: dev, staging, prod.")
    service_name: str | None = _row(None, rules.TEXT, "OTEL_SERVICE_NAME HH_SERVICE_NAME",
        "`service.name` of the spans' resource; default: that of `OTEL_RESOURCE_ATTRIBUTES`, else the project.")
    service_version: str | None = _row(None, rules.TEXT, "HH_SERVICE_VERSION",
        "`service.version` of the spans' resource.")

    # The start-up session
    session_name: str | None = _row(None, rules.TEXT, "HH_SESSION_NAME",
        "Name of the start-up session; default: the script's or notebook's name.")
    session_id: str | None = _row(None, rules.ID, "HH_SESSION_ID",
        "Id of the start-up session; a UUID, other text becomes a name-based UUID.", trait=False)
    inputs: dict[str, Any] | None = _row(None, rules.OBJECT, "", "Inputs of the start-up session.", trait=False)
    skip_backend_session_creation: bool = _row(False, rules.SWITCH, "",
        "Do not register the start-up session; it exists already.", trait=False)

    # Switches
    test_mode: bool = _row(False, rules.SWITCH, "HH_TEST_MODE", "Local mode even with a key.", safe=True)
    disable_tracing: bool = _row(False, rules.SWITCH, "HH_DISABLE_TRACING OTEL_SDK_DISABLED",
        "Off: no spans, no sessions, no threads, no connections; decorated functions just run.", safe=True)
    disable_batch: bool = _row(False, rules.SWITCH, "HH_DISABLE_BATCH",
        "Send each span as it ends; the caller waits for the answer, 2 s at most.")
    otlp_enabled: bool = _row(True, rules.SWITCH, "HH_OTLP_ENABLED",
        "Send spans. Without it they stay on this machine; sessions and events are sent.", safe=False)
    verbose: bool = _row(False, rules.SWITCH, "HH_VERBOSE", "Log debug lines to standard error.")

    # What is recorded
    capture_inputs: bool = _row(True, rules.SWITCH, "HH_CAPTURE_INPUTS",
        "Record the arguments of decorated functions.", safe=False)
    capture_outputs: bool = _row(True, rules.SWITCH, "HH_CAPTURE_OUTPUTS",
        "Record the results of decorated functions.", safe=False)
    redact: bool = _row(True, rules.SWITCH, "HH_REDACT", "Replace secrets before anything is sent or shown.")
    redact_keys: tuple[str, ...] = _row((), rules.NAMES, "HH_REDACT_KEYS",
        "More names of keys whose texts and numbers are secrets. In a variable: separated by commas, or a JSON list.")
    redact_patterns: tuple[str, ...] = _row((), rules.PATTERNS, "HH_REDACT_PATTERNS HH_PII_PATTERNS",
        "Regular expressions of more secrets. In a variable: one expression, or a JSON list of them.", safe=LOCAL)
    redact_with: Callable[[str, Any], Any] | None = _row(None, rules.CALLABLE, "",
        "A function that is called last, with the full name of each attribute, such as `honeyhive_inputs.customer`, "
        "and its value. It returns the value to keep; None hides it.",
        trait=False)
    span_name_filters: Mapping[str, tuple[str, ...]] | None = _row(None, rules.FILTERS, "HH_SPAN_NAME_FILTERS",
        "Spans to leave out by the beginning of their name, such as "
        '`{"exclude": [{"type": "prefix", "value": "GET"}]}`, or with `include` the only ones to keep.',
        trait=False, safe=LOCAL)
    max_attributes: int = _row(1024, rules.whole(1, "attributes"), "HH_MAX_ATTRIBUTES", "Attributes kept on a span.")
    max_events: int = _row(1024, rules.whole(0, "events"), "HH_MAX_EVENTS", "Events kept on a span.")
    max_links: int = _row(128, rules.whole(0, "links"), "HH_MAX_LINKS", "Links kept on a span.")
    max_span_size: int = _row(10 * 1024 * 1024, rules.whole(1024, "bytes"), "HH_MAX_SPAN_SIZE",
        "Bytes of attributes kept on a span.")

    # What model calls may cost
    max_cost: float | None = _row(None, rules.DOLLARS, "HH_MAX_COST",
        "Most US dollars that the model calls of a session may cost; further calls are not sent.", safe=0.0)
    max_calls: int | None = _row(None, rules.whole(1, "calls"), "HH_MAX_CALLS",
        "Most model calls of a session; further calls are not sent.", safe=0)
    # Recordings of model calls
    replay: str = _row("off", rules.one_of("off", "auto", "only", "record"), "HH_REPLAY",
        "Answer model calls from a recording: auto records what is missing, only never sends, record sends and records "
        "all anew, off does neither. With HH_REPLAY=only nothing in the process can choose another mode.", safe="only")
    recordings_dir: str = _row("recordings", rules.TEXT, "HH_RECORDINGS_DIR",
        "Folder of the recordings; a relative one is next to the notebook or script.")

    # Delivery
    exit_flush_seconds: float = _row(2.0, rules.seconds(), "HH_EXIT_FLUSH_SECONDS",
        "Longest wait for delivery at exit.")
    batch_size: int = _row(100, rules.whole(1, "spans"), "HH_BATCH_SIZE",
        "Spans that are sent without waiting for more; a backlog goes in larger requests.")
    max_export_batch_size: int = _row(512, rules.whole(1, "spans"), "HH_MAX_EXPORT_BATCH_SIZE",
        "Spans in one request at most.")
    flush_interval: float = _row(5.0, rules.seconds(0.01), "HH_FLUSH_INTERVAL",
        "Longest time a span waits for its batch to fill.")
    api_timeout: float = _row(5.0, rules.seconds(0.01), "HH_API_TIMEOUT HH_TIMEOUT",
        "Longest wait for the answer to a session, an event or a question.")
    export_timeout: float = _row(30.0, rules.seconds(0.01), "HH_EXPORT_TIMEOUT HH_TIMEOUT",
        "Longest wait for the answer to a request with spans.")
    spool: bool | None = _row(None, rules.SWITCH, "HH_SPOOL",
        "Keep spans on disk, so that they survive the process and can be read later; default: in notebooks.",
        safe=False)
    spool_dir: str | None = _row(None, rules.TEXT, "HH_SPOOL_DIR",
        "Folder of these spans; default: `hh_jupyter/spool` where the system keeps user data, as in `~/.local/share`.")
    spool_mib: int = _row(256, rules.whole(1, "MiB"), "HH_SPOOL_MIB", "Most that they may take up, in MiB.")
    spool_days: int = _row(14, rules.whole(1, "days"), "HH_SPOOL_DAYS", "Days until they are deleted.")
    exporter: str = _row("honeyhive", rules.one_of("honeyhive", "otlp", "honeyhive,otlp", "none"), "HH_EXPORTER",
        "Where spans go: honeyhive, otlp (any backend, set up by `OTEL_EXPORTER_OTLP_*`), honeyhive,otlp or none.",
        safe=LOCAL)
    otlp_protocol: str = _row("http/protobuf", rules.one_of("http/protobuf", "http/json"),
        "HH_OTLP_PROTOCOL OTEL_EXPORTER_OTLP_PROTOCOL", "Encoding of spans on the wire.")
    otlp_endpoint: str | None = _row(None, rules.URL, "HH_OTLP_ENDPOINT",
        "Where spans go instead of `server_url`; without a path `/v1/traces` is added. "
        "Another host gets `otlp_headers` only, never the key.", safe=LOCAL)
    otlp_headers: dict[str, str] | None = _row(None, rules.HEADERS, "HH_OTLP_HEADERS",
        "More headers of requests with spans.", secret=True)
    http_proxy: str | None = _row(None, rules.PROXY, "HH_HTTP_PROXY",
        "Proxy for http:// addresses; default: that of `HTTP_PROXY`.", secret=True, safe=LOCAL)
    https_proxy: str | None = _row(None, rules.PROXY, "HH_HTTPS_PROXY",
        "Proxy for https:// addresses; default: that of `HTTPS_PROXY`.", secret=True, safe=LOCAL)
    no_proxy: str | None = _row(None, rules.TEXT, "HH_NO_PROXY",
        "Hosts that are reached without a proxy, separated by commas; default: those of `NO_PROXY`.")
    verify_ssl: bool = _row(True, rules.SWITCH, "HH_VERIFY_SSL",
        "Check the certificate of the backend. For a CA of your own set `REQUESTS_CA_BUNDLE` instead.")
    requests_session: Any = _row(None, rules.ANYTHING, "",
        "A `requests.Session` to send with, as it is; never closed here.", trait=False)

    # The experiment that the spans belong to
    run_id: str | None = _row(None, rules.TEXT, "HH_RUN_ID", "Experiment run that the spans belong to.", trait=False)
    dataset_id: str | None = _row(None, rules.TEXT, "HH_DATASET_ID", "Data set of that run.", trait=False)
    datapoint_id: str | None = _row(None, rules.TEXT, "HH_DATAPOINT_ID", "Data point of that run.", trait=False)
    is_evaluation: bool = _row(False, rules.SWITCH, "",
        "The tracer belongs to an experiment; the three ids together say so too.", trait=False)
    telemetry: bool = _row(True, rules.SWITCH, "HONEYHIVE_TELEMETRY HH_TELEMETRY",
        "Record commit, branch and author of the working directory's repository in a run of `evaluate`.", safe=False)
    experiment_id: str | None = _row(None, rules.TEXT, "HH_EXPERIMENT_ID", "Written on every span.")
    experiment_name: str | None = _row(None, rules.TEXT, "HH_EXPERIMENT_NAME", "Written on every span.")
    experiment_variant: str | None = _row(None, rules.TEXT, "HH_EXPERIMENT_VARIANT", "Written on every span.")
    experiment_group: str | None = _row(None, rules.TEXT, "HH_EXPERIMENT_GROUP", "Written on every span.")
    experiment_metadata: dict[str, Any] | None = _row(None, rules.OBJECT, "HH_EXPERIMENT_METADATA",
        "Each entry is written on every span, as text.")

    # fmt: on

    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    @property
    def local(self) -> bool:
        """Whether nothing leaves this machine: there is no key, or test mode is on, or tracing is off."""
        return self.test_mode or self.disable_tracing or not (self.api_key or self.ingestion_api_key)

    @property
    def sending_key(self) -> str | None:
        """The key for sessions, spans and events: the ingestion key if there is one, else the API key."""
        return self.ingestion_api_key or self.api_key

    @property
    def in_evaluation(self) -> bool:
        """Whether the spans belong to an experiment: `is_evaluation`, or run, dataset and datapoint ids are all set."""
        return self.is_evaluation or bool(self.run_id and self.dataset_id and self.datapoint_id)


@dataclass(frozen=True, slots=True, kw_only=True, init=False, repr=False, eq=False)
class DisplaySettings(_ResolvedSettings):
    """What a notebook does with its cells, resolved. `origins` has the origin of each value by name."""

    # fmt: off
    display: str = _row("auto", rules.one_of("auto", "line", "tree", "off"), "HH_DISPLAY",
        "What a traced cell shows: auto opens on an error, line never, tree always, off shows nothing.")
    auto_instrument: bool = _row(False, rules.SWITCH, "HH_AUTO_INSTRUMENT",
        "Loading the extension traces the LLM libraries that are installed, as `%hh instrument` does.")
    display_rows: int = _row(60, rules.whole(1, "rows"), "HH_DISPLAY_ROWS", "Most rows in one saved output.")
    saved_detail: str = _row("summary", rules.one_of("summary", "preview", "full"), "HH_SAVED_DETAIL",
        "What saved outputs hold of messages, inputs and outputs: summary nothing, preview the beginnings of up to 6 "
        "spans, full all of it, up to 1 MB.")
    saved_link: bool = _row(True, rules.SWITCH, "HH_SAVED_LINK",
        "Put the session's link, or its id, into saved outputs.", safe=False)
    cell_flush_seconds: float = _row(0.5, rules.seconds(), "HH_CELL_FLUSH_SECONDS",
        "Longest wait for delivery after a cell.")
    # fmt: on

    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)


TABLE: Final[Mapping[str, SettingRow]] = MappingProxyType(_rows(Settings) | _rows(DisplaySettings))
DEFAULTS: Final = MappingProxyType(
    {f.name: f.default for kind in (Settings, DisplaySettings) for f in dataclasses.fields(kind) if f.name in TABLE}
)

# Resolving: argument, else trait, else environment, else default.

logger = logging.getLogger(__name__)

CONFIG: Final = "%config HHJupyter"
"""Origin of a trait's value."""
SECRET_NOTE: Final = "a hidden value"
_OURS: Final = ("HH_", "HONEYHIVE_")

_warned: set[tuple[str, str]] = set()
"""Invalid (variable, value) pairs that were logged: a notebook resolves its settings many times."""


def resolve(
    arguments: Mapping[str, Any],
    *,
    traits: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    called: str = "HoneyHiveTracer.init",
) -> Settings:
    """Resolve what decides about tracing and sending; display settings among the arguments are skipped.

    Args:
        arguments: of the call; None means not given.
        traits: values set in the notebook's configuration.
        environ: `os.environ` by default.
        called: name of the call for error messages.

    Raises:
        SettingTypeError: an unknown argument, or one of the wrong type.
        SettingError: an argument whose value its rule forbids. An invalid value in the environment is logged as a
            warning and replaced (`SettingRow.safe`), so that a mistyped URL or off-switch does not leak data.
    """
    values, origins = _resolved(Settings, arguments, traits, os.environ if environ is None else environ, called)
    unusable = [name for name, value in values.items() if value is LOCAL]
    if unusable and not values.get("test_mode"):
        values["test_mode"], origins["test_mode"] = True, origins[unusable[-1]]
    for name in unusable:
        del values[name]
        origins[name] = "default"
    return Settings(**values, origins=MappingProxyType(origins))


def replay_in_force(asked: str) -> str:
    """Return the mode of recordings: the one that was asked for, unless the environment says `only`.

    Who starts a notebook offline must not depend on what its cells ask for.
    """
    return "only" if _from_environment("replay", TABLE["replay"], os.environ)[0] == "only" else asked


def resolve_display(
    arguments: Mapping[str, Any], *, traits: Mapping[str, Any] | None = None, called: str = "HoneyHiveTracer.init"
) -> DisplaySettings:
    """Resolve the display settings, as `resolve` does those of a tracer."""
    values, origins = _resolved(DisplaySettings, arguments, traits, os.environ, called)
    return DisplaySettings(**values, origins=MappingProxyType(origins))


def _resolved(
    kind: type[_ResolvedSettings],
    arguments: Mapping[str, Any],
    traits: Mapping[str, Any] | None,
    environ: Mapping[str, str],
    called: str,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The values that are not defaults, and the origins of all."""
    for name in arguments:
        if name not in TABLE:
            _raise_if_unknown(name, called)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, row in _rows(kind).items():
        value, origins[name] = _from_code(name, arguments, traits or {}, called)
        if value is None:
            value, origins[name] = _from_environment(name, row, environ)
        if value is not None:
            values[name] = value
    return values, origins


def check(name: str, value: Any, *, called: str = "HoneyHiveTracer.init") -> Any:
    """Validate and normalize a value.

    Raises:
        SettingTypeError: wrong type.
        SettingError: a value that the rule forbids.
    """
    row = TABLE[name]
    try:
        return row.rule.check(value)
    except (TypeError, ValueError) as error:
        from hh_jupyter.values import type_name

        got = f"{_shown(name, value, row)} ({type_name(type(value))})"
        text = f"{called}: {name} must be {row.rule.expected}; got {got}. {row.help}"
        raise (SettingTypeError if isinstance(error, TypeError) else SettingError)(text) from None


def _raise_if_unknown(name: str, called: str) -> None:
    from difflib import get_close_matches

    if name in ARGUMENTS:
        return
    near = get_close_matches(name, TABLE, n=1)
    hint = f" Did you mean {near[0]}?" if near else " tracer.settings.describe() lists the settings."
    raise SettingTypeError(f"{called}: unknown setting {name}.{hint}")


def _from_code(name: str, arguments: Mapping[str, Any], traits: Mapping[str, Any], called: str) -> tuple[Any, str]:
    """The argument, else the trait; blank text counts as not given."""
    for origin, given in (("argument", arguments.get(name)), (CONFIG, traits.get(name))):
        value = None if given is None else check(name, given, called=called)
        if value is not None:
            return value, origin
    return None, "default"


def _from_environment(name: str, row: SettingRow, environ: Mapping[str, str]) -> tuple[Any, str]:
    """The value of the first valid variable of the row.

    An invalid `HH_*` or `HONEYHIVE_*` variable is logged once. It results in `SettingRow.safe` if the row has one, else
    it is skipped. Invalid OpenTelemetry variables are skipped silently, since they may be meant for other programs.
    """
    for variable in row.env:
        text = environ.get(variable)
        if text is None or not text.strip():
            continue
        try:
            value = row.rule.parse(text.strip())
        except (TypeError, ValueError):
            if variable.startswith(_OURS):
                _warn(variable, text, name, row)
                if row.safe is not None:
                    return row.safe, variable
            continue
        if value is not None:
            return value, variable
    return None, "default"


def _warn(variable: str, text: str, name: str, row: SettingRow) -> None:
    if (variable, text) in _warned:
        return
    _warned.add((variable, text))
    then = "The default is used."
    if row.safe is not None:
        then = "To be safe, " + ("nothing is sent (local mode)." if row.safe is LOCAL else f"{name} is {row.safe}.")
    logger.warning("%s must be %s; got %s. %s", variable, row.rule.expected, _shown(variable, text, row), then)


def _shown(name: str, value: Any, row: SettingRow) -> str:
    """The redacted value for a message; nothing of a secret setting."""
    if row.secret:
        return SECRET_NOTE
    from hh_jupyter.redaction import shown

    return shown(name, value)


# The display settings in force: a process has one notebook, however many tracers.

_display_settings: DisplaySettings | None = None


def display_settings() -> DisplaySettings:
    """The display settings of this process: those that were set, else those of the environment."""
    return _display_settings or resolve_display({})


def set_display_settings(settings: DisplaySettings | None) -> None:
    """Set the display settings of this process; None: those of the environment."""
    global _display_settings
    _display_settings = settings


# Settings of the official client, and standard variables, that are accepted without effect. The reference lists them
# with the reasons.

UNUSED: Final[Mapping[str, str]] = {
    "There are no caches to tune.": (
        "cache_enabled cache_max_size cache_ttl cache_cleanup_interval HH_CACHE_ENABLED HH_CACHE_MAX_SIZE "
        "HH_CACHE_TTL HH_CACHE_CLEANUP_INTERVAL"
    ),
    "Session, source, project and event type are never cut.": "preserve_core_attributes HH_PRESERVE_CORE_ATTRIBUTES",
    "Spans of HTTP clients come only from an instrumentor that you enable.": (
        "disable_http_tracing HH_DISABLE_HTTP_TRACING HONEYHIVE_DISABLE_HTTP_TRACING"
    ),
    "No lock is taken on your threads, so there is none to tune.": "HH_HIGH_CONCURRENCY",
    "The key never follows a redirect.": "follow_redirects HH_FOLLOW_REDIRECTS",
    "Failed requests are retried with increasing delays while the process runs.": "max_retries HH_MAX_RETRIES",
    "The few connections needed stay open; there is no pool to wait for.": (
        "max_connections max_keepalive_connections keepalive_expiry pool_timeout HH_MAX_CONNECTIONS "
        "HH_MAX_KEEPALIVE_CONNECTIONS HH_KEEPALIVE_EXPIRY HH_POOL_TIMEOUT"
    ),
    "Spans are sent in batches; after a 429 response, sending pauses.": (
        "rate_limit_calls rate_limit_window HH_RATE_LIMIT_CALLS HH_RATE_LIMIT_WINDOW"
    ),
    "See `api_timeout` and `export_timeout`; the variable `HH_TIMEOUT` sets both.": "timeout",
    "It is for reading events back, which this package does not do.": "HH_EXPORT_TIMEOUT_SECONDS",
    "Every span is kept. OpenTelemetry's own `OTEL_TRACES_SAMPLER` works.": "HH_SAMPLING_RATE",
    "Secrets are replaced everywhere, unless `redact` is off.": "HH_SANITIZE_INPUTS HH_SANITIZE_OUTPUTS",
    "There is one URL, `server_url`.": "HH_CP_API_URL",
    "A key for reading a project's data back, which this package does not do. Nothing is sent with it.": (
        "HH_DATA_PLANE_API_KEY"
    ),
    "The official `init` ignores them too; `create_session` and `enrich_session` take them.": (
        "metadata user_properties"
    ),
    "The official `init` ignores it too; `tracer.link(carrier)` does what it says.": "link_carrier",
    'Only `exporter="otlp"` uses them. HoneyHive\'s spans go to `server_url` or `otlp_endpoint`, always compressed.': (
        "OTEL_EXPORTER_OTLP_ENDPOINT OTEL_EXPORTER_OTLP_HEADERS OTEL_EXPORTER_OTLP_CERTIFICATE "
        "OTEL_EXPORTER_OTLP_COMPRESSION OTEL_EXPORTER_OTLP_TIMEOUT"
    ),
    "OpenTelemetry's batch processor is not used; see `batch_size` and `flush_interval`.": (
        "OTEL_BSP_SCHEDULE_DELAY OTEL_BSP_MAX_QUEUE_SIZE OTEL_BSP_MAX_EXPORT_BATCH_SIZE OTEL_BSP_EXPORT_TIMEOUT"
    ),
}
"""Why nothing happens -> the arguments of `HoneyHiveTracer.init`, in lower case, and the variables, in upper case."""

ARGUMENTS: Final = frozenset(name for names in UNUSED.values() for name in names.split() if name.islower())
