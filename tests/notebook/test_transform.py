"""`%%hh_session` is rewritten to one statement; everything else of a cell stays as it is."""

from __future__ import annotations

import ast

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from hh_jupyter.notebook.session_magic import rewrite


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def rewritten(text: str) -> str:
    return "".join(rewrite(lines(text)))


def test_the_line_becomes_one_statement_and_the_body_is_untouched() -> None:
    assert rewritten("%%hh_session refund --user 7\nx = 1\n  # note\nx") == (
        "get_ipython()._hh.enter('refund --user 7')  # %%hh_session refund --user 7\nx = 1\n  # note\nx"
    )


def test_the_number_of_lines_does_not_change_so_that_errors_name_the_right_one() -> None:
    cell = "\n%%hh_session a\n\nx = 1\n1 / 0\n"
    assert len(rewrite(lines(cell))) == len(lines(cell))


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "\n\n",
        "x = 1\n",
        "# x\n",
        "%%hh_session?\n",
        "%%hh_sessions a\nx\n",
        "%hh_session a\nx\n",
        "x\n%%hh_session a\n",
    ],
)
def test_other_cells_are_unchanged(cell: str) -> None:
    assert rewritten(cell) == cell


@pytest.mark.parametrize("body", ["", "\n\n", "# a comment\n\n"])
def test_an_empty_body_is_an_argument_of_the_statement(body: str) -> None:
    assert rewritten(f"%%hh_session a\n{body}").startswith("get_ipython()._hh.enter('a', blank=True)")


def test_quotes_and_backslashes_are_preserved() -> None:
    options = "'it is' --input q=\"a\\b\""
    call = rewritten(f"%%hh_session {options}\nx\n").partition("  # ")[0]
    assert ast.literal_eval(call.removeprefix("get_ipython()._hh.enter(").removesuffix(")")) == options


def test_a_second_session_line_is_rewritten_too() -> None:
    assert rewritten("%%hh_session a\n%%hh_session b\nx\n").splitlines() == [
        "get_ipython()._hh.enter('a')  # %%hh_session a",
        "get_ipython()._hh.enter('b')  # %%hh_session b",
        "x",
    ]


def test_a_cell_magic_below_is_called_with_the_rest_as_its_body() -> None:
    assert rewritten("%%hh_session a\n\n%%time -n 1\nx\ny\n").splitlines() == [
        "get_ipython()._hh.enter('a')  # %%hh_session a",
        "",
        "get_ipython().run_cell_magic('time', '-n 1', 'x\\ny\\n')",
    ]


@pytest.mark.parametrize("line", ["#| hh_session: a --user 7", "# | hh_session: a --user 7", "#|hh_session:a --user 7"])
def test_the_comment_is_rewritten_and_named_in_messages(line: str) -> None:
    assert rewritten(f"{line}\nx = 1\nx") == (
        "get_ipython()._hh.enter('a --user 7', magic='#| hh_session')  # #| hh_session a --user 7\nx = 1\nx"
    )


def test_the_comment_may_stand_among_options_of_other_tools() -> None:
    assert rewritten("#| label: fig\n#| hh_session: a\n#| echo: false\nx\n").splitlines() == [
        "#| label: fig",
        "get_ipython()._hh.enter('a', magic='#| hh_session')  # #| hh_session a",
        "#| echo: false",
        "x",
    ]


@pytest.mark.parametrize(
    "cell",
    [
        "x = 1\n#| hh_session: a\nx\n",
        "# a note\n#| hh_session: a\nx\n",
        "# hh_session: a\nx\n",
        "#| hh_sessions: a\nx\n",
        "#| label: fig\nx\n#| hh_session: a\n",
        "%%bash\n#| hh_session: a\nls\n",
        " #| hh_session: a\nx\n",
        "#| hh_session: a\n# no code\n",
    ],
)
def test_a_comment_anywhere_else_is_a_comment(cell: str) -> None:
    assert rewritten(cell) == cell


def test_the_comment_may_stand_above_and_below_cell_magics() -> None:
    assert rewritten("#| hh_session: a\n%%time\nx\n").splitlines()[1:] == [
        "get_ipython().run_cell_magic('time', '', 'x\\n')"
    ]
    assert rewritten("%%hh_session a\n#| hh_session: b\nx\n").count("_hh.enter") == 2


def test_a_question_mark_after_a_command_shows_its_help() -> None:
    assert rewritten("%hh show?\n") == "get_ipython().run_line_magic('hh', 'show --help')\n"
    for other in ("%hh?\n", "%hh show 4\n", "%hh show?\nx\n", "x?\n"):
        assert rewritten(other) == other


def test_rewriting_is_idempotent() -> None:
    once = rewritten("%%hh_session a\nx\n")
    assert rewritten(once) == once


def test_a_terminal_waits_for_the_body() -> None:
    """IPython asks whether the cell is complete: the magic's line alone is not."""
    manager = TransformerManager()
    manager.cleanup_transforms.append(rewrite)
    assert manager.check_complete("%%hh_session a")[0] == "incomplete"
    assert manager.check_complete("%%hh_session a\nx = 1\n\n")[0] == "complete"
