"""`%hh`: status and export counts, cells shown again, traced libraries."""

from __future__ import annotations

import re

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.conftest import KEY, StartKernel
from tests.kernel.driver import Kernel


def test_status_shows_the_settings_and_their_origins(sending: Kernel, backend: Backend) -> None:
    sending.run("span('counted')")
    text = sending.run("%hh").stdout
    assert f"sending to {backend.url.removeprefix('http://')} as dev" in text
    assert "test-session" in text
    assert "1 made, 1 sent, 0 waiting, 0 rejected, 0 dropped" in text
    assert KEY not in text
    lines = {words[0]: words[1:] for line in text.splitlines() if (words := line.split())}
    assert lines["api_key"] == ["set", "HH_API_KEY"]
    assert lines["server_url"] == [backend.url, "HH_API_URL"]
    assert lines["source"] == ["dev", "default"]
    sending.run("%config HHJupyter.source = 'staging'")
    assert "staging" in sending.run("%hh status").stdout


def test_show_repeats_the_output_of_a_cell(local: Kernel) -> None:
    cell = local.run("span('shown-once')")
    again = local.run(f"%hh show {cell.count}")
    assert "shown-once" in again.output.html
    assert "open" in again.output.html
    assert again.output.metadata["hh_jupyter"]["view_id"] != cell.output.metadata["hh_jupyter"]["view_id"]
    assert "shown-once" in local.run("%hh show last").output.text
    assert "shown-once" in local.run("%hh show").output.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%hh stauts", "%hh: unknown command stauts. Did you mean status?"),
        ("%hh show 9999", "%hh show: no spans for cell 9999. Cells with spans: "),
        ("%hh display purple", "%hh display: unknown mode purple. Known: auto, line, tree, off."),
        ("%hh display tre", "%hh display: unknown mode tre. Did you mean tree?"),
        ("%%hh_session --show tre\n1", "%%hh_session: unknown --show tre. Did you mean tree?"),
        ("%%hh_session -h\n1", "%%hh_session: %%hh_session? shows the help."),
        ("%%hh_session refunds --help\n1", "%%hh_session: %%hh_session? shows the help."),
        ("%hh instrument opnai", "%hh instrument: unknown library opnai. Did you mean openai?"),
        ("%hh instrument langgraph", "%hh instrument: unknown library langgraph. Did you mean langchain?"),
        ("%hh status now", "%hh status: unexpected argument 'now'. It takes no arguments."),
        ("%hh show --erors", "%hh show: unknown option --erors."),
        ("%hh help shwo", "%hh help: unknown command shwo. Did you mean show?"),
        ("%hh show {missing}", "%hh show: {missing}: NameError: name 'missing' is not defined"),
        (
            "%hh open",
            "%hh open: local mode, nothing leaves this machine. %hh login to send. Then set app_url (HH_APP_URL)",
        ),
        ("%hh open all", "%hh open: expected one session, got all. %hh sessions lists them."),
    ],
)
def test_a_mistake_is_one_line(local: Kernel, line: str, message: str) -> None:
    local.run("span('some')")
    cell = local.run(line)
    assert cell.ename == "UsageError"
    assert cell.stderr.startswith(f"UsageError: {message}")
    assert cell.stderr.count("\n") == 1


def test_words_are_expanded_as_in_other_magics(local: Kernel) -> None:
    cell = local.run("span('by-variable')")
    local.run(f"number = {cell.count}")
    for typed in ("{number}", "$number", "{number + 0}"):
        assert "by-variable" in local.run(f"%hh show {typed}").output.text


def test_help_is_a_sentence_examples_and_options(local: Kernel) -> None:
    for shown in (local.run("%hh save --help").stdout, local.run("%hh help save").stdout):
        assert "%hh save FILE" in shown
        assert "%hh save spans.jsonl --force" in shown
        assert "--force      overwrite an existing file" in shown
    for typed in ("%hh help", "%hh --help", "%hh -h"):
        assert "\n\nShow and control" in local.run(typed).stdout
    assert local.run("%hh show -h").stdout == local.run("%hh show --help").stdout
    for typed in ("%hh_session --help", "%hh_session -h"):
        assert "\n\nRecord the spans" in local.run(typed).stdout
    assert local.run("%hh_session -h").stdout in local.run("%%hh_session?").page
    assert "-h" not in local.run("%hh sessions").stdout, "no session was made"


def test_off_makes_no_spans_until_on_and_tells_the_difference_to_display(fresh: Kernel) -> None:
    message = fresh.run("%hh off").stdout
    assert message.startswith("hh: tracing is off")
    assert "%hh display off" in message
    assert fresh.run("span('unseen')\n1").kinds == ["result"]
    assert fresh.run("%hh").stdout.startswith("hh: tracing is off (%config HHJupyter).")
    assert fresh.run("%hh on").stdout.startswith("hh: local mode")
    assert "seen" in fresh.run("span('seen')").output.text
    assert [name for name, _, _ in fresh.value("rows()")] == ["seen"]


def test_open_gives_the_page_of_a_session(sending: Kernel) -> None:
    assert (
        "%hh open: set app_url (HH_APP_URL) to the URL of a session's page: %config" in sending.run("%hh open").stderr
    )
    sending.run("%config HHJupyter.app_url = 'https://app.example/s/{session_id}'")
    own = sending.value("hh.get_tracer().session_id")
    assert sending.run("%hh open").stdout == f"hh: https://app.example/s/{own}\n"
    sending.run("%%hh_session 'refund triage'\nspan('x')")
    ((_, other, _),) = sending.value("rows()")
    assert sending.run("%hh open 'refund triage'").stdout == f"hh: https://app.example/s/{other}\n"


def test_every_setting_is_shown_by_request(local: Kernel) -> None:
    assert "batch_size" not in local.run("%hh status").stdout
    assert re.search(r"batch_size +100 +default", local.run("%hh status --all").stdout)


def test_display_modes_hold_until_changed(local: Kernel) -> None:
    assert local.run("%hh display off").stdout == "hh: display off\n"
    assert local.run("span('hidden')").outputs == []
    local.run("%hh display tree")
    assert "<details open" in local.run("span('opened')").output.html
    local.run("%hh display auto")
    assert "<details open" not in local.run("span('folded')").output.html


def test_one_cell_may_choose_its_own_display(local: Kernel) -> None:
    assert "<details open" in local.run("%%hh_session --show tree\nspan('opened')").output.html


def test_disabled_tracing_is_said_and_leaves_cells_alone(start_kernel: StartKernel) -> None:
    kernel = start_kernel(HH_DISABLE_TRACING="true")
    assert kernel.run("span('untraced')\n1").kinds == ["result"]
    assert kernel.run("%hh instrument openai").stdout.endswith("hh: tracing is off (HH_DISABLE_TRACING). %hh on\n")
    assert kernel.run("%hh").stdout.startswith("hh: tracing is off (HH_DISABLE_TRACING).")


@pytest.mark.slow
def test_instrument_switches_on_what_is_installed_and_says_nothing_the_second_time(local: Kernel) -> None:
    first, second = local.run("%hh instrument"), local.run("%hh instrument")
    assert re.match(r"hh: tracing (\w+, )*openai[.,]", first.stdout)
    assert second.stdout == first.stdout
    assert first.stderr == second.stderr == ""
    assert re.search(r"traced    (\w+, )*openai", local.run("%hh").stdout)


def test_a_missing_instrumentor_is_answered_with_the_line_that_installs_it(local: Kernel) -> None:
    cell = local.run("%hh instrument crewai")
    assert "hh: crewai is not traced. %pip install openinference-instrumentation-crewai" in cell.stdout
    assert cell.reply == "ok"
