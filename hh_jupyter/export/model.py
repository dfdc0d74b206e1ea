"""What travels through the export: sessions and origins of spans, requests, and rows of the queue."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from opentelemetry.sdk.trace import Event

from hh_jupyter.records.log import bare_event_id

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

Kind = Literal["session_start", "event_update", "event_create", "spans"]

State = Literal["waiting", "rejected", "sent"]
"""State of a row in the spool. That a row is in flight is known in memory only."""


class Session(NamedTuple):
    """A session, which groups the spans of one conversation or run.

    Attributes:
        id: UUID in lower case.
        source: the environment it ran in, if given for this session; its spans carry it.
        project: the project, if given for this session; its spans carry it.
        auto: the session was not registered; its spans ask the backend to create it when they arrive.
    """

    id: str
    name: str
    source: str | None = None
    project: str | None = None
    auto: bool = False


class RemoteOrigin(NamedTuple):
    """The process that sent the work in which a span was made; the span returns there with the result.

    Attributes:
        process: random name of the process; see `remote.process_name`.
        tracer: id of the tracer in that process.
        cell: id of the notebook cell's run; None outside cells.
        outer: the process to pass the span on to, if that one had received the work from another.
    """

    process: str
    tracer: str
    cell: str | None
    outer: RemoteOrigin | None = None


class Origin(NamedTuple):
    """The context of a span, noted at its start.

    A tuple, because one is created for every span on the program's thread.

    Attributes:
        baggage: all baggage of the context in which the span started; an entry overrides the session's own value.
        session: the tracer's session at span start.
        cell: id of the notebook cell's run; None outside cells.
        parent_id: span id of the nearest ancestor that the filters keep; None for a root.
        remote: the span was made in work for another process.
        events: events of the span that arrived as log records, in addition to its own events. Set at span end.
    """

    baggage: Mapping[str, object]
    session: Session | None
    cell: str | None
    parent_id: int | None
    remote: RemoteOrigin | None = None
    events: tuple[Event, ...] = ()


class LateEvent(NamedTuple):
    """An event that arrived after its span ended."""

    trace_id: int
    span_id: int
    event: Event


class EndedSpan(NamedTuple):
    """An ended span and its origin."""

    span: ReadableSpan
    origin: Origin


class Request(NamedTuple):
    """A call of the backend other than an export of spans, not yet redacted or encoded.

    Attributes:
        session_id: id of the session or event; requests with the same id keep their order.
        document: JSON-compatible data.
        defer: send it only before the session's first span or update.
        about: trace id and span id of the span that the event is about, if the span's event has no id of its own.
    """

    kind: Kind
    session_id: str
    document: Mapping[str, Any]
    defer: bool = False
    about: tuple[int, int] | None = None

    @property
    def creates(self) -> tuple[str, ...]:
        """The ids of the events that exist once it was sent, apart from the session's own."""
        return (str(self.document["event"]["event_id"]),) if self.kind == "event_create" else ()

    @property
    def updates(self) -> str | None:
        """The id of the event that it updates, as `bare_event_id` returns it; None if it is no update."""
        return bare_event_id(str(self.session_id)) if self.kind == "event_update" else None


class Row:
    """One body for one destination, in the queue and in the spool.

    Attributes:
        body: encoded body; empty while only the spool holds it.
        spans: number of spans; 0 for a request.
        cell: notebook cell in which the spans started.
        key: its key in the spool; None if it is not there.
        size: size of the body in bytes, in memory or in the spool.
        serial: position in the order of arrival.
        added: when it was queued, on the `time.monotonic` clock; 0 if it is due at once.
        tries: number of failed attempts.
        not_before: earliest time of the next attempt, on the `time.monotonic` clock.
        failed_at: time of the first failure, 0 before it.
        gave_way: a session's start that no longer blocks its session, or a request that lets others go first.
        background: retried after it was given up; a flush does not wait for it.
        reason: why it was rejected; None if it waits.
        creates: ids of the events that exist once it was sent, as `bare_event_id` returns them.
        updates: id of the event that it updates, likewise; None if it is no update.
    """

    __slots__ = (
        "added",
        "background",
        "body",
        "cell",
        "creates",
        "failed_at",
        "gave_way",
        "key",
        "kind",
        "not_before",
        "reason",
        "serial",
        "session_id",
        "size",
        "spans",
        "tries",
        "updates",
    )

    def __init__(
        self,
        kind: str,
        session_id: str,
        body: bytes,
        spans: int = 0,
        cell: str | None = None,
        key: int | None = None,
        reason: str | None = None,
        creates: Iterable[str] = (),
    ) -> None:
        self.kind, self.session_id, self.body, self.spans, self.cell = kind, session_id, body, spans, cell
        self.key, self.reason = key, reason
        self.size = len(body)
        self.added = time.monotonic()
        self.serial = self.tries = 0
        self.not_before = self.failed_at = 0.0
        self.gave_way = self.background = False
        ids = (session_id,) if kind == "session_start" else creates
        self.creates = frozenset(map(bare_event_id, ids))
        self.updates = bare_event_id(session_id) if kind == "event_update" else None

    def start_over(self) -> None:
        """Forget earlier failures."""
        self.reason, self.gave_way = None, False
        self.not_before = self.failed_at = 0.0
        self.tries = 0
