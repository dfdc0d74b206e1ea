"""The result of a run as text: `text/plain` of its output, and what a terminal shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from hh_jupyter.display.clean import clean, columns, fit
from hh_jupyter.display.format import count

if TYPE_CHECKING:
    from hh_jupyter.display.runs.view import Distribution, RunView

MAX_ROWS: Final = 10
"""Data points and errors that are listed; the rest is counted."""

MAX_TEXT: Final = 100
"""Characters of one error; the whole text is in the result."""

_MARKS: Final = {"ok": "✓", "error": "✗", "running": "○", "stopped": "■"}
_BARS: Final = "▁▂▃▄▅▆▇█"
_ASCII: Final = str.maketrans(
    {"✓": "ok", "✗": "x", "○": "o", "■": "#", "…": "...", "±": "+-", "·": "-", "×": "x", "█": "=", "░": "-"}
    | dict(zip(_BARS, "._-~=+*#", strict=True))
)


def render(view: RunView, *, unicode: bool = True) -> str:
    """Run, metrics, the first data points and their errors; lines without a last line feed."""
    return plain("\n".join(_lines(view)), unicode=unicode)


def plain(text: str, *, unicode: bool) -> str:
    """The text for a stream that may not carry more than ASCII."""
    return text if unicode else text.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def _lines(view: RunView) -> Iterator[str]:
    facts = [view.duration, *view.facts, view.failures, view.delivery[:1].lower() + view.delivery[1:]]
    yield f"{_MARKS[view.mark]} {clean(view.name, 60)}  " + "  ".join(clean(fact, 80) for fact in facts if fact)
    if view.metrics:
        yield ""
        yield from table(
            ("Metric", view.aggregate, "Spread", "Range", "Scored", "Distribution"),
            [(m.name, m.value, m.spread, m.range, m.count, spark(m.distribution)) for m in view.metrics],
            right=(1, 2, 3, 4),
        )
    if view.rows:
        yield ""
        yield from _rows(view)
    yield from _errors(view)
    notes = [*view.notes, *([view.command] if view.command else [])]
    yield ""
    yield "   ".join([f"run {clean(view.run_id, 60)}", *(clean(note, 200) for note in notes)])


def _rows(view: RunView) -> Iterator[str]:
    shown = view.rows[:MAX_ROWS]
    header = ("Data point", *view.columns, "Time", "Cost", "Session")
    rows = [
        (f"{'✗' if row.failed else '✓'} {clean(row.label, 40)}", *row.scores, row.time, row.cost, row.session)
        for row in shown
    ]
    yield from table(header, rows, right=range(1, len(view.columns) + 3))
    if view.total > len(shown):
        yield f"… {count(view.total - len(shown), 'more data point')}"


def _errors(view: RunView) -> Iterator[str]:
    found = [(where, row.label, what) for row in view.rows for where, what in row.errors]
    if not found:
        return
    yield ""
    yield from table(
        ("Error in", "Data point", "What"),
        [(where, label, clean(what, MAX_TEXT)) for where, label, what in found[:MAX_ROWS]],
    )
    if len(found) > MAX_ROWS:
        yield f"… {count(len(found) - MAX_ROWS, 'more error')}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    """Lines in columns as wide as their contents; those in `right` are numbers. An empty column is left out."""
    kept = [column for column in range(len(header)) if any(row[column] for row in rows)]
    lines = [[clean(line[column], 160) for column in kept] for line in (header, *rows)]
    widths = [max(columns(line[place]) for line in lines) for place in range(len(kept))]
    for line in lines:
        cells = (_cell(text, width, column in right) for text, width, column in zip(line, widths, kept, strict=True))
        yield "  ".join(cells).rstrip()


def _cell(text: str, width: int, right: bool) -> str:
    return " " * (width - columns(text)) + text if right else fit(text, width)


def spark(distribution: Distribution | None) -> str:
    """`0 ▁▁▂█ 1`, a bar of ten for yes and no, the commonest labels."""
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
