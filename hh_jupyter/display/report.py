"""Reports of experiments: a summary line and sections with lines and tables, drawn as text or as static HTML.

The progress of a run, its result, and the comparison of two runs are reports.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hh_jupyter.display.content import Detail
from hh_jupyter.display.format import MARKS, REPLAYED, Mark, cell_width, clean
from hh_jupyter.display.html import (
    BORDER,
    GREY,
    MUTED,
    PLAIN_CODE,
    ROOT_STYLE,
    SPACE,
    TINTS,
    escape,
    status_html,
)
from hh_jupyter.display.table import (
    BAR,
    Line,
    Piece,
    Table,
    line_html,
    line_text,
    plain_text,
    share_bar,
    table_html,
    text_lines,
    wrapped,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Lines, then a table.

    Attributes:
        live: how interactive forms show the table: as it is, a box for each row with its distribution, or as rows that
            can be sorted, filtered and opened. One section of a report has the latter.
    """

    lines: Sequence[Line] = ()
    table: Table | None = None
    live: Literal["table", "boxes", "rows"] = "table"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report as data. The same report gives the same output.

    Attributes:
        duration: of the run, shown first; may be empty.
        facts: the most important first; empty ones are left out.
        chips: what went wrong, such as "3 failed", with the mark whose color it has.
        replayed: how many model calls a recording answered, and what they would have cost; may be empty.
        headline: the first facts of a folded interactive form, which its boxes show when it is open.
        share: fraction that is done, from 0 to 1, of something that goes on; else None.
        state, run_id: shown at the end of the summary line; may be empty.
        notes: lines at the end.
        max_rows: most rows of a table.
        detail: how much of texts is in the tables; with more of them, the output may be larger.
    """

    mark: Mark
    title: str
    duration: str = ""
    facts: Sequence[str] = ()
    chips: Sequence[tuple[str, Mark]] = ()
    replayed: str = ""
    headline: Sequence[str] = ()
    share: float | None = None
    state: str = ""
    run_id: str = ""
    sections: Sequence[Section] = ()
    notes: Sequence[Line] = ()
    max_rows: int = 60
    detail: Detail = "summary"


def report_bundle(report: Report) -> dict[str, str]:
    """Return the mime bundle of the output."""
    return {"text/plain": report_text(report, limit=TEXT_ROWS), "text/html": report_html(report)}


def output_id(page: str) -> str:
    """Return the id of the element of a report in the page: reports that look the same have the same one."""
    return f"hh-report-{hashlib.blake2s(page.encode('utf-8', 'replace'), digest_size=8).hexdigest()}"


def as_output(page: str) -> str:
    """Return the HTML of a report as an output that interactive forms find by its id."""
    return page.replace('class="hh-run ', f'id="{output_id(page)}" class="hh-output hh-run ', 1)


# Static HTML

BASE_BYTES: Final = 16_000
ROW_BYTES: Final[Mapping[Detail, int]] = {"summary": 1_000, "preview": 2_000, "full": 8_000}
"""Maximum size of an output: for what is not a row, and for each of `max_rows`. Rows that do not fit are counted."""


def report_html(report: Report) -> str:
    """Return the HTML of a report. Rows that do not fit are counted."""
    limit = min(report.max_rows, max((len(one.table.rows) for one in report.sections if one.table), default=0))
    most = BASE_BYTES + report.max_rows * ROW_BYTES[report.detail]
    page = _page(report, limit)
    while limit > 1 and (size := len(page.encode())) > most:
        limit = max(1, min(limit - 1, limit * most // size))
        page = _page(report, limit)
    return page


def _page(report: Report, limit: int) -> str:
    bar = "" if report.share is None else f'<div style="padding:0 10px 8px">{share_bar(report.share, BAR)}</div>'
    notes = f" {SPACE}·{SPACE} ".join(line_html(line) for line in report.notes)
    parts = (
        _head(report),
        bar,
        *(_section(section, limit) for section in report.sections),
        f'<div style="border-top:{BORDER}">{muted_html(notes)}</div>' if notes else "",
    )
    return page_html(*parts)


def page_html(*parts: str) -> str:
    """Return the root element; its classes keep MathJax from parsing two dollar amounts as a formula."""
    return f'<div class="hh-run tex2jax_ignore mathjax_ignore" style="{ROOT_STYLE}">{"".join(parts)}</div>'


def _head(report: Report) -> str:
    """Return the summary line. The commas between facts are read aloud and copied, but invisible with styles."""
    comma = f'<span style="opacity:0">,{SPACE} </span>'
    chip = f'<span style="background-color:{GREY};border-radius:5px;padding:0 7px">'
    facts = comma.join(escape(fact) for fact in report.facts if fact)
    short = escape(report.run_id[:8])
    run = f'<code title="Run {escape(report.run_id)}" style="{PLAIN_CODE}">{short}</code>'
    state = f"{MARKS['ok']} {escape(report.state)}" if report.state == "Sent" else escape(report.state)
    right = f" {SPACE}".join(filter(None, (state, run if report.run_id else "")))
    parts = [
        f"<span>{status_html(report.mark)}{SPACE} <b>{escape(report.title)}</b></span>",
        f"<b>{escape(report.duration)}</b>" if report.duration else "",
        f'<span style="{MUTED}">{facts}</span>' if facts else "",
        f"{chip}{REPLAYED} {escape(report.replayed)}</span>" if report.replayed else "",
        *(
            f'<b style="background-color:{TINTS.get(mark, GREY)};border-radius:5px;padding:0 7px">{escape(text)}</b>'
            for text, mark in report.chips
        ),
        f'<span style="margin-left:auto;{MUTED}">{right}</span>' if right else "",
    ]
    style = "display:flex;flex-wrap:wrap;align-items:center;gap:0 12px;padding:5px 10px"
    return f'<div style="{style}">{" ".join(filter(None, parts))}</div>'


def _section(section: Section, limit: int) -> str:
    lines = "".join(f'<div style="padding:1px 6px">{line_html(line)}</div>' for line in section.lines)
    return section_html(lines, section_table(section.table, limit) if section.table is not None else "")


def section_table(table: Table, limit: int) -> str:
    """Return the first `limit` rows of a table, and what is left out."""
    more = muted_html(line_html(table.more(table.rows[limit:]))) if len(table.rows) > limit else ""
    return table_html(table, limit) + more


def section_html(*parts: str) -> str:
    """Return a section of an output; empty if all parts are empty."""
    inner = "".join(parts)
    return f'<div style="border-top:{BORDER};padding:6px 4px">{inner}</div>' if inner else ""


def muted_html(text: str) -> str:
    """Return a muted line. `text` is HTML."""
    return f'<div style="padding:4px 8px 2px;font-size:12px;{MUTED}">{text}</div>'


# Text: `text/plain` of an output, and the terminal display.

TEXT_ROWS: Final = 10
"""Most rows of a table in the `text/plain` of a notebook, which few readers show."""

_BAR_CELLS: Final = 20


def report_text(report: Report, *, unicode: bool = True, width: int | None = None, limit: int | None = None) -> str:
    """Return the report as text, without a final line feed.

    Args:
        unicode: False for a stream that can only encode ASCII.
        width: of the terminal in characters; None for a file.
        limit: most rows of a table; default: those of the report.
    """
    lines = [_line(report, width)]
    for section in report.sections:
        found = [part for line in section.lines for part in wrapped(line_text(line), width) or [""]]
        if section.table is not None and section.table.rows:
            found += ["", *text_lines(section.table, limit or report.max_rows, width)]
        lines += ["", *found] if found and found[0] else found
    notes = [*([[Piece(f"run {report.run_id}")]] if report.run_id else []), *report.notes]
    lines += ["", *wrapped("   ".join(line_text(note, 200) for note in notes), width)] if notes else []
    return plain_text("\n".join(lines), unicode=unicode)


def _line(report: Report, width: int | None) -> str:
    """The summary line; facts are left out until it fits the width."""
    full = 0 if report.share is None else round(report.share * _BAR_CELLS)
    bar = "" if report.share is None else "█" * full + "░" * (_BAR_CELLS - full)
    state = report.state[:1].lower() + report.state[1:]
    facts = [clean(fact, 80) for fact in report.facts if fact]
    while True:
        chips = [*filter(None, [report.replayed]), *(text for text, _ in report.chips)]
        parts = [f"{MARKS[report.mark]} {clean(report.title, 60)}", bar, report.duration, *facts, *chips, state]
        line = "  ".join(filter(None, parts))
        if width is None or not facts or cell_width(line) <= width:
            return line
        facts.pop()
