"""The state of the code that a run was made with: `metadata.git` of the run (contract, section 10)."""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import Any, Final

BUDGET: Final = 2.0
"""Seconds for all commands together: a run does not wait for a slow repository."""

FIELDS: Final = ("commit_hash", "commit_hash_short", "author_name", "author_email", "commit_message")
FORMAT: Final = "%H%x00%h%x00%an%x00%ae%x00%B"

# Asking must neither take locks nor prompt, nor start the programs that a repository may name in its configuration.
_ENVIRONMENT: Final = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
_COMMAND: Final = ("git", "-c", "core.fsmonitor=false", "-c", "log.showSignature=false")
_CREDENTIAL: Final = re.compile(r"^(\w[\w+.-]*://)[^/@]*@")


def git_metadata() -> dict[str, Any]:
    """Commit, branch, author, remote and whether anything is uncommitted, of the working directory's repository.

    Returns:
        what could be found out within two seconds; empty outside of a repository, without git, without a commit. A
        password in the remote's address is left out.
    """
    deadline = time.monotonic() + BUDGET
    commit = _git(deadline, "log", "-1", f"--format={FORMAT}")
    if commit is None:
        return {}
    found: dict[str, Any] = dict(zip(FIELDS, (part.strip() for part in commit.split("\0")), strict=False))
    remote = _git(deadline, "config", "--get", "remote.origin.url")
    changes = _git(deadline, "status", "--porcelain")
    return {
        **found,
        **_present("branch", _git(deadline, "rev-parse", "--abbrev-ref", "HEAD")),
        **_present("remote_url", _CREDENTIAL.sub(r"\1", remote) if remote else None),
        **_present("is_dirty", None if changes is None else changes != ""),
    }


def _present(name: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {name: value}


def _git(deadline: float, *arguments: str) -> str | None:
    """What git prints; None when it fails, is missing or takes too long."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [*_COMMAND, *arguments],
            env={**os.environ, **_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(0.01, deadline - time.monotonic()),
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None
