"""Details come from encoded bodies, in memory up to a limit or on disk, and never from a live object."""

from __future__ import annotations

from dataclasses import replace

from hh_jupyter.conventions.facts import SpanFacts
from hh_jupyter.export.final_span import FinalizePolicy, final_span
from hh_jupyter.export.model import Origin, Session
from hh_jupyter.export.otlp import encode
from hh_jupyter.export.store import BodyStore
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.redaction import Redactor
from tests.spans import recorded

POLICY = FinalizePolicy(Redactor(enabled=True, keys=(), patterns=(), environ={}, secrets=[]))
ORIGIN = Origin({}, Session("0b5e9d0a-0000-4000-8000-000000000001", "s"), None, None)


def finalized(name: str) -> list[tuple[bytes, SpanRecord]]:
    """Return each span of a recording as a separate body, with its row."""
    pairs = [final_span(span, ORIGIN, POLICY, span.resource) for span in recorded(name)]
    return [(encode([final]), row) for final, row in pairs]


class SpooledBodies:
    """Bodies by session, like a spool."""

    def __init__(self, *bodies: bytes) -> None:
        self.kept, self.asked = list(bodies), 0

    def bodies(self, session_id: str) -> list[bytes]:
        self.asked += 1
        return self.kept if session_id == (ORIGIN.session.id if ORIGIN.session else "") else []


def test_the_oldest_bodies_are_evicted_first() -> None:
    (first, one), (second, two), (third, three) = finalized("openinference-openai-responses.json")[:3]
    store = BodyStore(len(first) + len(second) + len(third) - 1)
    store.add(first, [one.span_id])
    store.add(second, [two.span_id])
    store.add(third, [three.span_id])
    assert store.load(one) is None
    assert store.load(two) is not None
    assert store.load(three) is not None


def test_details_equal_what_was_delivered() -> None:
    body, row = finalized("openinference-openai-chat.json")[0]
    store = BodyStore()
    store.add(body, [row.span_id])
    details = store.load(row)
    assert details is not None
    assert details.attributes["honeyhive_event_type"] == "model"
    assert details.attributes["llm.model_name"] == "gpt-4o-mini-2024-07-18"


def test_the_same_span_id_in_another_trace_is_another_span() -> None:
    body, row = finalized("openinference-openai-chat.json")[0]
    store = BodyStore()
    store.add(body, [row.span_id])
    assert store.load(replace(row, trace_id=row.trace_id ^ 1)) is None


def test_evicted_bodies_are_read_from_disk_once_and_cached_again() -> None:
    body, row = finalized("openinference-openai-chat.json")[0]
    store, disk = BodyStore(), SpooledBodies(body)
    store.elsewhere = lambda: [disk]
    assert store.load(row) is not None
    assert store.load(row) is not None
    assert disk.asked == 1
    assert store.load(replace(row, session_id=None, span_id=5)) is None
    assert store.bodies_of([row]) == [body]


def test_a_row_without_a_body_has_no_details() -> None:
    row = SpanRecord(1, 2, None, "x", 0, 1, "ok", SpanFacts(), session_id="s")
    assert BodyStore().load(row) is None
