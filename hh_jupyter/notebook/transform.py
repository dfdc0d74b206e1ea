"""The session's line as a pure input transformer: it becomes one statement, the body stays as it is.

A cell magic that ran the body itself could not `await`, would report an error twice and would let Run All go on after
one. With one statement in place of the line, IPython compiles the cell as ever: top-level `await`, the last expression,
line numbers and every other magic work. The kernel transforms a cell several times, so nothing may happen here; all
effects belong to the statement.
"""

from __future__ import annotations

import re
from typing import Final

from hh_jupyter.notebook.boundary import guarded_value
from hh_jupyter.notebook.options import CELL_MAGIC, COMMENT

MAGIC_LINE: Final = re.compile(r"%%hh_session(?=\s|$)[ \t]*(.*)")
"""The magic's line; `%%hh_session?` is left to IPython's help."""

COMMENT_LINE: Final = re.compile(r"#[ \t]*\|[ \t]*hh_session[ \t]*:[ \t]*(.*)")
"""Formatters put a space after the first mark."""

CELL_OPTION: Final = re.compile(r"#[ \t]*\|")
"""Other tools keep their options in such comments as well, in any order."""

HELP_LINE: Final = re.compile(r"%hh[ \t]+(\w+)[ \t]*\?{1,2}\s*$")
"""IPython's own help would look for an object of the command's name."""

ENTRY: Final = "_hh"
"""The shell's attribute that holds the object whose `enter` the statement calls."""


@guarded_value
def rewrite(lines: list[str]) -> list[str]:
    """Replace the line that makes the cell a session by a call of `enter`; translate a cell magic stacked below it.

    Args:
        lines: the cell's lines with their line ends, as IPython's cleanup step hands them over.
    """
    first = _first_code(lines)
    if first is None or lines[first][0] not in "%#":
        return lines
    if match := HELP_LINE.match(lines[first]):
        alone = _first_code(lines[first + 1 :]) is None
        return [*lines[:first], f"get_ipython().run_line_magic('hh', '{match[1]} --help')\n"] if alone else lines
    found = _session_line(lines, first)
    if found is None:
        return lines
    index, magic, options = found
    body = lines[index + 1 :]
    blank = _is_blank(body)
    if blank and magic == COMMENT:
        return lines  # Nothing but comments.
    arguments = [repr(options)]
    if magic != CELL_MAGIC:
        arguments.append(f"magic={magic!r}")
    if blank:
        arguments.append("blank=True")
    # The comment is for tracebacks, which show the rewritten line.
    statement = f"get_ipython().{ENTRY}.enter({', '.join(arguments)})  # {magic} {options}".rstrip() + "\n"
    return [*lines[:index], statement, *_stacked(body)]


# IPython must see the user's own line when it asks whether a cell is complete: in a terminal, the rewritten line alone
# would count as a whole cell and run before its body could be typed. This flag is how a transformer is left out there.
rewrite.has_side_effects = True  # type: ignore[attr-defined]


def _session_line(lines: list[str], first: int) -> tuple[int, str, str] | None:
    """Index, form and options of the line that makes the cell a session."""
    if match := MAGIC_LINE.match(lines[first]):
        return first, CELL_MAGIC, match[1].rstrip()
    for index in range(first, len(lines)):
        if match := COMMENT_LINE.match(lines[index]):
            return index, COMMENT, match[1].rstrip()
        if not CELL_OPTION.match(lines[index]):
            return None
    return None


def _stacked(body: list[str]) -> list[str]:
    """IPython knows a cell magic in the first line only, so one further down is translated here."""
    index = _first_code(body)
    if index is None:
        return body
    if _session_line(body, index) is not None:
        return body[:index] + rewrite(body[index:])
    if not body[index].startswith("%%"):
        return body
    name, _, line = body[index][2:].rstrip().partition(" ")
    call = f"get_ipython().run_cell_magic({name!r}, {line.strip()!r}, {''.join(body[index + 1 :])!r})\n"
    return [*body[:index], call]


def _first_code(lines: list[str]) -> int | None:
    return next((number for number, line in enumerate(lines) if line.strip()), None)


def _is_blank(lines: list[str]) -> bool:
    return all(not line.strip() or line.lstrip().startswith("#") for line in lines)
