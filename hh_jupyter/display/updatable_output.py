"""An output under the running cell that can be updated, if the front end supports it.

Code that displays the progress of something long, such as an experiment's run, opens one. The notebook extension
provides such outputs while it is loaded. Elsewhere there are none, and callers print to the terminal instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class UpdatableOutput(Protocol):
    """One output under the running cell.

    Attributes:
        can_update: what is shown can be replaced; if not, only the final state should be shown.
    """

    @property
    def can_update(self) -> bool:
        """See above."""

    def update(self, bundle: Mapping[str, str]) -> None:
        """Show this mime bundle, replacing the previous one. Call it from the thread of the cell."""

    def cell_running(self) -> bool:
        """Whether the cell in which the output was opened is still running."""

    def withdraw(self) -> bool:
        """Remove the output if it is only captured; return whether it was removed.

        A capture notes an empty output for a result that displays nothing.
        """


_factory: Callable[[], UpdatableOutput | None] | None = None
_last: tuple[UpdatableOutput, object] | None = None


def set_output_factory(factory: Callable[[], UpdatableOutput | None] | None) -> None:
    """Set the function that opens outputs; None removes it."""
    global _factory, _last
    _factory, _last = factory, None


def notebook_loaded() -> bool:
    """Whether the notebook extension is loaded and its magics are available."""
    return _factory is not None


def open_updatable_output() -> UpdatableOutput | None:
    """Open an output under the running cell, which replaces the summary of the cell's spans; None if unavailable."""
    return None if _factory is None else _factory()


def record_shown(output: UpdatableOutput, value: object) -> None:
    """Record that the output shows this value, so that it is not displayed again as the cell's result."""
    global _last
    _last = (output, value)


def already_shown(value: object) -> bool:
    """Whether an output of the running cell already shows this value. Returns True only once per value."""
    global _last
    if _last is None or _last[1] is not value:
        return False
    output, _last = _last[0], None
    return output.cell_running() and not output.withdraw()
