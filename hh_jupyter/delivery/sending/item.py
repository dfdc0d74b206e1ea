"""Items to send, the batches formed from refused requests, and the requests in flight."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from hh_jupyter.delivery.sending.target import Target

Kind = Literal["session_start", "event_update", "event_create", "spans"]


class Call(NamedTuple):
    """A call to the backend, not yet redacted or encoded.

    Attributes:
        session_id: id of the session or event; calls with the same id keep their order.
        document: JSON-compatible data.
        defer: send it only before the session's first span or update.
    """

    kind: Kind
    session_id: str
    document: Mapping[str, Any]
    defer: bool = False


@dataclass(slots=True, eq=False)
class Item:
    """A body to send, with its retry state.

    Attributes:
        body: encoded body; empty while only the spool holds it.
        spans: number of spans; 0 for a call.
        cell: notebook cell in which the spans started.
        key: row in the spool, or None.
        size: size of the body in bytes, in memory or in the spool.
        serial: position in the order of arrival.
        tries: number of failed attempts.
        not_before: earliest time of the next attempt, on the `time.monotonic` clock.
        failed_at: time of the first failure, 0 before it.
        gave_way: a session's start that no longer blocks its session.
        background: retried after it was given up; `flush` does not wait for it.
        whole: the original item, if this item is a piece of it.
        by_others: targets that other exporters send these spans to.
    """

    kind: Kind
    session_id: str
    body: bytes
    spans: int = 0
    cell: str | None = None
    key: int | None = None
    added: float = field(default_factory=time.monotonic)
    size: int = 0
    serial: int = 0
    tries: int = 0
    not_before: float = 0.0
    failed_at: float = 0.0
    gave_way: bool = False
    background: bool = False
    whole: Whole | None = None
    by_others: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        self.size = len(self.body)

    def fresh(self) -> None:
        """Reset the retry state and make the item due at once."""
        self.added = self.not_before = self.failed_at = 0.0
        self.tries = 0
        self.gave_way = self.background = False


@dataclass(slots=True, eq=False)
class Whole:
    """An item that was cut into pieces. Its row stays in the spool until every piece has a verdict.

    Attributes:
        pieces: number of pieces.
        verdicts: reason for each refused piece, None for each accepted one. Pieces without a verdict are missing.
    """

    item: Item
    pieces: int
    verdicts: dict[Item, str | None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Family:
    """All batches that one refused batch was split into.

    Attributes:
        refusals_left: refusals allowed before the remaining batches are parked unsplit. The limit avoids one request
            per span to a backend that refuses everything.
        accepted: one of the batches was accepted, so the backend works.
    """

    refusals_left: int
    accepted: bool = False


@dataclass(slots=True, eq=False)
class Batch:
    """Spans that were refused together and stay together, so that the offending span can be found.

    Attributes:
        items: in order of arrival.
        refusals: number of 5xx answers to exactly these spans.
        tries, not_before, failed_at: as in `Item`.
        family: shared by all batches split from the same batch; None before the first split.
    """

    items: list[Item]
    refusals: int = 0
    tries: int = 0
    not_before: float = 0.0
    failed_at: float = 0.0
    family: Family | None = None

    @property
    def spans(self) -> int:
        """Number of spans."""
        return sum(item.spans for item in self.items)

    @property
    def serial(self) -> int:
        """Position in the order of arrival."""
        return self.items[0].serial


@dataclass(slots=True, eq=False)
class Flight:
    """A request in flight.

    Attributes:
        batch: the batch it carries, if its spans were refused before.
        began: start time, on the `time.monotonic` clock.
        probe: sent to check whether the backend is reachable again.
    """

    items: tuple[Item, ...]
    batch: Batch | None
    began: float
    probe: bool = False
