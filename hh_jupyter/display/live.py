"""An output that changes while its cell runs, where a front end has one to give.

Who draws something that takes a while, such as a run of an experiment, asks here. The notebook gives such outputs while
its extension is loaded; everywhere else there are none, and whoever asked prints to the terminal instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class LiveOutput(Protocol):
    """One output under the running cell."""

    def draw(self, bundle: Mapping[str, str]) -> None:
        """Show these mime types, or show them in place of what is shown. Call it from the cell's own thread."""

    def in_force(self) -> bool:
        """The cell that it was opened in still runs."""


_open: Callable[[], LiveOutput | None] | None = None
_last: tuple[LiveOutput, object] | None = None


def give_live_outputs(opener: Callable[[], LiveOutput | None] | None) -> None:
    """Let this open outputs from now on; None: nobody does."""
    global _open, _last
    _open, _last = opener, None


def offered() -> bool:
    """A notebook's extension is loaded, so that its magics can be typed."""
    return _open is not None


def open_live_output() -> LiveOutput | None:
    """An output of its own under the running cell, in place of the summary of the cell's spans; None: there is none."""
    return None if _open is None else _open()


def note_shown(output: LiveOutput, value: object) -> None:
    """The output now shows this value: as the cell's result it need not be shown once more."""
    global _last
    _last = (output, value)


def shown_above(value: object) -> bool:
    """The value is what an output of the running cell shows. True once."""
    global _last
    if _last is None or _last[1] is not value:
        return False
    output, _last = _last[0], None
    return output.in_force()
