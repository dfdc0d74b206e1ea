"""Progress of a run: one line that becomes the result, in the notebook's output or in the terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, Self

from hh_jupyter.display import format as fmt
from hh_jupyter.display.live import LiveOutput, note_shown, open_live_output
from hh_jupyter.display.runs.progress import bundle, render_text
from hh_jupyter.display.runs.view import ProgressView
from hh_jupyter.experiments import views
from hh_jupyter.experiments.meter import Meter
from hh_jupyter.experiments.pool import Gathered
from hh_jupyter.experiments.results import ExperimentResultSummary

PAUSE: Final = 0.25
"""Seconds between two changes of what is shown."""

_CLEAR: Final = "\r\x1b[K"


class Progress:
    """What is shown of a run while it goes on. A context manager: on an error, the terminal's line is cleared.

    Args:
        name: of the run.
        total: data points, if anybody knows.
        meter: counts the cost so far.
        show: False shows nothing at all.
    """

    def __init__(self, name: str, total: int | None, meter: Meter, *, show: bool) -> None:
        self._name, self._total, self._meter, self._show = name, total, meter, show
        self._output: LiveOutput | None = open_live_output() if show else None
        self._terminal = show and self._output is None and sys.stderr is not None and sys.stderr.isatty()
        self._started = time.monotonic()
        self._next = self._started + PAUSE
        self._done = self._failed = 0
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._terminal and self._drawn:
            sys.stderr.write(_CLEAR)

    def tick(self, gathered: Gathered) -> None:
        """Something may have come back."""
        self._meter.count()
        for outcome in gathered.outcomes[self._done :]:
            self._failed += bool(outcome.error or outcome.evaluator_errors)
        self._done = len(gathered.outcomes)
        if time.monotonic() >= self._next:
            self._draw("")

    def sending(self) -> None:
        """All data points are done; what came of them is on its way."""
        if self._drawn:
            self._draw("sending")

    def become(self, result: ExperimentResultSummary) -> None:
        """Show the result in its place."""
        if self._output is not None:
            self._output.draw(views.bundle(result))
            note_shown(self._output, result)
        elif self._show:
            if self._terminal and self._drawn:
                sys.stderr.write(_CLEAR)
                self._drawn = False
            result.print_table()

    def _draw(self, doing: str) -> None:
        self._next = time.monotonic() + PAUSE
        if self._output is not None:
            self._output.draw(bundle(self._view(doing)))
        elif self._terminal:
            unicode = (sys.stderr.encoding or "").lower().replace("-", "") == "utf8"
            sys.stderr.write(_CLEAR + render_text(self._view(doing), unicode=unicode))
            sys.stderr.flush()
        else:
            return
        self._drawn = True

    def _view(self, doing: str) -> ProgressView:
        seconds, total = time.monotonic() - self._started, self._total
        rate = self._done / seconds if seconds > 0 else 0.0
        used = self._meter.total()
        left = (total - self._done) / rate if total is not None and rate and not doing else 0.0
        facts = [
            f"{rate:,.1f}/s",
            fmt.duration(round(seconds * 1e9)),
            views.cost_text(used.cost, complete=True, estimated=used.estimated),
            f"{fmt.duration(round(left * 1e9))} left" if left >= 1 else "",
        ]
        return ProgressView(
            name=self._name,
            done=f"{self._done:,} of {total:,}" if total is not None else f"{self._done:,}",
            share=self._done / total if total else None,
            facts=[fact for fact in facts if fact],
            failures=f"{self._failed:,} failed" if self._failed else "",
            doing=doing,
        )
