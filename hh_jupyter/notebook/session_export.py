"""What became of the spans of a session: delivery is counted by cell and kept on disk by session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from hh_jupyter.delivery.spool.record import LOCAL
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.tracing import registry

if TYPE_CHECKING:
    from hh_jupyter.delivery.spool.record import StoredSession
    from hh_jupyter.tracing.tracer import HoneyHiveTracer


def export_of_cell(cell: str, tracer: HoneyHiveTracer) -> ExportState:
    """What became of the spans of one cell's run."""
    state = registry.cell_state(cell)
    # After an unload no tracer is registered any more; what became of the spans is what its last one says.
    return state if state.told else tracer.export_state(cell)


def export_of_session(
    rows: Sequence[SpanRecord], stored: Sequence[StoredSession], tracer: HoneyHiveTracer
) -> ExportState:
    """What became of one session, in this kernel as its cells say; but what is on disk was not sent.

    Args:
        rows: of this kernel.
        stored: what is on disk of it, at least one part if there are no rows.
        tracer: of this kernel.
    """
    if not rows:
        return _of_stored(stored)
    export = export_of(rows, tracer)
    own = [part for part in stored if part.here]
    left = min(len(rows), sum(part.spans for part in own))
    if left == len(rows) and all(part.destination == LOCAL for part in own):
        return ExportState(None, made=len(rows))
    stays = any(part.destination == LOCAL for part in own)  # And is not on its way.
    return export._replace(sent=min(export.sent, len(rows) - left), failing=export.failing or stays)


def export_of(rows: Collection[SpanRecord], tracer: HoneyHiveTracer) -> ExportState:
    """What became of these spans, as far as their cells tell; where a cell lost some, the worst is said of each part.

    Args:
        rows: at least one.
        tracer: of this kernel; its counts of everything stand for spans that belong to no cell.
    """
    by_cell: dict[str | None, int] = defaultdict(int)
    for row in rows:
        by_cell[row.cell] += 1
    states = {cell: export_of_cell(cell, tracer) if cell is not None else tracer.export_state() for cell in by_cell}
    going = [state for state in states.values() if state.destination is not None]
    if not going:
        return ExportState(None, made=len(rows))
    left_to_others = min(len(rows), sum(state.left for state in going))
    made = len(rows) - left_to_others
    sent = min(made, sum(_sent_at_least(states[cell], number) for cell, number in by_cell.items()))
    worst = max(going, key=lambda state: state.made - state.sent)
    left = made - sent
    return worst._replace(
        # Those that stay on this machine are not on their way.
        failing=any(state.failing for state in going) or len(going) < len(states),
        made=made,
        left=left_to_others,
        sent=sent,
        parked=min(left, sum(state.parked for state in going)),
        dropped=min(left, sum(state.dropped for state in going)),
        waiting=min(left, sum(state.waiting for state in going)),
    )


def _sent_at_least(state: ExportState, number: int) -> int:
    """Of so many spans among those that the state is about."""
    return max(0, number - (state.made - state.sent))


def _of_stored(stored: Sequence[StoredSession]) -> ExportState:
    """Of a session that another kernel made: what is on disk was not sent."""
    made = sum(part.spans for part in stored)
    host = next((host_of(part.destination) for part in stored if part.destination != LOCAL), None)
    return ExportState(host, made=made, waiting=made if host else 0, failing=host is not None)


def host_of(destination: str) -> str:
    """Host of a destination as the spool names it, "https://api.example/path#0f3a"."""
    from urllib.parse import urlsplit

    return urlsplit(destination).netloc or destination
