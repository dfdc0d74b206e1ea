"""Keeps the encoded bodies of recent spans, so that a display can load the details that a row does not hold."""

from __future__ import annotations

import weakref
from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from hh_jupyter.records.log import ReentrantCondition

if TYPE_CHECKING:
    from hh_jupyter.records.record import SpanDetails, SpanRecord


class BodySource(Protocol):
    """A further source of bodies, such as a spool."""

    def bodies(self, session_id: str) -> list[bytes]:
        """Return the encoded spans of a session."""


class DetailStore:
    """An LRU cache of bodies with a limit in bytes. The outbox holds the same objects, so this needs no second copy.

    A lookup scans the ids of all bodies, which takes less than a millisecond in a full store. An index by span id would
    cost 100 bytes per span.

    Args:
        max_bytes: limit on the total length of the bodies.
    """

    def __init__(self, max_bytes: int = 32 * 1024 * 1024) -> None:
        self.max_bytes = max_bytes
        self._bodies: OrderedDict[int, tuple[bytes, array[int]]] = OrderedDict()
        self._bytes = 0
        self._serial = 0
        self._elsewhere: weakref.WeakSet[BodySource] = weakref.WeakSet()
        self.lock = ReentrantCondition()

    def add(self, body: bytes, span_ids: Sequence[int]) -> None:
        """Store the body that holds these spans. Evict the least recently used bodies above the limit."""
        with self.lock:
            self._serial += 1
            self._bodies[self._serial] = (body, array("Q", span_ids))
            self._bytes += len(body)
            while self._bytes > self.max_bytes and self._bodies:
                _, (old, _) = self._bodies.popitem(last=False)
                self._bytes -= len(old)

    def change(self, span_id: int, change: Callable[[bytes], bytes | None]) -> bytes | None:
        """Replace the latest body that holds this span with the result of `change`, and return the new body.

        Returns None and changes nothing if no body holds the span or `change` returns None.
        """
        old = next(iter(self._of(span_id)), None)
        new = None if old is None else change(old)
        if old is None or new is None:
            return None
        with self.lock:
            serial = next((serial for serial, (body, _) in self._bodies.items() if body is old), None)
            if serial is not None:
                self._bodies[serial] = (new, self._bodies[serial][1])
                self._bytes += len(new) - len(old)
        return new

    def look_in(self, source: BodySource) -> None:
        """Also look for bodies in this source. The store holds only a weak reference to it."""
        self._elsewhere.add(source)

    def load(self, record: SpanRecord) -> SpanDetails | None:
        """Return the details of a row, or None if its body is neither in memory nor on disk."""
        from hh_jupyter.delivery.sealing import otlp  # Imported here because it loads protobuf.
        from hh_jupyter.delivery.sealing.foreign_spans import ForeignRecord

        if isinstance(record, ForeignRecord):
            return record.source.details(record)
        for body in self._of(record.span_id) or self._from_disk(record):
            if (found := otlp.find_span(body, record.span_id, record.trace_id)) is not None:
                return found
        return None

    def bodies(self, span_ids: Iterable[int]) -> list[bytes]:
        """Return the bodies in memory that hold these spans, each once, in the order of the spans."""
        with self.lock:
            place = {span_id: serial for serial, (_, held) in self._bodies.items() for span_id in held}
            serials = dict.fromkeys(place[span_id] for span_id in span_ids if span_id in place)
            return [self._bodies[serial][0] for serial in serials]

    def bodies_of(self, records: Sequence[SpanRecord]) -> list[bytes]:
        """Return the bodies that hold the spans of these rows, from memory or disk, except those that are gone."""
        from hh_jupyter.delivery.sealing.foreign_spans import ForeignRecord

        by_source = defaultdict(list)
        for record in records:
            if isinstance(record, ForeignRecord):
                by_source[id(record.source)].append(record)
        foreign = [body for rows in by_source.values() for body in rows[0].source.bodies(rows)]
        records = [record for record in records if not isinstance(record, ForeignRecord)]
        found = [*foreign, *self.bodies(record.span_id for record in records)]
        with self.lock:
            here = {span_id for _, held in self._bodies.values() for span_id in held}
        missing = [record for record in records if record.span_id not in here]
        sessions = dict.fromkeys(record.session_id for record in missing if record.session_id is not None)
        for source in self._sources():
            found += [body for session in sessions for body in source.bodies(session)]
        return found

    def clear(self) -> None:
        """Remove all bodies from memory."""
        with self.lock:
            self._bodies.clear()
            self._bytes = 0

    def _sources(self) -> tuple[BodySource, ...]:
        return tuple(self._elsewhere)

    def _from_disk(self, record: SpanRecord) -> list[bytes]:
        """Return the body with this row's span from a spool, and store it in memory."""
        from hh_jupyter.delivery.sealing import otlp

        for source in self._sources() if record.session_id is not None else ():
            for body in source.bodies(record.session_id or ""):
                if record.span_id in (held := otlp.span_ids(body)):
                    self.add(body, held)
                    return [body]
        return []

    def _of(self, span_id: int) -> list[bytes]:
        """Return the bodies with a span of this id, latest first, and mark them as recently used."""
        with self.lock:
            serials = [serial for serial, (_, held) in self._bodies.items() if span_id in held]
            for serial in serials:
                self._bodies.move_to_end(serial)
            return [self._bodies[serial][0] for serial in reversed(serials)]
