"""The settings: one table. Every field of `Settings` is one row: argument, rule, environment variables, one sentence.

The README's table, the traitlets of the notebook and the checks are made from it. `hh_jupyter.settings` decides where a
value comes from.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from hh_jupyter import setting_rules as rules

DEFAULT_SERVER_URL: Final = "https://api.dp1.us.honeyhive.ai"
_SHOWN: Final = 80
"""Characters of a value in `Settings.describe`."""

LOCAL: Final = object()
"""See `Row.safe`."""


class Row(NamedTuple):
    """One row of the settings table, apart from name and default.

    Attributes:
        help: one sentence.
        env: environment variables, the first is the documented one.
        secret: the value is never shown, logged or configurable by trait.
        trait: the notebook offers it as `c.HHJupyter.<name>`.
        safe: what is in force when the text of a variable of ours is wrong; None: the default. Set where the default
            would send, record or write what the text was perhaps meant to prevent. `LOCAL`: nothing is sent at all.
    """

    help: str
    rule: rules.Rule
    env: tuple[str, ...] = ()
    secret: bool = False
    trait: bool = True
    safe: Any = None


class InForce(NamedTuple):
    """A setting as it can be shown.

    Attributes:
        value: as text; of a secret only whether it is set.
        origin: "argument", "%config HHJupyter", the name of the environment variable, or "default"; in a notebook also
            "%hh login", "saved login", "configuration file" and "command line".
    """

    name: str
    value: str
    origin: str


def _row(
    default: Any,
    rule: rules.Rule,
    env: str,
    help: str,  # noqa: A002
    *,
    secret: bool = False,
    trait: bool = True,
    safe: Any = None,
) -> Any:
    row = Row(help, rule, tuple(env.split()), secret, trait and not secret, safe)
    return field(default=default, metadata={"row": row})


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Settings:
    """Everything that can be set, resolved. `origins` says for each name where its value came from."""

    # Who, and where to
    api_key: str | None = _row(None, rules.KEY, "HH_API_KEY HONEYHIVE_API_KEY",
        "Key of the project. Without one, local mode: nothing leaves the machine.", secret=True)
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
        "Send each span as it ends; the caller waits for the verdict, 2 s at most.")
    otlp_enabled: bool = _row(True, rules.SWITCH, "HH_OTLP_ENABLED",
        "Send spans. Without it they stay on this machine; sessions and events are sent.", safe=False)
    verbose: bool = _row(False, rules.SWITCH, "HH_VERBOSE", "Log debug lines to standard error.")

    # What is recorded
    capture_inputs: bool = _row(True, rules.SWITCH, "HH_CAPTURE_INPUTS",
        "Record the arguments of decorated functions.", safe=False)
    capture_outputs: bool = _row(True, rules.SWITCH, "HH_CAPTURE_OUTPUTS",
        "Record the results of decorated functions.", safe=False)
    redact: bool = _row(True, rules.SWITCH, "HH_REDACT", "Replace secrets before anything is sent or shown.")
    redact_keys: tuple[str, ...] = _row((), rules.NAMES, "HH_REDACT_KEYS", "More key names whose values are secrets.")
    redact_patterns: tuple[str, ...] = _row((), rules.PATTERNS, "HH_REDACT_PATTERNS HH_PII_PATTERNS",
        "Regular expressions of more secret values.", safe=LOCAL)
    redact_with: Callable[[str, Any], Any] | None = _row(None, rules.CALLABLE, "",
        "A function that is given each key and value that is left, and returns the value to keep; None hides it.",
        trait=False)
    span_name_filters: Mapping[str, tuple[str, ...]] | None = _row(None, rules.FILTERS, "HH_SPAN_NAME_FILTERS",
        "Name prefixes of spans to keep or to leave out.", trait=False, safe=LOCAL)
    max_attributes: int = _row(1024, rules.whole(1, "attributes"), "HH_MAX_ATTRIBUTES", "Attributes kept on a span.")
    max_events: int = _row(1024, rules.whole(0, "events"), "HH_MAX_EVENTS", "Events kept on a span.")
    max_links: int = _row(128, rules.whole(0, "links"), "HH_MAX_LINKS", "Links kept on a span.")
    max_span_size: int = _row(10 * 1024 * 1024, rules.whole(1024, "bytes"), "HH_MAX_SPAN_SIZE",
        "Bytes of attributes kept on a span.")

    # What a notebook shows
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

    # Delivery
    cell_flush_seconds: float = _row(0.5, rules.seconds(), "HH_CELL_FLUSH_SECONDS",
        "Longest wait for delivery after a cell.")
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
        "Keep a copy on disk of what is to be sent, so that it survives the process; default: in notebooks.",
        safe=False)
    spool_dir: str | None = _row(None, rules.TEXT, "HH_SPOOL_DIR",
        "Folder of these copies; default: `hh_jupyter/spool` where the system keeps a user's data.")
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
        "Note commit, branch and author of the working directory's repository in a run of `evaluate`.", safe=False)
    experiment_id: str | None = _row(None, rules.TEXT, "HH_EXPERIMENT_ID", "Written on every span.")
    experiment_name: str | None = _row(None, rules.TEXT, "HH_EXPERIMENT_NAME", "Written on every span.")
    experiment_variant: str | None = _row(None, rules.TEXT, "HH_EXPERIMENT_VARIANT", "Written on every span.")
    experiment_group: str | None = _row(None, rules.TEXT, "HH_EXPERIMENT_GROUP", "Written on every span.")
    experiment_metadata: dict[str, Any] | None = _row(None, rules.OBJECT, "HH_EXPERIMENT_METADATA",
        "Each entry is written on every span, as text.")

    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    # fmt: on

    @property
    def local(self) -> bool:
        """No key, test mode or tracing off: nothing leaves this machine."""
        return self.test_mode or self.disable_tracing or not (self.api_key or self.ingestion_api_key)

    @property
    def sending_key(self) -> str | None:
        """The credential of sessions, spans and events (contract, section 1)."""
        return self.ingestion_api_key or self.api_key

    @property
    def in_evaluation(self) -> bool:
        """The spans belong to an experiment (contract, section 5)."""
        return self.is_evaluation or bool(self.run_id and self.dataset_id and self.datapoint_id)

    def describe(self) -> tuple[InForce, ...]:
        """Every setting with its value and where that came from, in the order of the table; no secrets."""
        return tuple(
            InForce(name, self._shown(name, row), self.origins.get(name, "default")) for name, row in TABLE.items()
        )

    def _shown(self, name: str, row: Row) -> str:
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
        return f"Settings({', '.join(shown)})"


TABLE: Final[Mapping[str, Row]] = MappingProxyType(
    {f.name: f.metadata["row"] for f in dataclasses.fields(Settings) if "row" in f.metadata}
)
DEFAULTS: Final = MappingProxyType({f.name: f.default for f in dataclasses.fields(Settings) if "row" in f.metadata})
