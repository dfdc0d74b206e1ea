"""Render the comparison of two runs as static HTML and as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hh_jupyter.display import experiments
from hh_jupyter.display.experiments import (
    ChangedGroup,
    ChangedRowView,
    ComparisonView,
    DeltaView,
    plain_text,
    text_table,
)
from hh_jupyter.display.format import clean, count
from hh_jupyter.display.html import BORDER, MUTED, escape

MAX_BYTES: Final = 32_000
_COLORS: Final = {"better": experiments.GOOD, "worse": experiments.WORSE}


def comparison_html(view: ComparisonView) -> str:
    """Return the HTML of a comparison, at most 32,000 bytes of UTF-8. Data points without a line are counted."""
    limit = max((len(group.rows) for group in view.groups), default=0)
    page = _page(view, limit)
    while limit > 1 and len(page.encode()) > MAX_BYTES:
        limit -= 1
        page = _page(view, limit)
    return page


def _page(view: ComparisonView, limit: int) -> str:
    return experiments.html_root(
        experiments.html_head(
            view.mark, f"{view.new} against {view.old}", "", view.facts, view.failures, view.wrong, chips_first=True
        ),
        experiments.html_section(_config(view)),
        *(_changed(group, limit) for group in view.groups if group.title in FIRST_GROUPS),
        experiments.html_section(_metrics(view.metrics)),
        *(_changed(group, limit) for group in view.groups if group.title not in FIRST_GROUPS),
        f'<div style="border-top:{BORDER}">{experiments.html_muted("; ".join(map(escape, view.notes)))}</div>'
        if view.notes
        else "",
    )


def _config(view: ComparisonView) -> str:
    if not view.config:
        return ""
    header = [("Config", "22%", "left"), ("Old", "", "left"), ("New", "", "left")]
    return experiments.html_table(
        header, [(escape(key), escape(old), f"<b>{escape(new)}</b>") for key, old, new in view.config]
    )


def _metrics(metrics: Sequence[DeltaView]) -> str:
    if not metrics:
        return experiments.html_muted("The runs have no metric in common.")
    header = [
        ("Metric", "20%", "left"),
        ("Old", "9%", "right"),
        ("New", "9%", "right"),
        ("Change", "12%", "right"),
        ("Better", "8%", "right"),
        ("Worse", "8%", "right"),
        ("Same", "8%", "right"),
        ("Data points", "", "left"),
    ]
    return experiments.html_table(header, map(_metric, metrics))


def _metric(metric: DeltaView) -> Sequence[str]:
    total = metric.improved + metric.degraded + metric.same or 1
    bar = experiments.split_bar(
        [(metric.improved / total, experiments.GOOD), (metric.degraded / total, experiments.WORSE)]
    )
    change = f"{colored_arrow(metric.arrow, metric.verdict)} {escape(metric.change)}"
    counts = [f"{number:,}" if number else "" for number in (metric.improved, metric.degraded, metric.same)]
    return escape(metric.name), escape(metric.old), f"<b>{escape(metric.new)}</b>", change, *counts, bar


def colored_arrow(arrow: str, verdict: str) -> str:
    """Return the arrow, in the color of better or worse."""
    color = _COLORS.get(verdict)
    return f'<span style="color:{color}">{arrow}</span>' if color else arrow


FIRST_GROUPS: Final = ("Newly failed", "Newly wrong", "Newly passed", "Missing", "Added")
"""Groups before the metrics, in this order."""


def _changed(group: ChangedGroup, limit: int) -> str:
    shown = group.rows[:limit]
    total = len(group.rows) + group.more
    left = total - len(shown)
    lines = "".join(map(_row, shown))
    rest = experiments.html_muted(f"{count(left, 'more data point')}") if left else ""
    number = f'<span style="{experiments.NOTE}">{count(total, "data point")}</span>'
    return experiments.html_section(
        f'<div style="padding:0 8px 2px;font-size:12px"><b>{group.title}</b> {number}</div>',
        f'<div style="font-size:12px">{lines}</div>',
        rest,
    )


def _row(row: ChangedRowView) -> str:
    changes = " &nbsp; ".join(
        f"{colored_arrow(arrow, verdict)} {escape(name, 40)} {escape(old, 24)} → <b>{escape(new, 80)}</b>"
        for name, old, new, arrow, verdict in row.changes
    )
    label = experiments.html_box(
        "24%", escape(row.label, 60), "overflow:hidden;text-overflow:ellipsis;vertical-align:bottom"
    )
    line = f'<span style="{experiments.ROW}">{label} {changes}</span>'
    spans = "".join(_spans(which, session_id) for which, session_id in row.sessions)
    return (
        f'<div style="padding:0 8px"><details><summary>{line}</summary>'
        f'<div style="padding:2px 0 8px 16px">{spans}</div></details></div>'
    )


def _spans(which: str, session_id: str) -> str:
    command = experiments.html_code(f"%hh show {session_id[:8]}")
    return (
        f'<div style="{MUTED}">{which} run</div>'
        f'<div class="hh-output" id="hh-session-{escape(session_id)}-{which}"><div>Spans: {command}</div></div>'
    )


# The comparison as text.

MAX_ROWS: Final = 10
_ASCII: Final = str.maketrans({"▲": "+", "▼": "-", "→": "->"})


def comparison_text(view: ComparisonView, *, unicode: bool = True) -> str:
    """Render config, metrics and changed data points, without a final line feed."""
    text = "\n".join(_lines(view))
    return plain_text(text if unicode else text.translate(_ASCII), unicode=unicode)


def _lines(view: ComparisonView) -> Iterator[str]:
    facts = [*filter(None, (view.failures, view.wrong)), *view.facts]
    yield "  ".join([f"{clean(view.new, 60)} against {clean(view.old, 60)}", *facts])
    if view.config:
        yield ""
        yield from text_table(("Config", "Old", "New"), view.config)
    for group in view.groups:
        if group.title in FIRST_GROUPS:
            yield from _changed_text(group)
    yield ""
    if not view.metrics:
        yield "The runs have no metric in common."
    else:
        rows = [
            (
                m.name,
                m.old,
                m.new,
                f"{m.arrow} {m.change}".strip(),
                *map(str, (m.improved, m.degraded, m.same)),
            )
            for m in view.metrics
        ]
        header = ("Metric", "Old", "New", "Change", "Better", "Worse", "Same")
        yield from text_table(header, rows, right=range(1, 7))
    for group in view.groups:
        if group.title not in FIRST_GROUPS:
            yield from _changed_text(group)
    if view.notes:
        yield ""
        yield from view.notes


def _changed_text(group: ChangedGroup) -> Iterator[str]:
    yield ""
    lines = [
        (row.label, ", ".join(f"{name} {old} → {new}".strip() for name, old, new, _, _ in row.changes))
        for row in group.rows
    ]
    yield from text_table((group.title, "Changes"), lines[:MAX_ROWS])
    left = group.more + max(0, len(lines) - MAX_ROWS)
    if left:
        yield f"… {count(left, 'more data point')}"
