"""Sessions of one tracer: made here, registered with the backend through the outbox, which keeps them in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from hh_jupyter import attributes as keys
from hh_jupyter.delivery import api
from hh_jupyter.delivery.route import Route
from hh_jupyter.delivery.sealing.stamp import Session
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.context import current_cell, entries_for, random_uuid, session_uuid
from hh_jupyter.tracing.validation import is_given
from hh_jupyter.values import as_object, evict_oldest, plain, text_of

REMEMBERED: Final = 256
"""Sessions whose start can be told to another backend, after a change of key or address."""

Register = Literal["now", "first_span", "never"]


class Sessions:
    """Makes sessions and tells which one is in force.

    Attributes:
        own: the tracer's start-up session; None when it was asked not to have one.
        stamp: the same with the tracer's source and project; its id is empty when there is none.
        elsewhere: what stands in for `stamp` outside notebook cells, where no cell's context says which session it is:
            in callbacks of widgets and timers; None mostly.
        address: the backend that knows them.
    """

    def __init__(self, settings: Settings, route: Route) -> None:
        self._route = route
        self.own: Session | None = None
        self.elsewhere: Session | None = None
        self._started: dict[str, dict[str, Any]] = {}
        self._minted: dict[int, Session] = {}
        self._name = ""
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Use other settings from now on."""
        self.settings = settings
        self.address: object = (settings.server_url, settings.sending_key, settings.local)
        self._set_own(self.own)

    def register_again(self) -> None:
        """Tell another backend of the sessions made so far, each with its first span there."""
        for session_id, document in list(self._started.items()):
            self._route.call("session_start", session_id, document, defer=True)

    def _set_own(self, session: Session | None) -> None:
        self.own = session
        # What a span without a session of its own gets; kept ready, because every span asks for it.
        self.stamp = Session(
            session.id if session else "",
            session.name if session else "",
            self.settings.source or None,
            self.settings.project,
        )

    def set_elsewhere(self, session: Session | None) -> None:
        """Use a session outside notebook cells; None for the tracer's own."""
        own = self.stamp
        self.elsewhere = session and session._replace(
            source=session.source or own.source, project=session.project or own.project
        )

    def start_own(self, name: str, register: Register) -> None:
        """Make the start-up session."""
        settings = self.settings
        self._name = settings.session_name or name
        if settings.skip_backend_session_creation:
            register = "never"
            if settings.session_id is None:
                return
        self._set_own(self.new(self._name, session_id=settings.session_id, inputs=settings.inputs, register=register))

    def replace_own(self, name: str | None) -> Session:
        """Make a new session the tracer's own, with the inputs that the start-up session had."""
        session = self.new(name, inputs=self.settings.inputs)
        self._set_own(session)
        return session

    def new(
        self,
        name: str | None = None,
        *,
        session_id: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        user_properties: Mapping[str, Any] | None = None,
        source: str | None = None,
        register: Register = "now",
    ) -> Session:
        """A session that is in force nowhere yet.

        Args:
            name: default: `session-` and eight hex digits.
            session_id: a UUID; other text becomes a name-based UUID and is kept in the metadata.
            register: tell the backend now, with the session's first span, or never because it knows already.
        """
        settings = self.settings
        final_id, given = session_uuid(session_id)
        name = ("" if name is None else text_of(name)) or f"session-{random_uuid()[:8]}"
        source = None if source is None else text_of(source)
        if register != "never":
            ids = {"run_id": settings.run_id, "dataset_id": settings.dataset_id, "datapoint_id": settings.datapoint_id}
            more = {key: value for key, value in ids.items() if value}
            document = api.session_start(
                session_id=final_id,
                name=name,
                source=settings.source if source is None else source,
                project=settings.project,
                inputs=None if inputs is None else as_object(plain(inputs)),
                session_metadata={
                    **more,
                    **({"session_id_given": given} if given else {}),
                    **as_object(plain(metadata)),
                },
                user_properties=as_object(plain(user_properties)),
            )
            self._started[final_id] = document
            evict_oldest(self._started, REMEMBERED)
            self._route.call("session_start", final_id, document, defer=register == "first_span")
        return Session(final_id, name, source)

    def name_of(self, session_id: str) -> str | None:
        """The name of a session made here, one of the latest; None for others."""
        document = self._started.get(session_id)
        return None if document is None else str(document["session"]["session_name"])

    def minted_for(self, span: ReadableSpan) -> Session:
        """The session of a span that belongs to none: a request's root makes one, which its trace shares.

        A root is a span of kind SERVER with no parent in this process (contract, section 6). Others get one without
        an id.
        """
        found = self._minted.get(span.context.trace_id)
        if found is not None:
            return found
        if span.kind is not SpanKind.SERVER or (span.parent is not None and not span.parent.is_remote):
            return self.stamp
        own = self.stamp
        made = Session(random_uuid(), self._name, own.source, own.project, auto=True)
        self._minted[span.context.trace_id] = made
        evict_oldest(self._minted, REMEMBERED)
        return made

    def current_id(self, explicit: str | None = None) -> str | None:
        """The session in force: the explicit one, else baggage, else the tracer's own, else the request's."""
        if is_given(explicit):
            return session_uuid(explicit)[0]
        found = entries_for(self, otel_context.get_current()).get(keys.BAGGAGE_SESSION_ID)
        if found:
            return str(found)
        if self.elsewhere is not None and current_cell() is None:
            return self.elsewhere.id
        session = self.own or self._minted.get(otel_trace.get_current_span().get_span_context().trace_id)
        return session.id if session else None
