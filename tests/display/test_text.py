"""The view as text: exact, plain, bounded, and safe to print."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from hh_jupyter.display import html, text
from hh_jupyter.display.format import cell_width
from hh_jupyter.display.html import mime_bundle
from hh_jupyter.display.view import Notice
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.record import SpanError, span_error
from tests.display.hostile import HOSTILE
from tests.display.rendered import ANSI, CONTROLS
from tests.display.views import agent_view, totals, view
from tests.records.builders import UNAVAILABLE, agent_rows, span

FAILED = """\
▲ support_agent  2.38 s  ~$0.0044  3,961 tokens  22 spans  1 error  1 caught  sent
  issue_refund > POST /refunds: HTTPError: 503 Service Unavailable  payments.py:41

agent support_agent               2.38 s   3,961  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
├─ llm   plan gpt-4.1-mini        340 ms     450  ━━━━
├─ ret   search_policy faiss      342 ms   1,614      ━━━━
│  ├─ emb   embed_chunk ×12    p50 57 ms   1,614      ━━━
│  └─ ret   vector_query           68 ms                 ━
├─ tool  get_order                546 ms              ━━━━━━━
│  └─ http  GET /orders/48213     504 ms              ━━━━━━
├─ llm   decide gpt-4.1           792 ms   1,897             ━━━━━━━━━━
└─ tool  issue_refund             653 ms                               ━━━━━━━━
   ├─ !     POST /refunds         210 ms                               ━━━  503, retried
   └─ ▲     POST /refunds         230 ms                                    ━━━  503

session refund-triage   messages: %hh show 4 --detail full"""

FAILED_NARROW_ASCII = """\
!! support_agent  2.38 s  ~$0.0044  3,961 tokens  1 error  1 caught  sent
  issue_refund > POST /refunds: HTTPError: 503 Service Unavailable  payments.py:41

agent support_agent               2.38 s   3,961
|- llm   plan gpt-4.1-mini        340 ms     450
|- ret   search_policy faiss      342 ms   1,614
|  |- emb   embed_chunk x12    p50 57 ms   1,614
|  `- ret   vector_query           68 ms
|- tool  get_order                546 ms
|  `- http  GET /orders/48213     504 ms
|- llm   decide gpt-4.1           792 ms   1,897
`- tool  issue_refund             653 ms
   |- !     POST /refunds         210 ms          503, retried
   `- !!    POST /refunds         230 ms          503

session refund-triage   messages: %hh show 4 --detail full"""

DONE = "✓ support_agent  2.84 s  ~$0.0091  6,043 tokens  21 spans  3 LLM calls  sent"


def test_a_successful_cell_is_one_line() -> None:
    assert text.render(agent_view()) == DONE


def test_an_error_is_shown_where_it_began_with_the_tree() -> None:
    assert text.render(agent_view(failing=True)) == FAILED


def test_narrow_terminals_get_no_bars_and_ascii_streams_only_ascii() -> None:
    assert text.render(agent_view(failing=True), unicode=False, width=79) == FAILED_NARROW_ASCII


def test_the_tree_is_shown_on_demand_and_never_in_mode_line() -> None:
    assert text.render(agent_view(mode="tree")).startswith(DONE + "\n\nagent support_agent")
    assert text.render(agent_view(failing=True, mode="line")) == "\n".join(FAILED.splitlines()[:2])


def test_colored_text_equals_plain_text_without_ansi_codes() -> None:
    coloured = text.render(agent_view(failing=True), color=True)
    assert ANSI.search(coloured)
    assert ANSI.sub("", coloured) == FAILED


def test_notebooks_get_no_color() -> None:
    assert mime_bundle(agent_view(failing=True))["text/plain"] == FAILED


@pytest.mark.parametrize(
    ("export", "word"),
    [
        (ExportState("api.example", made=3, sent=3), "sent"),
        (ExportState("api.example", made=6, waiting=6), "sending 6"),
        (ExportState("api.example", made=14, sent=12, waiting=2, failing=True), "12 of 14 sent"),
        (ExportState("api.example", made=3, waiting=3, failing=True), "not sent"),
        (ExportState(None, made=3), "local only"),
    ],
)
def test_the_line_ends_with_the_delivery_state(export: ExportState, word: str) -> None:
    assert text.summary(agent_view(export=export)).endswith(f"  {word}")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cost": 0.0091, "cost_estimated": False}, "  $0.0091  "),
        ({"cost": 0.0091, "cost_complete": False}, "  ~$0.0091+  "),
        ({"cost": None}, "  cost unknown  "),
        ({"cost": 0.00001}, "  ~<$0.0001  "),
        ({"cost": 0.00001, "cost_estimated": False}, "  <$0.0001  "),
        ({"cost": 0.1234}, "  ~$0.123  "),
        ({"cost": 1234.5}, "  ~$1,234.50  "),
    ],
)
def test_a_cost_is_marked_if_estimated_or_incomplete(changes: dict[str, object], expected: str) -> None:
    rows = agent_rows(failing=False)
    assert expected in text.summary(view(rows, totals=totals(rows, **changes)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "  6,043 tokens  "),
        ({"total_tokens": 0, "embedding_tokens": 1}, "  1 token  "),
        ({"unknown_usage_calls": 1}, "  6,043+ tokens  "),
        ({"unknown_usage_calls": 1, "total_tokens": 0, "embedding_tokens": 0}, "  tokens unknown  "),
    ],
)
def test_tokens_are_marked_if_incomplete(changes: dict[str, object], expected: str) -> None:
    rows = agent_rows(failing=False)
    assert expected in text.summary(view(rows, totals=totals(rows, **changes)))


def test_calls_that_all_failed_have_no_unknown_cost() -> None:
    rows = [span(1, None, 0, 5, "chat", kind="llm", error=UNAVAILABLE)]
    assert text.summary(view(rows)).splitlines()[0] == "▲ chat  5.0 ms  1 error  sent"


@pytest.mark.parametrize(
    ("message", "tag"),
    [
        ("503 Service Unavailable", "503"),
        ("Error code: 429 - {'error': ...}", "429"),
        ("status 404", "404"),
        ("took 500 steps", "HTTPError"),
        ("", "HTTPError"),
    ],
)
def test_a_failing_row_is_tagged_by_its_http_status_or_its_type(message: str, tag: str) -> None:
    error = span_error({"error.type": "HTTPError"}, (), message)
    rows = [span(1, None, 0, 5, "call", error=error)]
    assert text.render(view(rows)).splitlines()[3].endswith(f"━  {tag}")


def test_without_model_calls_there_is_no_cost_and_no_tokens() -> None:
    assert text.render(view([span(1, None, 0, 4.2, "lookup", kind="tool")])) == "✓ lookup  4.2 ms  sent"


def test_several_traces_are_titled_by_their_number_and_name_the_failing_one() -> None:
    rows = [span(index, None, index, index + 1, f"call {index}", trace=index) for index in range(1, 4)]
    rows.append(span(4, 3, 3.1, 3.2, "inner", trace=3, error=UNAVAILABLE))
    rows[2] = span(3, None, 3, 4, "call 3", trace=3, error=UNAVAILABLE)
    lines = text.render(view(rows)).splitlines()
    assert lines[0] == "▲ 3 traces  3.00 ms  4 spans  1 error  sent".replace("3.00 ms", "3.0 ms")
    assert lines[1] == "  call 3 > inner: HTTPError: 503 Service Unavailable  payments.py:41"


def test_spans_and_errors_without_a_name_are_marked() -> None:
    lines = text.render(view([replace(span(1, None, 0, 5), name=" ", status="error", error=SpanError("", " "))]))
    assert lines.splitlines()[:2] == [
        "▲ (no name)  5.0 ms  1 error  sent",
        "  (no name): Error without a message",
    ]


def test_interruption_late_spans_and_notices_are_shown() -> None:
    notice = Notice(kind="error", title="2 spans were not sent.", text="They are kept.", command="%hh send")
    lines = text.render(agent_view(interrupted=True, late=3, notice=notice)).splitlines()
    assert lines[0].startswith("■ support_agent")
    assert lines[0].endswith("  interrupted  +3 after the cell ended  sent")
    assert lines[1] == "  2 spans were not sent. They are kept. %hh send"


@pytest.mark.parametrize("failing", [False, True])
def test_long_trees_stay_within_40_lines_and_4000_bytes_and_count_the_rest(*, failing: bool) -> None:
    rows = [span(1, None, 0, 2e5, "root", kind="agent", error=UNAVAILABLE if failing else None)]
    rows += [span(index, 1, index * 10, index * 10 + 5, f"step {index} " + "é" * 50) for index in range(2, 3_001)]
    rows.append(span(5_000, 1, 150_000, 190_000, "the slow one"))
    if failing:
        rows.append(span(6_000, 1, 199_000, 199_001, "the failing one", error=UNAVAILABLE))
    shown = text.render(view(rows, mode="tree"))
    assert len(shown.splitlines()) <= 40
    assert len(shown.encode()) <= 4_000
    hidden = re.search(r"^… ([\d,]+) more spans$", shown, re.MULTILINE)
    assert hidden is not None
    drawn = sum(line.startswith(("agent", "├─", "└─")) for line in shown.splitlines())
    assert int(hidden[1].replace(",", "")) + drawn == len(rows)
    assert "the slow one" in shown or failing
    assert not failing or "▲     the failing one" in shown


def test_short_names_fill_40_lines_and_no_more() -> None:
    rows = [span(1, None, 0, 1e6, "root"), *(span(index, 1, index, index + 0.1) for index in range(2, 200))]
    assert len(text.render(view(rows, mode="tree")).splitlines()) == 40


def test_deep_trees_stay_within_the_width() -> None:
    rows = [span(index, index - 1 or None, index / 1e3, 1e3 - index / 1e3, kind="chain") for index in range(1, 2_001)]
    lines = text.render(view(rows, mode="tree"), width=100).splitlines()
    assert max(map(cell_width, lines)) <= 100


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_span_text_cannot_move_the_cursor_or_break_a_line(value: str) -> None:
    error = SpanError(value, value, value)
    rows = [
        span(1, None, 0, 9, value, kind=value, model=value, error=error),
        span(2, 1, 1, 8, value, kind="llm", model=value, error=error),
    ]
    notice = Notice(kind="info", title="t", text=value)
    for shown in (
        text.render(view(rows, session_name=value, notice=notice, raised=True)),
        text.render(view(rows, session_name=value, notice=notice, raised=True), unicode=False, width=60),
    ):
        assert not CONTROLS.search(shown)
        assert len(shown.encode()) <= 4_000
        assert len(shown.splitlines()) == 8


def test_wide_characters_keep_the_columns_straight() -> None:
    rows = [span(1, None, 0, 9, "東京"), span(2, 1, 0, 9, "e\u0301te\u0301"), span(3, 1, 0, 9, "abcd")]
    assert text.render(view(rows, mode="tree"), width=60).splitlines()[2:5] == [
        "span  東京        9.0 ms",
        "├─ span  e\u0301te\u0301      9.0 ms",
        "└─ span  abcd     9.0 ms",
    ]


def test_terminal_sequences_are_removed_completely() -> None:
    name = "\x1b[1;31mred\x1b[0m \x1b]0;title\x07and \x1b]8;;https://evil.example\x1b\\a link"
    assert text.summary(view([span(1, None, 0, 5, name)])) == "✓ red and a link  5.0 ms  sent"


def test_spans_of_a_file_name_the_file_and_how_to_read_more() -> None:
    """A path is not cut, and markup in it is escaped."""
    path = f"{'long/' * 30}<b>.jsonl"
    shown = agent_view(label=path, file=path, source="Read from file", session_name=None, mode="tree")
    assert text.render(shown).splitlines()[0].endswith("  read from file")
    assert text.render(shown).endswith(f"\nfile {path}   messages: %hh show {path} --detail full")
    assert f"File {path.replace('<b>', '&lt;b&gt;')} " in html.render(shown)
    assert f'<code style="background:none;padding:0">%hh show {path.replace("<b>", "&lt;b&gt;")}' in html.render(shown)
    left = replace(shown, detail="full", content_omitted=2)
    assert text.render(left).endswith(f"2 more spans with content: SpanList.from_otlp({path!r})")


def test_content_that_is_left_out_of_a_cell_is_reached_by_the_cells_number() -> None:
    left = agent_view(label="4", detail="full", content_omitted=2, mode="tree")
    assert text.render(left).endswith("2 more spans with content: hh_jupyter.spans(cell=4)")
    session = replace(left, label="91312377")
    assert text.render(session).endswith("2 more spans with content: %hh save FILE 91312377")
    assert text.render(replace(left, label="background")).endswith("2 more spans with content: %hh save FILE")


def test_feedback_is_a_chip_only_in_a_view_that_was_requested() -> None:
    given = (("stars", 5), ("comment", "late, \x1b[31mand " + "x" * 80), ("a", 1), ("b", 2), ("c", 3), ("d", 4))
    rows = [span(1, None, 0, 340, "plan"), span(2, 1, 0, 9, "reply")]
    rows[1] = replace(rows[1], facts=replace(rows[1].facts, feedback=given))
    shown = text.render(view(rows, mode="tree", content_requested=True))
    line = next(line for line in shown.splitlines() if "reply" in line)
    assert "  [stars 5]  [comment late, and xxxxxxxx" in line
    assert line.endswith("…]  [a 1]  [b 2]  [2 more]")
    for displayed in (text.render, html.render):
        assert "stars" in displayed(view(rows, mode="tree", content_requested=True))
        assert "stars" not in displayed(view(rows, mode="tree"))
    alone = html.render(view(rows[1:], mode="tree", content_requested=True))
    assert ">stars 5</span>" in alone
