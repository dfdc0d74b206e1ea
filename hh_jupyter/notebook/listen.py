"""`%hh listen`: spans of other programs, under the cell whose trace they continue.

A span that starts in this kernel leaves its origin here, by its id and by that of its trace. A received span takes the
origin of its parent, else that of its trace: session, cell and baggage. Without one it is outside any cell. Then it
goes the way of every span that ended in another process.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import SpanContext

from hh_jupyter import attributes as keys
from hh_jupyter.display.format import count
from hh_jupyter.export.model import EndedSpan, Origin
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.threads import evict_oldest
from hh_jupyter.tracing.tracer import HoneyHiveTracer

if TYPE_CHECKING:
    from hh_jupyter.export.received import ReceivedSpan
    from hh_jupyter.notebook.receiver import Receiver

MAX_ORIGINS: Final = 20_000
"""Number of ids of spans and traces whose origin is remembered."""

MAX_KNOWN: Final = 20_000
"""Number of spans that are remembered, so as not to take one twice."""

FINALIZE_SECONDS: Final = 5.0

_SESSION_KEYS: Final = (keys.SESSION_ID, keys.ASSOCIATION_PREFIX + keys.BAGGAGE_SESSION_ID)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Listener:
    """Receives spans of other programs while it is open.

    Args:
        tracer: records them.
        log: where they are shown.
    """

    def __init__(self, tracer: HoneyHiveTracer, log: SpanLog) -> None:
        self._tracer, self._log = tracer, log
        self._receiver: Receiver | None = None
        self._origins: dict[int, Origin] = {}
        self._known: dict[tuple[int, int], None] = {}

    def open(self) -> str:
        """Listen, if that is not so yet; return the lines that say what other programs need.

        Raises:
            OSError, RuntimeError: it cannot listen; see `Receiver`.
        """
        how = "already listening" if self._receiver else "listening"
        if self._receiver is None:
            from hh_jupyter.notebook.receiver import Receiver  # Late: HTTP and protobuf.

            self._receiver = Receiver(self._take)
            self._tracer.processor.on_origin = self._note_origin
            self._log.listen(self._note_known)
            self._note_known(self._log.records())
        return f"""\
hh: {how} for spans of other programs on this machine. Start them with these variables:
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT={self._receiver.url}
OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf
HH_EXPORTER=otlp
hh: the last one is for programs with a tracer of hh_jupyter. The address is random, and void after %hh listen off or \
the end of this kernel, so it may stay in the notebook."""

    def close(self) -> str:
        """Stop listening; return a line about what was received."""
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return "hh: not listening. %hh listen"
        self._tracer.processor.on_origin = None
        receiver.close()
        self._log.unlisten(self._note_known)
        self._origins, self._known = {}, {}
        return f"hh: no longer listening. {_counts(receiver)}."

    def state(self) -> str | None:
        """Describe what was received so far, for `%hh`; None while not listening."""
        receiver = self._receiver
        return None if receiver is None else f"127.0.0.1:{receiver.port}, {_counts(receiver)}"

    def _note_origin(self, context: SpanContext, origin: Origin) -> None:
        """Remember a span that starts, by two ids of different lengths. Called on any thread."""
        self._origins[context.span_id] = self._origins[context.trace_id] = origin
        evict_oldest(self._origins, MAX_ORIGINS)

    def _note_known(self, records: Sequence[SpanRecord]) -> None:
        self._known.update(dict.fromkeys((record.trace_id, record.span_id) for record in records))
        evict_oldest(self._known, MAX_KNOWN)

    def _take(self, spans: Sequence[ReceivedSpan]) -> str | None:
        """Export spans that were received; see `Receiver`. Spans that are here already are not taken again.

        An exporter sends a batch again if it missed the response, and this kernel's own exporter may send here.
        """
        tracer = self._tracer
        if tracer.settings.disable_tracing:
            return "tracing is off in the notebook (%hh on)"
        new: list[EndedSpan] = []
        for span in sorted(spans, key=lambda span: span.start_time or 0):  # Parents before their children.
            ids = span.context.trace_id, span.context.span_id
            if ids in self._known:
                continue
            self._known[ids] = None
            origin = tracer.processor.origin_of_received(span, self._continued(span))
            if origin is not None:
                new.append(EndedSpan(span, _with_own_session(span, origin)))
        evict_oldest(self._known, MAX_KNOWN)
        new.sort(key=lambda entry: entry.span.end_time or 0)
        tracer.exporter.add_remote(new, ())
        tracer.exporter.wait_finalized(FINALIZE_SECONDS)
        return None

    def _continued(self, span: ReceivedSpan) -> Origin | None:
        of_parent = None if span.parent is None else self._origins.get(span.parent.span_id)
        return of_parent or self._origins.get(span.context.trace_id)


def _with_own_session(span: ReceivedSpan, origin: Origin) -> Origin:
    """Return the origin with the session that the span names, if it was traced with this package or HoneyHive's.

    The attributes that name it are removed: what is no id must not be sent as one.
    """
    found = [span.pop_attribute(key) for key in _SESSION_KEYS]
    session_id = next((each for each in found if isinstance(each, str) and _UUID.fullmatch(each)), None)
    if session_id is None:
        return origin
    return origin._replace(baggage={**origin.baggage, keys.BAGGAGE_SESSION_ID: session_id.lower()})


def _counts(receiver: Receiver) -> str:
    rejected = [f"{count(number, 'span')} rejected: {why}" for why, number in dict(receiver.rejected).items()]
    refused = [f"{count(number, 'request')} refused: {why}" for why, number in dict(receiver.refused).items()]
    return ", ".join([f"{count(receiver.received, 'span')} received", *rejected, *refused])
