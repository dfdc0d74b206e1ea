"""The settings: one table, and the one place that decides where a value comes from.

Every field of `Settings` is one row of the table: argument, environment variables, default, rule, one sentence. The
README's table, the traitlets of the notebook and the checks are made from it. Order of precedence: argument, trait,
environment, default. Nothing is read at import and nothing is cached.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from hh_jupyter import setting_rules as rules
from hh_jupyter.errors import SettingError, SettingTypeError

logger = logging.getLogger(__name__)

DEFAULT_SERVER_URL: Final = "https://api.dp1.us.honeyhive.ai"
SECRET_NOTE: Final = "a hidden value"

ACCEPTED_WITHOUT_EFFECT: Final = frozenset(
    {
        # The official SDK's caches and lock tuning: this tracer has neither.
        "cache_enabled", "cache_max_size", "cache_ttl", "cache_cleanup_interval",
        # Core attributes are never evicted here, so there is nothing to preserve.
        "preserve_core_attributes",
        # HTTP client spans are the business of the instrumentor that makes them.
        "disable_http_tracing",
        # Accepted and without effect in the official SDK as well.
        "metadata", "user_properties", "link_carrier",
    }
)  # fmt: skip
"""Keywords of the official `init` that have nothing to do here; accepted so that programs keep working."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the settings table, apart from name and default.

    Attributes:
        help: one sentence.
        env: environment variables, the first is the documented one.
        secret: the value is never shown, logged or configurable by trait.
        trait: the notebook offers it as `c.HHJupyter.<name>`.
    """

    help: str
    rule: rules.Rule
    env: tuple[str, ...] = ()
    secret: bool = False
    trait: bool = True


def _row(default: Any, rule: rules.Rule, help: str, *env: str, secret: bool = False, trait: bool = True) -> Any:  # noqa: A002
    row = Row(help, rule, env, secret, trait and not secret)
    return field(default=default, metadata={"row": row})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set, resolved. `origins` says for each name where its value came from."""

    api_key: str | None = _row(
        None,
        rules.KEY,
        "Key of the project. Without one, local mode: nothing leaves the machine.",
        "HH_API_KEY",
        "HONEYHIVE_API_KEY",
        secret=True,
    )
    ingestion_api_key: str | None = _row(
        None,
        rules.INGESTION,
        "Key that may only send; used for sessions, spans and events instead of `api_key`.",
        "HH_INGESTION_API_KEY",
        secret=True,
    )
    server_url: str = _row(
        DEFAULT_SERVER_URL,
        rules.URL,
        "Address of the backend.",
        "HH_API_URL",
        "HONEYHIVE_SERVER_URL",
        "HH_SERVER_URL",
    )
    app_url: str | None = _row(
        None,
        rules.LINK,
        "Address of a session in the web application, with `{session_id}` in it; the summary then links there.",
        "HH_APP_URL",
    )
    project: str | None = _row(
        None,
        rules.TEXT,
        "Project name; the key decides the project, so this is a label.",
        "HH_PROJECT",
        "HONEYHIVE_PROJECT",
    )
    source: str = _row("dev", rules.TEXT, "Where the code runs: dev, staging, prod.", "HH_SOURCE")
    session_name: str | None = _row(
        None,
        rules.TEXT,
        "Name of the start-up session; default: the script's or notebook's name.",
        "HH_SESSION_NAME",
    )
    session_id: str | None = _row(
        None,
        rules.KEY,
        "Id of the start-up session; a UUID, other text becomes a name-based UUID.",
        "HH_SESSION_ID",
        trait=False,
    )
    inputs: dict[str, Any] | None = _row(None, rules.OBJECT, "Inputs of the start-up session.", trait=False)
    test_mode: bool = _row(False, rules.SWITCH, "Local mode even with a key.", "HH_TEST_MODE")
    disable_tracing: bool = _row(False, rules.SWITCH, "Make no spans at all.", "HH_DISABLE_TRACING")
    disable_batch: bool = _row(
        False,
        rules.SWITCH,
        "Send each span as it ends; the caller waits for the verdict, 2 s at most.",
        "HH_DISABLE_BATCH",
    )
    skip_backend_session_creation: bool = _row(
        False,
        rules.SWITCH,
        "Do not register the start-up session; it exists already.",
        trait=False,
    )
    verbose: bool = _row(False, rules.SWITCH, "Log debug lines to standard error.", "HH_VERBOSE")
    capture_inputs: bool = _row(True, rules.SWITCH, "Record the arguments of decorated functions.", "HH_CAPTURE_INPUTS")
    capture_outputs: bool = _row(True, rules.SWITCH, "Record the results of decorated functions.", "HH_CAPTURE_OUTPUTS")
    redact: bool = _row(True, rules.SWITCH, "Replace secrets before anything is sent or shown.", "HH_REDACT")
    redact_keys: tuple[str, ...] = _row((), rules.NAMES, "More key names whose values are secrets.", "HH_REDACT_KEYS")
    redact_patterns: tuple[str, ...] = _row(
        (), rules.PATTERNS, "Regular expressions of more secret values.", "HH_REDACT_PATTERNS"
    )
    display: str = _row(
        "auto",
        rules.one_of("auto", "line", "tree", "off"),
        "What a traced cell shows: auto opens on an error, line never, tree always, off shows nothing.",
        "HH_DISPLAY",
    )
    display_rows: int = _row(60, rules.whole(1, "rows"), "Most rows in one saved output.", "HH_DISPLAY_ROWS")
    cell_flush_seconds: float = _row(
        0.5, rules.seconds(), "Longest wait for delivery after a cell.", "HH_CELL_FLUSH_SECONDS"
    )
    exit_flush_seconds: float = _row(
        2.0, rules.seconds(), "Longest wait for delivery at exit.", "HH_EXIT_FLUSH_SECONDS"
    )
    batch_size: int = _row(
        100,
        rules.whole(1, "spans"),
        "Spans that are sent without waiting for more; a backlog goes in larger requests.",
        "HH_BATCH_SIZE",
    )
    flush_interval: float = _row(
        5.0, rules.seconds(0.01), "Longest time a span waits for its batch to fill.", "HH_FLUSH_INTERVAL"
    )
    api_timeout: float = _row(5.0, rules.seconds(0.01), "Longest wait for one answer.", "HH_API_TIMEOUT")
    otlp_protocol: str = _row(
        "http/protobuf",
        rules.one_of("http/protobuf", "http/json"),
        "Encoding of spans on the wire.",
        "HH_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    )
    span_name_filters: Mapping[str, tuple[str, ...]] | None = _row(
        None,
        rules.FILTERS,
        "Name prefixes of spans to keep or to leave out.",
        "HH_SPAN_NAME_FILTERS",
        trait=False,
    )
    max_attributes: int = _row(1024, rules.whole(1, "attributes"), "Attributes kept on a span.", "HH_MAX_ATTRIBUTES")
    max_events: int = _row(1024, rules.whole(0, "events"), "Events kept on a span.", "HH_MAX_EVENTS")
    max_links: int = _row(128, rules.whole(0, "links"), "Links kept on a span.", "HH_MAX_LINKS")
    max_span_size: int = _row(
        10 * 1024 * 1024, rules.whole(1024, "bytes"), "Bytes of attributes kept on a span.", "HH_MAX_SPAN_SIZE"
    )
    run_id: str | None = _row(None, rules.TEXT, "Experiment run that the spans belong to.", "HH_RUN_ID", trait=False)
    dataset_id: str | None = _row(None, rules.TEXT, "Data set of that run.", "HH_DATASET_ID", trait=False)
    datapoint_id: str | None = _row(None, rules.TEXT, "Data point of that run.", "HH_DATAPOINT_ID", trait=False)
    is_evaluation: bool = _row(False, rules.SWITCH, "The tracer belongs to an experiment.", trait=False)
    requests_session: Any = _row(
        None, rules.ANYTHING, "A `requests.Session` to send with; never closed here.", trait=False
    )
    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # fmt: skip

    @property
    def local(self) -> bool:
        """No key or test mode: spans stay on this machine."""
        return self.test_mode or not (self.api_key or self.ingestion_api_key)

    @property
    def sending_key(self) -> str | None:
        """The credential of sessions, spans and events (contract, section 1)."""
        return self.ingestion_api_key or self.api_key

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name, row in TABLE.items() if not row.secret)
        return f"Settings({', '.join(shown)})"


TABLE: Final[Mapping[str, Row]] = MappingProxyType(
    {f.name: f.metadata["row"] for f in dataclasses.fields(Settings) if "row" in f.metadata}
)
DEFAULTS: Final = MappingProxyType({f.name: f.default for f in dataclasses.fields(Settings) if "row" in f.metadata})


def resolve(
    arguments: Mapping[str, Any],
    *,
    traits: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    called: str = "HoneyHiveTracer.init",
) -> Settings:
    """Decide every setting.

    Args:
        arguments: what the caller gave; None means not given.
        traits: values of the notebook's configuration that somebody set.
        environ: default `os.environ`.
        called: the call to name in error messages.

    Raises:
        SettingTypeError: an unknown argument, or one of the wrong type.
        SettingError: an argument whose value its rule forbids. The same mistake in the environment is a warning.
    """
    unknown = [name for name in arguments if name not in TABLE and name not in ACCEPTED_WITHOUT_EFFECT]
    if unknown:
        raise SettingTypeError(_unknown_text(unknown[0], called))
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, row in TABLE.items():
        value, origin = None, "default"
        for source, given in (("argument", arguments.get(name)), ("%config HHJupyter", (traits or {}).get(name))):
            if value is None and given is not None:
                value, origin = check(name, given, called=called), source
        if value is None:
            value, origin = _from_environment(row, environ)
        if value is not None:
            values[name] = value
        origins[name] = origin
    return Settings(**values, origins=MappingProxyType(origins))


def check(name: str, value: Any, *, called: str = "HoneyHiveTracer.init") -> Any:
    """`value` in its final form, or the error that tells what is wrong with it.

    Raises:
        SettingTypeError: wrong type.
        SettingError: a value that the rule forbids.
    """
    row = TABLE[name]
    try:
        return row.rule.check(value)
    except (TypeError, ValueError) as error:
        shown = SECRET_NOTE if row.secret else f"{value!r:.80}"
        text = f"{called}: {name} must be {row.rule.says}; got {shown} ({type(value).__name__}). {row.help}"
        raise (SettingTypeError if isinstance(error, TypeError) else SettingError)(text) from None


def _unknown_text(name: str, called: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, TABLE, n=1)
    hint = f" Did you mean {near[0]}?" if near else " The settings are listed in the README."
    return f"{called}: unknown setting {name}.{hint}"


def _from_environment(row: Row, environ: Mapping[str, str]) -> tuple[Any, str]:
    """The first variable of the row that is set and good; a bad one is said and passed over."""
    for variable in row.env:
        text = environ.get(variable)
        if text is None or not text.strip():
            continue
        try:
            value = row.rule.parse(text)
        except (TypeError, ValueError):
            shown = SECRET_NOTE if row.secret else f"{text!r:.80}"
            logger.warning("%s must be %s; got %s. The default is used.", variable, row.rule.says, shown)
            continue
        if value is not None:
            return value, variable
    return None, "default"
