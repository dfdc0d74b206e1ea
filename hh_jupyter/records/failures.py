"""Failures of calls and spans, each counted once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from hh_jupyter.records.parents import SpanKey, key_of
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.span_node import SpanNode
from hh_jupyter.records.tree import SpanTree
from hh_jupyter.records.twins import within

if TYPE_CHECKING:
    from hh_jupyter.records.calls import Call

_ECHO_SUFFIX: Final = "_error"


def short_name(name: str) -> str:
    """A function's own name, without its module."""
    return name.rpartition(".")[2]


def find_echoes(records: Sequence[SpanRecord]) -> set[SpanKey]:
    """The extra span `<function>_error` that the official SDK makes for an exception: no tool and no second failure."""
    failed = [record for record in records if record.status == "error" and record.error is not None]
    said = {(short_name(r.name) + _ECHO_SUFFIX, r.error.type, r.error.message) for r in failed if r.error is not None}
    return {
        key_of(record)
        for record in failed
        if record.error is not None
        and record.parent_id is None
        and record.name.endswith(_ECHO_SUFFIX)
        and (record.name, record.error.type, record.error.message) in said
    }


def http_status(call: Call) -> str | None:
    """HTTP status of a failed call, as text."""
    if not call.failed:
        return None
    return next((str(span.http_status) for span in call.spans if span.http_status is not None), None)


def count_errors(records: Sequence[SpanRecord], calls: Sequence[Call], echoes: set[SpanKey]) -> int:
    """Where errors began; spans of one call tell of one error."""
    if not any(record.status == "error" for record in records):
        return 0
    call_of = {key_of(span): key_of(call.spans[0]) for call in calls for span in call.spans}
    failed = [node for node in SpanTree.build(records).nodes if node.error in ("uncaught", "caught")]
    told = _told_below(failed)
    origins = {
        call_of.get(key_of(node.record), key_of(node.record)) for node in failed if key_of(node.record) not in told
    }
    return len(origins - echoes)


def _told_below(failed: Sequence[SpanNode]) -> set[SpanKey]:
    """The spans that repeat the error of one below them, where a span between is missing: Strands loses it."""
    lost = [node.record for node in failed if node.parent is None and node.record.parent_id is not None]
    if not lost:
        return set()
    roots = [node.record for node in failed if node.record.parent_id is None]
    return {
        key_of(outer)
        for outer in roots
        if outer.error is not None
        and any(
            inner.error == outer.error
            and inner.trace_id == outer.trace_id
            and within(inner, outer)
            and outer.start_ns <= inner.start_ns
            for inner in lost
        )
    }
