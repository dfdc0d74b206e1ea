"""Runs of experiments that were made in local mode, on their way: the run, then its sessions, then that it is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from IPython.core.error import UsageError

from hh_jupyter.delivery.local_runs import LocalRun, choose_run, end_at_backend, make_at_backend, stored_runs
from hh_jupyter.display.clean import clean
from hh_jupyter.display.format import count
from hh_jupyter.errors import BackendError
from hh_jupyter.tracing.tracer import HoneyHiveTracer

_NAME_LENGTH = 40


@dataclass(frozen=True, slots=True)
class ChosenRuns:
    """The runs among what somebody wants to send, and the words that name something else."""

    runs: Sequence[LocalRun]
    words: Sequence[str]

    @classmethod
    def of(cls, words: Sequence[str], tracer: HoneyHiveTracer) -> ChosenRuns:
        """A name means the run before the sessions, which all have the run's name."""
        stored = stored_runs(tracer.spool)
        if "all" in words:
            return cls(stored, words)
        named = {word: choose_run(word, stored) for word in words}
        runs = {run.id: run for run in named.values() if run is not None}
        return cls(list(runs.values()), [word for word, run in named.items() if run is None])

    @property
    def session_ids(self) -> set[str]:
        """Of all their data points."""
        return {one for run in self.runs for one in run.session_ids}

    @property
    def about(self) -> str:
        """The runs in words."""
        return f"run {_name(self.runs[0])}" if len(self.runs) == 1 else count(len(self.runs), "run")

    def make(self, tracer: HoneyHiveTracer) -> None:
        """Make them at the backend.

        Raises:
            UsageError: one could not be made; nothing of it has been sent.
        """
        if self.runs and tracer.settings.api_key is None:
            raise UsageError("%hh send: a run needs the API key; an ingestion key only sends. %hh login asks for it.")
        for run in self.runs:
            try:
                made = make_at_backend(run, tracer.settings)
            except BackendError as error:
                raise UsageError(f"%hh send: run {_name(run)} is not sent. {error}") from None
            if made != run.id:  # The backend has its own ids: the sessions, which carry ours, are told.
                for session_id in run.session_ids:
                    tracer.update_event(session_id, {"metadata": {"run_id": made}})

    def end(self, tracer: HoneyHiveTracer) -> str:
        """Tell that they are over; one sentence for each that could not be told."""
        said = []
        for run in self.runs:
            try:
                end_at_backend(run, tracer.settings, tracer.spool)
            except BackendError as error:
                said.append(f"hh: run {_name(run)} is not complete there; %hh send tries again. {error}")
        return "\n".join(said)


def _name(run: LocalRun) -> str:
    return clean(run.name, _NAME_LENGTH)
