"""`%%hh_session` as a pure input transformer: its line becomes one statement, the body stays as it is.

A cell magic that ran the body itself could not `await`, would report an error twice and would let Run All go on after
one. With one statement in place of the line, IPython compiles the cell as ever: top-level `await`, the last expression,
line numbers and every other magic work. The kernel transforms a cell several times, so nothing may happen here; all
effects belong to the statement.
"""

from __future__ import annotations

import re

FIRST_LINE = re.compile(r"%%hh_session(?=\s|$)[ \t]*(.*)")
"""The magic's line; `%%hh_session?` is left to IPython's help."""

ENTRY = "_hh"
"""The shell's attribute that holds the object whose `enter` the statement calls."""


def rewrite(lines: list[str]) -> list[str]:
    """Replace a leading `%%hh_session` line by a call of `enter`; translate a cell magic stacked below it.

    Args:
        lines: the cell's lines with their line ends, as IPython's cleanup step hands them over.
    """
    first = _first_code(lines)
    match = FIRST_LINE.match(lines[first]) if first is not None else None
    if first is None or match is None:
        return lines
    options = match.group(1).rstrip()
    body = lines[first + 1 :]
    blank = ", blank=True" if _is_blank(body) else ""
    # The comment is for tracebacks, which show the rewritten line.
    statement = f"get_ipython().{ENTRY}.enter({options!r}{blank})  # %%hh_session {options}".rstrip() + "\n"
    return [*lines[:first], statement, *_stacked(body)]


# IPython must see the user's own line when it asks whether a cell is complete: in a terminal, the rewritten line alone
# would count as a whole cell and run before its body could be typed. This flag is how a transformer is left out there.
rewrite.has_side_effects = True  # type: ignore[attr-defined]


def _stacked(body: list[str]) -> list[str]:
    """IPython knows a cell magic in the first line only, so one further down is translated here."""
    index = _first_code(body)
    if index is None or not body[index].startswith("%%"):
        return body
    if FIRST_LINE.match(body[index]):
        return body[:index] + rewrite(body[index:])
    name, _, line = body[index][2:].rstrip().partition(" ")
    call = f"get_ipython().run_cell_magic({name!r}, {line.strip()!r}, {''.join(body[index + 1 :])!r})\n"
    return [*body[:index], call]


def _first_code(lines: list[str]) -> int | None:
    return next((number for number, line in enumerate(lines) if line.strip()), None)


def _is_blank(lines: list[str]) -> bool:
    return all(not line.strip() or line.lstrip().startswith("#") for line in lines)
