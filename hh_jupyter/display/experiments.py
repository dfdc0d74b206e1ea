"""Render progress and result of an experiment run as static HTML and as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hh_jupyter.display.format import cell_width, clean, count, fit
from hh_jupyter.display.html import (
    BORDER,
    ERROR_COLOR,
    GREY,
    MARKS,
    MUTED,
    PLAIN_CODE,
    ROOT_STYLE,
    SPACE,
    TINTS,
    escape,
)
from hh_jupyter.display.view import Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Distribution of the values of a metric.

    Attributes:
        shares: fraction of all values in each of the equal bins from `low` to `high`.
    """

    low: str
    high: str
    shares: Sequence[float]
    kind: Literal["numbers", "yes_no", "labels"] = "numbers"
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricView:
    """One metric, as formatted text.

    Attributes:
        value: the aggregated value.
        spread: standard deviation; for yes/no metrics the number of yes.
        range: smallest to largest value.
        count: number of data points with this metric.
    """

    name: str
    value: str
    spread: str
    range: str
    count: str
    distribution: Distribution | None


RowState = Literal["failed", "wrong", "unclear", "passed"]
STATE_MARKS: Final[Mapping[RowState, str]] = {"failed": "▲", "wrong": "✗", "unclear": "·", "passed": "✓"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RowView:
    """One data point, as formatted text.

    Attributes:
        state: whether it failed, or its answer is wrong or right; unclear if the scores may mean either.
        scores: one per column; empty if missing.
        errors: (where, what); those of the function first.
        session: first characters of the session id, for `%hh show`.
        view_id: id of the element in which the page shows its spans; None if the spans cannot be shown.
    """

    label: str
    state: RowState
    scores: Sequence[str]
    time: str
    cost: str
    note: str
    errors: Sequence[tuple[str, str]]
    session: str
    view_id: str | None
    details: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A result as plain data. The same view gives the same output.

    Attributes:
        facts: shown after the name, the most important first.
        failures, wrong: "3 failed", "8 wrong", or empty.
        columns: names of the metrics that have a column.
        rows: failures first, then wrong answers, then in the order of the dataset; a limited number.
        total: number of all rows.
        notes: sentences at the end.
        command: the command that sends the run.
    """

    mark: Mark
    name: str
    duration: str
    facts: Sequence[str]
    failures: str
    wrong: str
    delivery: str
    run_id: str
    aggregate: str
    metrics: Sequence[MetricView]
    columns: Sequence[str]
    rows: Sequence[RowView]
    total: int
    notes: Sequence[str] = ()
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressView:
    """Progress of a running experiment.

    Attributes:
        share: fraction of the data points that are done, from 0 to 1; None if the total is unknown.
        facts: rate, cost, time left.
        doing: the current step after all data points are done.
    """

    name: str
    done: str
    share: float | None
    facts: Sequence[str]
    failures: str
    wrong: str = ""
    doing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaView:
    """One metric of two runs, as formatted text.

    Attributes:
        arrow: "▲", "▼" or "=": the direction of the change, whether it is better or worse.
        change: "+0.12", or empty.
        verdict: whether the change is an improvement; empty for text metrics.
        improved, degraded, same: numbers of data points.
    """

    name: str
    old: str
    new: str
    arrow: str
    change: str
    verdict: Literal["better", "worse", "same", ""]
    improved: int
    degraded: int
    same: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedRowView:
    """One data point that changed.

    Attributes:
        changes: (metric, old, new, arrow, verdict); without a metric, how the calls of the function ended.
    """

    label: str
    changes: Sequence[tuple[str, str, str, str, str]]
    sessions: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedGroup:
    """Data points that changed in the same way.

    Attributes:
        rows: the largest changes first.
        more: number of further data points that are left out.
    """

    title: str
    rows: Sequence[ChangedRowView]
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonView:
    """A comparison of two runs.

    Attributes:
        failures, wrong: "3 newly failed", "1 newly wrong", or empty.
        config: (key, old, new) of the keys that changed.
        groups: the most important first; each data point is in one group.
    """

    new: str
    old: str
    mark: Mark
    facts: Sequence[str]
    failures: str
    wrong: str
    config: Sequence[tuple[str, str, str]]
    metrics: Sequence[DeltaView]
    groups: Sequence[ChangedGroup]
    notes: Sequence[str] = ()


# HTML elements shared by all displays of runs. `hh_jupyter.display.html` describes what front ends remove.
#
# Styles are inline and only decorate, and text inherits its color. Columns are boxes with widths in percent, which
# sanitizers keep, unlike flex and grid.

BAR: Final = "#7f63dd"
GOOD: Final = "#12917f"
WORSE: Final = "#bd6a2c"
NOTE: Final = f"font-size:85%;{MUTED}"
ROW: Final = "display:inline-block;width:calc(100% - 16px);padding:1px 0;cursor:pointer;white-space:nowrap"
"""The line of a row that unfolds. The summary itself has no style; see `display.html`."""
"""Color of degraded metrics; red is only for failures."""

_BAR_HEIGHT: Final = 18
"""Height of the highest bar of a distribution, in pixels."""


def html_root(*parts: str) -> str:
    """Return the root element; classes keep MathJax from parsing two dollar amounts as a formula."""
    return f'<div class="hh-run tex2jax_ignore mathjax_ignore" style="{ROOT_STYLE}">{"".join(parts)}</div>'


def html_head(
    mark: Mark,
    title: str,
    bold: str,
    facts: Iterable[str],
    failures: str,
    wrong: str,
    right: str = "",
    chips_first: bool = False,
) -> str:
    """Return the summary line. The commas between facts are read aloud and copied, but invisible with styles."""
    disc = f"background-color:{TINTS.get(mark, GREY)};border-radius:50%;display:inline-block;width:18px"
    sign = f'<span style="{disc};line-height:18px;text-align:center;font-size:11px">{MARKS[mark]}</span>'
    comma = f'<span style="opacity:0">,{SPACE} </span>'
    fact_text = comma.join(escape(fact) for fact in facts if fact)
    chips = [
        f'<b style="background-color:{TINTS[mark]};border-radius:5px;padding:0 7px">{escape(text)}</b>'
        for text, mark in ((failures, "error"), (wrong, "wrong"))
        if text
    ]
    parts = [
        f"<span>{sign}{SPACE} <b>{escape(title)}</b></span>",
        f"<b>{escape(bold)}</b>" if bold else "",
        *(chips if chips_first else ()),
        f'<span style="{MUTED}">{fact_text}</span>' if fact_text else "",
        *(() if chips_first else chips),
        f'<span style="margin-left:auto;{MUTED}">{right}</span>' if right else "",
    ]
    style = "display:flex;flex-wrap:wrap;align-items:center;gap:0 12px;padding:5px 10px"
    return f'<div style="{style}">{" ".join(filter(None, parts))}</div>'


def html_table(header: Sequence[tuple[str, str, str]], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of HTML cells.

    Args:
        header: (title, width, side) of each column; a width is "12%" or empty.
        rows: cells of each row, as HTML.
    """
    cell = "padding:2px 8px;border:0"
    titles = "".join(
        f'<td style="text-align:{side};{cell};border-bottom:{BORDER};{MUTED}'
        f'{f";width:{width}" if width else ""}">{escape(title)}</td>'
        for title, width, side in header
    )
    sides = [side for _, _, side in header]
    body = "".join(
        '<tr style="background:none">'
        + "".join(f'<td style="text-align:{side};{cell}">{value}</td>' for value, side in zip(row, sides, strict=True))
        + "</tr>"
        for row in rows
    )
    style = "width:100%;border-collapse:collapse;table-layout:fixed;border:0;margin:0;font-size:12px"
    return f'<table style="{style}"><tr>{titles}</tr>{body}</table>'


def html_section(*parts: str) -> str:
    """Return a section of the output; empty if all parts are empty."""
    inner = "".join(parts)
    return f'<div style="border-top:{BORDER};padding:6px 4px">{inner}</div>' if inner else ""


def html_box(width: str, text: str, more: str = "") -> str:
    """Return one column of a line outside of tables. `text` is HTML."""
    return f'<span style="display:inline-block;width:{width}{f";{more}" if more else ""}">{text}</span>'


def html_muted(text: str) -> str:
    """Return a muted line. `text` is HTML."""
    return f'<div style="padding:4px 8px 2px;font-size:12px;{MUTED}">{text}</div>'


def html_code(text: str) -> str:
    """Return text as code, such as a command."""
    return f'<code style="{PLAIN_CODE}">{escape(text)}</code>'


def plot(distribution: Distribution | None) -> str:
    """Return the distribution of one metric, drawn with boxes that sanitizers keep."""
    if distribution is None:
        return ""
    if distribution.kind == "labels":
        return ", ".join(escape(label, 40) for label in distribution.labels)
    if distribution.kind == "yes_no":
        return split_bar([(distribution.shares[0], GOOD)])
    highest = max(distribution.shares, default=0) or 1
    bars = "".join(_column(share / highest) for share in distribution.shares)
    ends = [f'<span style="{NOTE}">{escape(text)}</span>' for text in (distribution.low, distribution.high)]
    return f'<span style="white-space:nowrap">{ends[0]} {bars} {ends[1]}</span>'


def _column(share: float) -> str:
    """Return the bar of one bin. Empty bins are a thin grey line, so that the axis stays visible."""
    height = max(1, round(share * _BAR_HEIGHT))
    style = f"width:8px;height:{height}px;margin-left:1px;background-color:{BAR if share else GREY}"
    return f'<span style="display:inline-block;{style}"></span>'


def split_bar(parts: Sequence[tuple[float, str]]) -> str:
    """Return a bar split into (share from 0 to 1, color) parts; the rest is grey."""
    inner = "".join(
        f'<span style="display:inline-block;height:9px;width:{share * 100:.4g}%;background-color:{color}"></span>'
        for share, color in parts
        if share > 0
    )
    style = f"height:9px;line-height:9px;font-size:0;border-radius:2px;overflow:hidden;background-color:{GREY}"
    return f'<div style="{style}">{inner}</div>'


def failure(where: str, what: str) -> str:
    """Return one error."""
    style = f"border-left:3px solid {ERROR_COLOR};padding:1px 10px;margin:2px 0 4px;overflow-wrap:break-word"
    return f'<div style="{style}"><b>{escape(what)}</b> in {escape(where)}</div>'


# The result as static HTML: metrics with their spread, then the data points, failures first.
#
# Data points unfold without a script. The hub shows the data point's spans there; without the hub, the command that
# shows them is there.

MAX_BYTES: Final = 32_000
SCORE_WIDTH: Final = 46
"""Width of all score columns together, in percent."""


def result_html(view: RunView) -> str:
    """Return the HTML of a result, at most 32,000 bytes of UTF-8. Data points without a line are counted."""
    shown = view.rows
    page = _page(view, shown)
    while len(shown) > 1 and (size := len(page.encode())) > MAX_BYTES:
        shown = shown[: min(len(shown) - 1, len(shown) * MAX_BYTES // size)]
        page = _page(view, shown)
    return page


def _page(view: RunView, shown: Sequence[RowView]) -> str:
    run = f'<code title="Run {escape(view.run_id)}" style="background:none;padding:0">{escape(view.run_id[:8])}</code>'
    top = html_head(
        view.mark,
        view.name,
        view.duration,
        view.facts,
        view.failures,
        view.wrong,
        f"{escape(view.delivery)} &nbsp;{run}",
    )
    return html_root(top, html_section(_metrics(view)), _rows(view, shown), _footer(view))


def _metrics(view: RunView) -> str:
    if not view.metrics:
        return ""
    header = [
        ("Metric", "20%", "left"),
        (view.aggregate, "10%", "right"),
        ("Spread", "12%", "right"),
        ("Range", "16%", "right"),
        ("Scored", "9%", "right"),
        ("Distribution", "", "left"),
    ]
    return html_table(header, map(_metric, view.metrics))


def _metric(metric: MetricView) -> Sequence[str]:
    facts = (metric.value, metric.spread, metric.range, metric.count)
    name, value, *rest = (escape(metric.name), *map(escape, facts))
    return name, f"<b>{value}</b>", *rest, plot(metric.distribution)


def _rows(view: RunView, shown: Sequence[RowView]) -> str:
    if not shown:
        return ""
    width = f"{SCORE_WIDTH / max(len(view.columns), 1):.3g}%"
    priced = any(row.cost for row in shown)
    titles = [html_box(width, escape(name, 24), _CUT) for name in view.columns]
    ends = [html_box(_SMALL, title) for title in ("Time", "Cost")[: 1 + priced]]
    header = (
        f'<div style="padding:0 8px 2px 24px;white-space:nowrap;{MUTED}">{html_box(_LABEL, "Data point", _LEFT)}'
        f"{''.join(titles)}{''.join(ends)}</div>"
    )
    lines = "".join(_row(row, width, priced=priced) for row in shown)
    left = view.total - len(shown)
    more = f"{count(left, 'more data point')}: {html_code('result.to_pandas()')} has all" if left else ""
    body = f'<div style="text-align:right;font-size:12px">{header}{lines}</div>'
    return html_section(body, html_muted(more) if more else "")


_LABEL: Final = "32%"
_SMALL: Final = "10.5%"
_CUT: Final = "overflow:hidden;text-overflow:ellipsis;vertical-align:bottom"
_LEFT: Final = f"text-align:left;{_CUT}"


def _row(row: RowView, width: str, *, priced: bool) -> str:
    text = f"{STATE_MARKS[row.state]} {escape(row.label, 60)}"
    label = f"<b>{text}</b>" if row.state in ("failed", "wrong") else text
    if row.state in _STATE_COLORS:
        label = label.replace(STATE_MARKS[row.state], _colored_mark(row.state), 1)
    note = f' <span style="{NOTE}">{escape(row.note)}</span>' if row.note else ""
    scores = "".join(html_box(width, escape(score, 24)) for score in row.scores)
    ends = html_box(_SMALL, escape(row.time)) + (html_box(_SMALL, escape(row.cost)) if priced else "")
    return (
        f'<div style="padding:0 8px"><details><summary><span style="{ROW}">{html_box(_LABEL, label + note, _LEFT)}'
        f"{scores}{ends}</span></summary>{_inside(row)}</details></div>"
    )


_STATE_COLORS: Final[Mapping[RowState, str]] = {"failed": ERROR_COLOR, "wrong": "#c07a10", "passed": GOOD}


def _colored_mark(state: RowState) -> str:
    return f'<span style="color:{_STATE_COLORS[state]}" title="{state}">{STATE_MARKS[state]}</span>'


def _inside(row: RowView) -> str:
    errors = "".join(failure(where, what) for where, what in row.errors)
    details = "".join(f"<div><b>{escape(name, 60)}</b> {escape(text)}</div>" for name, text in row.details)
    spans = f"<div>Spans: {html_code(f'%hh show {row.session}')}</div>" if row.session else ""
    if row.view_id:
        # The hub requests the spans once the row is open: requests for a whole table would be too many.
        spans = f'<div class="hh-output" id="{escape(row.view_id)}">{spans}</div>'
    return f'<div style="text-align:left;padding:2px 0 8px 16px">{errors}{details}{spans}</div>'


def _footer(view: RunView) -> str:
    notes = [*map(escape, view.notes), *([html_code(view.command)] if view.command else [])]
    return f'<div style="border-top:{BORDER}">{html_muted(" &nbsp;·&nbsp; ".join(notes))}</div>' if notes else ""


# The result as text: `text/plain` of its output, and the terminal display.

MAX_ROWS: Final = 10
"""Maximum data points and errors listed; the rest is counted."""

MAX_TEXT: Final = 100
"""Maximum characters of one error; the result holds the full text."""
_BARS: Final = "▁▂▃▄▅▆▇█"
_ASCII: Final = str.maketrans(
    {"✓": "ok", "✗": "x", "▲": "!", "○": "o", "■": "#", "…": "...", "±": "+-", "·": "-", "×": "x", "█": "=", "░": "-"}
    | dict(zip(_BARS, "._-~=+*#", strict=True))
)


def result_text(view: RunView, *, unicode: bool = True) -> str:
    """Render run, metrics, the first data points and their errors, without a final line feed."""
    return plain_text("\n".join(_lines(view)), unicode=unicode)


def plain_text(text: str, *, unicode: bool) -> str:
    """Return the text, converted to ASCII if the stream cannot encode Unicode."""
    return text if unicode else text.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def _lines(view: RunView) -> Iterator[str]:
    facts = [view.duration, *view.facts, view.failures, view.wrong, view.delivery[:1].lower() + view.delivery[1:]]
    yield f"{MARKS[view.mark]} {clean(view.name, 60)}  " + "  ".join(clean(fact, 80) for fact in facts if fact)
    if view.metrics:
        yield ""
        yield from text_table(
            ("Metric", view.aggregate, "Spread", "Range", "Scored", "Distribution"),
            [(m.name, m.value, m.spread, m.range, m.count, spark(m.distribution)) for m in view.metrics],
            right=(1, 2, 3, 4),
        )
    if view.rows:
        yield ""
        yield from _text_rows(view)
    yield from _errors(view)
    notes = [*view.notes, *([view.command] if view.command else [])]
    yield ""
    yield "   ".join([f"run {clean(view.run_id, 60)}", *(clean(note, 200) for note in notes)])


def _text_rows(view: RunView) -> Iterator[str]:
    shown = view.rows[:MAX_ROWS]
    header = ("Data point", *view.columns, "Time", "Cost", "Session")
    rows = [
        (f"{STATE_MARKS[row.state]} {clean(row.label, 40)}", *row.scores, row.time, row.cost, row.session)
        for row in shown
    ]
    yield from text_table(header, rows, right=range(1, len(view.columns) + 3))
    if view.total > len(shown):
        yield f"… {count(view.total - len(shown), 'more data point')}"


def _errors(view: RunView) -> Iterator[str]:
    found = [(where, row.label, what) for row in view.rows for where, what in row.errors]
    if not found:
        return
    yield ""
    yield from text_table(
        ("Error in", "Data point", "What"),
        [(where, label, clean(what, MAX_TEXT)) for where, label, what in found[:MAX_ROWS]],
    )
    if len(found) > MAX_ROWS:
        yield f"… {count(len(found) - MAX_ROWS, 'more error')}"


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    """Yield lines with columns as wide as their content. Columns in `right` are right-aligned, empty ones left out."""
    shown = [column for column in range(len(header)) if any(row[column] for row in rows)]
    lines = [[clean(line[column], 160) for column in shown] for line in (header, *rows)]
    widths = [max(cell_width(line[index]) for line in lines) for index in range(len(shown))]
    for line in lines:
        cells = (_cell(text, width, column in right) for text, width, column in zip(line, widths, shown, strict=True))
        yield "  ".join(cells).rstrip()


def _cell(text: str, width: int, right: bool) -> str:
    return " " * (width - cell_width(text)) + text if right else fit(text, width)


def spark(distribution: Distribution | None) -> str:
    """`0 ▁▁▂█ 1`; a bar of ten for yes/no metrics; the most frequent labels."""
    if distribution is None:
        return ""
    if distribution.kind == "labels":
        return ", ".join(distribution.labels)
    if distribution.kind == "yes_no":
        yes = round(distribution.shares[0] * 10)
        return "█" * yes + "░" * (10 - yes)
    highest = max(distribution.shares, default=0) or 1
    bars = "".join(_BARS[round(share / highest * (len(_BARS) - 1))] for share in distribution.shares)
    return f"{distribution.low} {bars} {distribution.high}"


# Progress of a running experiment: one line.

_BAR_CELLS: Final = 20


def progress_html(view: ProgressView) -> str:
    """Render the line and a bar below it, whose length the line also states as text."""
    top = html_head("running", view.name, view.done, (*view.facts, view.doing), view.failures, view.wrong)
    bar = "" if view.share is None else split_bar([(view.share, BAR)])
    return html_root(top, f'<div style="padding:0 10px 8px">{bar}</div>' if bar else "")


def progress_text(view: ProgressView, *, unicode: bool = True) -> str:
    """`○ name ████░░░░ 312 of 1,000  10.2/s  3 failed`."""
    full = 0 if view.share is None else round(view.share * _BAR_CELLS)
    bar = "" if view.share is None else "█" * full + "░" * (_BAR_CELLS - full)
    parts = [f"○ {clean(view.name, 40)}", bar, view.done, *view.facts, view.failures, view.wrong, view.doing]
    return plain_text("  ".join(filter(None, parts)), unicode=unicode)


def progress_bundle(view: ProgressView) -> dict[str, str]:
    """Return the mime bundle of the output."""
    return {"text/plain": progress_text(view), "text/html": progress_html(view)}
