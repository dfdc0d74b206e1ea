"""One run of a cell as far as its output is concerned: names, how it ended, what it shows."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from hh_jupyter.display.view import CellView, Detail
    from hh_jupyter.records.export_state import ExportState

_DOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class OutputState(NamedTuple):
    """What an output's picture depends on.

    Attributes:
        spans: how many have arrived.
        export: what became of them.
        prices: they are known.
        overdue: as in `CellOutput`.
        changes: number of changes to its spans by late events.
    """

    spans: int
    export: ExportState
    prices: bool
    overdue: bool
    changes: int


@dataclass(slots=True, eq=False)
class CellOutput:
    """What is shown for one run of a cell; equal to nothing but itself.

    Attributes:
        key: of the cell's run, on its spans.
        display_id: what updates are addressed to; unlike `view_id` never used twice.
        survived_ns: when the cell had ended without an exception, in Unix nanoseconds; None if one left it.
        late: spans that ended after the cell.
        overdue: the wait after the cell ended before all was delivered.
        changes: number of changes to its spans by late events.
        place: of an output that is still to be shown, under a cell that ended without spans.
        state: what the last drawing showed at least; unequal to now when there is something to change.
        fixed: of an output that is no cell's: what it shows. Its spans stay the same, what became of them does not.
        export: tells what became of them.
        asked: shown by a command, and not by itself.
        detail: how much of what spans said is in it, if the command says; else the setting does.
        errors_only: only what failed is shown.
        told: of one that a widget of its own shows, and nothing else: told when there is something new. Any thread.
    """

    key: str
    label: str
    view_id: str
    display_id: str
    mode: str
    raised: bool = False
    interrupted: bool = False
    survived_ns: int | None = None
    late: int = 0
    overdue: bool = False
    changes: int = 0
    place: object = None
    state: OutputState | None = None
    fixed: CellView | None = None
    export: Callable[[], ExportState] | None = None
    asked: bool = False
    detail: Detail | None = None
    errors_only: bool = False
    told: Callable[[str], None] | None = None

    def end(self, ended_ns: int, *, raised: bool, interrupted: bool) -> None:
        """The cell has ended, at this moment in Unix nanoseconds."""
        self.raised, self.interrupted = raised, interrupted
        self.survived_ns = None if raised else ended_ns

    def end_like(self, other: CellOutput) -> None:
        """This one is of the same run as another."""
        self.raised, self.interrupted = other.raised, other.interrupted
        self.survived_ns, self.late = other.survived_ns, other.late


def view_id_of(cell_id: str | None, label: str) -> str:
    """The output's id in the page: the cell's own id, so that running it again does not change the saved file.

    Some front ends use a whole URL as the id of a cell; those are hashed.
    """
    if cell_id is None:
        return f"hh-{label}"
    safe = cell_id if _DOM_ID.fullmatch(cell_id) else hashlib.blake2s(cell_id.encode(), digest_size=6).hexdigest()
    return f"hh-{safe}"
