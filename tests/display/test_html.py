"""The static HTML: the same facts as the text, readable anywhere, and span content only as text."""

from __future__ import annotations

import re
from dataclasses import replace
from difflib import ndiff

import pytest

from hh_jupyter.display import html
from hh_jupyter.display.html import DISPLAYS, ERROR_COLOR, mime_bundle
from hh_jupyter.display.view import CellView, Notice
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.record import SpanError
from tests.browser.sample_cells import one_call, support_agent
from tests.display.hostile import HOSTILE
from tests.display.rendered import ATTRIBUTES, BARE, PROPERTIES, TAGS, Page, sanitized, tags_as_text
from tests.display.states import states
from tests.display.views import agent_view, view
from tests.records.builders import UNAVAILABLE, agent_rows, span

STATES = states()
LAYOUT_ONLY = re.compile(r"[\w\s#%.,()+-]+")


def test_without_styles_it_is_a_summary_an_error_and_a_table() -> None:
    way = "through issue_refund, then support_agent"
    assert Page(html.render(agent_view(failing=True))).text == [
        "▲ support_agent 2.38 s ~$0.0044, 3,961 tokens, 22 spans 1 error 1 caught ✓ Sent 3f2a91c0",
        f"HTTPError: 503 Service Unavailable in POST /refunds, {way} (payments.py:41)",
        "| Span | Time | Tokens | 0 to 2.38 s",
        "| agent support_agent | 2.38 s | 3,961 |",
        "| llm plan gpt-4.1-mini | 340 ms | 450 |",
        "| ret search_policy faiss | 342 ms | 1,614 |",
        "| emb embed_chunk ×12 | p50 57 ms | 1,614 |",
        "| ret vector_query | 68 ms | |",
        "| tool get_order | 546 ms | |",
        "| http GET /orders/48213 | 504 ms | |",
        "| llm decide gpt-4.1 | 792 ms | 1,897 |",
        "| tool issue_refund | 653 ms | |",
        "| http ! POST /refunds 503, retried | 210 ms | |",
        "| http ▲ POST /refunds 503 | 230 ms | |",
        "Session refund-triage · Messages: %hh show 4 --detail full",
    ]


@pytest.mark.parametrize("state", STATES)
def test_it_is_readable_where_tags_and_styles_are_taken_out(state: str) -> None:
    """Every line has the same text as before, and no tag with attributes is shown as text."""
    before = html.render(STATES[state])
    after = sanitized(before)
    if "<img" not in before:
        assert tags_as_text(after) - tags_as_text(before) <= BARE
    left = re.sub("|".join(BARE), "", after)
    assert "".join(Page(left).text).split() == "".join(Page(before).text).split()


@pytest.mark.parametrize(
    ("view", "is_open"),
    [
        (agent_view(), False),
        (agent_view(failing=True), True),
        (agent_view(failing=True, raised=False), False),
        (agent_view(failing=True, mode="line"), False),
        (agent_view(mode="tree"), True),
    ],
    ids=["went well", "raised", "survived", "line", "tree"],
)
def test_it_is_open_only_after_an_exception_or_on_request(view: CellView, *, is_open: bool) -> None:
    details = [attributes for tag, attributes in Page(html.render(view)).elements if tag == "details"]
    assert [("open" in attributes) for attributes in details] == [is_open]


def test_the_hub_finds_it_by_class_and_id() -> None:
    tag, attributes = Page(html.render(agent_view(view_id="hh-7-2"))).elements[0]
    assert (tag, attributes["id"]) == ("div", "hh-7-2")
    assert "hh-output" in (attributes["class"] or "").split()


def test_mathjax_leaves_dollar_amounts_alone() -> None:
    classes = (Page(html.render(agent_view())).elements[0][1]["class"] or "").split()
    assert {"tex2jax_ignore", "mathjax_ignore"} <= set(classes)


def notices() -> Notice:
    return Notice(kind="error", title="3 spans were not sent.", text="They are kept.", command="%hh send")


@pytest.mark.parametrize("failing", [False, True])
def test_everything_in_it_survives_an_untrusted_notebook(*, failing: bool) -> None:
    url = "https://app.example/s/1"
    page = Page(html.render(agent_view(failing=failing, notice=notices(), session_url=url, late=2)))
    assert {tag for tag, _ in page.elements} <= TAGS
    assert {name for _, attributes in page.elements for name in attributes} <= ATTRIBUTES
    assert {name for name, _ in page.styles()} <= PROPERTIES
    assert all(LAYOUT_ONLY.fullmatch(value) and "var(" not in value for _, value in page.styles())


def test_text_inherits_its_color() -> None:
    page = Page(html.render(agent_view(failing=True, notice=notices(), session_url="https://app.example/s/1")))
    assert {value for name, value in page.styles() if name == "color"} <= {"inherit"}


def luminance(color: str) -> float:
    parts = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("background", ["#ffffff", "#111111"])
@pytest.mark.parametrize("color", sorted({*html.BAR_COLORS.values(), html.OTHER_COLOR, ERROR_COLOR}))
def test_bars_are_visible_on_light_and_dark_pages(color: str, background: str) -> None:
    """WCAG 2.2, 1.4.11: graphics need a contrast of 3:1."""
    darker, lighter = sorted((luminance(color), luminance(background)))
    assert (lighter + 0.05) / (darker + 0.05) >= 3


def test_bars_stay_within_the_page() -> None:
    times = [(0, 0), (999_999.9, 1e6), (1e6, 1e6), (0, 1e6)]
    rows = [span(1, None, 0, 1e6), *(span(index, 1, *pair) for index, pair in enumerate(times, start=2))]
    bars = re.findall(r"margin-left:([\d.]+)%;width:([\d.]+)%", html.render(view(rows)))
    assert len(bars) == 5
    assert all(float(left) + float(width) <= 100.01 and float(width) > 0 for left, width in bars)


def test_a_session_is_linked_only_by_https_and_otherwise_shows_its_id() -> None:
    linked = html.render(agent_view(session_url='https://app.example/s/1?a=1&b="'))
    assert '<a href="https://app.example/s/1?a=1&amp;b=&quot;" target="_blank" rel="noopener noreferrer"' in linked
    assert "<a " not in linked.partition("</summary>")[0]
    for url in (None, "javascript:alert(1)", "http://app.example/s/1", "data:text/html,x", ""):
        page = Page(html.render(agent_view(session_url=url)))
        assert not [tag for tag, _ in page.elements if tag == "a"]
        assert page.text[0].endswith("✓ Sent 3f2a91c0")


def test_a_notice_with_its_command_is_visible_without_unfolding() -> None:
    page = html.render(agent_view(export=ExportState("api.example", made=3, waiting=3, failing=True), notice=notices()))
    assert Page(page.partition("</details>")[2][: -len("</div>")]).text == [
        "3 spans were not sent. They are kept. %hh send"
    ]


def test_sizes_stay_within_the_budget_of_a_saved_notebook() -> None:
    assert len(html.render(agent_view(failing=True)).encode()) <= 8_000
    hostile = '<&"' * 100
    rows = [span(1, None, 0, 1e5, hostile)]
    rows += [span(index, 1, index, index + 0.5, f"{index}{hostile}", model=hostile) for index in range(2, 10_002)]
    page = html.render(view(rows))
    assert len(page.encode()) <= 32_000


def test_rows_that_do_not_fit_are_counted_and_errors_always_fit() -> None:
    rows = [span(1, None, 0, 1e5, "root", error=UNAVAILABLE)]
    rows += [span(index, 1, index, index + 0.5, f"step {index}") for index in range(2, 2_002)]
    rows.append(span(3_000, 1, 99_000, 99_001, "failing", error=UNAVAILABLE))
    page = Page(html.render(view(rows)))
    table = [line for line in page.text if line.startswith("| ")][1:]
    assert len(table) == 60
    assert any(line.startswith("| span ▲ failing 503") for line in table)
    assert page.text[-1].startswith("1,942 more spans · ")
    assert "2,002 spans, showing 60 of 2,002" in page.text[0]


def test_an_error_below_more_levels_than_there_are_rows_is_shown() -> None:
    rows = [span(index, index - 1 or None, index, 1e3 - index, error=UNAVAILABLE) for index in range(1, 101)]
    page = Page(html.render(view(rows)))
    assert any("▲ span 100 503" in line for line in page.text)
    assert page.text[1].endswith(
        "in span 100, through span 99, then span 98, then span 97, then 95 more, then span 1 (payments.py:41)"
    )


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_span_text_adds_no_element_and_no_attribute(value: str) -> None:
    def page(text: str) -> Page:
        error = SpanError(text, text, text)
        rows = [
            span(1, None, 0, 9, text, kind=text, model=text, error=error),
            span(2, 1, 1, 8, text, kind="llm", model=text, error=error),
        ]
        notice = Notice(kind="info", title=text, text=text, command=text)
        shown = view(rows, view_id=text, label=text, session_name=text, session_id=text, notice=notice, raised=True)
        return Page(html.render(shown))

    def shape(page: Page) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in page.elements]

    # A message without text leaves its place empty, so the harmless page to compare with has none either.
    harmless = "x" if value.strip() else value
    assert shape(page(value)) == shape(page(harmless))
    assert {name for name, _ in page(value).styles()} <= PROPERTIES


def test_a_single_span_is_one_line_and_no_table() -> None:
    page = Page(html.render(one_call(1).view("hh-1", "4")))
    assert page.text == [
        "✓ chat 684 ms $0.0001, 86 tokens ✓ Sent 3f2a91c0",
        "llm gpt-4.1-mini, 34 in, 52 out, first token 241 ms",
        "Session refund-triage · Messages: %hh show 4 --detail full",
    ]


def test_a_fold_shows_the_distribution_of_its_durations() -> None:
    elements = Page(html.render(agent_view())).elements
    titles = [attributes["title"] for tag, attributes in elements if tag == "td" and "title" in attributes]
    assert titles == ["p50 57 ms, p95 75 ms, max 75 ms, sum 666 ms"]


def test_redacted_values_are_counted() -> None:
    assert "2 values redacted" in Page(html.render(support_agent(1, fails=True).view("v", "4"))).text[-1]


def test_evicted_spans_make_every_sum_a_lower_bound() -> None:
    shown = html.render(agent_view(evicted=9_979))
    assert Page(shown).text[0].startswith("✓ support_agent 2.84 s ~$0.0091+, 6,043+ tokens, 10,000 spans")
    assert "showing 21 of 10,000" in Page(shown).text[0]


def test_errors_only_shows_errors_and_their_ancestors() -> None:
    page = Page(html.render(agent_view(failing=True, errors_only=True)))
    assert [line.split("|")[1].strip() for line in page.text if line.startswith("| ")] == [
        "Span",
        "agent support_agent",
        "tool issue_refund",
        "http ! POST /refunds 503, retried",
        "http ▲ POST /refunds 503",
    ]
    assert page.text[0].startswith("▲ support_agent 2.38 s ~$0.0044, 3,961 tokens, 22 spans")
    assert page.text[-1].startswith("18 more spans")


def test_a_file_can_be_saved_without_the_session() -> None:
    shown = html.render(agent_view(linked=False, session_url="https://app.example/s/1"))
    assert "3f2a91c0" not in shown
    assert "app.example" not in shown


def test_a_run_that_differs_in_one_span_differs_in_few_lines() -> None:
    """Each row has its own line, without values that change in every run."""
    rows = agent_rows(failing=False)
    longer = [replace(row, end_ns=(row.end_ns or 0) + 3_000_000) if row.name == "plan" else row for row in rows]
    first, second = (html.render(view(each)).split("\n") for each in (rows, longer))
    assert len(first) > 15
    assert [line[0] for line in ndiff(first, second) if line[0] in "+-"] == ["-", "+"]


def test_bars_are_borders_because_printers_omit_backgrounds() -> None:
    styles = [attributes.get("style") or "" for _, attributes in Page(html.render(agent_view())).elements]
    bars = [style for style in styles if "border-top:9px" in style]
    assert len(bars) == 10
    assert not any("background" in style for style in bars)


def test_every_display_shows_the_same_spans_errors_and_totals() -> None:
    shown = agent_view(failing=True)
    bundle = mime_bundle(shown)
    assert list(bundle) == list(DISPLAYS) == ["text/plain", "text/html"]
    texts = [bundle["text/plain"], "\n".join(Page(bundle["text/html"]).text)]
    totals = ("support_agent", "2.38 s", "~$0.0044", "3,961 tokens", "22 spans", "1 error", "1 caught", "refund-triage")
    errors = ("HTTPError: 503 Service Unavailable", "payments.py:41", "503, retried")
    for words in texts:
        for fact in (*totals, *errors, "embed_chunk ×12", "p50 57 ms"):
            assert fact in words
        for row in shown.tree.rows():
            assert row.node.record.name in words
        assert words.lower().count("sent") == 1


def test_the_same_view_gives_the_same_bytes() -> None:
    assert mime_bundle(agent_view(failing=True)) == mime_bundle(agent_view(failing=True))
