"""`%hh show`, and the content of saved outputs: by default no inputs and outputs of spans."""

from __future__ import annotations

import re

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.conftest import StartKernel
from tests.kernel.driver import Kernel

ASK = """
@hh.trace(event_type="tool")
def look_up(question):
    return {"answer": "It is the " + "Rayleigh scattering."}

@hh.trace(event_type="chain")
def ask(question, fail=False):
    found = look_up(question)
    if fail:
        raise ValueError("no " + "sky")
    return found
"""
QUESTION, ANSWER = "Why is the sky blue?", "Rayleigh scattering"


@pytest.fixture
def asking(start_kernel: StartKernel) -> Kernel:
    kernel = start_kernel()
    kernel.run(ASK)
    return kernel


def test_by_default_the_saved_output_contains_no_span_content(asking: Kernel) -> None:
    for code in (f"_ = ask({QUESTION!r})", f"ask({QUESTION!r}, fail=True)"):
        cell = asking.run(code)
        for version in cell.output.versions:
            assert QUESTION not in str(version)
            assert ANSWER not in str(version)
        assert (
            f'Inputs and outputs: <code style="background:none;padding:0">%hh show {cell.count} --detail full'
            in cell.output.html
        )


def test_detail_includes_span_content_in_html_and_text(asking: Kernel) -> None:
    cell = asking.run(f"_ = ask({QUESTION!r})")
    shown = asking.run(f"%hh show {cell.count} --detail full").output
    for words in (shown.html, shown.text):
        assert QUESTION in words
        assert ANSWER in words
    assert QUESTION not in str(asking.run(f"%hh show {cell.count}").output.versions)
    assert QUESTION not in str(cell.output.versions)


@pytest.mark.slow
def test_the_setting_decides_for_every_cell_and_the_text_stays_short(asking: Kernel) -> None:
    asking.run("%config HHJupyter.saved_detail = 'full'")
    output = asking.run(f"_ = ask({QUESTION!r})").output
    assert QUESTION in output.html
    assert QUESTION not in output.text
    asking.run("%config HHJupyter.saved_detail = 'summary'")
    assert QUESTION not in str(asking.run(f"_ = ask({QUESTION!r})").output.versions)


@pytest.mark.slow
def test_a_secret_is_in_no_form_of_the_output(asking: Kernel) -> None:
    """Values are redacted before any display."""
    key = "sk-" + "proj-" + "4f9aQ27bXcd81LmZ0pRtUvWy3eHjKs6N"
    cell = asking.run(f"_ = ask('my key is {key}')")
    for command in (f"%hh show {cell.count} --detail full", f"%hh show {cell.count} --detail preview"):
        shown = asking.run(command)
        assert "my key is" in str(shown.output.versions)
        assert key not in str(shown.output.versions) + str(cell.output.versions)


@pytest.mark.slow
def test_errors_shows_only_spans_in_error_and_their_ancestors(asking: Kernel) -> None:
    good, bad = asking.run(f"_ = ask({QUESTION!r})"), asking.run(f"ask({QUESTION!r}, fail=True)")
    assert asking.run(f"%hh show {good.count} --errors").stdout == f"hh: no errors in cell {good.count}, 2 spans.\n"
    for command in (f"%hh show {bad.count} --errors", "%hh show all --errors", "%hh show last --errors"):
        shown = asking.run(command).output
        assert "ValueError: no sky" in shown.text
        assert "look_up" not in shown.text
        assert re.search(r"\d more spans?", shown.text)


def test_an_exception_that_the_cell_caught_is_not_an_error_of_the_cell(asking: Kernel) -> None:
    """Neither when the cell is shown again. In a cell that raised, it is an error."""
    caught = asking.run("try:\n    ask('x', fail=True)\nexcept ValueError:\n    pass")
    for text in (caught.output.text, asking.run(f"%hh show {caught.count}").output.text):
        assert re.match(r"✓ ask  .*  2 spans  1 caught  ", text)
        assert "1 error" not in text
    assert "<details>" in caught.output.html
    raised = asking.run("ask('x', fail=True)").output
    assert re.match(r"▲ ask  .*  2 spans  1 error  ", raised.text)
    assert "<details open>" in raised.html


@pytest.mark.slow
def test_saved_outputs_can_omit_the_session_link(asking: Kernel) -> None:
    with_link = asking.run("_ = ask('x')").output.html
    session = re.search(r'title="Session ([0-9a-f-]{36})"', with_link)
    assert session is not None
    asking.run("%config HHJupyter.saved_link = False")
    without = asking.run("_ = ask('x')").output
    assert session[1][:8] not in str(without.versions)


def test_links_only_go_to_the_configured_host(start_kernel: StartKernel) -> None:
    with Backend() as backend:
        kernel = start_kernel(
            HH_API_KEY="test-key-0001", HH_API_URL=backend.url, HH_APP_URL="https://app.example/sessions/{session_id}"
        )
        html = kernel.run("span('x')").output.html
    links = re.findall(r'href="([^"]*)"', html)
    assert len(links) == 1
    assert re.fullmatch(r"https://app\.example/sessions/[0-9a-f-]{36}", links[0])


@pytest.mark.slow
def test_view_ids_are_made_of_the_cell_id(asking: Kernel) -> None:
    first, second = (asking.run("_ = ask('x')", cell_id="a1b2") for _ in range(2))
    assert first.output.metadata == second.output.metadata == {"hh_jupyter": {"view_id": "hh-a1b2"}}
    assert (
        re.findall(r' id="([^"]*)"', first.output.html)
        == re.findall(r' id="([^"]*)"', second.output.html)
        == ["hh-a1b2"]
    )
    shown = asking.run(f"%hh show {second.count}", cell_id="c3d4")
    assert shown.output.metadata == {"hh_jupyter": {"view_id": f"hh-c3d4-shows-{second.count}"}}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%hh show --detail", "%hh show: --detail needs a value, summary|preview|full."),
        ("%hh show --detail nothing", "%hh show: unknown --detail nothing. Known: summary, preview, full."),
        ("%hh show --detail sumary", "%hh show: unknown --detail sumary. Did you mean summary?"),
        ("%hh show --eror", "%hh show: unknown option --eror. Did you mean --errors?"),
        ("%hh show 9999 --errors", "%hh show: no spans for cell 9999. Cells with spans: "),
    ],
)
def test_a_mistake_is_one_line(local: Kernel, line: str, message: str) -> None:
    local.run("span('some')")
    assert local.run(line).stderr.startswith(f"UsageError: {message}")


@pytest.mark.slow
def test_the_hint_below_a_list_of_spans_shows_the_cell_or_session_that_they_are_from(asking: Kernel) -> None:
    def shown_by_the_hint(code: str) -> str:
        hint = asking.run(f"print(repr({code}))").stdout.rstrip().rpartition("%hh show ")[2]
        return asking.run(f"%hh show {hint}").output.text

    first = asking.run("span('first')")
    asking.run("span('second')")
    asking.run("%%hh_session both\nspan('third')")
    asking.run("%%hh_session --join both\nspan('fourth')")
    of_cell, of_session = (
        shown_by_the_hint(f"hh.spans(cell={first.count})"),
        shown_by_the_hint("hh.spans(session='both')"),
    )
    assert "first" in of_cell
    assert "second" not in of_cell
    assert "third" in of_session
    assert "fourth" in of_session
    assert "second" not in of_session
    assert "first" in shown_by_the_hint("hh.spans()")


@pytest.mark.slow
def test_feedback_given_later_is_shown_with_its_span(asking: Kernel) -> None:
    event = "24242424-2424-4424-8424-242424242424"
    rated = asking.run(f"with hh.get_tracer().start_span('rated'): hh.enrich_span(update_event_id={event!r})")
    asking.run(f"hh.enrich_span(event_id={event!r}, feedback={{'stars': 5}})")
    shown = asking.run(f"%hh show {rated.count} --detail full").output
    assert 'feedback\n    {"stars": 5}' in shown.text
    assert "[stars 5]" in shown.text
    assert ">stars 5</span>" in shown.html
    assert "stars" not in str(rated.output.versions)


@pytest.mark.slow
def test_a_session_may_be_named_like_a_run_of_a_cell(fresh: Kernel) -> None:
    fresh.run("%%hh_session 99~2\nspan('odd')")
    assert "odd" in fresh.run("%hh show 99~2").output.text
