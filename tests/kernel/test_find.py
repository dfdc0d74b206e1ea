"""`%hh find`: hits in cells and sessions, of this kernel and on disk, and how to open them."""

from __future__ import annotations

import pytest

from tests.kernel.conftest import StartKernel
from tests.kernel.driver import Kernel

ASK = """%%hh_session refund-triage
with hh.get_tracer().start_span("ask"):
    hh.enrich_span(inputs={"question": 'Where is my "Päckchen" to Oslo?'})
    try:
        with hh.get_tracer().start_span("post"):
            raise ValueError("oslo is closed")
    except ValueError:
        pass
"""


def shown(kernel: Kernel, line: str) -> tuple[str, str]:
    """Text and HTML of what `%hh find` shows."""
    output = kernel.run(f"%hh find {line}").output
    assert output.metadata["hh_jupyter"]["view_id"] in output.html
    return output.text, output.html


def test_hits_are_shown_by_cell_with_how_to_open_it(fresh: Kernel) -> None:
    asked = fresh.run(ASK)
    fresh.run("span('other')")
    text, html = shown(fresh, "to oslo")
    assert text.startswith(f"1 hit in 1 of 3 spans for to oslo\n\ncell {asked.count}   %hh show {asked.count}\n")
    assert 'Where is my "Päckchen" «to Oslo»?' in text
    assert ">to Oslo</b>?" in html
    assert shown(fresh, "OSLO")[0].startswith("2 hits in 2 of 3 spans")
    errors = shown(fresh, "oslo --errors")[0]
    assert "ValueError: «oslo» is closed" in errors
    assert "Päckchen" not in errors
    assert "session refund-triage" in shown(fresh, "triage")[0]
    nothing = fresh.run("%hh find no such text").stdout
    assert nothing.startswith("hh: no hits for no such text in 3 spans.\n%hh find 'no such text' --all also searches")
    assert fresh.value("len(hh.spans(text='oslo'))") == 2


def test_a_cell_whose_number_another_one_has_now_is_opened_by_its_session(fresh: Kernel) -> None:
    first = fresh.run("%%hh_session once\nspan('first needle')")
    fresh.run("get_ipython().execution_count = 50")
    after = fresh.run("1")  # IPython 9 counts before it runs a cell, earlier versions after it.
    assert first.count
    assert after.count
    fresh.run(f"get_ipython().execution_count = {first.count - (after.count - 50)}")
    second = fresh.run("%%hh_session twice\nspan('second needle')")
    assert second.count == first.count
    text, _ = shown(fresh, "needle")
    assert f"cell {second.count}   %hh show {second.count}" in text
    (command,) = (line.partition("   ")[2] for line in text.splitlines() if line.startswith("session once"))
    assert "first needle" in fresh.run(command).output.text


@pytest.mark.slow
def test_spans_of_earlier_kernels_are_read_in_code_and_become_a_dataset(start_kernel: StartKernel) -> None:
    first = start_kernel()
    first.run(
        "@hh.trace(event_type='tool')\n"
        "def reply(ticket):\n"
        "    hh.enrich_span(feedback={'ok': ticket != 'lost'})\n"
        "    return ticket.upper()"
    )
    first.run("%%hh_session monday\nreply('lost'), reply('found')")
    first.run("hh.flush()")
    first.stop(now=True)

    second = start_kernel()
    second.run("span('of today')")
    names = "[one.name for one in hh.spans({})]"
    assert second.value(names.format("")) == ["of today"]
    assert second.value(names.format("on_disk=True")) == ["reply", "reply", "of today"]
    assert second.value(names.format("on_disk=True, session='monday', text='LOST'")) == ["reply"]
    bad = "hh.spans(feedback={'ok': False}, on_disk=True)"
    assert second.value(f"[row['inputs'] for row in {bad}.to_dataset()]") == [{"ticket": "lost"}]
    listed = second.value("repr(hh.spans(on_disk=True, session='monday'))")
    (hint,) = (line[line.index("%hh show") :] for line in listed.splitlines() if "%hh show" in line)
    assert "LOST" in second.run(hint).output.text
    refused = second.run("hh.spans(cell=1, on_disk=True)")
    assert "cells are those of this kernel" in str(refused.errors)


@pytest.mark.slow
def test_all_finds_what_an_earlier_kernel_left_on_disk(start_kernel: StartKernel) -> None:
    first = start_kernel()
    first.run(ASK)
    first.run("hh.flush()")
    first.stop(now=True)

    second = start_kernel()
    second.run("span('oslo here')")
    assert "1 hit in 1 of 1 span for" in shown(second, "oslo")[0]
    text, _ = shown(second, "oslo --all")
    assert text.startswith("3 hits in 3 of 3 spans for oslo\n\ncell ")
    assert text.endswith("\n\nSearched 2 sessions, also of earlier kernels.")
    assert second.run("%hh find nothing --all").stdout == "hh: no hits for nothing in 3 spans of 2 sessions.\n"
    (command,) = (line.partition("   ")[2] for line in text.splitlines() if line.startswith("session refund-triage"))
    assert "ask" in second.run(command).output.text
    assert "«Päckchen»" in shown(second, "päckchen --all")[0]
    errors = shown(second, "--all --errors oslo")[0]
    assert errors.startswith("1 hit in 1 of 3 spans")


def test_a_mistake_is_one_line_and_a_key_is_not_repeated(local: Kernel) -> None:
    empty = local.run("%hh find")
    assert "%hh find: expected a text. Example: %hh find parcel" in empty.stderr
    assert "Did you mean --errors?" in local.run("%hh find x --error").stderr
    key = "sk-proj-" + "a1B2" * 8
    cell = local.run(f"%hh find {key}")
    assert key not in cell.stdout


@pytest.mark.parametrize(
    "text", ["where's Tom's", '"city": "Oslo', "{a [b(", "a --errors b", "\\d+ $5.00", "'*' or \"?\""]
)
def test_the_text_is_plain_whatever_its_characters(local: Kernel, text: str) -> None:
    local.run(f"with hh.get_tracer().start_span('plain', attributes={{'note': 'x ' + {text!r} + ' y'}}): pass")
    for line in (f"%hh find {text}", f"%hh find --all {text}", f"%hh find '{text}'" if "'" not in text else ""):
        if line:
            found = local.run(line)
            assert f"«{text}»" in found.output.text, found


def test_a_variable_is_replaced(local: Kernel) -> None:
    local.run("ticket = 'ticket 4711'\nspan('about ticket 4711');")
    assert "«ticket 4711»" in local.run("%hh find {ticket}").output.text


@pytest.mark.slow
def test_feedback_given_after_the_cell_is_found_also_on_disk(start_kernel: StartKernel) -> None:
    kernel = start_kernel()
    kernel.run("event = '0b0f6a3e-2d0a-4a0e-9a57-3f0a2c1d9e11'\nwith hh.get_tracer().start_span('rated'):\n"
               "    hh.enrich_span(update_event_id=event)")  # fmt: skip
    kernel.run("hh.enrich_span(event_id=event, feedback={'why': 'too curt'})")
    for line in ("%hh find too curt", "%hh find too curt --all"):
        assert "«too curt»" in kernel.run(line).output.text, line
    kernel.restart()
    kernel.run("%load_ext hh_jupyter")
    assert "«too curt»" in kernel.run("%hh find too curt --all").output.text
