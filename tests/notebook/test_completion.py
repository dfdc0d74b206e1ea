"""Tab completion: commands, options and their values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from hh_jupyter.notebook.completion import complete
from hh_jupyter.notebook.parser import HHParser, session_parser, split

COMMANDS = HHParser()
VALUES = {
    "SESSION": ("refund triage #2", "refund triage", "chat"),
    "NAME": ("chat", "Rückfrage"),
    "CELL": ("4", "3"),
    "LIBRARY": ("openai", "anthropic"),
}


def suggest(placeholder: str) -> Iterable[str]:
    return VALUES.get(placeholder, ())


def completed(line: str) -> list[str]:
    """The lines that Tab completes to."""
    found = complete(line, suggest)
    assert found is not None
    assert line.endswith(found.fragment)
    return [line.removesuffix(found.fragment) + text for text in found.texts]


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("%hh sh", ["%hh show"]),
        ("  %hh  sa", ["  %hh  save"]),
        ("%hh o", ["%hh off", "%hh on", "%hh open"]),
        ("%hh show ch", ["%hh show chat"]),
        ("%hh show chat ", [f"%hh show chat --{option}" for option in ("errors", "detail", "help")]),
        ("%hh show 4 --detail f", ["%hh show 4 --detail full"]),
        ("%hh send ch", ["%hh send chat"]),
        ("%hh send chat a", ["%hh send chat all"]),
        ("%hh open a", []),
        ("%hh open ch", ["%hh open chat"]),
        ("%hh clear all --o", ["%hh clear all --others"]),
        ("%hh send chat ch", []),
        ("%hh send refund triage #2 c", ["%hh send refund triage #2 chat"]),
        ("%hh send 're", ["%hh send 'refund triage #2'", "%hh send 'refund triage'"]),
        ("%hh send 'refund tri", ["%hh send 'refund triage #2'", "%hh send 'refund triage'"]),
        ("%hh instrument op", ["%hh instrument openai"]),
        (
            "%hh instrument openai ",
            [f"%hh instrument openai {word}" for word in ("anthropic", "--list", "--off", "--help")],
        ),
        ("%hh display l", ["%hh display line"]),
        ("%hh login --f", ["%hh login --forget"]),
        ("%hh login --save --", ["%hh login --save --forget", "%hh login --save --help"]),
        ("%hh save sp", []),
        ("%hh save spans.jsonl ch", ["%hh save spans.jsonl chat"]),
        ("%hh save --force spans.jsonl ch", ["%hh save --force spans.jsonl chat"]),
        ("%hh help sh", ["%hh help show"]),
        ("%hh nothing x", []),
        ("%%hh_session --jo", ["%%hh_session --join"]),
        (
            "%%hh_session --join ",
            ["%%hh_session --join last", "%%hh_session --join chat", "%%hh_session --join Rückfrage"],
        ),
        ("%%hh_session --join rü", ["%%hh_session --join Rückfrage"]),
        ("%%hh_session --join=ch", ["%%hh_session --join=chat"]),
        ("%%hh_session a --show t", ["%%hh_session a --show tree"]),
        ("%%hh_session a --input k=1 --in", ["%%hh_session a --input k=1 --input"]),
        ("%%hh_session a --source x --so", []),
        ("%%hh_session a --source ", []),
        ("%%hh_session a --e", []),
        ("%%hh_session a --input q='two wo", []),
        ("%hh_session --e", ["%hh_session --end"]),
        ("#| hh_session: --jo", ["#| hh_session: --join"]),
        ("# | hh_session: a --show o", ["# | hh_session: a --show off"]),
    ],
)
def test_lines_are_completed(line: str, lines: list[str]) -> None:
    assert completed(line) == lines


@pytest.mark.parametrize(
    "line", ["", "x = 1", "%hh", "%hhx ", "%%hh_sessions ", "x %hh sh", "# hh_session: --jo", "hh sh"]
)
def test_other_lines_are_left_to_ipython(line: str) -> None:
    assert complete(line, suggest) is None


def test_every_command_and_option_is_completed() -> None:
    assert completed("%hh ") == [f"%hh {name}" for name in COMMANDS.commands]
    assert completed("%hh_session --") == [f"%hh_session {flag}" for flag in session_parser().options]
    for name, command in COMMANDS.commands.items():
        assert completed(f"%hh {name} --") == [f"%hh {name} {flag}" for flag in command.options]
        assert "--help" in command.options


def test_a_completion_is_one_word() -> None:
    for line in ("%hh send ", "%%hh_session --join "):
        for made in completed(line):
            assert len(split(made, "%hh")) == len(line.split()) + 1


def test_span_files_and_folders_are_completed_for_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "traces" / ".hidden").mkdir(parents=True)
    for name in ("a.jsonl", "a.JSON.GZ", "a.py", "traces/b c.otlp", "traces/.d.json"):
        (tmp_path / name).touch()
    assert completed("%hh show a.") == ["%hh show a.JSON.GZ", "%hh show a.jsonl"]
    assert completed("%hh show t") == ["%hh show traces/"]
    assert completed("%hh show traces/") == ["%hh show 'traces/b c.otlp'"]
    assert completed("%hh show 'traces/b") == ["%hh show 'traces/b c.otlp'"]
    assert completed("%hh show traces/.") == ["%hh show traces/.hidden/", "%hh show traces/.d.json"][::-1]
    assert completed("%hh show none/") == []
    assert [line for line in completed("%hh show ") if "a." in line] == ["%hh show a.JSON.GZ", "%hh show a.jsonl"]
    assert completed("%hh send a") == ["%hh send all"]
    assert completed("%hh show a.jsonl a") == []
