"""The progress of a run: one line in the notebook's output or in the terminal, which the result replaces."""

from __future__ import annotations

import sys
import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from hh_jupyter.display.report import Report, report_bundle, report_text
from hh_jupyter.display.updatable_output import UpdatableOutput, open_updatable_output, record_shown
from hh_jupyter.experiments import views
from hh_jupyter.experiments.pool import RunOutcomes
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.experiments.usage import UsageCounter

if TYPE_CHECKING:
    from hh_jupyter.recordings.budget import Budget

REDRAW_SECONDS: Final = 0.25
"""Interval between updates of the display."""

_CLEAR: Final = "\r\x1b[K"


class Progress:
    """Shows the progress of a run. As a context manager, it clears the line in the terminal on exit.

    Args:
        name: name of the run.
        total: number of rows; None if unknown.
        usage: source of the cost so far.
        trials: how often each data point is run.
        budget: the limits of its model calls.
        show: False to show nothing.
    """

    def __init__(
        self,
        name: str,
        total: int | None,
        usage: UsageCounter,
        *,
        show: bool,
        trials: int = 1,
        budget: Budget | None = None,
    ) -> None:
        self._name, self._total, self._usage, self._show, self._trials = name, total, usage, show, trials
        self._budget = budget
        self._output: UpdatableOutput | None = open_updatable_output() if show else None
        self._terminal = show and self._output is None and sys.stderr is not None and sys.stderr.isatty()
        self._started = time.monotonic()
        self._next = self._started + REDRAW_SECONDS
        self._states: Counter[str] = Counter()
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._terminal and self._drawn:
            sys.stderr.write(_CLEAR)

    def update(self, outcomes: RunOutcomes) -> None:
        """Take note of new outcomes, and redraw if it is time."""
        self._usage.count()
        self._states.update(row.state for row in outcomes.rows[self._states.total() :])
        if time.monotonic() >= self._next:
            self._draw("")

    def show_sending(self) -> None:
        """Show that all data points have run and are being sent."""
        if self._drawn:
            self._draw("sending")

    def show_result(self, result: ExperimentResultSummary) -> None:
        """Replace the progress by the result."""
        if self._output is not None:
            self._output.update(result._repr_mimebundle_()[0])
            record_shown(self._output, result)
        elif self._show:
            if self._terminal and self._drawn:
                sys.stderr.write(_CLEAR)
                self._drawn = False
            result.print_table()

    def _draw(self, doing: str) -> None:
        self._next = time.monotonic() + REDRAW_SECONDS
        if self._output is not None and self._output.can_update:
            self._output.update(report_bundle(self._report(doing)))
        elif self._terminal:
            unicode = (sys.stderr.encoding or "").lower().replace("-", "") == "utf8"
            sys.stderr.write(_CLEAR + report_text(self._report(doing), unicode=unicode))
            sys.stderr.flush()
        else:
            return
        self._drawn = True

    def _report(self, doing: str) -> Report:
        seconds = time.monotonic() - self._started
        return views.progress_report(
            self._name,
            self._states,
            self._total,
            seconds,
            self._usage.total(),
            doing,
            trials=self._trials,
            budget=self._budget,
        )
