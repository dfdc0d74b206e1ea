"""Tab and `?` in a real kernel: ours alone where the line is ours, and nothing of ours elsewhere."""

from __future__ import annotations

import pytest

from tests.kernel.driver import Kernel


@pytest.fixture(scope="module")
def kernel(local: Kernel) -> Kernel:
    local.run("%%hh_session 'refund triage'\nspan('one')")
    local.run("%%hh_session 'refund triage'\nspan('two')")
    local.run("%%hh_session chat\nspan('three')")
    local.run("ticket, shown = 7, 8")
    return local


def assert_completes(kernel: Kernel, text: str, *wanted: str) -> None:
    """Tab completes to exactly these; IPython 7 adds Python names, which cannot be suppressed."""
    found = kernel.complete(text)
    assert set(found) == set(wanted) if kernel.versions[0] > 7 else set(wanted) <= set(found)


def test_commands_options_and_values(kernel: Kernel) -> None:
    assert_completes(kernel, "%hh sh", "%hh show")
    assert_completes(kernel, "x = 1\n%hh display l", "x = 1\n%hh display line")
    assert_completes(kernel, "%%hh_session --in", "%%hh_session --input")
    assert_completes(kernel, "%%hh_session refund --show t", "%%hh_session refund --show tree")
    if kernel.versions[0] > 7:  # It has no way to complete a comment.
        assert_completes(kernel, "#| hh_session: --jo", "#| hh_session: --join")
    assert "%hh instrument openai" in kernel.complete("%hh instrument o")


def test_session_titles_are_quoted_if_needed_and_the_latest_comes_first(kernel: Kernel) -> None:
    sessions = ("last", "chat", "'refund triage #2'", "'refund triage'")
    assert_completes(kernel, "%%hh_session --join ", *(f"%%hh_session --join {session}" for session in sessions))
    shown = ["%hh show 'refund triage #2'", "%hh show 'refund triage'"]
    assert [line for line in kernel.complete("%hh show 'ref") if line in shown] == shown
    for line in shown:
        # IPython 7 completes only what follows the quote.
        assert kernel.versions[0] == 7 or line in kernel.complete("%hh show re")
        assert kernel.run(line).reply == "ok"


def test_the_completed_line_works(kernel: Kernel) -> None:
    (line,) = kernel.complete("%%hh_session --join 'refund triage #")
    assert kernel.run(f"{line}\nspan('four')").reply == "ok"
    rows = {name: session for name, session, _ in kernel.value("rows()")}
    assert rows["four"] == rows["two"]


@pytest.mark.slow
def test_other_completion_is_unchanged(kernel: Kernel) -> None:
    assert "ticket" in kernel.complete("tick")
    assert {"%hh", "%hh_session", "%%hh_session"} <= set(kernel.complete("%hh"))
    settings = kernel.complete("%config HHJupyter.di")
    assert {"%config HHJupyter.display", "%config HHJupyter.display_rows"} <= set(settings)
    assert [line for line in kernel.complete("%config HHJupyter.api") if "key" in line] == []


def test_question_marks_show_the_help(kernel: Kernel) -> None:
    assert "%hh show 4" in kernel.run("%hh?").page
    assert "--join last|NAME|ID" in kernel.run("%%hh_session?").page
    assert "--join last|NAME|ID" in kernel.run("%hh_session?").page
    assert "Usage: %hh show [" in kernel.run("%hh show?").stdout


@pytest.mark.slow
def test_unloading_removes_the_completions(fresh: Kernel) -> None:
    fresh.run("%unload_ext hh_jupyter")
    assert "%hh show" not in fresh.complete("%hh sh")
    fresh.run("%load_ext hh_jupyter")
    assert fresh.complete("%hh sh") == ["%hh show"]
