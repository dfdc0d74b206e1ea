"""The encoded bodies of recent spans, kept so that a display can ask for what a row leaves out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from hh_jupyter.records.reentry import Guard

if TYPE_CHECKING:
    from hh_jupyter.records.record import SpanDetails, SpanRecord


class DetailStore:
    """Least recently used bodies up to a number of bytes. The outbox holds the same objects, so nothing is doubled.

    Args:
        max_bytes: bound on the sum of the bodies' lengths.
    """

    def __init__(self, max_bytes: int = 32 * 1024 * 1024) -> None:
        self.max_bytes = max_bytes
        self._bodies: OrderedDict[int, tuple[bytes, Sequence[int]]] = OrderedDict()
        self._body_of: dict[int, int] = {}
        self._bytes = 0
        self._serial = 0
        self.lock = Guard()

    def add(self, body: bytes, span_ids: Sequence[int]) -> None:
        """Keep the body that holds these spans; forget the oldest ones above the bound."""
        with self.lock:
            self._serial += 1
            self._bodies[self._serial] = (body, span_ids)
            self._body_of.update(dict.fromkeys(span_ids, self._serial))
            self._bytes += len(body)
            while self._bytes > self.max_bytes and self._bodies:
                _, (old, forgotten) = self._bodies.popitem(last=False)
                self._bytes -= len(old)
                for span_id in forgotten:
                    self._body_of.pop(span_id, None)

    def load(self, record: SpanRecord) -> SpanDetails | None:
        """The details of a row, or None when its body is no longer kept."""
        from hh_jupyter.delivery.sealing import otlp  # Loads protobuf: only when somebody looks.

        with self.lock:
            serial = self._body_of.get(record.span_id)
            if serial is None:
                return None
            self._bodies.move_to_end(serial)
            body = self._bodies[serial][0]
        return otlp.find_span(body, record.span_id)

    def bodies(self, span_ids: Iterable[int]) -> list[bytes]:
        """The bodies that hold these spans, each once, in the order of the spans; what is no longer kept is missing."""
        with self.lock:
            serials = dict.fromkeys(self._body_of[span_id] for span_id in span_ids if span_id in self._body_of)
            return [self._bodies[serial][0] for serial in serials]

    def clear(self) -> None:
        """Forget everything."""
        with self.lock:
            self._bodies.clear()
            self._body_of.clear()
            self._bytes = 0
