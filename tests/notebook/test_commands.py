"""Parsing of `%hh` commands, and their help texts."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import pytest
from IPython.core.error import UsageError

from hh_jupyter.notebook.parser import HHParser, session_parser, split
from hh_jupyter.notebook.session_magic import parse

SECRET = "hh_typed_key_of_no_account"


def evaluate(expression: str) -> Any:
    return eval(expression, {"number": 4, "name": "refund triage"})


COMMANDS = HHParser(evaluate).commands


def parsed(line: str) -> Namespace:
    name, *words = split(line.removeprefix("%hh "), "%hh")
    return HHParser(evaluate).command(name).parse(words)


def words_of(line: str) -> list[str]:
    """The arguments that are no options."""
    found = vars(parsed(line))
    return [*filter(None, [found.get("word")]), *found.get("words", ())]


def error_message(line: str) -> str:
    with pytest.raises(UsageError) as caught:
        parsed(line)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("show refund-triage #3", ["refund-triage #3"]),
        ("send a #2 b #10", ["a #2", "b #10"]),
        ("show 'refund-triage #3'", ["refund-triage #3"]),
        ("show #3", ["#3"]),
        ("send --yes #3", ["#3"]),
        ("send a #x #", ["a", "#x", "#"]),
        ("show {number}", ["4"]),
        ("show $name", ["refund triage"]),
        ("save --force a.jsonl", ["a.jsonl"]),
        ("save a.jsonl --force b --others c", ["a.jsonl", "b", "c"]),
        ("send --yes b", ["b"]),
        ("send", []),
        ("show", ["last"]),
        ("open -", ["-"]),
        ("send -5 7", ["-5", "7"]),
    ],
)
def test_arguments_may_be_numbered_titles_and_expressions(line: str, words: list[str]) -> None:
    assert words_of(line) == words


def test_switches_are_not_arguments() -> None:
    assert parsed("save a.jsonl --force").force
    assert not parsed("save a.jsonl").force


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("shwo 4", "%hh: unknown command shwo. Did you mean show?"),
        ("save a --forec", "%hh save: unknown option --forec. Did you mean --force?"),
        ("save a --overwrite", "%hh save: unknown option --overwrite. Did you mean --force?"),
        ("save a --force=1", "%hh save: --force takes no value."),
        ("sessions --all", "%hh sessions: unknown option --all. It has no options."),
        ("on all", "%hh on: unexpected argument 'all'. It takes no arguments."),
        ("show 1 2", "%hh show: unexpected argument '2'. Put quotes around a name with spaces."),
        ("show {missing}", "%hh show: {missing}: NameError: name 'missing' is not defined"),
        ("show 'a", "%hh: the quote ' is not closed."),
        ("show a --det full", "%hh show: unknown option --det. Did you mean --detail?"),
        ("show --detail", "%hh show: --detail needs a value, summary|preview|full."),
        ("show --detail --errors", "%hh show: --detail needs a value, summary|preview|full."),
        ("show --detail ful", "%hh show: unknown --detail ful. Did you mean full?"),
        ("show --detail {1/0}", "%hh show: --detail {1/0}: ZeroDivisionError: division by zero"),
        ("show --bogus='a b'", "%hh show: unknown option --bogus. Options: --errors, --detail."),
        ("show --help=1", "%hh show: --help takes no value."),
        ("show -hx", "%hh show: unknown option -hx. Options: --errors, --detail."),
        ("help shwo", "%hh help: unknown command shwo. Did you mean show?"),
        ("save", "%hh save: the following arguments are required: FILE. Example: %hh save spans.jsonl"),
    ],
)
def test_a_mistake_is_one_line_with_a_suggestion(line: str, message: str) -> None:
    assert error_message(line) == message


def test_a_key_typed_as_the_value_of_a_switch_is_not_repeated() -> None:
    assert error_message(f"login --save={SECRET}") == "%hh login: --save takes no value."


def test_a_key_typed_as_an_argument_is_not_evaluated() -> None:
    assert parsed("login {1/0}").key == ["{1/0}"]


def test_a_display_mode_may_be_typed_in_capitals() -> None:
    assert parsed("display LINE").mode == "line"


def test_the_result_of_an_expression_is_never_an_option() -> None:
    assert parsed("send {'--yes'} b").words == ["--yes", "b"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_a_command_are_valid(command: str) -> None:
    for example in COMMANDS[command].examples:
        name, *words = split(example.removeprefix("%hh"), "%hh") or ["status"]
        COMMANDS[name].parse(words)


def test_help_names_every_command_and_every_option() -> None:
    for name, command in COMMANDS.items():
        assert f"\n    {name} " in HHParser().format_help()
        for flag in command.options:
            assert flag in command.format_help()
        for example in command.examples:
            assert f"\n    {example}" in command.format_help()
    for flag in session_parser().options:
        assert f"\n    {flag} " in session_parser().format_help()


def test_help_lines_fit_the_page_and_contain_no_markdown() -> None:
    for text in (each.format_help() for each in (HHParser(), session_parser(), *COMMANDS.values())):
        assert max(len(line) for line in text.splitlines()) <= 120
        assert "`" not in text


def test_the_examples_of_the_session_magics_are_valid() -> None:
    for line in session_parser().examples:
        magic, _, options = line.partition(" ")
        parse(options.replace("{ticket}", "7"), evaluate, magic=magic)
