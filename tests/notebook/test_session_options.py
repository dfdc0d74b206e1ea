"""The line of `%%hh_session`: split first, values expanded after, mistakes answered in one line."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.error import UsageError

from hh_jupyter.notebook.parser import quoted, session_parser, split
from hh_jupyter.notebook.session_magic import SessionOptions, parse

NAMES: dict[str, Any] = {"ticket": {"id": 7}, "n": 3, "who": "ada"}


def evaluate(expression: str) -> Any:
    return eval(expression, {}, NAMES)


def read(line: str) -> SessionOptions:
    return parse(line, evaluate)


def error_message(line: str, magic: str = "%%hh_session") -> str:
    with pytest.raises(UsageError) as caught:
        parse(line, evaluate, magic=magic)
    return str(caught.value)


def test_name_and_every_option() -> None:
    got = read("refund --id 1 --input q=hi --metadata team=support --metadata k=v --user 7 --source prod --show tree")
    assert got == SessionOptions(
        name="refund",
        session_id="1",
        inputs={"q": "hi"},
        metadata={"team": "support", "k": "v"},
        user_properties={"user_id": "7"},
        source="prod",
        show="tree",
    )


def test_an_empty_line_means_an_unnamed_session() -> None:
    assert read("   ") == SessionOptions()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ("'two words' x", ["two words", "x"]),
        ('k="a b"c', ["k=a bc"]),
        ("k={f('a b', \"}\")} x", ["k={f('a b', \"}\")}", "x"]),
        ("k={ {'a': 1} }", ["k={ {'a': 1} }"]),
        ("''", [""]),
    ],
)
def test_quotes_and_braces_hold_a_word_together(line: str, words: list[str]) -> None:
    assert split(line, "%%hh_session") == words


def test_an_expression_in_braces_passes_the_object_itself() -> None:
    assert read("--input t={ticket}").inputs["t"] is NAMES["ticket"]
    assert read("--input t={ticket['id'] + n}").inputs["t"] == 10


def test_braces_may_contain_a_dict() -> None:
    assert read("--input t={'a': 1}").inputs["t"] == {"a": 1}


def test_expressions_inside_text_are_replaced_and_other_braces_kept() -> None:
    assert read("'run {n} of {who}' --metadata note='{0} {nothing} {n}'") == SessionOptions(
        name="run 3 of ada", metadata={"note": "0 {nothing} 3"}
    )


def test_an_expanded_value_is_never_an_option() -> None:
    NAMES["dashes"] = "--end"
    assert read("--input q={dashes}").inputs == {"q": "--end"}
    assert read("--input=q=--end").inputs == {"q": "--end"}


def test_an_unknown_option_suggests_a_similar_one() -> None:
    assert error_message("refund --tags a=b") == ("%%hh_session: unknown option --tags. Did you mean --metadata?")
    assert "Did you mean --metadata?" in error_message("--metdata a=b")


def test_an_unknown_option_without_a_similar_one_lists_all() -> None:
    flags = [*session_parser().options]
    assert f"unknown option --bogus. Options: {', '.join(flags[:-1])}." in error_message("--bogus")
    assert f"unknown option --bogus. Options: {', '.join(flags)}." in error_message("--bogus", "%hh_session")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("it's", "the quote ' is not closed."),
        ('"a', 'the quote " is not closed.'),
        ("--input q={a", "the brace { is not closed."),
        ("--input", "--input needs a value, K=V."),
        ("--input --user 7", "--input needs a value, K=V."),
        ("--input q", "--input expects KEY=VALUE, got 'q'."),
        ("--input =q", "--input expects KEY=VALUE, got '=q'."),
        ("a b", "unexpected argument 'b'. Put quotes around a name with spaces."),
        ("--show all", "unknown --show all. Known: auto, line, tree, off."),
        ("--end", "--end is not needed, the session ends with the cell. It is an option of %hh_session."),
        ("refund #3", 'a session named "refund #3" already exists; use --join "refund #3" to continue it.'),
        ("a --join last", "--join cannot be combined with a name; it continues an existing session."),
        ("--join last --id 7", "--join cannot be combined with --id; it continues an existing session."),
        ("--input q={tikcet}", "--input q={tikcet}: NameError: name 'tikcet' is not defined"),
        ("--input q={n +}", "--input q={n +}: SyntaxError: "),
    ],
)
def test_a_mistake_is_one_line_that_names_the_magic(line: str, expected: str) -> None:
    message = error_message(line)
    assert message.startswith(f"%%hh_session: {expected}")
    assert len(message.splitlines()) == 1


def test_end_is_an_option_of_the_line_form() -> None:
    assert parse("--end", evaluate, magic="%hh_session").end
    assert "--end cannot be combined with a name or other options." in error_message("refund --end", "%hh_session")


def test_a_name_with_spaces_needs_quotes_but_the_number_of_a_title_does_not() -> None:
    assert read("--join 'refund triage'").join == "refund triage"
    assert read("--join 'refund triage' #3").join == "refund triage #3"
    assert read("--join refund-triage #3 --show line").join == "refund-triage #3"
    assert "quotes" in error_message("refund triage")


def test_a_name_may_contain_any_letters() -> None:
    assert read("'Rückfrage 7: «¿por qué?» 客户'").name == "Rückfrage 7: «¿por qué?» 客户"
    assert read("Überprüfung").name == "Überprüfung"


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("run-$n", "run-3"),
        ("$who", "ada"),
        ("$who.__class__.__name__", "str"),
        ("$$who", "$who"),
        ("$nobody", "$nobody"),
        ("cost-$5", "cost-$5"),
        ("run-{{n}}", "run-{n}"),
        ("{{n}}", "{n}"),
        ("{n + 1}-{who}", "4-ada"),
    ],
)
def test_variables_are_expanded_as_in_other_magics(word: str, text: str) -> None:
    assert read(f"'{word}'").name == text


def test_a_variable_alone_passes_the_object_itself() -> None:
    assert read("--input t=$ticket").inputs["t"] is NAMES["ticket"]


def test_an_expanded_value_is_not_split_again() -> None:
    NAMES["name"] = "two words --end"
    assert read("{name}") == SessionOptions(name="two words --end")


def test_a_user_id_may_be_an_expression_with_an_equals_sign() -> None:
    assert read("--user {n == 3}").user_properties == {"user_id": True}
    assert read("--user plan=pro --user 7").user_properties == {"plan": "pro", "user_id": "7"}


@pytest.mark.parametrize("word", ["plain", "two words", "it's", 'a "b"', 'it\'s "b"', "-x", "{n}", ""])
def test_a_quoted_word_splits_to_the_original_word(word: str) -> None:
    assert split(quoted(word), "%hh") == [word]
