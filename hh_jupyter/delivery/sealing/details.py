"""The encoded bodies of recent spans, kept so that a display can ask for what a row leaves out."""

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
    """Where bodies may be as well: a spool."""

    def bodies(self, session_id: str) -> list[bytes]:
        """The encoded spans of a session."""


class DetailStore:
    """Least recently used bodies up to a number of bytes. The outbox holds the same objects, so nothing is doubled.

    A body is found by looking through the ids of all, which takes less than a millisecond for those of a full store; an
    index by span would cost each span 100 bytes.

    Args:
        max_bytes: bound on the sum of the bodies' lengths.
    """

    def __init__(self, max_bytes: int = 32 * 1024 * 1024) -> None:
        self.max_bytes = max_bytes
        self._bodies: OrderedDict[int, tuple[bytes, array[int]]] = OrderedDict()
        self._bytes = 0
        self._serial = 0
        self._elsewhere: weakref.WeakSet[BodySource] = weakref.WeakSet()
        self.lock = ReentrantCondition()

    def add(self, body: bytes, span_ids: Sequence[int]) -> None:
        """Keep the body that holds these spans; forget the least recently used ones above the bound."""
        with self.lock:
            self._serial += 1
            self._bodies[self._serial] = (body, array("Q", span_ids))
            self._bytes += len(body)
            while self._bytes > self.max_bytes and self._bodies:
                _, (old, _) = self._bodies.popitem(last=False)
                self._bytes -= len(old)

    def change(self, span_id: int, change: Callable[[bytes], bytes | None]) -> bytes | None:
        """Replace the latest body that holds this span by the result of `change`, and return that.

        Returns None and changes nothing if no body holds the span, or `change` returns None.
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
        """Look for what is no longer here in a spool too, as long as that lives."""
        self._elsewhere.add(source)

    def load(self, record: SpanRecord) -> SpanDetails | None:
        """The details of a row, or None when its body is no longer kept, neither here nor on disk."""
        from hh_jupyter.delivery.sealing import otlp  # Loads protobuf: only when somebody looks.
        from hh_jupyter.delivery.sealing.foreign_spans import ForeignRecord

        if isinstance(record, ForeignRecord):
            return record.source.details(record)
        for body in self._of(record.span_id) or self._from_disk(record):
            if (found := otlp.find_span(body, record.span_id, record.trace_id)) is not None:
                return found
        return None

    def bodies(self, span_ids: Iterable[int]) -> list[bytes]:
        """The bodies here that hold these spans, each once, in the order of the spans."""
        with self.lock:
            place = {span_id: serial for serial, (_, held) in self._bodies.items() for span_id in held}
            serials = dict.fromkeys(place[span_id] for span_id in span_ids if span_id in place)
            return [self._bodies[serial][0] for serial in serials]

    def bodies_of(self, records: Sequence[SpanRecord]) -> list[bytes]:
        """The bodies that hold the spans of these rows, here or on disk; what is no longer kept is missing."""
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
        """Forget everything."""
        with self.lock:
            self._bodies.clear()
            self._bytes = 0

    def _sources(self) -> tuple[BodySource, ...]:
        return tuple(self._elsewhere)

    def _from_disk(self, record: SpanRecord) -> list[bytes]:
        """The body with this row's span from a spool; it is kept here from now on."""
        from hh_jupyter.delivery.sealing import otlp

        for source in self._sources() if record.session_id is not None else ():
            for body in source.bodies(record.session_id or ""):
                if record.span_id in (held := otlp.span_ids(body)):
                    self.add(body, held)
                    return [body]
        return []

    def _of(self, span_id: int) -> list[bytes]:
        """The bodies with a span of this id, the latest first; they are used now."""
        with self.lock:
            serials = [serial for serial, (_, held) in self._bodies.items() if span_id in held]
            for serial in serials:
                self._bodies.move_to_end(serial)
            return [self._bodies[serial][0] for serial in reversed(serials)]
