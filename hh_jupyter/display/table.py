"""Tables: columns and rows as data, drawn as text or as static HTML."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from hh_jupyter.display import format as fmt
from hh_jupyter.display.format import cell_width, clean, count, fit
from hh_jupyter.display.html import BORDER, ERROR_COLOR, GREY, MUTED, PLAIN_CODE, SPACE, escape

Tone = Literal[
    "", "strong", "quiet", "below", "code", "failed", "wrong", "unclear", "passed", "old", "new", "better", "worse"
]
"""How a piece of text is drawn. It only decorates: the text says the same without it.

`below` is muted, and where there are no columns of text, on a line of its own.
"""


class Piece(NamedTuple):
    """A part of a line."""

    text: str
    tone: Tone = ""


Line = Sequence[Piece]

GAP: Final = "   "
"""Space between parts of a line that have nothing to do with each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How the values of a metric are distributed.

    Attributes:
        shares: fraction of all values in each of the equal bins from the smallest to the largest; for yes or no, that
            of yes; for labels, that of each.
        labels: the most frequent texts with their counts, if the values are texts.
        ends: texts of both ends of the axis.
        queries: for each bar, the query of the rows in it; see `row_query`.
        mean, error: position of the mean on the axis, from 0 to 1, and its standard error in the same unit, if known.
    """

    shares: Sequence[float] = ()
    kind: Literal["numbers", "yes_no", "labels"] = "numbers"
    labels: Sequence[str] = ()
    ends: tuple[str, str] = ("", "")
    queries: Sequence[str] = ()
    mean: float | None = None
    error: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A difference with its interval, which interactive forms draw around zero."""

    low: float
    value: float
    high: float


Cell = str | Line | Distribution | Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        key: name of the value in plain rows.
        value: the value of a row, by which rows are sorted; None if it is unknown.
        cell: what is shown for a row. Default: the value as text, nothing if it is None.
        priority: where space is short, the columns with the highest number are left out first; those with 0 never.
        weight: width in relation to other columns, in HTML; 0 for a column that only text has, and interactive forms
            if it is chosen.
        line: 0 for a column. Static forms show the others, which hold long texts, in this line below the row.
        live: only interactive forms have it.
    """

    key: str
    title: str
    value: Callable[[Any], Any]
    cell: Callable[[Any], Cell] | None = None
    align: Literal["left", "right"] = "left"
    priority: int = 0
    weight: float = 1.0
    line: int = 0
    live: bool = False

    def cell_of(self, row: Any) -> Cell:
        """The cell of a row."""
        if self.cell is not None:
            return self.cell(row)
        value = self.value(row)
        return "" if value is None else str(value)


class SpansLink(NamedTuple):
    """The spans of a row, which unfold below it in a live page.

    Attributes:
        label: which spans, if a row has several; may be empty.
        view_id: id of the element in which the page shows them.
        command: the command that shows them.
    """

    label: str
    view_id: str
    command: str


class RatedSpan(NamedTuple):
    """The span that holds the feedback on a row.

    Attributes:
        span_id: in hexadecimal.
        feedback: values by name that it has already.
    """

    span_id: str
    feedback: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDetails:
    """Everything about a row, for an interactive form that opens it.

    Attributes:
        texts: titles and long texts, such as the input.
        beside: titles and long texts that are compared with each other.
        values: name, value and explanation of each metric.
        rated: by the view id of its spans, which span holds the feedback, if it is in memory.
    """

    texts: Sequence[tuple[str, Line]]
    beside: Sequence[tuple[str, Line]] = ()
    values: Sequence[tuple[str, Line, Line]] = ()
    rated: Mapping[str, RatedSpan] = field(default_factory=dict)


def _no_spans(_row: Any) -> Sequence[SpansLink]:
    return ()


def _no_details(_row: Any) -> RowDetails:
    return RowDetails(texts=())


def _count_more(rows: Sequence[Any]) -> Line:
    return [Piece(count(len(rows), "more row"))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of any type, and the columns that read them.

    Attributes:
        rows: in the order in which they are shown.
        spans: the spans of a row.
        more: the sentence about rows that are left out.
        details: what an opened row shows.
        text: what a search for a text reads.
        filters: named filters of rows, in lower case without spaces.
        height: number of text lines of a row in interactive forms, 1, 2 or 3, known before it is drawn.
        bad: whether a row failed or is wrong, to which a key jumps.
    """

    columns: Sequence[Column]
    rows: Sequence[Any]
    spans: Callable[[Any], Sequence[SpansLink]] = _no_spans
    more: Callable[[Sequence[Any]], Line] = _count_more
    details: Callable[[Any], RowDetails] = _no_details
    text: Callable[[Any], str] = str
    filters: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)
    height: Callable[[Any], int] = lambda _row: 1
    bad: Callable[[Any], bool] = lambda _row: False

    def order(
        self, key: str = "", *, descending: bool = False, matching: Callable[[Any], bool] | None = None
    ) -> list[int]:
        """The numbers of the rows that match, sorted by a column.

        Numbers come before texts. Numbers inside texts are sorted by size: `row 2` before `row 10`. Missing values and
        NaN come last in both directions; rows with equal values stay in their order.

        Args:
            key: of the column; empty to leave the order as it is.
        """
        found = [number for number, row in enumerate(self.rows) if matching is None or matching(row)]
        column = next((column for column in self.columns if column.key == key), None)
        if column is None:
            return found
        keys = {number: _sort_key(column.value(self.rows[number])) for number in found}
        known = sorted(
            (number for number in found if keys[number] is not None),
            key=lambda number: keys[number] or (),
            reverse=descending,
        )
        return known + [number for number in found if keys[number] is None]


_DIGITS: Final = re.compile("([0-9]+)")


def _sort_key(value: Any) -> tuple[bool, Any] | None:
    if value is None or value != value:
        return None
    if isinstance(value, int | float):
        return False, value
    pieces: list[Any] = _DIGITS.split(str(value))
    numbers = (digits.lstrip("0") for digits in pieces[1::2])
    pieces[1::2] = [(len(number), number) for number in numbers]
    return True, pieces


def _visible(table: Table, rows: Sequence[Any]) -> tuple[list[Column], list[list[Cell]]]:
    """The columns in which a row has something, and the cells of each row."""
    columns = [column for column in table.columns if not column.line and not column.live]
    cells = [[column.cell_of(row) for column in columns] for row in rows]
    used = [index for index in range(len(columns)) if any(line[index] for line in cells)]
    return [columns[index] for index in used], [[line[index] for index in used] for line in cells]


def _lines_below(table: Table, row: Any) -> list[Line]:
    """The lines below a row, each with the titles of its parts."""
    lines: dict[int, list[Piece]] = {}
    for column in table.columns:
        cell = column.cell_of(row) if column.line and not column.live else ""
        if isinstance(cell, Distribution | Interval):
            continue
        pieces = [Piece(cell)] if isinstance(cell, str) else list(cell)
        if any(piece.text for piece in pieces):
            line = lines.setdefault(column.line, [])
            gap = [Piece(GAP)] if line else []
            line += [*gap, *([Piece(f"{column.title} ", "quiet")] if column.title else []), *pieces]
    return [lines[number] for number in sorted(lines)]


# A table as text.

_INDENT: Final = "    "
_LINE_WIDTH: Final = 200
_CELL_WIDTH: Final = 160
_TITLE_WIDTH: Final = 40
_WRAPPED_LINES: Final = 3
_LEAST_WIDTH: Final = 12
"""Least width in characters of a column that is cut to fit."""
_BARS: Final = "▁▂▃▄▅▆▇█"
_ASCII: Final = str.maketrans(
    {fmt.MARKS[mark]: text for mark, text in fmt.ASCII_MARKS.items()}
    | {"…": "...", "±": "+-", "×": "x", "█": "=", "░": "-", "→": "->", SPACE: " "}
    | dict(zip(_BARS, "._-~=+*#", strict=True))
)


def plain_text(text: str, *, unicode: bool) -> str:
    """Return the text with a hyphen for a minus, converted to ASCII if the stream cannot encode Unicode."""
    text = text.replace("\N{MINUS SIGN}", "-")
    return text if unicode else text.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def line_text(line: Line, limit: int = 1_000) -> str:
    """Return the text of a line."""
    parts = (edge for piece in line for edge in _with_edges(piece, clean(piece.text, limit)))
    return fmt.shorten("".join(parts).strip(" "), limit)


def _with_edges(piece: Piece, inner: str) -> tuple[str, str, str]:
    """The cleaned text of a piece, with the space before and after it."""
    if not inner:
        return piece.text if not piece.text.strip(" ") else "", "", ""
    return " " * piece.text.startswith(" "), inner, " " * piece.text.endswith(" ")


def text_lines(table: Table, limit: int, width: int | None = None) -> Iterator[str]:
    """Yield a header, the first `limit` rows in columns as wide as their content, and what is left out.

    Args:
        width: of the terminal in characters: columns of low priority are left out, long cells are cut. None: no limit.
    """
    rows = table.rows[:limit]
    columns, cells = _visible(table, rows)
    texts = [list(map(_cell_text, line)) for line in cells]
    shown = list(range(len(columns)))
    lines = [[clean(column.title, _TITLE_WIDTH) for column in columns], *texts]
    widths = [max(cell_width(line[i]) for line in lines) for i in range(len(columns))]
    while width is not None and _sum(widths, shown) > width and any(columns[i].priority for i in shown):
        shown.remove(max(shown, key=lambda i: (columns[i].priority, i)))
    while width is not None and (excess := _sum(widths, shown) - width) > 0:
        widest = max(shown, key=lambda i: widths[i])
        if widths[widest] <= _LEAST_WIDTH:
            break
        second = max((widths[i] for i in shown if i != widest), default=0)
        widths[widest] = max(_LEAST_WIDTH, widths[widest] - min(excess, max(1, widths[widest] - second)))
    for line, row in zip(lines, [None, *rows], strict=True):
        yield from _text_row([(line[i], widths[i], columns[i].align) for i in shown])
        for below in _lines_below(table, row) if row is not None else ():
            yield from wrapped(line_text(below), width, _INDENT)
    if rest := table.rows[limit:]:
        yield from wrapped(f"… {line_text(table.more(rest))}", width)


def _sum(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[i] for i in shown) + 2 * max(0, len(shown) - 1)


def _aligned(text: str, width: int, align: str) -> str:
    return (
        " " * (width - cell_width(text)) + text if align == "right" and cell_width(text) <= width else fit(text, width)
    )


def _text_row(cells: Sequence[tuple[str, int, str]]) -> Iterator[str]:
    """A row in one line; the last cell goes on below if it is text that is too long."""
    *first, (text, width, align) = cells
    before = "".join(f"{_aligned(*cell)}  " for cell in first)
    parts = wrapped(text, width) if align == "left" else [_aligned(text, width, align)]
    for number, part in enumerate(parts or [""]):
        yield ((" " * cell_width(before) if number else before) + part).rstrip()


def wrapped(text: str, width: int | None, indent: str = "") -> list[str]:
    """Lines of at most `width` characters; one line for None."""
    if width is None:
        return [indent + fmt.shorten(text, _LINE_WIDTH)]
    wide = cell_width(text) > len(text)  # `textwrap` counts characters.
    room = max(width - len(indent), _LEAST_WIDTH) // (2 if wide else 1)
    return [indent + part for part in textwrap.wrap(text, room, max_lines=_WRAPPED_LINES, placeholder=" …")]


def _cell_text(cell: Cell) -> str:
    if isinstance(cell, Interval):
        return ""
    if isinstance(cell, Distribution):
        return clean(spark(cell), _CELL_WIDTH)
    return clean(cell, _CELL_WIDTH) if isinstance(cell, str) else line_text(cell)


def spark(distribution: Distribution) -> str:
    """`▁▁▂█`; a bar of ten for yes or no; the most frequent labels."""
    if distribution.kind == "labels":
        return ", ".join(distribution.labels)
    if distribution.kind == "yes_no":
        yes = round(distribution.shares[0] * 10)
        return "█" * yes + "░" * (10 - yes)
    highest = max(distribution.shares, default=0) or 1
    return "".join(_BARS[round(share / highest * (len(_BARS) - 1))] for share in distribution.shares)


# A table as static HTML. `hh_jupyter.display.html` describes what front ends remove.
#
# Styles are inline and only decorate, and text inherits its color. Texts below a row span all columns: they read well
# at any width, and where all styles are lost.

BAR: Final = "#7f63dd"
GOOD: Final = "#12917f"
WRONG: Final = "#c07a10"

_MARK_COLORS: Final[Mapping[str, str]] = {"failed": ERROR_COLOR, "wrong": WRONG, "passed": GOOD}
_STYLES: Final[Mapping[str, str]] = {
    "quiet": MUTED,
    "old": f"background-color:{GREY};border-bottom:1px dotted",
    "new": "background-color:rgba(47,128,208,.25);border-bottom:1px solid",
}
_BAR_HEIGHT: Final = 14
"""Height of the highest bar of a distribution, in pixels."""

_TABLE: Final = "width:100%;border-collapse:collapse;table-layout:fixed;border:0;margin:0;font-size:12px"
_CELL: Final = "padding:2px 5px;vertical-align:top"
_INSIDE: Final = "position:relative;padding:2px 0 6px 14px"
_LINES: Final = "text-align:left;padding:0 6px 4px 22px;border:0;font-size:11px;overflow-wrap:anywhere"


def line_html(line: Line, limit: int = 1_000) -> str:
    """Return a line as HTML."""
    return "".join(_piece(piece, limit) for piece in line)


def _piece(piece: Piece, limit: int) -> str:
    before, text, after = _with_edges(piece, escape(piece.text, limit))
    if not text:
        return f" {SPACE} " if before == GAP else before
    if piece.tone in ("strong", "better", "worse"):
        text = f"<b>{text}</b>"
    elif piece.tone == "code":
        text = html_code(piece.text)
    elif piece.tone == "below":
        return f'<div style="{MUTED};white-space:normal">{text}</div>'
    elif piece.tone in _MARK_COLORS:
        text = f'<span style="color:{_MARK_COLORS[piece.tone]}" title="{piece.tone}">{text}</span>'
    elif piece.tone in _STYLES:
        text = f'<span style="{_STYLES[piece.tone]}">{text}</span>'
    return before + text + after


def html_code(text: str) -> str:
    """Return text as code, such as a command."""
    return f'<code style="{PLAIN_CODE}">{escape(text)}</code>'


def table_html(table: Table, limit: int) -> str:
    """Return the first `limit` rows as an HTML table. What is left out is the caller's to say; see `Table.more`."""
    rows = table.rows[:limit]
    columns, cells = _visible(replace(table, columns=[column for column in table.columns if column.weight]), rows)
    if not columns:
        return ""
    total = sum(column.weight for column in columns)
    style = f"{_CELL};border-bottom:{BORDER};{MUTED};white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
    head = "".join(
        f'<td style="text-align:{one.align};width:{one.weight / total:.1%};{style}">{escape(one.title, 60)}</td>'
        for one in columns
    )
    share = columns[0].weight / total
    body = "\n".join(_row(table, columns, row, line, share) for row, line in zip(rows, cells, strict=True))
    return f'<table style="{_TABLE}"><tr style="background:none">{head}</tr>\n{body}</table>'


def _row(table: Table, columns: Sequence[Column], row: Any, cells: Sequence[Cell], share: float) -> str:
    texts = [_cell_html(cell) for cell in cells]
    if spans := table.spans(row):
        # The first cell unfolds; what is inside is as wide as the table.
        inside = "".join(map(_spans, spans))
        texts[0] = (
            f'<details><summary><span style="cursor:pointer">{texts[0]}</span></summary>'
            f'<div style="{_INSIDE};width:calc({1 / share:.1%} + {10 / share - 24:.0f}px)">{inside}</div></details>'
        )
    line = "".join(map(_td, columns, texts))
    below = "".join(f"<div>{line_html(part)}</div>" for part in _lines_below(table, row))
    below = (
        f'<tr style="background:none"><td colspan="{len(columns)}" style="{_LINES}">{below}</td></tr>' if below else ""
    )
    return f'<tr style="background:none">{line}</tr>{below}'


def _td(column: Column, text: str) -> str:
    # The attribute is short; a style that aligns to the left is needed against JupyterLab's.
    if column.align == "right":
        return f'<td align="right" style="{_CELL};white-space:nowrap">{text}</td>' if text else "<td></td>"
    return f'<td style="{_CELL};text-align:left;overflow-wrap:break-word">{text}</td>'


def _spans(link: SpansLink) -> str:
    # The hub requests the spans once the row is open: requests for a whole table would be too many.
    heading = f'<div style="{MUTED}">{escape(link.label)}</div>' if link.label else ""
    command = f"<div>Spans: <code>{escape(link.command)}</code></div>"
    return f'{heading}<div class="hh-output" id="{escape(link.view_id)}">{command}</div>'


def _cell_html(cell: Cell) -> str:
    if isinstance(cell, Interval):
        return ""
    if isinstance(cell, Distribution):
        return _plot(cell)
    return escape(cell) if isinstance(cell, str) else line_html(cell)


def _plot(distribution: Distribution) -> str:
    """Return a distribution, drawn with boxes that sanitizers keep."""
    if distribution.kind == "labels":
        return ", ".join(escape(label, 40) for label in distribution.labels)
    if distribution.kind == "yes_no":
        return share_bar(distribution.shares[0], GOOD)
    highest = max(distribution.shares, default=0) or 1
    bars = "".join(_column(share / highest) for share in distribution.shares)
    return f'<div style="white-space:nowrap">{bars}</div>'


def _column(share: float) -> str:
    """Return the bar of one bin. Empty bins are a thin grey line, so that the axis stays visible."""
    height = max(1, round(share * _BAR_HEIGHT))
    style = f"width:7%;height:{height}px;margin-left:1px;background-color:{BAR if share else GREY}"
    return f'<span style="display:inline-block;{style}"></span>'


def share_bar(share: float, color: str) -> str:
    """Return a bar that is filled to a share from 0 to 1."""
    full = f"display:inline-block;height:9px;width:{share * 100:.4g}%;background-color:{color}"
    inner = f'<span style="{full}"></span>' if share > 0 else ""
    style = f"height:9px;line-height:9px;font-size:0;border-radius:2px;overflow:hidden;background-color:{GREY}"
    return f'<div style="{style}">{inner}</div>'
