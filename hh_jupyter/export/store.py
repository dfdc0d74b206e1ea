"""Keeps the encoded bodies of recent spans, so that a display can load the details that a record does not hold.

The worker is the only one that changes the store; any thread may read. The queue holds the same objects, so this needs
no second copy.
"""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hh_jupyter.records.record import SpanDetails, SpanRecord


class BodySource(Protocol):
    """A further source of bodies, such as a spool."""

    def bodies(self, session_id: str) -> list[bytes]:
        """Return the encoded spans of a session."""


class BodyStore:
    """The latest bodies, up to a limit in bytes; the oldest are evicted first.

    A lookup scans the ids of all bodies, which takes less than a millisecond in a full store. An index by span id would
    cost 100 bytes per span.

    Args:
        max_bytes: limit on the total length of the bodies.

    Attributes:
        elsewhere: returns further sources, for bodies that were evicted.
        run: runs a function on the worker and returns its result.
    """

    def __init__(self, max_bytes: int = 32 * 1024 * 1024) -> None:
        self.max_bytes = max_bytes
        self.run: Callable[[Callable[[], None]], None] = lambda change: change()
        self.elsewhere: Callable[[], Iterable[BodySource]] = tuple
        self._bodies: deque[tuple[bytes, array[int]]] = deque()
        self._bytes = 0

    def add(self, body: bytes, span_ids: Sequence[int]) -> None:
        """Store the body that holds these spans. Called on the worker only."""
        self._bodies.append((body, array("Q", span_ids)))
        self._bytes += len(body)
        while self._bytes > self.max_bytes and self._bodies:
            self._bytes -= len(self._bodies.popleft()[0])

    def clear(self) -> None:
        """Remove all bodies from memory."""
        self._bodies, self._bytes = deque(), 0

    def change(self, span_id: int, change: Callable[[bytes], bytes | None]) -> bytes | None:
        """Replace the latest body that holds this span by the result of `change`, and return the new body.

        Returns None and changes nothing if no body holds the span or `change` returns None. Called on the worker only.
        """
        for index in range(len(self._bodies) - 1, -1, -1):
            body, span_ids = self._bodies[index]
            if span_id in span_ids:
                new = change(body)
                if new is not None:
                    self._bodies[index] = (new, span_ids)
                    self._bytes += len(new) - len(body)
                return new
        return None

    def load(self, record: SpanRecord) -> SpanDetails | None:
        """Return the details of a record, or None if its body is neither in memory nor on disk."""
        from hh_jupyter.export import otlp  # Imported here because it loads protobuf.
        from hh_jupyter.records.record import ForeignRecord

        if isinstance(record, ForeignRecord):
            return record.source.details(record)
        held = [body for body, span_ids in reversed(self._held()) if record.span_id in span_ids]
        for body in held or self._from_elsewhere(record):
            if (found := otlp.find_span(body, record.span_id, record.trace_id)) is not None:
                return found
        return None

    def load_all(self, records: Sequence[SpanRecord]) -> dict[tuple[int, int], SpanDetails]:
        """Return the details of records by trace and span id, without those that are neither in memory nor on disk.

        Each body is decoded once.
        """
        from hh_jupyter.export import otlp
        from hh_jupyter.records.record import ForeignRecord

        found = {}
        for record in records:
            if isinstance(record, ForeignRecord) and (details := record.source.details(record)) is not None:
                found[record.trace_id, record.span_id] = details
        wanted = {(record.trace_id, record.span_id) for record in records if not isinstance(record, ForeignRecord)}
        for body in self.bodies_of([record for record in records if not isinstance(record, ForeignRecord)]):
            found |= {ids: details for ids, details in otlp.all_details(body) if ids in wanted}
        return found

    def candidates(
        self, records: Sequence[SpanRecord], wanted: Callable[[bytes], bool]
    ) -> dict[tuple[int, int], Callable[[], SpanDetails]]:
        """Return the spans whose bytes a condition selects, by trace and span id, and how to decode each.

        Args:
            records: the spans to look at; the result may have others of the same bodies.
            wanted: tells of an encoded request or span whether it may hold what is searched. To look at the bytes takes
                a hundredth of the time of decoding them.
        """
        from hh_jupyter.export import otlp

        found: dict[tuple[int, int], Callable[[], SpanDetails]] = {}
        for body in self.bodies_of(records):
            if wanted(body):
                found |= otlp.candidates(body, wanted)
        return found

    def bodies(self, span_ids: Iterable[int]) -> list[bytes]:
        """Return the bodies in memory that hold these spans, each once, in the order of the spans."""
        place = {span_id: body for body, held in self._held() for span_id in held}
        found = {id(body): body for span_id in span_ids if (body := place.get(span_id)) is not None}
        return list(found.values())

    def bodies_of(self, records: Sequence[SpanRecord]) -> list[bytes]:
        """Return the bodies that hold the spans of these records, from memory or disk, except those that are gone."""
        from hh_jupyter.records.record import ForeignRecord

        by_source = defaultdict(list)
        for record in records:
            if isinstance(record, ForeignRecord):
                by_source[id(record.source)].append(record)
        found = [body for rows in by_source.values() for body in rows[0].source.bodies(rows)]
        own = [record for record in records if not isinstance(record, ForeignRecord)]
        found += self.bodies(record.span_id for record in own)
        here = {span_id for _, held in self._held() for span_id in held}
        missing = [record for record in own if record.span_id not in here]
        sessions = dict.fromkeys(record.session_id for record in missing if record.session_id is not None)
        return found + [body for source in self.elsewhere() for session in sessions for body in source.bodies(session)]

    def _held(self) -> list[tuple[bytes, array[int]]]:
        """Return all bodies, although the worker may change the store at the same time."""
        while True:
            try:
                return list(self._bodies)
            except RuntimeError:  # It changed during the copy.
                continue

    def _from_elsewhere(self, record: SpanRecord) -> list[bytes]:
        """Return the body with this record's span from another source, and store it in memory."""
        from hh_jupyter.export import otlp

        for source in self.elsewhere() if record.session_id is not None else ():
            for body in source.bodies(record.session_id or ""):
                if record.span_id in (held := otlp.span_ids(body)):
                    self.run(lambda body=body, held=held: self.add(body, held))  # type: ignore[misc]
                    return [body]
        return []
