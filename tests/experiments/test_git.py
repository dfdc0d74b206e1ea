"""A run records the git state of the code, and never waits or fails because of that."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from hh_jupyter.experiments import runs
from hh_jupyter.testing import Backend
from tests.experiments.runs import calls, double, run


def _git(*arguments: str) -> None:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a repository with one commit."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path.parent / "none"))
    monkeypatch.chdir(tmp_path)
    _git("init", "-q", "-b", "main")
    _git("commit", "-q", "--allow-empty", "-m", "first\n\nand why")
    return tmp_path


def _sent(backend: Backend) -> Any:
    run(backend, double)
    return calls(backend, "POST", "/v1/runs")[0].body["metadata"].get("git")


def test_a_run_records_commit_branch_author_and_remote(repository: Path, backend: Backend) -> None:
    _git("remote", "add", "origin", "https://ada:secret-token@example.org/a/b.git")
    sent = _sent(backend)
    assert len(sent["commit_hash"]) == 40
    assert sent["commit_hash"].startswith(sent.pop("commit_hash_short"))
    del sent["commit_hash"]
    assert sent == {
        "branch": "main",
        "commit_message": "first\n\nand why",
        "author_name": "Ada",
        "author_email": "ada@example.org",
        "remote_url": "https://example.org/a/b.git",
        "is_dirty": False,
    }


def test_uncommitted_changes_are_recorded_as_dirty(repository: Path) -> None:
    (repository / "new.py").write_text("x = 1")
    assert runs.git_metadata()["is_dirty"] is True


@pytest.mark.parametrize("value", ["false", "False", "0", " no "])
def test_the_git_state_is_not_recorded_without_telemetry(
    value: str, repository: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONEYHIVE_TELEMETRY", value)
    assert _sent(backend) is None


def test_nothing_is_recorded_outside_a_repository(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert _sent(backend) is None


def test_a_missing_or_hanging_git_is_ignored(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs, "GIT_BUDGET_SECONDS", 0.2)
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    assert runs.git_metadata() == {}
    (programs / "git").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (programs / "git").chmod(0o755)
    assert runs.git_metadata() == {}
