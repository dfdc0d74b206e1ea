"""Parsing of `%hh` commands, and their help texts."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.error import UsageError

from hh_jupyter.notebook.magics import find_command, parse_command
from hh_jupyter.notebook.parser import (
    COMMANDS,
    SESSION_OPTIONS,
    Command,
    ParsedLine,
    command_text,
    hh_text,
    session_text,
    split,
)
from hh_jupyter.notebook.session_magic import parse

SECRET = "hh_typed_key_of_no_account"


def evaluate(expression: str) -> Any:
    return eval(expression, {"number": 4, "name": "refund triage"})


def parsed(line: str) -> ParsedLine:
    name, *words = split(line.removeprefix("%hh "), "%hh")
    return parse_command(find_command(name), words, evaluate)


def error_message(line: str) -> str:
    with pytest.raises(UsageError) as caught:
        parsed(line)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("show refund-triage #3", ("refund-triage #3",)),
        ("send a #2 b #10", ("a #2", "b #10")),
        ("show 'refund-triage #3'", ("refund-triage #3",)),
        ("show #3", ("#3",)),
        ("send a #x #", ("a", "#x", "#")),
        ("show {number}", ("4",)),
        ("show $name", ("refund triage",)),
        ("save --force a.jsonl", ("a.jsonl",)),
        ("send", ()),
    ],
)
def test_arguments_may_be_numbered_titles_and_expressions(line: str, words: tuple[str, ...]) -> None:
    assert parsed(line).words == words


def test_switches_are_not_arguments() -> None:
    assert "--force" in parsed("save a.jsonl --force")
    assert "--force" not in parsed("save a.jsonl")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("shwo 4", "%hh: unknown command shwo. Did you mean show?"),
        ("save a --forec", "%hh save: unknown option --forec. Did you mean --force?"),
        ("save a --overwrite", "%hh save: unknown option --overwrite. Did you mean --force?"),
        ("save a --force=1", "%hh save: --force takes no value."),
        ("sessions --all", "%hh sessions: unknown option --all. It has no options."),
        ("on all", "%hh on: unexpected argument 'all'. %hh on --help shows the usage."),
        ("show 1 2", "%hh show: unexpected argument '2'. %hh show --help shows the usage."),
        ("show {missing}", "%hh show: {missing}: NameError: name 'missing' is not defined"),
        ("show 'a", "%hh: the quote ' is not closed."),
    ],
)
def test_a_mistake_is_one_line_with_a_suggestion(line: str, message: str) -> None:
    assert error_message(line) == message


@pytest.mark.parametrize("line", [f"login {SECRET}", f"login --save {SECRET}", f"login --save={SECRET}"])
def test_a_key_typed_as_an_argument_is_not_repeated(line: str) -> None:
    assert SECRET not in error_message(line)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_examples_of_a_command_are_valid(command: Command) -> None:
    for example in command.examples:
        name, *words = split(example.removeprefix("%hh"), "%hh") or ["status"]
        if "--help" not in words:
            parse_command(find_command(name), words, evaluate)


def test_help_names_every_command_and_every_option() -> None:
    for command in COMMANDS:
        assert f"\n    {command.name} " in hh_text()
        for option in command.options:
            assert option.flag in command_text(command)
        for example in command.examples:
            assert f"\n    {example}" in command_text(command)
    for option in SESSION_OPTIONS:
        assert f"\n    {option.flag} " in session_text()


def test_help_lines_fit_the_page_and_contain_no_markdown() -> None:
    for text in (hh_text(), session_text(), *(command_text(command) for command in COMMANDS)):
        assert max(len(line) for line in text.splitlines()) <= 120
        assert "`" not in text


def test_the_examples_of_the_session_magics_are_valid() -> None:
    for line in session_text().partition("Examples:\n")[2].partition("\n\n")[0].splitlines():
        magic, _, options = line.strip().partition(" ")
        parse(options.replace("{ticket}", "7"), evaluate, magic=magic)
