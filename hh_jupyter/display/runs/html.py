"""The result of a run as static HTML: metrics with their spread, then the data points, failures first.

Each data point opens by itself, without script. Where the hub lives it shows the data point's spans in there; where it
does not, the command that shows them stands there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from hh_jupyter.display.format import count
from hh_jupyter.display.markup import LINE, QUIET, escape
from hh_jupyter.display.runs import parts

if TYPE_CHECKING:
    from hh_jupyter.display.runs.view import MetricView, RowView, RunView

MAX_BYTES: Final = 32_000
SCORE_WIDTH: Final = 46
"""Per cent of a line that its scores share."""


def render(view: RunView) -> str:
    """The output's HTML, at most 32,000 bytes of UTF-8; data points without a line are counted."""
    shown = view.rows
    page = _page(view, shown)
    while len(shown) > 1 and (size := len(page.encode())) > MAX_BYTES:
        shown = shown[: min(len(shown) - 1, len(shown) * MAX_BYTES // size)]
        page = _page(view, shown)
    return page


def _page(view: RunView, shown: Sequence[RowView]) -> str:
    run = f'<code title="Run {escape(view.run_id)}" style="background:none;padding:0">{escape(view.run_id[:8])}</code>'
    top = parts.head(
        view.mark, view.name, view.duration, view.facts, view.failures, f"{escape(view.delivery)} &nbsp;{run}"
    )
    return parts.root(top, parts.section(_metrics(view)), _rows(view, shown), _footer(view))


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
    return parts.table(header, map(_metric, view.metrics))


def _metric(metric: MetricView) -> Sequence[str]:
    facts = (metric.value, metric.spread, metric.range, metric.count)
    name, value, *rest = (escape(metric.name), *map(escape, facts))
    return name, f"<b>{value}</b>", *rest, parts.plot(metric.distribution)


def _rows(view: RunView, shown: Sequence[RowView]) -> str:
    if not shown:
        return ""
    width = f"{SCORE_WIDTH / max(len(view.columns), 1):.3g}%"
    priced = any(row.cost for row in shown)
    titles = [parts.box(width, escape(name, 24), _CUT) for name in view.columns]
    ends = [parts.box(_SMALL, title) for title in ("Time", "Cost")[: 1 + priced]]
    header = (
        f'<div style="padding:0 8px 2px 24px;white-space:nowrap;{QUIET}">{parts.box(_LABEL, "Data point", _LEFT)}'
        f"{''.join(titles)}{''.join(ends)}</div>"
    )
    lines = "".join(_row(row, width, priced=priced) for row in shown)
    left = view.total - len(shown)
    more = f"{count(left, 'more data point')}: {parts.code('result.to_pandas()')} has all" if left else ""
    body = f'<div style="text-align:right;font-size:12px">{header}{lines}</div>'
    return parts.section(body, parts.quiet(more) if more else "")


_LABEL: Final = "32%"
_SMALL: Final = "10.5%"
_CUT: Final = "overflow:hidden;text-overflow:ellipsis;vertical-align:bottom"
_LEFT: Final = f"text-align:left;{_CUT}"


def _row(row: RowView, width: str, *, priced: bool) -> str:
    label = f"<b>✗ {escape(row.label, 60)}</b>" if row.failed else f"✓ {escape(row.label, 60)}"
    note = f' <small style="{QUIET}">{escape(row.note)}</small>' if row.note else ""
    scores = "".join(parts.box(width, escape(score, 24)) for score in row.scores)
    ends = parts.box(_SMALL, escape(row.time)) + (parts.box(_SMALL, escape(row.cost)) if priced else "")
    return (
        '<details><summary style="padding:1px 8px;cursor:pointer;white-space:nowrap">'
        f'<span style="display:inline-block;width:calc(100% - 16px)">{parts.box(_LABEL, label + note, _LEFT)}'
        f"{scores}{ends}</span></summary>{_inside(row)}</details>"
    )


def _inside(row: RowView) -> str:
    errors = "".join(parts.failure(where, what) for where, what in row.errors)
    details = "".join(f"<div><b>{escape(name, 60)}</b> {escape(text)}</div>" for name, text in row.details)
    spans = f"<div>Spans: {parts.code(f'%hh show {row.session}')}</div>" if row.session else ""
    if row.view_id:
        # The hub looks into it once it is open: a table of data points must not ask for the spans of all of them.
        spans = f'<div class="hh-output" id="{escape(row.view_id)}">{spans}</div>'
    return f'<div style="text-align:left;padding:2px 8px 8px 24px">{errors}{details}{spans}</div>'


def _footer(view: RunView) -> str:
    notes = [*map(escape, view.notes), *([parts.code(view.command)] if view.command else [])]
    return f'<div style="border-top:{LINE}">{parts.quiet(" &nbsp;·&nbsp; ".join(notes))}</div>' if notes else ""
