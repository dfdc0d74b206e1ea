"""Every static display shows every state of an output, in the same words and without relying on styles."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from hh_jupyter.display import columns, html, text
from hh_jupyter.display.html import mime_bundle
from hh_jupyter.display.view import CellView
from hh_jupyter.records.record import record_of
from hh_jupyter.records.totals import summarize
from tests.display.rendered import ANSI, CONTROLS, Page
from tests.display.states import states
from tests.display.views import view
from tests.spans import RECORDINGS, expected, recorded

STATES = states()

EXPECTED = {
    "ok": ["✓ support_agent", "2.84 s", "$0.0091", "6,043 tokens", "21 spans", "3 LLM calls", "sent"],
    "ok opened": ["write_reply", "embed_chunk ×12", "p50 60 ms", "1 value redacted", "refund-triage"],
    "one span": ["✓ chat", "684 ms", "$0.0001", "86 tokens", "gpt-4.1-mini"],
    "error": ["▲ support_agent", "1 error", "1 caught", "HTTPError: 503", "payments.py:41", "issue_refund"],
    "error that the cell handled": ["✓ support_agent", "2 caught"],
    "cancelled": ["⊘ 2 traces", "1 caught", "2 cancelled", "⊘", "slow_call", "timed out", "StopAgent"],
    "error of the cell": ["▲ issue_refund", "1 caught", "RuntimeError: no more refunds", "cell:7", "503, caught"],
    "error raised from another": [
        "▲ agent",
        "1 error",
        "RuntimeError: no more refunds",
        "caused by",
        "HTTPError: 503 Service Unavailable",
        "issue_refund",
        "payments.py:41",
    ],
    "interrupted": ["■ support_agent", "interrupted", "running"],
    "sending": ["sending 6"],
    "not sent": [
        "not sent",
        "3 spans were not sent. api.example cannot be reached.",
        "on disk",
        "%hh send or %hh save FILE",
    ],
    "not sent, noticed before": ["not sent"],
    "key refused": ["not sent", "api.example rejected the key (401).", "%hh login or %hh save FILE"],
    "partly sent": ["12 of 14 sent", "2 spans were not sent.", "in this kernel", "%hh send or %hh save FILE"],
    "local": ["local only", "Nothing leaves this machine. No key is set.", "%hh login"],
    "local, noticed before": ["local only"],
    "limited": ["~$0.31 of $0.50", "6,043 tokens"],
    "limited, with other cells": ["~$0.31 of $0.50, 12 of 40 calls", "$0.0091", "6,043 tokens"],
    "stopped at the limit": [
        "~$0.4988 of $0.50",
        "stopped at the limit",
        "1 error",
        "Stopped before the call. ~$0.4988 of $0.50 spent, and a call costs ~$0.0082 on average.",
        "61 calls went out, 3 did not. To raise the limit:",
        "%%hh_session refund-batch --max-cost 1",
    ],
    "late spans": ["+3 after the cell ended"],
    "replayed": ["replayed, saved $0.0091", "replayed, was 340 ms", "6,043 tokens"],
    "partly replayed": ["1 of 15 replayed, saved $0.0042", "replayed, was 792 ms", "$0.0050"],
    "not recorded": [
        "▲ support_agent",
        "1 not recorded",
        "POST /v1/chat/completions is not recorded in refund-triage.jsonl.",
        "by its number",
        "%hh replay auto",
    ],
    "truncated": ["showing 9,993 of 12,001", "8 more spans", "1,093,125+ tokens", "$0.525+", "429"],
    "error with a preview": ["▲ support_agent", "payments.py:41"],
    "one span in full": ["user", "Explain idempotency keys in one sentence. <img src=x onerror=alert(1)>", "assistant"],
}


def bare(page: str) -> str:
    """What a reader shows that removes styles, classes and attributes."""
    return "\n".join(Page(re.sub(r' (?:style|class|title|align|id)="[^"]*"', "", page)).text)


def test_no_display_shows_an_error_that_the_cell_handled() -> None:
    """Its code caught the root span's exception: the bar is neither red nor open, and the rows show what was caught."""
    shown = STATES["error that the cell handled"]
    header = columns.encode_header(shown)
    assert (header["mark"], header["errors"], header["caught"], header["open"]) == ("ok", "", "2 caught", False)
    page, opened = bare(html.render(shown)), text.render(replace(shown, mode="tree"))
    assert "1 error" not in f"{page} {opened}"
    for words in (page, opened):
        assert "503, caught" in words
        assert "503, retried" in words


def test_a_cancelled_span_looks_neither_like_a_success_nor_like_an_error() -> None:
    shown = STATES["cancelled"]
    header, (described, _) = columns.encode_header(shown), columns.encode_rows(shown)
    assert (header["mark"], header["errors"], header["cancelled"]) == ("cancelled", "", "2 cancelled")
    assert described["tags"] == {"0": "timed out", "1": "timed out", "2": "StopAgent"}
    page, words = html.render(shown), text.render(shown)
    assert html.ERROR_COLOR not in page
    assert words.startswith("⊘ 2 traces")
    assert [mark in bare(page).replace("✓ Sent", "") + words for mark in "✓▲"] == [False, False]


def test_an_error_that_the_cell_caught_is_not_blamed_for_its_own() -> None:
    own, raised_from = STATES["error of the cell"], STATES["error raised from another"]
    assert "HTTPError" not in text.summary(own)
    assert text.summary(raised_from).splitlines()[1:] == [
        "  agent: RuntimeError: no more refunds  cell:7",
        "  caused by issue_refund: HTTPError: 503 Service Unavailable  payments.py:41",
    ]
    assert "through" not in bare(html.render(raised_from))


def test_a_limit_takes_the_place_of_the_cost_unless_other_cells_have_spent_part_of_it() -> None:
    for name, shown in (("limited", False), ("limited, with other cells", True)):
        view = STATES[name]
        for words in (bare(html.render(view)), text.summary(view), " ".join(columns.encode_header(view)["facts"])):
            assert ("$0.0091" in words) is shown


def test_the_page_gets_the_limit_for_its_bar_and_no_button_to_send_spans_again() -> None:
    header = columns.encode_header(STATES["stopped at the limit"])
    assert (header["limit"], header["share"]) == ("~$0.4988 of $0.50", 0.9976)
    assert (header["stopped"], header["can_send"]) == ("stopped at the limit", False)
    assert columns.encode_header(STATES["not sent"])["can_send"] is True
    unlimited = columns.encode_header(STATES["ok"])
    assert (unlimited["limit"], unlimited["share"], unlimited["stopped"]) == ("", None, "")


@pytest.mark.parametrize("name", STATES)
def test_every_display_shows_the_state(name: str) -> None:
    shown = STATES[name]
    narrow = text.render(shown, unicode=False, width=60)
    coloured = text.render(shown, color=True)
    for words in (bare(html.render(shown)), text.render(shown), ANSI.sub("", coloured)):
        assert [fact for fact in EXPECTED[name] if fact.lower() not in words.lower()] == []
    assert narrow.isascii()
    assert not CONTROLS.search(narrow)


@pytest.mark.parametrize("name", ["not sent, noticed before", "local, noticed before", "sending", "ok"])
def test_later_outputs_without_the_notice_show_only_the_delivery_state(name: str) -> None:
    assert "%hh" not in text.summary(STATES[name])
    assert bare(html.render(STATES[name]).partition("</details>")[2].removesuffix("</div>")) == ""


def test_a_refused_request_counts_once_and_cannot_be_sent_by_a_button() -> None:
    shown = STATES["not recorded"]
    header = columns.encode_header(shown)
    assert (header["unrecorded"], header["errors"], header["can_send"]) == ("1 not recorded", "", False)
    assert "1 error" not in text.render(shown) + bare(html.render(shown))


def test_every_row_that_a_recording_answered_is_hollow_and_says_so_in_the_live_view_too() -> None:
    shown = STATES["replayed"]
    described, _ = columns.encode_rows(shown)
    replayed = [node.record.facts.replayed for node in shown.tree.nodes]
    assert {int(index) for index in described["replays"]} == {index for index, one in enumerate(replayed) if one}
    assert html.render(shown).count("1px dashed") == 4
    assert [line.count("╌") > 0 for line in text.render(shown).splitlines() if "replayed, was" in line] == [True] * 3


def test_every_state_has_expectations() -> None:
    assert list(STATES) == list(EXPECTED)


def facts(line: str) -> dict[str, Any]:
    """The numbers in a summary line of any display."""

    def number(pattern: str) -> int:
        found = re.search(rf"([\d,]+)\+? {pattern}\b", line)
        return int(found[1].replace(",", "")) if found else 0

    return {"spans": number("spans?"), "calls": number("LLM calls?"), "tokens": number("tokens?")}


def summaries(shown: CellView) -> dict[str, str]:
    """The summary of each of the three displays."""
    bundle, header = mime_bundle(shown), columns.encode_header(shown)
    interactive = "  ".join((header["title"], header["duration"], *header["facts"], header["errors"], header["caught"]))
    return {
        "text": bundle["text/plain"].splitlines()[0],
        "static": bare(bundle["text/html"]).splitlines()[0],
        "interactive": interactive,
    }


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_totals_of_every_recording_are_the_same_in_all_displays(name: str) -> None:
    """And equal those that the model server returned."""
    records = [record_of(span) for span in recorded(name)]
    totals = summarize(records)
    wanted = expected(name)
    shown = view(records, totals=totals)
    lines = summaries(shown)
    for display, line in lines.items():
        found = facts(line)
        tokens = wanted["total_tokens"] + wanted["embedding_tokens"]
        assert found["tokens"] == tokens, (display, line)
        if len(records) > 1:
            assert found["spans"] == len(records), (display, line)
            assert found["calls"] == (0 if shown.tree.errors else wanted["llm_calls"]), (display, line)
        errors = sum(int(part) for part in re.findall(r"(\d+) (?:errors?|caught)\b", line))
        assert errors == shown.tree.errors + shown.tree.caught, (display, line)
