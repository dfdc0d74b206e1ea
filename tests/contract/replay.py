"""Runs a recorded case against an implementation and the stand-in backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hh_jupyter.testing import Backend, ReceivedRequest
from hh_jupyter.testing.responses import SESSION_START, TRACES
from tests.contract.recording import Case, Run, replayed

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay: the run to compare, the requests as they came, and what stood on standard error."""

    run: Run
    requests: Sequence[ReceivedRequest]
    stderr: str


def replay(case: Case, directory: Path, *, module: str = "hh_jupyter", python: str = sys.executable) -> Replay:
    """Run the case in a fresh process.

    Args:
        directory: an empty one; the process works in it.
        module: what the calls get as `hh`.
        python: the interpreter that has it.
    """
    calls, observed, work = directory / f"{case.name}.py", directory / "observed.json", directory / "work"
    calls.write_text(case.source, encoding="utf-8")
    work.mkdir()
    if case.in_repository:
        _make_repository(work)
    with Backend(**case.server) as backend:
        done = subprocess.run(
            [python, "-m", "tests.contract.script", module, str(calls), backend.url, str(observed)],
            cwd=work,
            env=_environment(case, backend.url, directory),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        requests = backend.requests
    observations = json.loads(observed.read_text(encoding="utf-8"))
    if case.records_output:
        observations["printed"] = done.stdout.splitlines()
    return Replay(replayed(case, requests, observations, directory), requests, done.stderr)


def _make_repository(directory: Path) -> None:
    """The repository of the recordings: one empty commit."""
    commit = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false", "commit")
    for command in (["init", "-q", "-b", "main"], [*commit, "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *command], cwd=directory, check=True, capture_output=True)


def _environment(case: Case, url: str, directory: Path) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if key not in ("SERVICE_NAME", "GIT_COMMIT")}
    given = {key: value.replace("$URL", url) for key, value in case.environment.items()}
    fixed = {
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
        "COLUMNS": "100",
        "GIT_CEILING_DIRECTORIES": str(directory),
    }
    if not case.server:  # A busy machine needs its time to send everything to a backend that is well.
        fixed["HH_EXIT_FLUSH_SECONDS"] = "6"
    return inherited | fixed | given


def early(requests: Sequence[ReceivedRequest]) -> Iterator[str]:
    """What arrived before the start of the session it belongs to."""
    starts = [request for request in requests if request.path == SESSION_START and request.accepted]
    later = {start.answer["session_id"] for start in starts}
    for request in requests:
        if request.path == SESSION_START and request.accepted:
            later.discard(request.answer["session_id"])
        elif request.path == TRACES:
            for span in request.body:
                if span["attributes"].get("honeyhive.session_id") in later:
                    yield f"span {span['name']}"
        elif isinstance(request.body, dict) and request.body.get("event_id") in later:
            yield f"{request.method} {request.path}"
