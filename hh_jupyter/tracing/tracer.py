"""`HoneyHiveTracer`: settings, provider, sessions, spans and delivery of one tracer, put together.

Long because it is the whole documented surface; every method is a few lines that hand over to the module in charge.
"""

from __future__ import annotations

import asyncio
import copyreg
import logging
import sys
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from contextvars import Token
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Tracer, TracerProvider

from hh_jupyter import attributes as keys
from hh_jupyter import settings as settings_table
from hh_jupyter.delivery import api
from hh_jupyter.delivery.route import Route
from hh_jupyter.delivery.sealing.stamp import EndedSpan, Session
from hh_jupyter.delivery.sending.item import Call
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.settings import Settings, with_config_objects
from hh_jupyter.tracing import propagation, recorded, registry
from hh_jupyter.tracing.context import (
    SessionScope,
    hosted,
    leave,
    offer_default,
    tell_unsent,
    with_session_baggage,
    withdraw_default,
)
from hh_jupyter.tracing.processor import HoneyHiveSpanProcessor, ProviderBinding
from hh_jupyter.tracing.registry import set_verbose
from hh_jupyter.tracing.sessions import Register, Sessions
from hh_jupyter.tracing.spans import SpanBlock, enrich_span, event_fields, new_event
from hh_jupyter.tracing.validation import event_type_text, fits, is_given, millis, refuse, switch, tell
from hh_jupyter.values import plain, text_of

if TYPE_CHECKING:
    from hh_jupyter.delivery.spool.store import Spool

# Whose code is calling: the start-up session is named after it.

_PACKAGE: Final = str(Path(__file__).resolve().parent.parent)


def calling_file() -> str:
    """Name, without `.py`, of the file of the nearest frame outside this package; "notebook" for a cell's code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    if frame is None:
        return "unknown"
    path = Path(frame.f_code.co_filename)
    # A kernel compiles cells under made-up names: "<ipython-input-...>", "/tmp/ipykernel_123/456.py".
    if path.name.startswith("<") or path.parent.name.startswith("ipykernel_"):
        return "notebook"
    return path.stem


logger = logging.getLogger(__name__)


class HoneyHiveTracer:
    """One tracer: a key, a backend, a start-up session, and the spans that belong there.

    Nothing here waits for the network unless it says so, and nothing raises because of it.

    Example:
        >>> tracer = HoneyHiveTracer.init(api_key="...", session_name="nightly")  # doctest: +SKIP
        >>> with tracer.with_session("batch 7"), tracer.start_span("work"):  # doctest: +SKIP
        ...     ...

    Args:
        config, session_config, evaluation_config: dicts or the official SDK's config objects, in its order of
            precedence: the later beats the earlier, and a keyword beats all of them.
        settings: any setting of the README's table by name; None means not given.

    Raises:
        SettingTypeError: an unknown setting, or a value of the wrong type.
        SettingError: a value that the setting's rule forbids.
    """

    is_honeyhive_tracer: Final = True
    """By which modules below this one know a tracer."""

    def __init__(
        self, config: Any = None, session_config: Any = None, evaluation_config: Any = None, **settings: Any
    ) -> None:
        objects = {"config": config, "session_config": session_config, "evaluation_config": evaluation_config}
        given = with_config_objects(objects, settings, "HoneyHiveTracer")
        self._start(settings_table.resolve(given), calling_file(), join=False, register="now")
        tell_unsent(self.settings)
        offer_default(self)

    @classmethod
    def init(
        cls, config: Any = None, session_config: Any = None, evaluation_config: Any = None, **settings: Any
    ) -> Self:
        """A tracer with these settings.

        In a notebook that loaded the extension, the first call applies the settings to the kernel's tracer and returns
        it, and so does the same call again; another key or address, or `multi_instance=True`, makes a new one.
        """
        objects = {"config": config, "session_config": session_config, "evaluation_config": evaluation_config}
        settings = with_config_objects(objects, settings, "HoneyHiveTracer.init")
        multi_instance = settings.pop("multi_instance", None)
        if multi_instance is not None and not isinstance(multi_instance, bool):
            refuse(
                "HoneyHiveTracer.init",
                "multi_instance",
                multi_instance,
                "True or False",
                "True makes a tracer beside the notebook's own.",
            )
        found = None if multi_instance else hosted(settings)
        return found if isinstance(found, cls) else cls(**settings)

    @classmethod
    def from_settings(
        cls, settings: Settings, *, name: str, join: bool, set_global: bool = True, register: Register = "first_span"
    ) -> Self:
        """A tracer for a host that resolves settings itself: the notebook, a runtime.

        Args:
            name: of the start-up session when the settings name none.
            join: take the spans of a global provider that somebody else made.
            set_global: become OpenTelemetry's global provider where there is none.
            register: when the backend hears of the start-up session.
        """
        tracer = cls.__new__(cls)
        tracer._start(settings, name, join=join, set_global=set_global, register=register)
        offer_default(tracer)
        return tracer

    def _start(self, settings: Settings, name: str, *, join: bool, register: Register, set_global: bool = True) -> None:
        self.settings = settings
        # Its name in other processes; an address in memory may be another tracer's later.
        self.uid = uuid.uuid4().hex
        set_verbose(self, settings.verbose)
        self.closed = self._closed_clean = False
        # The notebook makes a session created in a cell that of the following cells.
        self.on_session: Callable[[Session], None] | None = None
        self._route = Route(settings, recorded.span_log(), recorded.detail_store())
        self.sessions = Sessions(settings, self._route)
        self.sessions.start_own(name, register)
        self.processor = HoneyHiveSpanProcessor(
            self.sessions,
            self._route.put,
            self._route.put_late,
            self._route.flush,
            self._flush_last,
            settings.span_name_filters,
        )
        self.provider_binding = ProviderBinding(self.processor, join=join, set_global=set_global)
        if not settings.disable_tracing:
            self.provider_binding.switch_on(settings)
        registry.register(self)
        logger.debug("%r, session_id %s", self, self.session_id)

    def configure(self, settings: Settings) -> None:
        """Apply other settings to what is made from now on; another address or key gets what comes after it."""
        before, self.settings = self.settings, settings
        set_verbose(self, settings.verbose)
        elsewhere = self._route.follow(settings)
        self.sessions.apply(settings)
        if elsewhere:
            self.sessions.register_again()
        self.processor.set_filters(settings.span_name_filters)
        if before.disable_tracing != settings.disable_tracing and not self.closed:
            if settings.disable_tracing:
                self.provider_binding.switch_off()
            else:
                self.provider_binding.switch_on(settings)
        if (before.session_name, before.session_id) != (settings.session_name, settings.session_id):
            self.sessions.start_own(self.session_name or "notebook", "first_span")

    @property
    def left_to_others(self) -> bool:
        """The spans are only shown here: another exporter of their provider sends them to the same place."""
        others = self.provider_binding.other_targets()
        return bool(others) and self._route.left_to(others)

    # What it is

    @property
    def enabled(self) -> bool:
        """Spans are made and taken."""
        return self.provider_binding.on

    @property
    def provider(self) -> TracerProvider:
        """The provider that makes the spans, for instrumentors that ask for one."""
        return self.provider_binding.provider

    @property
    def otel_tracer(self) -> Tracer:
        """OpenTelemetry's own tracer of that provider."""
        return self.provider_binding.otel_tracer

    @property
    def session(self) -> Session:
        """The start-up session, with the source and project that its spans carry."""
        return self.sessions.stamp

    @property
    def session_id(self) -> str | None:
        """Id of the start-up session, everywhere; that of the request or block is `current_session_id`."""
        return self.sessions.own.id if self.sessions.own else None

    @property
    def current_session_id(self) -> str | None:
        """Id of the session in force here: made, entered or brought by a request, else the start-up session's."""
        return self.sessions.current_id()

    @property
    def session_name(self) -> str | None:
        """Name of the start-up session."""
        return self.sessions.own.name if self.sessions.own else self.settings.session_name

    @property
    def project(self) -> str | None:
        """Project name, if one was given."""
        return self.settings.project

    @property
    def source(self) -> str:
        """Where the code runs."""
        return self.settings.source

    project_name = project
    source_environment = source

    @property
    def destination(self) -> str | None:
        """Host of the backend; None in local mode."""
        return self._route.destination

    @property
    def is_initialized(self) -> bool:
        """True until `shutdown`."""
        return not self.closed

    @property
    def test_mode(self) -> bool:
        """Local mode by choice."""
        return self.settings.test_mode

    is_test_mode = test_mode

    @property
    def is_evaluation(self) -> bool:
        """Belongs to an experiment."""
        return self.settings.in_evaluation

    @property
    def run_id(self) -> str | None:
        """The experiment's run."""
        return self.settings.run_id

    @property
    def dataset_id(self) -> str | None:
        """The data set of that run."""
        return self.settings.dataset_id

    @property
    def datapoint_id(self) -> str | None:
        """The data point of that run."""
        return self.settings.datapoint_id

    @property
    def server_url(self) -> str:
        """Address of the backend."""
        return self.settings.server_url

    def __reduce__(self) -> str | tuple[Any, ...]:
        """In another process, the tracer of the work that is done there for this one: `hh_jupyter` registers how."""
        return copyreg.dispatch_table[HoneyHiveTracer](self)

    def __repr__(self) -> str:
        return f"<HoneyHiveTracer to {self.destination or 'this machine only'}, session {self.session_name}>"

    # Sessions

    def new_session(self, name: str | None = None, **fields: Any) -> Session:
        """Make a session without entering it; see `Sessions.new` for the fields."""
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
        """Start a session and make it the current one in this context (task, thread); the tracer keeps its own.

        Args:
            session_id: a UUID of your own; other text becomes a name-based UUID.
            skip_api_call: link to a session that exists already; needs `session_id`.

        Returns:
            the id, made here; the backend hears of it in the background.
        """
        found = self._enter_session(
            session_name,
            session_id=session_id,
            inputs=inputs,
            metadata=metadata,
            user_properties=user_properties,
            source=source,
            skip_api_call=skip_api_call,
        )
        self._route.wait_if_immediate()
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
        """`create_session` for coroutines: the same arguments, and the event loop never waits."""
        found = self._enter_session(
            session_name,
            session_id=session_id,
            inputs=inputs,
            metadata=metadata,
            user_properties=user_properties,
            source=source,
            skip_api_call=skip_api_call,
        )
        if self.settings.disable_batch:
            await asyncio.to_thread(self._route.wait_if_immediate)
        return found

    def _enter_session(
        self, session_name: str | None, *, source: str | None = None, skip_api_call: bool = False, **fields: Any
    ) -> str:
        skip = switch("create_session", "skip_api_call", skip_api_call, default=False)
        link = skip and is_given(fields.get("session_id"))
        if skip and not link:
            then = "A new session is made, and the backend is told."
            tell("create_session", "session_id", None, "given with skip_api_call=True", then)
        session = self.sessions.new(session_name, source=source, register="never" if link else "now", **fields)
        otel_context.attach(with_session_baggage(session, self.sessions))
        self.processor.move_request_to(session)
        if self.on_session is not None:
            self.on_session(session)
        return session.id

    def with_session(
        self,
        session_name: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        user_properties: Mapping[str, Any] | None = None,
        source: str | None = None,
    ) -> SessionScope:
        """A session for exactly one block, `with` or `async with`; gives its id. As a decorator: one for each call.

        The session is made, and the backend told, when the block is entered.
        """

        def session() -> Session:
            return self.sessions.new(
                session_name, inputs=inputs, metadata=metadata, user_properties=user_properties, source=source
            )

        return SessionScope(self, session)

    def session_start(self) -> str:
        """Replace the tracer's own session by a new one and return its id. For one user at a time: not for servers."""
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
        """Add fields to a session: the one named, else the current one. Unknown keywords go to the metadata."""
        found = self.sessions.current_id(session_id)
        fields = event_fields(
            inputs=inputs,
            extra=extra,
            metadata=metadata,
            outputs=outputs,
            config=config,
            feedback=feedback,
            metrics=metrics,
            user_properties=user_properties,
        )
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

        Args:
            kind: OpenTelemetry's kind: internal (the default), client, server, producer or consumer.
            start_time: Unix nanoseconds; default: now.
            record_exception: write an exception that leaves the block as an event.
            set_status_on_exception: let it set the status to ERROR. It passes through in any case.
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
        given = event_type_text("trace", event_type) if event_type is not None else ""
        types = {keys.EVENT_TYPE: given, keys.EVENT_TYPE_DOTTED: given} if given else {}
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
        """Add fields to the running span; the arguments of `hh_jupyter.enrich_span`. False if there is no span."""
        done = enrich_span(
            attributes,
            metadata,
            metrics,
            feedback,
            inputs,
            outputs,
            config,
            error,
            event_id,
            self,
            user_properties=user_properties,
            update_event_id=update_event_id,
            **{name: value for name, value in extra.items() if name != "tracer"},  # It is this one.
        )
        return bool(done)

    def update_event(self, event_id: str, fields: Mapping[str, Any]) -> None:
        """Queue an update of an event that exists; a session is the event whose id is the session's."""
        # Field by field: a large one must not use up what the others may have.
        document = {name: plain(value) for name, value in fields.items()}
        self._route.call("event_update", event_id, api.event_update(event_id, document))
        self._route.wait_if_immediate()

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
        """Queue an event that is no span.

        Args:
            event_name_or_dict: the name, or a dict of all fields.
            duration: milliseconds.
            extra: any other field, such as `session_id`, `parent_id`, `user_properties`.

        Returns:
            the event's id, made here; None without a session.
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
        event["session_id"] = session_id = self.sessions.current_id(event.pop("session_id", None))
        if session_id is None:
            return None
        document = {name: plain(value) for name, value in event.items()}
        self._route.call("event_create", session_id, api.event_create(document))
        self._route.wait_if_immediate()
        return str(event["event_id"])

    # Context

    def inject_context(self, carrier: MutableMapping[str, str]) -> None:
        """Write the trace and its session into outgoing headers."""
        propagation.inject(self, carrier)

    def inject(self, carrier: MutableMapping[str, str]) -> MutableMapping[str, str]:
        """`inject_context`, returning the carrier."""
        propagation.inject(self, carrier, "inject")
        return carrier

    def extract_context(self, carrier: Mapping[str, Any]) -> Context:
        """A context from incoming headers, in any case; attach it, or pass it where a context is taken."""
        return propagation.extract(carrier)

    def link(self, carrier: Mapping[str, Any]) -> Token[Context]:
        """Continue the trace of incoming headers until `unlink` is called with what this returns."""
        return otel_context.attach(propagation.extract(carrier, called="link"))

    def unlink(self, _token: Any) -> None:
        """Undo `link`."""
        if fits(_token, Token):
            leave(_token)
        else:
            tell("unlink", "_token", _token, "what link() returned", "The context stays as it is.")

    def set_baggage(self, key: str, value: str) -> None:
        """Put an entry into the current context's baggage; it travels with `inject_context`."""
        otel_context.attach(baggage.set_baggage(_baggage_key(key), text_of(value)))

    def get_baggage(self, key: str) -> str | None:
        """An entry of the current context's baggage."""
        value = baggage.get_baggage(_baggage_key(key))
        return None if value is None else text_of(value)

    # Delivery

    def seal(self, timeout: float = 2.0) -> bool:
        """Wait until every span that ended before is in the log; False if `timeout` seconds were not enough."""
        return self._route.seal(timeout)

    def export_state(self, cell: str | None = None) -> ExportState:
        """What became of the spans of one cell's run, or of all since the destination was last changed."""
        return self._route.state(cell)

    @property
    def spool(self) -> Spool | None:
        """What is kept on disk; None with the setting `spool` off."""
        return self._route.spool

    def take(self, spans: Iterable[EndedSpan], calls: Iterable[tuple[Call, str | None]]) -> None:
        """Take spans and calls that were made in another process for this one, as if they had been made here."""
        own, nearest_kept = self.session, self.processor.nearest_kept
        stamped = (
            EndedSpan(span, stamp._replace(session=own, parent_id=nearest_kept(stamp.parent_id)))
            for span, stamp in spans
        )
        self._route.take(stamped, calls)

    def note_lost(self, reason: str) -> None:
        """Spans were lost before they came here: it is said, and the next flush is not True."""
        self._route.note_lost(reason)

    def send_again(self, session_ids: Collection[str] = ()) -> int:
        """Try everything again that waits, was refused or paused.

        Args:
            session_ids: what these sessions kept on this machine only is sent as well.

        Returns:
            how many such records there were.
        """
        return self._route.send_again(session_ids)

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Send what there is, within `timeout_millis`.

        Returns:
            True only if everything that has a destination was accepted, and nothing was refused or lost since the
            previous call. In local mode nothing has a destination, so True.
        """
        if self.closed:
            return self._closed_clean
        return self._route.flush(millis("force_flush", timeout_millis) / 1000)

    def flush(self, timeout_millis: float = 30_000) -> bool:
        """`force_flush` under its other name."""
        return self.force_flush(timeout_millis)

    @classmethod
    def flush_all(cls, timeout_millis: float = 30_000) -> bool:
        """`force_flush` of every tracer of this process, together within `timeout_millis`."""
        return registry.flush_all(millis("flush_all", timeout_millis) / 1000)

    def shutdown(self) -> None:
        """Send what there is within `exit_flush_seconds`, then trace nothing more. The provider stays as it is."""
        self.make_ready()
        self.shut_down_within(self.settings.exit_flush_seconds)

    def make_ready(self) -> None:
        """Have everything at hand that the last delivery needs, so that its time is the network's."""
        self._route.make_ready()

    def _flush_last(self) -> None:
        self._route.flush(self.settings.exit_flush_seconds)

    def shut_down_within(self, seconds: float) -> None:
        """`shutdown` with another budget."""
        if self.closed:
            return
        self.provider_binding.switch_off()
        withdraw_default(self)
        spool = self._route.spool
        self._closed_clean = self._route.close(seconds)  # After a Ctrl-C here it can be shut down again.
        self.closed = True
        if not self._closed_clean:
            state = self.export_state()
            waiting = state.waiting + state.calls_waiting
            reason = state.reason or f"{waiting} spans and calls waited too long"
            kept = "; it is kept on disk for the next process" if spool is not None and spool.problem is None else ""
            logger.warning("not everything was sent: %s%s", reason, kept)
        registry.unregister(self)
        set_verbose(self, verbose=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()


def _baggage_key(key: str) -> str:
    return text_of(key).lower().replace("-", "_").replace(".", "_").replace(" ", "_")
