"""Displayed reports in an interactive page: the header, the order of rows, a few rows at a time, everything about one.

The page shows, sorts and filters any number of rows, but gets only those in sight. Texts are cleaned here and drawn as
text nodes there.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from hh_jupyter.display.columns import little_endian
from hh_jupyter.display.content import plain
from hh_jupyter.display.format import clean, clean_block
from hh_jupyter.display.report import Report, Section
from hh_jupyter.display.row_query import row_query
from hh_jupyter.display.table import Cell, Column, Distribution, Interval, Line, RatedSpan, SpansLink

CELL_LENGTH: Final = 300
"""Most characters of a piece of text in a row."""

MAX_PAGE: Final = 500
"""Most rows in a reply."""

MAX_STATIC_ROWS: Final = 60
"""Most rows of the tables above the rows, such as metrics."""

BAD: Final = 0x80
"""Bit of a row's byte in the header: it failed or is wrong. The other bits are its height in lines."""

DELIVERY_STATES: Final = {"Sent": "sent", "Not all sent": "failed"}

Reply = tuple[dict[str, Any], list[bytes]]


class LiveReport:
    """What the page gets of a report.

    Args:
        report: one of its sections has the rows.

    Attributes:
        size: number of rows.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._table = next(one.table for one in report.sections if one.live == "rows" and one.table is not None)
        self._columns = self._table.columns
        self.size = len(self._table.rows)
        self._version = f"report-{next(_versions)}"

    def header(self, *, with_rows: bool) -> Reply:
        """The summary line, the sections and the columns, as `static/types.d.ts` describes them.

        Args:
            with_rows: also one byte for each row: its height in lines, and `BAD`.
        """
        report = self._report
        errors = [clean(text, CELL_LENGTH) for text, mark in report.chips if mark == "error"]
        header = {
            "version": self._version,
            "open": True,
            "mark": report.mark,
            "title": clean(report.title, CELL_LENGTH),
            "duration": report.duration,
            "limit": "",
            "share": None,
            "facts": [clean(fact, CELL_LENGTH) for fact in report.facts if fact],
            "headline": [clean(fact, CELL_LENGTH) for fact in report.headline if fact],
            "stopped": "",
            "replayed": report.replayed,
            "unrecorded": "",
            "errors": ", ".join(errors),
            "caught": "",
            "cancelled": "",
            "notes": [clean(text, CELL_LENGTH) for text, mark in report.chips if mark != "error"],
            "delivery": report.state,
            "delivery_state": DELIVERY_STATES.get(report.state, "local"),
            "session": None,
            "sections": [_section(one) for one in report.sections if one.live != "rows"],
            "foot": [_line(line) for line in report.notes],
            "columns": [_column(column) for column in self._columns],
        }
        if not with_rows:
            return header, []
        header["filters"], heights = self._of_rows
        return header, [heights]

    @cached_property
    def _of_rows(self) -> tuple[list[tuple[str, int]], bytes]:
        """The number of rows of each filter, and a byte for each row."""
        table = self._table
        filters = [(name, sum(map(matches, table.rows))) for name, matches in table.filters.items()]
        return filters, bytes(table.height(row) | BAD * table.bad(row) for row in table.rows)

    @property
    def version(self) -> str:
        """Changes whenever the header does."""
        return self._version

    def order(self, query: str, key: str, *, descending: bool) -> Reply:
        """The numbers of the rows that match a query, sorted by a column: 4 bytes each, little-endian."""
        parsed = row_query(self._table, query)
        numbers = self._table.order(key, descending=descending, matching=parsed.matches if parsed.tests else None)
        return {"notes": [clean(note, CELL_LENGTH) for note in parsed.notes]}, [little_endian(array("I", numbers))]

    def rows(self, numbers: Sequence[int]) -> list[list[Any]]:
        """The cells of these rows, by the columns of the header."""
        rows = [self._table.rows[number] for number in numbers[:MAX_PAGE]]
        return [[_cell(column.cell_of(row)) for column in self._columns] for row in rows]

    def row(self, number: int) -> dict[str, Any]:
        """Everything about a row: its texts in full length, the metrics with explanations, where its spans are."""
        row = self._table.rows[number]
        details = self._table.details(row)
        return {
            "texts": [[clean(title, CELL_LENGTH), _block(line)] for title, line in details.texts],
            "beside": [[clean(title, CELL_LENGTH), _block(line)] for title, line in details.beside],
            "values": [[clean(name, CELL_LENGTH), _line(value), _block(text)] for name, value, text in details.values],
            "spans": [{**_spans(link), **_rated(details.rated.get(link.view_id))} for link in self._table.spans(row)],
        }


_versions = itertools.count(1)


def _section(section: Section) -> dict[str, Any]:
    table = section.table
    found: dict[str, Any] = {"lines": [_line(line) for line in section.lines], "look": section.live}
    if table is not None and table.rows:
        columns = [column for column in table.columns if column.weight]
        rows = [[_cell(column.cell_of(row)) for column in columns] for row in table.rows[:MAX_STATIC_ROWS]]
        used = [index for index in range(len(columns)) if any(row[index] for row in rows)]
        found["columns"] = [_column(columns[index]) for index in used]
        found["rows"] = [[row[index] for index in used] for row in rows]
        left = table.rows[MAX_STATIC_ROWS:]
        found["more"] = _line(table.more(left)) if left else []
    return found


def _column(column: Column) -> dict[str, Any]:
    return {
        "key": clean(column.key, CELL_LENGTH),
        "title": clean(column.title, CELL_LENGTH),
        "right": column.align == "right",
        "priority": column.priority,
        "line": column.line,
        "weight": column.weight,
    }


def _cell(cell: Cell) -> Any:
    """A cell as text, as a list of texts with their tones, or as what is drawn."""
    if isinstance(cell, str):
        return clean(cell, CELL_LENGTH)
    if isinstance(cell, Interval):
        return {"low": plain(cell.low), "value": plain(cell.value), "high": plain(cell.high)}
    if isinstance(cell, Distribution):
        return {
            "kind": cell.kind,
            "shares": list(cell.shares),
            "labels": [clean(label, CELL_LENGTH) for label in cell.labels],
            "ends": list(cell.ends),
            "queries": list(map(plain, cell.queries)),
            "mean": cell.mean,
            "error": cell.error,
        }
    return _line(cell)


def _line(line: Line) -> list[list[str]]:
    """Pieces as [text, tone], with the spaces around each."""
    return [[_edged(piece.text), piece.tone] for piece in line]


def _edged(text: str) -> str:
    inner = clean(text, CELL_LENGTH)
    before, after = text[:1].isspace(), text[-1:].isspace()
    return f"{' ' * before}{inner}{' ' * after}" if inner else " " * before


def _block(line: Line) -> list[list[str]]:
    """Pieces of a text of several lines in full length."""
    return [[plain(_edges(piece.text, clean_block(piece.text.strip(_SPACES)))), piece.tone] for piece in line]


def _edges(text: str, inner: str) -> str:
    """The inner text with the white space around the outer one."""
    if not inner:
        return "\n" if "\n" in text else " " if text[:1].isspace() else ""
    before, after = text[: len(text) - len(text.lstrip(_SPACES))], text[len(text.rstrip(_SPACES)) :]
    return f"{before}{inner}{after}"


_SPACES: Final = " \n\t"


def _spans(link: SpansLink) -> dict[str, str]:
    return {name: clean(text, CELL_LENGTH) for name, text in zip(("label", "view", "command"), link, strict=True)}


def _rated(found: RatedSpan | None) -> dict[str, Any]:
    """The span that takes feedback on a row, and the feedback that the page shows."""
    if found is None:
        return {"span": "", "feedback": {}}
    ok, note = found.feedback.get("ok"), found.feedback.get("note")
    given = {"ok": ok if isinstance(ok, bool) else None, "note": clean_block(note) if isinstance(note, str) else None}
    return {"span": found.span_id, "feedback": {name: plain(value) for name, value in given.items()}}


# The reports that are displayed in this process.

MAX_SHOWN: Final = 20
MAX_ROWS: Final = 200_000
"""Most rows of all reports that are kept, besides those of the last one."""


@dataclass(slots=True)
class ShownReports:
    """Reports that were displayed, the latest last. Older ones keep their static form only. Thread-safe.

    Attributes:
        on_show: called after a report was displayed; None: there is no page that could ask for it, and none is kept.
    """

    on_show: Callable[[], None] | None = None
    _makers: dict[str, tuple[Callable[[], Report], int]] = field(default_factory=dict)
    _made: dict[str, LiveReport] = field(default_factory=dict)

    def add(self, view_id: str, report: Callable[[], Report], rows: int) -> None:
        """Keep a displayed report, if a page may ask for it.

        Args:
            view_id: id of its element.
            report: makes the report for the page; called when the page asks for it.
            rows: number of its rows.
        """
        if self.on_show is None:
            return
        self._makers.pop(view_id, None)
        self._made.pop(view_id, None)
        self._makers[view_id] = report, rows
        left = MAX_ROWS
        for number, (one, (_, size)) in enumerate(reversed(list(self._makers.items()))):
            left -= size if number else 0
            if number >= MAX_SHOWN or left < 0:
                self._makers.pop(one, None)
                self._made.pop(one, None)
        self.on_show()

    def get(self, view_id: str) -> LiveReport | None:
        """The report with this id; None if it is not kept."""
        maker = self._makers.get(view_id)
        if maker is None:
            return None
        found = self._made.get(view_id)
        if found is None:
            found = self._made[view_id] = LiveReport(maker[0]())
        return found

    def clear(self) -> None:
        """Forget all reports."""
        self.on_show = None
        self._makers.clear()
        self._made.clear()


shown_reports: Final = ShownReports()
