"""Two runs beside each other as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from hh_jupyter.display.clean import clean
from hh_jupyter.display.format import count
from hh_jupyter.display.runs.text import plain, table

if TYPE_CHECKING:
    from hh_jupyter.display.runs.view import ChangedRowView, ComparisonView

MAX_ROWS: Final = 10
_ASCII: Final = str.maketrans({"▲": "+", "▼": "-", "→": "->"})


def render(view: ComparisonView, *, unicode: bool = True) -> str:
    """Config, metrics and data points that changed; lines without a last line feed."""
    text = "\n".join(_lines(view))
    return plain(text if unicode else text.translate(_ASCII), unicode=unicode)


def _lines(view: ComparisonView) -> Iterator[str]:
    yield "  ".join([f"{clean(view.new, 60)} against {clean(view.old, 60)}", *view.facts])
    if view.config:
        yield ""
        yield from table(("Config", "Old", "New"), view.config)
    yield ""
    if not view.metrics:
        yield "No metric is in both runs."
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
        yield from table(header, rows, right=range(1, 7))
    yield from _changed("Worse", view.degraded, view.more_degraded)
    yield from _changed("Better", view.improved, view.more_improved)


def _changed(title: str, rows: Sequence[ChangedRowView], more: int) -> Iterator[str]:
    if not rows:
        return
    yield ""
    lines = [(row.label, ", ".join(f"{name} {old} → {new}" for name, old, new, _, _ in row.changes)) for row in rows]
    yield from table((title, "What changed"), lines[:MAX_ROWS])
    left = more + max(0, len(rows) - MAX_ROWS)
    if left:
        yield f"… {count(left, 'more data point')}"
