"""The view as text: `text/plain` of every output, and what a terminal shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hh_jupyter.display import text_said
from hh_jupyter.display.clean import clean, columns
from hh_jupyter.display.format import count
from hh_jupyter.display.pen import Pen
from hh_jupyter.display.rows import choose_rows, hidden_spans, rows_of
from hh_jupyter.display.summary import COMMAND_LENGTH, error_line, redacted_note, summarize_view, tells_more
from hh_jupyter.display.text_tree import draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hh_jupyter.display.view import CellView
    from hh_jupyter.records.tree import TreeRow

MAX_LINES: Final = 40
MAX_BYTES: Final = 4_000
WIDTH: Final = 100


def render(view: CellView, *, unicode: bool = True, color: bool = False, width: int | None = None) -> str:
    """The summary, and after an error or on demand the error and the tree.

    Args:
        unicode: False for a stream that cannot carry more than ASCII.
        color: ANSI colours. Never in `text/plain` of a notebook.
        width: columns of the terminal: facts give way to fit it, and bars are left out below 80. None for a file, which
            has the tree as for 100 columns and every fact.

    Returns:
        Lines without a last line feed; at most 40 of them and 4,000 bytes, and below them what spans said if that was
        asked for. Spans without a line are counted.
    """
    pen = Pen(unicode=unicode, color=color)
    if view.mode == "line" or not (view.open or view.tree.errors):
        return pen.carried("\n".join(_head(view, pen, width, 0)))
    said = text_said.lines(view.said, pen, width or WIDTH) if view.asked else []
    footer = _footer(view)
    foot = ["", pen.paint(footer, "2")] if footer else []
    return pen.carried("\n".join([*_tree(view, pen, width), *said, *foot]))


def summary(view: CellView, *, unicode: bool = True, color: bool = False, width: int | None = None) -> str:
    """What is said unasked when all went well: the line, and below it an error or a notice if there is one."""
    pen = Pen(unicode=unicode, color=color)
    return pen.carried("\n".join(_head(view, pen, width, 0)))


def _head(view: CellView, pen: Pen, width: int | None, hidden: int) -> list[str]:
    return [_summary_line(view, pen, width, hidden), *_error_lines(view, pen), *_notice_lines(view, pen)]


def _summary_line(view: CellView, pen: Pen, width: int | None, hidden: int) -> str:
    """`✓ support_agent  2.84 s  ~$0.0091  6,043 tokens  21 spans  3 LLM calls  sent`, less facts where it is narrow."""
    facts = list(summarize_view(view, hidden).facts)
    while width is not None and facts and columns(_line_with(facts, view, pen.plain, hidden)) > width:
        facts.pop()
    return _line_with(facts, view, pen, hidden)


def _line_with(facts: Sequence[str], view: CellView, pen: Pen, hidden: int) -> str:
    said = summarize_view(view, hidden)
    tone = {"ok": "32", "error": "1;31"}.get(said.mark, "")
    delivery = said.delivery[:1].lower() + said.delivery[1:]
    parts = [
        pen.paint(pen.glyphs.marks[said.mark], tone) + " " + pen.paint(said.title, "1"),
        said.duration,
        *facts,
        pen.paint(said.errors, "1;31"),
        pen.paint(said.caught, "2"),
        *said.notes,
        pen.paint(delivery, "32" if said.delivery == "Sent" else ""),
    ]
    return "  ".join(filter(None, parts))


def _error_lines(view: CellView, pen: Pen) -> list[str]:
    error = error_line(view.tree)
    if error is None:
        return []
    # A single root is the summary's title already.
    through = error.through if len(view.tree.roots) > 1 else error.through[:-1]
    way = " > ".join((*reversed(through), error.name))
    line = f"  {way}: {pen.paint(error.what, '1;31')}"
    return [f"{line}  {pen.paint(error.location, '2')}" if error.location else line]


def _notice_lines(view: CellView, pen: Pen) -> list[str]:
    if view.notice is None:
        return []
    notice = view.notice
    title, text = (clean(part, 400) for part in (notice.title, notice.text))
    commands = " or ".join(pen.paint(clean(command, 60), "1") for command in notice.commands)
    return ["  " + " ".join(filter(None, (title, text, commands)))]


def _tree(view: CellView, pen: Pen, width: int | None) -> list[str]:
    """Head and tree within the bounds: fewer rows if need be, counted in the last line. Colours do not count."""
    rows = rows_of(view)
    below = sum(len(line.encode()) + 1 for line in ("", _footer(view)))
    shown = choose_rows(rows, view.max_rows)
    while len(shown) > 1:
        lines = _drawn(view, shown, pen.plain, width)
        size = sum(len(line.encode()) + 1 for line in lines) + below
        too_many = len(lines) + 2 - MAX_LINES
        if size <= MAX_BYTES and too_many <= 0:
            break
        fitting = len(shown) * MAX_BYTES // size if size > MAX_BYTES else len(shown)
        shown = choose_rows(rows, max(1, min(len(shown) - max(too_many, 1), fitting)))
    return _drawn(view, shown, pen, width)


def _drawn(view: CellView, shown: Sequence[TreeRow], pen: Pen, width: int | None) -> list[str]:
    hidden = hidden_spans(view.tree, shown)
    lines = [*_head(view, pen, width, hidden), "", *draw(shown, view.tree, pen, width or WIDTH)]
    return [*lines, f"… {count(hidden, 'more span')}"] if hidden else lines


def _footer(view: CellView) -> str:
    more = tells_more(view)
    parts = (
        f"file {clean(view.file, COMMAND_LENGTH)}" if view.file else "",
        f"session {clean(view.session_name, 60)}" if view.session_name else "",
        redacted_note(view.tree),
        f"{more[0][:1].lower()}{more[0][1:]} {more[1]}" if more else "",
    )
    return "   ".join(filter(None, parts))
