"""What a display is given: everything about one cell's output, decided before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from hh_jupyter.display.said import Said
    from hh_jupyter.records.export_state import ExportState
    from hh_jupyter.records.totals import Totals
    from hh_jupyter.records.tree import SpanTree

Detail = Literal["summary", "preview", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing the user should know, below the summary: what, why and where the data is now, what to do next.

    Attributes:
        kind: "error" when something did not work, "info" when all is as it should be.
        title: half a sentence. Example: "3 spans were not sent."
        command: what to type next. Example: "%hh send".
        other: what may be typed instead, where there is no button for it. Example: "%hh save FILE".
    """

    kind: Literal["error", "info"]
    title: str
    text: str
    command: str | None = None
    other: str | None = None

    @property
    def commands(self) -> tuple[str, ...]:
        """What to type next, the best first."""
        return tuple(filter(None, (self.command, self.other)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CellView:
    """One cell's output as data. The same view gives the same output, byte for byte.

    Attributes:
        view_id: id of the output's element in the page.
        label: what users type to name the cell. Example: "4" in `%hh show 4`. Empty where nothing names the spans.
        totals: of all spans of the tree, with those that have no row.
        raised: an exception left the cell.
        interrupted: the cell was interrupted; what had finished is shown.
        running: the cell has not ended; what there is so far is shown.
        late: how many of the spans ended after the cell.
        session_url: link to the session; shown only if it is https.
        mode: "auto" opens when an exception left the cell, "line" never, "tree" always.
        max_rows: rows of the tree at most; what has no row is counted.
        forgotten: spans of the cell that are not in the tree, because only so many are kept.
        errors_only: only rows with an error, and those that lead to one.
        detail: how much of what spans said is in `said`: "summary" nothing, "preview" the beginnings, "full" all of it.
        said: messages, inputs and outputs. The text form has them only if `asked`: a notebook's text stays short.
        unsaid: how many spans are left out of it that may have something to say.
        asked: the view was asked for by a command, with this detail.
        linked: static forms name the session, by a link or its id.
        origin: shown in place of the delivery word, for spans that were made elsewhere. Example: "Read from file".
        file: path of the file that they were read from.
    """

    view_id: str
    label: str
    tree: SpanTree
    totals: Totals
    export: ExportState
    session_name: str | None = None
    session_id: str | None = None
    raised: bool = False
    interrupted: bool = False
    running: bool = False
    late: int = 0
    notice: Notice | None = None
    session_url: str | None = None
    mode: str = "auto"
    max_rows: int = 60
    forgotten: int = 0
    errors_only: bool = False
    detail: Detail = "summary"
    said: tuple[Said, ...] = ()
    unsaid: int = 0
    asked: bool = False
    linked: bool = True
    origin: str | None = None
    file: str | None = None

    @property
    def open(self) -> bool:
        """The tree is shown without being asked for."""
        return self.mode == "tree" or (self.mode == "auto" and self.raised)
