"""Render the comparison of two runs as static HTML and as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hh_jupyter.display import experiments
from hh_jupyter.display.experiments import ChangedRowView, ComparisonView, DeltaView, plain_text, text_table
from hh_jupyter.display.format import clean, count
from hh_jupyter.display.html import BORDER, MUTED, escape

MAX_BYTES: Final = 32_000
_COLORS: Final = {"better": experiments.GOOD, "worse": experiments.WORSE}


def comparison_html(view: ComparisonView) -> str:
    """Return the HTML of a comparison, at most 32,000 bytes of UTF-8. Data points without a line are counted."""
    limit = max(len(view.degraded), len(view.improved))
    page = _page(view, limit)
    while limit > 1 and len(page.encode()) > MAX_BYTES:
        limit -= 1
        page = _page(view, limit)
    return page


def _page(view: ComparisonView, limit: int) -> str:
    worse = sum(metric.verdict == "worse" for metric in view.metrics)
    better = sum(metric.verdict == "better" for metric in view.metrics)
    facts = [f"{better} better, {worse} worse" if better or worse else "", *view.facts]
    return experiments.html_root(
        experiments.html_head("ok", f"{view.new} against {view.old}", "", facts, ""),
        experiments.html_section(_config(view)),
        experiments.html_section(_metrics(view.metrics)),
        _changed("Worse", view.degraded, view.more_degraded, limit),
        _changed("Better", view.improved, view.more_improved, limit),
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


def _changed(title: str, rows: Sequence[ChangedRowView], more: int, limit: int) -> str:
    if not rows:
        return ""
    shown = rows[:limit]
    left = more + len(rows) - len(shown)
    lines = "".join(map(_row, shown))
    rest = experiments.html_muted(f"{count(left, 'more data point')}") if left else ""
    number = f'<span style="{experiments.NOTE}">{count(more + len(rows), "data point")}</span>'
    return experiments.html_section(
        f'<div style="padding:0 8px 2px;font-size:12px"><b>{title}</b> {number}</div>',
        f'<div style="font-size:12px">{lines}</div>',
        rest,
    )


def _row(row: ChangedRowView) -> str:
    changes = " &nbsp; ".join(
        f"{colored_arrow(arrow, verdict)} {escape(name, 40)} {escape(old, 24)} → <b>{escape(new, 24)}</b>"
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
    yield "  ".join([f"{clean(view.new, 60)} against {clean(view.old, 60)}", *view.facts])
    if view.config:
        yield ""
        yield from text_table(("Config", "Old", "New"), view.config)
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
    yield from _changed_text("Worse", view.degraded, view.more_degraded)
    yield from _changed_text("Better", view.improved, view.more_improved)


def _changed_text(title: str, rows: Sequence[ChangedRowView], more: int) -> Iterator[str]:
    if not rows:
        return
    yield ""
    lines = [(row.label, ", ".join(f"{name} {old} → {new}" for name, old, new, _, _ in row.changes)) for row in rows]
    yield from text_table((title, "Changes"), lines[:MAX_ROWS])
    left = more + max(0, len(rows) - MAX_ROWS)
    if left:
        yield f"… {count(left, 'more data point')}"
