"""Which session, run or cell is meant: one set of rules for `spans()`, `%hh`, `--join`, `SpanView` and `compare_runs`.

A session or run is given by its title (`refund-triage #3`), its name, which several may have, its id, or the beginning
of its id. A cell is given by its number or as "last". Where both are possible, as for `%hh show`, `4` is the cell; only
if that cell has no spans, it is a session or the beginning of its id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Protocol, TypeVar

ALL: Final = "all"
"""Every span, session or run of this process."""

BACKGROUND: Final = "background"
"""The spans outside any cell."""

LAST: Final = "last"
"""The last cell with spans, or the latest session."""

SHORTEST_PREFIX: Final = 4
MAX_LISTED: Final = 8
"""Titles or ids in a message; the latest ones."""


class Named(Protocol):
    """A session or run.

    Attributes:
        id: in lower case.
        names: the title first, which only this one has; then what else it is called.
    """

    @property
    def id(self) -> str: ...
    @property
    def names(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A session or run, where there is no other object for it."""

    id: str
    names: tuple[str, ...]


N = TypeVar("N", bound=Named)


class SelectionError(ValueError):
    """Nothing, or more than one thing, is meant. Callers put before the message what was called."""


def matching(text: str, known: Iterable[N]) -> list[N]:
    """Return those with this title or name; if there are none, those whose id begins with the text."""
    known = list(known)
    # The title of the first of a name has no number; accept "#1" for it.
    if (first := text.removesuffix(" #1")) != text and (found := [one for one in known if one.names[:1] == (first,)]):
        return found
    if found := [one for one in known if text in one.names]:
        return found
    prefix = text.lower()
    return [one for one in known if one.id.startswith(prefix)] if len(text) >= SHORTEST_PREFIX else []


def choose(text: str, known: Iterable[N], shown: Callable[[str], str]) -> list[N]:
    """Return the sessions that are meant, at least one. Several if they have this name.

    Args:
        text: what the user typed.
        known: the latest last.
        shown: makes a title fit for a message.

    Raises:
        SelectionError: there is none, or an id prefix matches several.
    """
    known = list(known)
    found = matching(text, known)
    if len(found) == 1 or any(text in one.names for one in found):
        return found
    if found:
        ids = ", ".join(one.id for one in found[-MAX_LISTED:])
        raise SelectionError(f"ambiguous session id prefix {text} ({len(found)} matches): {ids}.")
    titles = dict.fromkeys(shown(one.names[0]) for one in known if one.names and one.names[0] not in ("", "-"))
    hint = did_you_mean(text, [*titles][-MAX_LISTED:]) if titles else "This kernel has no sessions with spans yet."
    raise SelectionError(f"no session {text}. {hint}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint of a message about an unknown word: the most similar known one, or all of them."""
    known = tuple(known)
    similar = get_close_matches(word, known, n=1)
    return f"Did you mean {similar[0]}?" if similar else f"Known: {', '.join(known)}."


def latest_run(cell: int | str, keys: Iterable[str]) -> str | None:
    """Return the key of the latest run of a cell, given by its number or as "last"; None if no key is of this cell.

    Args:
        cell: the number, or "last".
        keys: the keys of runs, the latest last.
    """
    found = [key for key in keys if cell == LAST or cell_number(key) == str(cell)]
    return found[-1] if found else None


def cell_number(key: str) -> str:
    """Return the number of the cell in the key of its run."""
    return key.rpartition("-")[0]


def no_cell(cell: str, numbers: Sequence[str]) -> str:
    """Return the message about a cell that has no spans; the numbers are those of cells that have."""
    known = f"Cells with spans: {', '.join(numbers)}." if numbers else "No cell has spans yet."
    return f"no spans for {'any cell' if cell == LAST else f'cell {cell}'}. {known}"
