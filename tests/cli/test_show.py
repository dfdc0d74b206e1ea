"""`python -m hh_jupyter show` and `find`: the traces on this machine in a terminal."""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hh_jupyter.__main__ import main
from hh_jupyter.cli import answers
from hh_jupyter.records.selection import SelectionError
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


@pytest.mark.slow
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
        ["find", "--expensive", "--limit", "1"],
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


DAMAGED = "1 file could not be read: damaged"
OTHER = "1 file could not be read: of another version of hh_jupyter, or of another program"


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (b"no database", DAMAGED),
        ("UPDATE records SET added = 'yesterday'", DAMAGED),
        ("UPDATE records SET added = 1e300", DAMAGED),
        ("UPDATE records SET spans = 'many'", DAMAGED),
        ("UPDATE records SET body = 'text'", DAMAGED),
        ("UPDATE records SET session_id = x'ff41'", DAMAGED),
        ("UPDATE records SET session_id = CAST(x'ff41' AS TEXT)", DAMAGED),
        ("UPDATE records SET destination = x'00'", DAMAGED),
        ("PRAGMA user_version = 3", OTHER),
        ("PRAGMA user_version = 0", OTHER),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_left_as_it_is(
    spool: Path, tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch, damage: bytes | str, problem: str
) -> None:
    folder = tmp_path / "spool"
    shutil.copytree(spool, folder)
    monkeypatch.setenv("HH_SPOOL_DIR", str(folder))
    damaged, whole = sorted(folder.glob("*.sqlite3"))
    if isinstance(damage, bytes):
        damaged.write_bytes(damage)
    else:
        with closing(sqlite3.connect(damaged)) as db:
            db.execute(damage)
            db.commit()
    before = {path: path.read_bytes() for path in (damaged, whole)}
    for words in (["show"], ["show", "last"], ["show", "--totals"], ["find", "--errors"], ["find", "way"]):
        status, text = read(*words)
        assert (status, problem in text, "refund-triage" in text or "ask" in text or "agent" in text) == (0, True, True)
    whole.unlink()
    status, text = read("show")
    assert (status, problem in text, text.count("\n")) == (1, True, 1)
    assert damaged.read_bytes() == before[damaged]
    assert [path.name for path in folder.iterdir() if path.suffix == ".broken"] == []


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HH_SPOOL_DIR", str(tmp_path / "file"))
    status, text = read("show")
    assert (status, text) == (1, f"python -m hh_jupyter: {tmp_path / 'file'} cannot be read (Not a directory).\n")


def test_an_internal_error_is_one_line_without_its_text(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ArithmeticError("what is written in a trace")

    monkeypatch.setitem(answers.ANSWERS, "show_totals", fail)
    status, text = read("show", "--totals")
    assert (status, text.count("\n")) == (1, 1)
    assert "an internal error of hh_jupyter (ArithmeticError)" in text
    assert "written" not in text


def test_a_reader_that_has_read_enough_gets_no_traceback(spool: Path) -> None:
    line = [sys.executable, "-m", "hh_jupyter", "show", "last"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, env=environment(spool), text=True, **pipes) as process:  # type: ignore[call-overload]
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize(
    "words", ["show last --attributes", "show --texts", "show last --name a", "show --totals --limit 3"]
)
def test_an_option_that_has_no_meaning_here_is_a_mistake(read: Read, words: str) -> None:
    status, text = read(*words.split())
    assert (status, text.count("\n")) == (2, 1)
    assert "does not go with the other arguments" in text


def test_the_last_session_is_meant_without_a_name_and_a_long_one_is_not_repeated(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HH_SPOOL_DIR", str(spool))
    assert answers.answer("show_trace", {"session": ""}) == answers.answer("show_trace", {"session": "last"})
    with pytest.raises(SelectionError) as raised:
        answers.answer("show_trace", {"session": "x" * 50_000})
    assert len(str(raised.value)) <= 2_000


SAME_ID = """
type(tracer.provider.id_generator).generate_span_id = lambda self: 0x7777777777777777
for name in ("first", "second"):
    with hh.get_tracer().start_span(name):
        pass
tracer.force_flush()
"""


def test_of_two_spans_with_the_same_id_the_latest_is_shown(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_program(tmp_path, SAME_ID)
    monkeypatch.setenv("HH_SPOOL_DIR", str(tmp_path))
    status, text = read("show", "--span", "77777777")
    assert status == 0, text
    assert "second" in text
