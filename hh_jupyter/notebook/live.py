"""Outputs that change while their cell runs: given to whoever draws something that takes a while, such as a run.

They take the place of the summary of the cell's spans, so that the cell has one output.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from hh_jupyter.notebook.cell_frame import CellFrame
from hh_jupyter.notebook.cell_output import view_id_of
from hh_jupyter.notebook.cells import Cells
from hh_jupyter.notebook.screen import Screen


class LiveOutputs:
    """Opens them under the running cell.

    Args:
        cells: tells which cell that is.
        screen: where outputs go.
    """

    def __init__(self, cells: Cells, screen: Screen) -> None:
        self._cells, self._screen = cells, screen

    def open(self) -> CellLiveOutput | None:
        """One under the running cell; None in a terminal, and where no cell runs."""
        frame = self._cells.running()
        if frame is None or not self._screen.live:
            return None
        frame.show = frame.show or "off"
        return CellLiveOutput(frame, self._cells, self._screen)


class CellLiveOutput:
    """See `hh_jupyter.display.live.LiveOutput`."""

    def __init__(self, frame: CellFrame, cells: Cells, screen: Screen) -> None:
        self._frame, self._cells, self._screen = frame, cells, screen
        self._id = f"hh-live-{frame.key}-{secrets.token_hex(3)}"
        # Running the cell again must not change more of the saved file than what it shows.
        self._view_id = f"{view_id_of(frame.cell_id, frame.label)}-run"
        self._drawn = False

    def draw(self, bundle: Mapping[str, str]) -> None:
        """Show it, or change what is shown."""
        self._screen.publish(bundle, self._view_id, self._id, update=self._drawn)
        self._drawn = True

    def in_force(self) -> bool:
        """The cell still runs, and it is this one that asks."""
        return self._cells.running() is self._frame
