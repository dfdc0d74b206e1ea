"""`python -m hh_jupyter show` and `find`: the traces on this machine in a terminal."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hh_jupyter.__main__ import main
from tests.cli.programs import environment, run_program

Read = Callable[..., tuple[int, str]]
PROGRAM = """
@hh.trace
def agent(question):
    model("ask", question, "It is \\x1b]0;owned\\x07\\x1b[2J on its way. " + "word " * 2000)
    raise ValueError(question)

try:
    agent(os.environ["QUESTION"])
except ValueError:
    pass
tracer.force_flush()
"""


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traces") / "spool"
    for question in ("parcel $(touch owned); 'quoted'", "-letter"):
        run_program(folder, PROGRAM, QUESTION=question)
    return folder


@pytest.fixture
def read(spool: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Read:
    monkeypatch.setenv("HH_SPOOL_DIR", str(spool))

    def run(*words: str) -> tuple[int, str]:
        status = main(words)
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def hints(text: str) -> list[list[str]]:
    """The commands that an answer names."""
    lines = [line for line in text.splitlines() if ": python -m" in line]
    return [shlex.split(line.partition("python -m hh_jupyter ")[2]) for line in lines]


def test_every_command_that_an_answer_names_runs(read: Read) -> None:
    seen: set[tuple[str, ...]] = set()
    waiting = [
        ["show"],
        ["show", "--limit", "1"],
        ["show", "--name", "refund"],
        ["show", "last", "--errors", "--limit", "1"],
        ["show", "--totals"],
        ["show", "--compare", "--limit", "1"],
        ["show", "--span", "ask"],
        ["find", "parcel $(touch owned); 'quoted'", "--limit", "1"],
        ["find", "--limit", "1", "--", "-l"],
        ["find", "--slow", "--limit", "1"],
        ["find", "--dear", "--limit", "1"],
    ]
    while waiting:
        words = waiting.pop()
        if tuple(words) not in seen:
            seen.add(tuple(words))
            status, text = read(*words)
            assert status == 0, (words, text)
            assert text.strip() not in ("", "no such spans"), words
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text), words
            waiting += hints(text)
    assert len(seen) > 15


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "refund-triag"), "no session refund-triag. Did you mean refund-triage?"),
        (("show", "last", "--span", "aske"), "Did you mean ask?"),
        (("show", "--run", "capitals"), "there are no experiment runs on this machine."),
        (("find", "--kind", "tol"), "Did you mean tool?"),
        (("show", "two\nlines"), "no session two lines."),
    ],
)
def test_what_is_not_there_is_one_line_on_standard_error(read: Read, words: tuple[str, ...], message: str) -> None:
    status, text = read(*words)
    assert status == 1
    assert text.startswith("python -m hh_jupyter: ")
    assert message in text
    assert text.count("\n") == 1


def test_without_traces_it_says_where_it_looked(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "hh_jupyter", "find", "--errors"]
    done = subprocess.run(line, env=environment(tmp_path / "none"), capture_output=True, text=True)
    assert done.returncode == 1
    assert f"there are no sessions with spans in {tmp_path / 'none'}" in done.stderr
    assert not (tmp_path / "none").exists(), "a reader creates nothing"


def test_a_terminal_without_unicode_gets_the_answer(spool: Path) -> None:
    line = [sys.executable, "-m", "hh_jupyter", "show", "last"]
    done = subprocess.run(line, env=environment(spool, PYTHONIOENCODING="ascii"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "refund-triage" in done.stdout
