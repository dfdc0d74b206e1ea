"""Experiment runs of local mode: keep them, look them up, and deliver them on request.

A run is one document: the bodies of its two backend calls, and its result for comparisons.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hh_jupyter.export.backend import BackendClient
from hh_jupyter.records.selection import matching
from hh_jupyter.settings import Settings
from hh_jupyter.threads import evict_oldest

if TYPE_CHECKING:
    from hh_jupyter.export.spool import Spool
    from hh_jupyter.redaction import Redactor, RedactorWithFunction

KIND: Final = "run"
"""Kind of a run's record in the spool; its `session_id` is the run's id."""

REMEMBERED: Final = 100
"""Number of this process's runs kept in memory, for comparisons without a spool; the oldest are dropped."""


@dataclass(slots=True)
class LocalRun:
    """One run, as plain data.

    Attributes:
        made: body of the call that creates it.
        ended: body of the call that ends it; `event_ids` are its sessions.
        result: the locally computed result.
        sent_as: the id that the backend assigned when the run was created there; None before.
        delivered: the backend has the complete run.
    """

    made: Mapping[str, Any]
    ended: Mapping[str, Any]
    result: Mapping[str, Any]
    sent_as: str | None = None
    delivered: bool = False

    @property
    def id(self) -> str:
        """Id of the run."""
        return str(self.made["run_id"])

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.made["name"])

    @property
    def names(self) -> tuple[str]:
        """The name."""
        return (self.name,)

    @property
    def session_ids(self) -> list[str]:
        """Ids of its sessions, one for each data point."""
        return [str(one) for one in self.ended.get("event_ids") or ()]


_runs: dict[str, LocalRun] = {}


def keep(run: LocalRun, spool: Spool | None, redactor: Redactor | RedactorWithFunction) -> None:
    """Keep a run in memory and, if there is a spool, redacted on disk."""
    _runs.pop(run.id, None)
    _runs[run.id] = run
    evict_oldest(_runs, REMEMBERED)
    if spool is not None:
        document = {"made": run.made, "ended": run.ended, "result": run.result}
        clean = redactor.document(json.loads(json.dumps(document, default=str)))
        spool.add_document(KIND, run.id, json.dumps(clean).encode())


def local_runs(spool: Spool | None) -> list[LocalRun]:
    """Return all runs in memory or on disk that have not been delivered, the latest last."""
    found = {run.id: run for run in stored_runs(spool)} | _runs
    return [run for run in found.values() if not run.delivered]


def stored_runs(spool: Spool | None, living: bool = False) -> list[LocalRun]:
    """Return the runs on disk, which can be delivered with their sessions.

    Args:
        spool: the spool; None if there is none.
        living: also those of other running processes.
    """
    found = [run for body in (spool.bodies_of(KIND, living) if spool is not None else ()) if (run := _read(body))]
    return [_runs.get(run.id, run) for run in found]


def find_run(text: str, spool: Spool | None) -> LocalRun | None:
    """Find a run among all that are kept; see `choose_run`."""
    return choose_run(text, local_runs(spool))


def choose_run(text: str, runs: Sequence[LocalRun]) -> LocalRun | None:
    """Find a run by name (the latest with it), id or unique id prefix; return None if there is no such run."""
    found = matching(text, runs)
    return found[-1] if len(found) == 1 or any(text in run.names for run in found) else None


def make_at_backend(run: LocalRun, settings: Settings) -> str:
    """Create the run at the backend, before its sessions are sent, and return its id there.

    Raises:
        BackendError: there is no valid response; the run is unchanged.
    """
    if run.sent_as is None:
        with BackendClient(settings) as backend:
            run.sent_as = backend.create_run(run.made)
    return run.sent_as


def end_at_backend(run: LocalRun, settings: Settings, spool: Spool | None) -> None:
    """Mark the run as ended at the backend, then delete the local copy.

    Raises:
        BackendError: there is no valid response; the run is kept.
    """
    with BackendClient(settings) as backend:
        backend.update_run(run.sent_as or run.id, run.ended)
    run.delivered = True
    if spool is not None:
        spool.clear([run.id])


def _read(body: bytes) -> LocalRun | None:
    try:
        found = json.loads(body)
        run = LocalRun(found["made"], found["ended"], found["result"])
        return run if run.id and run.name else None
    except (ValueError, LookupError, TypeError):  # Written by another version.
        return None
