"""The sessions of one tracer: created here, and registered with the backend through the exporter."""

from __future__ import annotations

import functools
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Literal

from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from hh_jupyter import attributes as keys
from hh_jupyter.export import endpoint
from hh_jupyter.export.exporter import Exporter
from hh_jupyter.export.model import Session
from hh_jupyter.settings import Settings
from hh_jupyter.threads import evict_oldest
from hh_jupyter.tracing.context import current_cell, has_host, random_uuid, visible_baggage
from hh_jupyter.tracing.validation import is_given, safe_isinstance, warn_once
from hh_jupyter.values import as_object, plain, text_of

if TYPE_CHECKING:  # Late: where nothing is limited, nothing of it is imported.
    from hh_jupyter.recordings.budget import Budget

MAX_REMEMBERED: Final = 256
"""Sessions that can be registered again with another backend, after a change of key or URL."""

_PACKAGE: Final = str(Path(__file__).resolve().parent.parent)

RegisterWhen = Literal["now", "first_span", "never"]


class TracerSessions:
    """Creates sessions and determines the current one.

    Attributes:
        own: the tracer's start-up session; None if its settings ask for none.
        own_or_empty: `own` with the tracer's source and project; its id is empty if there is no session.
        outside_cells: replaces `own_or_empty` for code that runs outside notebook cells, such as callbacks of widgets
            and timers, where the context holds no session; usually None.
        destination: the backend that the sessions are registered with.
    """

    def __init__(self, settings: Settings, exporter: Exporter) -> None:
        self._exporter = exporter
        self.own: Session | None = None
        self.outside_cells: Session | None = None
        self._started: dict[str, dict[str, Any]] = {}
        self._made_while_off: set[str] = set()
        self._auto_sessions: dict[int, Session] = {}
        self._name = ""
        self._budgets: dict[str, Budget] = {}
        self._limited_by_settings: set[str] = set()
        self._process_limited = False
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Use new settings."""
        self.settings = settings
        self.destination: object = (settings.server_url, settings.sending_key, settings.local)
        for session_id in self._limited_by_settings & self._budgets.keys():
            budget = self._budgets[session_id]
            budget.max_cost, budget.max_calls = settings.max_cost, settings.max_calls
        self._set_own(self.own)

    def register_again(self, *, destination_changed: bool) -> None:
        """Register sessions, each with its first span from now on.

        Args:
            destination_changed: all sessions created so far, with the other backend; if not, only those that were
                created while tracing was off.
        """
        for session_id, document in list(self._started.items()):
            if destination_changed or session_id in self._made_while_off:
                self._exporter.request("session_start", session_id, document, defer=True)
        self._made_while_off.clear()

    def _set_own(self, session: Session | None) -> None:
        self.own = session
        # Computed in advance: every span without a session of its own reads it.
        self.own_or_empty = Session(
            session.id if session else "",
            session.name if session else "",
            self.settings.source or None,
            self.settings.project,
        )
        self._limit_process()

    def set_outside_cells(self, session: Session | None) -> None:
        """Set the session for code outside notebook cells; None for the tracer's own."""
        own = self.own_or_empty
        self.outside_cells = session and session._replace(
            source=session.source or own.source, project=session.project or own.project
        )

    def start_own(self, name: str, register: RegisterWhen) -> None:
        """Create the start-up session."""
        settings = self.settings
        self._name = settings.session_name or name
        if settings.skip_backend_session_creation:
            register = "never"
            if settings.session_id is None:
                return
        self._set_own(self.new(self._name, session_id=settings.session_id, inputs=settings.inputs, register=register))

    def replace_own(self, name: str | None) -> Session:
        """Create a session with the inputs of the start-up session and make it the tracer's own."""
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
        register: RegisterWhen = "now",
        max_cost: float | None = None,
        max_calls: int | None = None,
        raise_with: str = "with_session(..., {name}={value})",
        nested: bool = True,
    ) -> Session:
        """Create a session without making it the current one.

        Args:
            name: default: `session-` and eight hex digits.
            session_id: a UUID; other text is converted to a name-based UUID and kept in the metadata.
            register: when to register it with the backend: now, with its first span, or never because it exists there.
            max_cost, max_calls, raise_with, nested: the limit of its model calls, see `limit`.
        """
        settings = self.settings
        final_id, original_id = session_uuid(session_id)
        name = ("" if name is None else text_of(name)) or f"session-{random_uuid()[:8]}"
        source = None if source is None else text_of(source)
        if register != "never":
            ids = {"run_id": settings.run_id, "dataset_id": settings.dataset_id, "datapoint_id": settings.datapoint_id}
            document = endpoint.session_start(
                session_id=final_id,
                name=name,
                source=settings.source if source is None else source,
                project=settings.project,
                inputs=None if inputs is None else as_object(plain(inputs)),
                session_metadata={
                    **{key: value for key, value in ids.items() if value},
                    **({"session_id_given": original_id} if original_id else {}),
                    **as_object(plain(metadata)),
                },
                user_properties=as_object(plain(user_properties)),
            )
            self._started[final_id] = document
            evict_oldest(self._started, MAX_REMEMBERED)
            if settings.disable_tracing:
                self._made_while_off.add(final_id)
            self._exporter.request("session_start", final_id, document, defer=register == "first_span")
        self.limit(final_id, max_cost, max_calls, raise_with, nested=nested)
        return Session(final_id, name, source)

    def name_of(self, session_id: str) -> str | None:
        """The name of a session that this tracer created recently; None for other sessions."""
        document = self._started.get(session_id)
        return None if document is None else str(document["session"]["session_name"])

    # What the model calls of a session may cost. Nothing of it is imported where nothing is limited.

    def limit(
        self, session_id: str, max_cost: float | None, max_calls: int | None, raise_with: str, *, nested: bool = True
    ) -> None:
        """Set the limit of a session: what it has spent stays. Without one, the settings limit a new session.

        Args:
            max_cost: US dollars; None: unchanged.
            max_calls: number of calls; None: unchanged.
            raise_with: as in `Budget`.
            nested: a new budget counts towards that of the current session too.
        """
        settings = self.settings
        by_settings = max_cost is None and max_calls is None
        budget = self._budgets.get(session_id)
        if budget is not None and not by_settings:
            budget.max_cost = budget.max_cost if max_cost is None else max_cost
            budget.max_calls = budget.max_calls if max_calls is None else max_calls
            budget.raise_with = raise_with
            self._limited_by_settings.discard(session_id)
        if budget is not None or (by_settings and settings.max_cost is None and settings.max_calls is None):
            return
        from hh_jupyter.recordings.budget import Budget
        from hh_jupyter.recordings.limit import context_budget

        outer = context_budget() if nested else None
        if by_settings:
            self._limited_by_settings.add(session_id)
            budget = Budget(settings.max_cost, settings.max_calls, outer=outer, raise_with=self._setting())
        else:
            max_cost = settings.max_cost if max_cost is None else max_cost
            max_calls = settings.max_calls if max_calls is None else max_calls
            budget = Budget(max_cost, max_calls, outer=outer, raise_with=raise_with)
        self._budgets[session_id] = budget
        evict_oldest(self._budgets, MAX_REMEMBERED)

    @contextmanager
    def limited(self, raise_with: str, max_cost: float | None, max_calls: int | None) -> Iterator[Budget | None]:
        """Limit the model calls of a block, of all sessions in it together; default: as the settings say."""
        settings = self.settings
        if max_cost is None and max_calls is None and settings.max_cost is None and settings.max_calls is None:
            yield None
            return
        from hh_jupyter.recordings.budget import Budget
        from hh_jupyter.recordings.limit import context_budget, limited

        max_cost = settings.max_cost if max_cost is None else max_cost
        max_calls = settings.max_calls if max_calls is None else max_calls
        with limited(Budget(max_cost, max_calls, outer=context_budget(), raise_with=raise_with)) as budget:
            yield budget

    def _setting(self) -> str:
        """How the setting of the limit is changed where it was made."""
        origins = {self.settings.origins.get(name) for name in ("max_cost", "max_calls")}
        if has_host():
            return "%config HHJupyter.{name} = {value}"
        return "HoneyHiveTracer.init({name}={value})" if "argument" in origins else "{variable}={value}"

    def budget(self, session_id: str | None) -> Budget | None:
        """The budget of a session; None if it has no limit."""
        return self._budgets.get(session_id or "")

    def with_budget(self, session_id: str, context: Context) -> Context:
        """`context` with the budget of a session; unchanged if it has none."""
        budget = self._budgets.get(session_id)
        if budget is None:
            return context
        from hh_jupyter.recordings.limit import with_budget

        return with_budget(budget, context)

    def keep_budget(self, session_id: str) -> Callable[[], None] | None:
        """Keep the budget of a session in force, and return what ends that; None if it has none."""
        budget = self._budgets.get(session_id)
        if budget is None:
            return None
        from hh_jupyter.recordings.limit import enter, leave

        enter(budget)
        return functools.partial(leave, budget)

    def _limit_process(self) -> None:
        """Limit the code outside other sessions, as the settings say."""
        own = self.own.id if self.own else ""
        limited = self.settings.max_cost is not None or self.settings.max_calls is not None
        if not limited and not self._process_limited:
            return
        from hh_jupyter.recordings.limit import let_process_go, limit_process

        if limited:
            self.limit(own, None, None, "", nested=False)
            limit_process(self, self._budgets[own])
        else:
            let_process_go(self)
        self._process_limited = limited

    def close(self) -> None:
        """Limit nothing from now on."""
        if self._process_limited:
            from hh_jupyter.recordings.limit import let_process_go

            let_process_go(self)
            self._process_limited = False

    def auto_session_for(self, span: ReadableSpan) -> Session:
        """The session of a span that has none: the root span of a request creates one, which its trace shares.

        A root span has kind SERVER and no parent in this process. Other spans get a session without an id.
        """
        session = self._auto_sessions.get(span.context.trace_id)
        if session is not None:
            return session
        if span.kind is not SpanKind.SERVER or (span.parent is not None and not span.parent.is_remote):
            return self.own_or_empty
        own = self.own_or_empty
        session = Session(random_uuid(), self._name, own.source, own.project, auto=True)
        self._auto_sessions[span.context.trace_id] = session
        evict_oldest(self._auto_sessions, MAX_REMEMBERED)
        return session

    def current_id(self, explicit: str | None = None) -> str | None:
        """Id of the current session: `explicit`, else from baggage, else the tracer's own, else the request's."""
        if is_given(explicit):
            return session_uuid(explicit)[0]
        from_baggage = visible_baggage(self, otel_context.get_current()).get(keys.BAGGAGE_SESSION_ID)
        if from_baggage:
            return str(from_baggage)
        if self.outside_cells is not None and current_cell() is None:
            return self.outside_cells.id
        session = self.own or self._auto_sessions.get(otel_trace.get_current_span().get_span_context().trace_id)
        return session.id if session else None


def session_uuid(text: Any) -> tuple[str, str | None]:
    """A session id from a caller's argument. The backend accepts UUIDs only.

    Args:
        text: a UUID, any other text, or None or empty for a new random id.

    Returns:
        the id in lower case, and the original text if it was not a UUID: then the id is the UUID v5 derived from it,
        which is the same in every service.
    """
    if not is_given(text):
        return random_uuid(), None
    # Not by `text_of`, which turns all bytes of one length into the same text.
    text = text.decode("utf-8", "replace") if safe_isinstance(text, bytes) else text_of(text)
    try:
        return str(uuid.UUID(text)), None
    except ValueError:
        return _name_based(text), text


@functools.lru_cache(maxsize=1024)  # May be called for every span.
def _name_based(text: str) -> str:
    from hh_jupyter.records.selection import derived_id  # Late: most programs never need it.

    derived = derived_id(text)
    # Only the first one: a server with its own kind of ids would fill its log.
    using = f"using the UUID v5 derived from it, {derived}. (Further ids are converted silently.)"
    warn_once("session_id", f"session id {{}} is not a UUID; {using}", text)
    return derived


def caller_name() -> str:
    """File name, without `.py`, of the calling code outside this package; "notebook" in a cell. Names the session."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    if frame is None:
        return "unknown"
    path = Path(frame.f_code.co_filename)
    # A kernel compiles cells under generated names: "<ipython-input-...>", "/tmp/ipykernel_123/456.py".
    if path.name.startswith("<") or path.parent.name.startswith("ipykernel_"):
        return "notebook"
    return path.stem
