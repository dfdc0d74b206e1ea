"""`HoneyHiveTracer`: the settings, provider, sessions, spans and exporter of one tracer.

The class is long because it is the whole documented API; most methods are a few lines over the module that does the
work.
"""

from __future__ import annotations

import copyreg
import logging
import uuid
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Tracer, TracerProvider

from hh_jupyter import attributes as keys
from hh_jupyter import settings as settings_table
from hh_jupyter.export.exporter import Exporter
from hh_jupyter.export.model import Session
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.settings import Settings, replay_in_force
from hh_jupyter.threads import call_off_loop
from hh_jupyter.tracing import propagation, registry, span_store
from hh_jupyter.tracing.context import (
    SessionScope,
    detach,
    from_host,
    has_host,
    set_default_if_unset,
    unset_default,
    warn_not_sending,
    with_session_baggage,
)
from hh_jupyter.tracing.events import event_fields, new_event, queue_event, queue_update
from hh_jupyter.tracing.processor import HoneyHiveSpanProcessor, ProviderBinding
from hh_jupyter.tracing.sessions import RegisterWhen, TracerSessions, caller_name
from hh_jupyter.tracing.spans import SpanBlock, enrich_span
from hh_jupyter.tracing.validation import (
    checked_bool,
    checked_event_type,
    checked_timeout_millis,
    is_given,
    raise_argument_error,
    safe_isinstance,
    warn_argument_once,
    with_config_objects,
)
from hh_jupyter.values import text_of

if TYPE_CHECKING:
    from hh_jupyter.export.spool import Spool

logger = logging.getLogger(__name__)


class HoneyHiveTracer:
    """A tracer with its own API key, backend, start-up session and spans.

    Methods do not wait for the network unless their description says so, and never raise because of it.

    Example:
        >>> tracer = HoneyHiveTracer.init(api_key="...", session_name="nightly")  # doctest: +SKIP
        >>> with tracer.with_session("batch 7"), tracer.start_span("work"):  # doctest: +SKIP
        ...     ...

    Args:
        config, session_config, evaluation_config: dicts or the official SDK's config objects, with its precedence:
            a later one overrides an earlier one, and a keyword overrides all of them.
        settings: any setting of the reference, by name; None means not set.

    Raises:
        SettingTypeError: an unknown setting, or a value of the wrong type.
        SettingError: a value that the setting's rule forbids.
    """

    is_honeyhive_tracer: Final = True
    """Marks the class for modules that cannot import it."""

    def __init__(
        self, config: Any = None, session_config: Any = None, evaluation_config: Any = None, **settings: Any
    ) -> None:
        objects = {"config": config, "session_config": session_config, "evaluation_config": evaluation_config}
        settings = with_config_objects(objects, settings, "HoneyHiveTracer")
        display = settings_table.resolve_display(settings)
        self._start(settings_table.resolve(settings), caller_name(), join=False, register="now")
        if "argument" in display.origins.values() and not has_host():  # A loaded notebook has its own.
            settings_table.set_display_settings(display)
        warn_not_sending(self.settings)
        set_default_if_unset(self)
        self.begin_replay()

    @classmethod
    def init(
        cls, config: Any = None, session_config: Any = None, evaluation_config: Any = None, **settings: Any
    ) -> Self:
        """Return a tracer with these settings.

        In a notebook that has loaded the extension, the call applies the settings to the kernel's tracer and returns
        that. It creates a new tracer if a later call names another key or URL, or with `multi_instance=True`.
        """
        objects = {"config": config, "session_config": session_config, "evaluation_config": evaluation_config}
        settings = with_config_objects(objects, settings, "HoneyHiveTracer.init")
        multi_instance = settings.pop("multi_instance", None)
        if multi_instance is not None and not isinstance(multi_instance, bool):
            rule, then = "True or False", "True creates a tracer in addition to the notebook's."
            raise_argument_error("HoneyHiveTracer.init", "multi_instance", multi_instance, rule, then)
        found = None if multi_instance else from_host(settings)
        return found if isinstance(found, cls) else cls(**settings)

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        name: str,
        join: bool,
        set_global: bool = True,
        register: RegisterWhen = "first_span",
    ) -> Self:
        """Create a tracer for a host that resolves settings itself, such as the notebook or a runtime.

        Args:
            name: the start-up session's name if the settings contain none.
            join: use an existing global provider that other code created.
            set_global: set the tracer's provider as OpenTelemetry's global one if there is none.
            register: when to register the start-up session with the backend.
        """
        tracer = cls.__new__(cls)
        tracer._start(settings, name, join=join, set_global=set_global, register=register)
        set_default_if_unset(tracer)
        return tracer

    def _start(
        self, settings: Settings, name: str, *, join: bool, register: RegisterWhen, set_global: bool = True
    ) -> None:
        self.settings = settings
        # Identifies the tracer in other processes; `id()` values are reused.
        self.uid = uuid.uuid4().hex
        registry.set_verbose(self, settings.verbose)
        self.closed = self._shutdown_result = False
        self._stop_replay: Callable[[], None] | None = None
        # For the notebook, where a session created in a cell also applies to the following cells.
        self.on_session_created: Callable[[Session], None] | None = None
        self.exporter = Exporter(settings, span_store.span_log(), span_store.detail_store())
        self.sessions = TracerSessions(settings, self.exporter)
        self.sessions.start_own(name, register)
        self.processor = HoneyHiveSpanProcessor(
            self.sessions,
            self.exporter.put,
            self.exporter.put_late,
            self.exporter.flush,
            lambda: self.exporter.flush(self.settings.exit_flush_seconds),
            settings.span_name_filters,
        )
        self.provider_binding = ProviderBinding(self.processor, join=join, set_global=set_global)
        if not settings.disable_tracing:
            self.provider_binding.switch_on(settings)
        registry.register(self)
        logger.debug("%r, session_id %s", self, self.session_id)

    def configure(self, settings: Settings) -> None:
        """Apply new settings to spans and sessions created from now on, also another key or URL."""
        before, self.settings = self.settings, settings
        if settings == before:
            return
        registry.set_verbose(self, settings.verbose)
        destination_changed = self.exporter.configure(settings)
        self.sessions.apply(settings)
        if not settings.disable_tracing:
            self.sessions.register_again(destination_changed=destination_changed)
        self.processor.set_filters(settings.span_name_filters)
        if before.disable_tracing != settings.disable_tracing and not self.closed:
            if settings.disable_tracing:
                self.provider_binding.switch_off()
            else:
                self.provider_binding.switch_on(settings)
        if (before.session_name, before.session_id) != (settings.session_name, settings.session_id):
            self.sessions.start_own(self.session_name or "notebook", "first_span")

    def begin_replay(self) -> None:
        """Answer model calls from a recording until the shutdown, if the settings say so; a notebook does by itself."""
        mode = replay_in_force(self.settings.replay)
        if mode == "off" or has_host():
            return
        from hh_jupyter.export.finalize import redactor_of
        from hh_jupyter.recordings import process

        redactor = redactor_of(self.settings) if self.settings.redact else None
        self._stop_replay = process.begin(mode, self.settings.recordings_dir, redactor)

    def end_replay(self) -> None:
        """End what `begin_replay` began."""
        stop, self._stop_replay = self._stop_replay, None
        if stop is not None:
            stop()

    @property
    def exported_elsewhere(self) -> bool:
        """Another exporter of the provider sends the spans to the same destination, so this tracer only shows them."""
        others = self.provider_binding.other_targets()
        return bool(others) and self.exporter.is_exported_elsewhere(others)

    # Properties

    @property
    def enabled(self) -> bool:
        """Whether spans are created and recorded."""
        return self.provider_binding.on

    @property
    def provider(self) -> TracerProvider:
        """The provider that creates the spans, to pass to instrumentors."""
        return self.provider_binding.provider

    @property
    def otel_tracer(self) -> Tracer:
        """The OpenTelemetry tracer of that provider."""
        return self.provider_binding.otel_tracer

    @property
    def session(self) -> Session:
        """The start-up session, with the source and project of its spans; its id is empty if there is none."""
        return self.sessions.own_or_empty

    @property
    def session_id(self) -> str | None:
        """Id of the start-up session in any context; `current_session_id` is that of the current request or block."""
        return self.sessions.own.id if self.sessions.own else None

    @property
    def current_session_id(self) -> str | None:
        """Id of the current session: created, entered or received with a request, else the start-up session's."""
        return self.sessions.current_id()

    @property
    def session_name(self) -> str | None:
        """Name of the start-up session."""
        return self.sessions.own.name if self.sessions.own else self.settings.session_name

    @property
    def project(self) -> str | None:
        """Project name, if set."""
        return self.settings.project

    @property
    def source(self) -> str:
        """The environment in which the code runs, such as "dev"."""
        return self.settings.source

    project_name = project
    source_environment = source

    @property
    def destination(self) -> str | None:
        """Host of the backend; None in local mode."""
        return self.exporter.destination

    @property
    def is_initialized(self) -> bool:
        """True until `shutdown`."""
        return not self.closed

    @property
    def test_mode(self) -> bool:
        """Whether local mode was requested by setting."""
        return self.settings.test_mode

    is_test_mode = test_mode

    @property
    def is_evaluation(self) -> bool:
        """Whether the tracer belongs to an experiment."""
        return self.settings.in_evaluation

    @property
    def run_id(self) -> str | None:
        """Id of the experiment run."""
        return self.settings.run_id

    @property
    def dataset_id(self) -> str | None:
        """Id of the run's dataset."""
        return self.settings.dataset_id

    @property
    def datapoint_id(self) -> str | None:
        """Id of the run's datapoint."""
        return self.settings.datapoint_id

    @property
    def server_url(self) -> str:
        """URL of the backend."""
        return self.settings.server_url

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle the tracer as a handle, by the function that `hh_jupyter` registers with `copyreg`."""
        return copyreg.dispatch_table[HoneyHiveTracer](self)

    def __repr__(self) -> str:
        return f"<HoneyHiveTracer session={self.session_name!r} destination={self.destination or 'local'}>"

    # Sessions

    def new_session(self, name: str | None = None, **fields: Any) -> Session:
        """Create a session without entering it; see `TracerSessions.new` for the fields."""
        return self.sessions.new(name, **fields)

    def create_session(
        self,
        session_name: str | None = None,
        session_id: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        user_properties: Mapping[str, Any] | None = None,
        source: str | None = None,
        skip_api_call: bool = False,
    ) -> str:
        """Start a session and make it current in this context (task, thread). The start-up session is not replaced.

        Args:
            session_id: a UUID of your own; other text is converted to a name-based UUID.
            skip_api_call: link to an existing session; requires `session_id`.

        Returns:
            the session's id; the session is registered with the backend in the background.
        """
        fields = {"inputs": inputs, "metadata": metadata, "user_properties": user_properties, "source": source}
        found = self._enter_session(session_name, session_id, skip_api_call, fields)
        self.exporter.wait_if_immediate()
        return found

    async def acreate_session(
        self,
        session_name: str | None = None,
        session_id: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        user_properties: Mapping[str, Any] | None = None,
        source: str | None = None,
        skip_api_call: bool = False,
    ) -> str:
        """`create_session` for coroutines: same arguments, and it never blocks the event loop."""
        fields = {"inputs": inputs, "metadata": metadata, "user_properties": user_properties, "source": source}
        found = self._enter_session(session_name, session_id, skip_api_call, fields)
        if self.settings.disable_batch:
            await call_off_loop(self.exporter.wait_if_immediate)
        return found

    def _enter_session(
        self, name: str | None, session_id: str | None, skip_api_call: bool, fields: Mapping[str, Any]
    ) -> str:
        skip = checked_bool("create_session", "skip_api_call", skip_api_call, default=False)
        link = skip and is_given(session_id)
        if skip and not link:
            rule, then = "set with skip_api_call=True", "Creating a new session."
            warn_argument_once("create_session", "session_id", None, rule, then)
        session = self.sessions.new(name, session_id=session_id, register="never" if link else "now", **fields)
        otel_context.attach(with_session_baggage(session, self.sessions))
        self.processor.move_request_to(session)
        if self.on_session_created is not None:
            self.on_session_created(session)
        return session.id

    def with_session(
        self,
        session_name: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        user_properties: Mapping[str, Any] | None = None,
        source: str | None = None,
        max_cost: float | None = None,
        max_calls: int | None = None,
    ) -> SessionScope:
        """A session for one block, `with` or `async with`, which yields its id. As a decorator: one session per call.

        The session is created, and registered with the backend, when the block is entered.

        Args:
            max_cost, max_calls: what its model calls may cost, in US dollars, and how many there may be. Further calls
                are not sent: the client raises its error for status 402. Default: the settings of these names.

        Raises:
            SettingError, SettingTypeError: a limit is not valid.
        """
        max_cost, max_calls = (
            None if value is None else settings_table.check(name, value, called="with_session")
            for name, value in (("max_cost", max_cost), ("max_calls", max_calls))
        )

        def session() -> Session:
            return self.sessions.new(
                session_name,
                inputs=inputs,
                metadata=metadata,
                user_properties=user_properties,
                source=source,
                max_cost=max_cost,
                max_calls=max_calls,
            )

        return SessionScope(self, session)

    def session_start(self) -> str:
        """Replace the start-up session by a new one and return its id. Not for servers: it applies to all requests."""
        return self.sessions.replace_own(self.session_name).id

    def enrich_session(
        self,
        metadata: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        feedback: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        user_properties: Mapping[str, Any] | None = None,
        session_id: str | None = None,
        **extra: Any,
    ) -> None:
        """Add fields to a session (default: the current one). Unknown keywords are added to the metadata."""
        found = self.sessions.current_id(session_id)
        fields = event_fields(metadata, metrics, feedback, outputs, config, user_properties, inputs=inputs, extra=extra)
        if found and fields:
            self.update_event(found, fields)

    # Spans and events

    def start_span(
        self,
        name: str,
        *,
        kind: SpanKind | None = None,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> SpanBlock:
        """A span for one block: `with tracer.start_span("work") as span`.

        Exceptions propagate in any case.

        Args:
            kind: the OpenTelemetry span kind: internal (the default), client, server, producer or consumer.
            start_time: Unix nanoseconds; default: now.
            record_exception: record an exception raised in the block as a span event.
            set_status_on_exception: set the span's status to ERROR on an exception.
        """
        return SpanBlock(
            self,
            name,
            kind=kind,
            attributes=attributes,
            links=links,
            start_time=start_time,
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
        )

    def trace(self, name: str, event_type: str | None = None, **attributes: Any) -> SpanBlock:
        """A span with an event type: model, tool or chain."""
        text = checked_event_type("trace", event_type) if event_type is not None else ""
        types = {keys.EVENT_TYPE: text, keys.EVENT_TYPE_DOTTED: text} if text else {}
        return SpanBlock(self, name, attributes={**attributes, **types})

    def enrich_span(
        self,
        attributes: Any = None,
        metadata: Any = None,
        metrics: Any = None,
        feedback: Any = None,
        inputs: Any = None,
        outputs: Any = None,
        config: Any = None,
        user_properties: Any = None,
        error: Any = None,
        event_id: str | None = None,
        update_event_id: str | None = None,
        **extra: Any,
    ) -> bool:
        """Add fields to the current span, like `hh_jupyter.enrich_span`; False if there is no span."""
        extra |= {"user_properties": user_properties, "update_event_id": update_event_id, "tracer": self}
        fields = (attributes, metadata, metrics, feedback, inputs, outputs, config, error, event_id)
        return bool(enrich_span(*fields, **extra))

    def update_event(self, event_id: str, fields: Mapping[str, Any]) -> None:
        """Queue an update of an existing event. A session is updated by its own id."""
        queue_update(self.exporter, event_id, fields)

    def create_event(
        self,
        event_name_or_dict: str | Mapping[str, Any],
        *,
        event_type: str = "tool",
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        error: str | None = None,
        duration: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        feedback: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> str | None:
        """Queue an event that is not a span.

        Args:
            event_name_or_dict: the name, or a dict of all fields.
            duration: milliseconds.
            extra: other fields, such as `session_id`, `parent_id`, `user_properties`.

        Returns:
            the event's id; None if there is no session.
        """
        documented = {
            "event_type": event_type,
            "inputs": inputs,
            "outputs": outputs,
            "error": error,
            "duration": duration,
            "metadata": metadata,
            "config": config,
            "feedback": feedback,
            "metrics": metrics,
        }
        event = new_event(
            event_name_or_dict, documented, {"project": self.project or "", "source": self.source, **extra}
        )
        event["session_id"] = self.sessions.current_id(event.pop("session_id", None))
        return queue_event(self.exporter, event) if event["session_id"] is not None else None

    # Context

    def inject_context(self, carrier: MutableMapping[str, str]) -> None:
        """Write the trace and its session into outgoing headers."""
        propagation.inject(self, carrier)

    def inject(self, carrier: MutableMapping[str, str]) -> MutableMapping[str, str]:
        """`inject_context`, returning the carrier."""
        propagation.inject(self, carrier, "inject")
        return carrier

    def extract_context(self, carrier: Mapping[str, Any]) -> Context:
        """A context from incoming headers (names in any case), to attach or to pass as a context argument."""
        return propagation.extract(carrier)

    def link(self, carrier: Mapping[str, Any]) -> Token[Context]:
        """Continue the trace of incoming headers until the returned token is passed to `unlink`."""
        return otel_context.attach(propagation.extract(carrier, called="link"))

    def unlink(self, _token: Any) -> None:
        """Restore the context from before `link`."""
        if safe_isinstance(_token, Token):
            detach(_token)
        else:
            warn_argument_once("unlink", "_token", _token, "what link() returned", "The context is unchanged.")

    def set_baggage(self, key: str, value: str) -> None:
        """Set an entry of the current context's baggage, which `inject_context` sends along."""
        otel_context.attach(baggage.set_baggage(_baggage_key(key), text_of(value)))

    def get_baggage(self, key: str) -> str | None:
        """An entry of the current context's baggage."""
        value = baggage.get_baggage(_baggage_key(key))
        return None if value is None else text_of(value)

    # Export

    def wait_processed(self, timeout: float = 2.0) -> bool:
        """Wait until all spans that have ended are in the log; False if that takes longer than `timeout` seconds."""
        return self.exporter.wait_finalized(timeout)

    def export_state(self, cell: str | None = None) -> ExportState:
        """The export state of the spans of one cell's run, or of all spans since the destination last changed."""
        return self.exporter.state(cell)

    @property
    def spool(self) -> Spool | None:
        """The spool on disk; None if the setting `spool` is off."""
        return self.exporter.spool

    def send_again(self, session_ids: Collection[str] = ()) -> int:
        """Retry everything that is waiting, paused or rejected; see `Exporter.send_again`."""
        return self.exporter.send_again(session_ids)

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Send all pending spans and requests, waiting at most `timeout_millis`.

        Returns:
            True if the backend accepted everything and nothing was rejected or lost since the previous call. True in
            local mode, where there is nothing to send.
        """
        if self.closed:
            return self._shutdown_result
        return self.exporter.flush(checked_timeout_millis("force_flush", timeout_millis) / 1000)

    def flush(self, timeout_millis: float = 30_000) -> bool:
        """Alias of `force_flush`."""
        return self.force_flush(timeout_millis)

    @classmethod
    def flush_all(cls, timeout_millis: float = 30_000) -> bool:
        """`force_flush` of all tracers of this process, together within `timeout_millis`."""
        return registry.flush_all(checked_timeout_millis("flush_all", timeout_millis) / 1000)

    def shutdown(self) -> None:
        """Flush within `exit_flush_seconds` and stop tracing. The OpenTelemetry provider is not shut down."""
        self.exporter.prepare_exit()
        self.shut_down_within(self.settings.exit_flush_seconds)

    def shut_down_within(self, seconds: float) -> None:
        """`shutdown` with another time budget."""
        if self.closed:
            return
        self.end_replay()
        self.provider_binding.switch_off()
        unset_default(self)
        self._shutdown_result = self.exporter.close(seconds)  # After a Ctrl-C here, shutdown can be called again.
        self.closed = True
        self.sessions.close()
        if not self._shutdown_result:
            registry.warn_unsent(self.exporter)
        registry.unregister(self)
        registry.set_verbose(self, verbose=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()


def _baggage_key(key: str) -> str:
    return text_of(key).lower().replace("-", "_").replace(".", "_").replace(" ", "_")
