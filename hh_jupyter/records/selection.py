"""Which session, run or cell is meant: one set of rules for `spans()`, `%hh`, `--join`, `SpanView` and `compare_runs`.

A session or run is given by its title (`refund-triage #3`), its name, which several may have, its id, the beginning of
its id, or the text from which the id was derived. A cell is given by its number or as "last". Where both are possible,
as for `%hh show`, `4` is the cell; only if that cell has no spans, it is a session or the beginning of its id.

As in git, `~` goes back: `4~1`, or `4~`, is the run of the same cell before its run with the number 4, and
`refund-triage~2` is the session two before the latest one of this name.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Protocol, TypeVar

from hh_jupyter.values import valid_utf8

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
    """Return those with this title or name; else those whose id begins with it, or was derived from it."""
    known = list(known)
    # The title of the first of a name has no number; accept "#1" for it.
    if (first := text.removesuffix(" #1")) != text and (found := [one for one in known if one.names[:1] == (first,)]):
        return found
    if found := [one for one in known if text in one.names]:
        return found
    prefix = text.lower()
    if len(text) >= SHORTEST_PREFIX and (found := [one for one in known if one.id.startswith(prefix)]):
        return found
    derived = derived_id(text)
    return [one for one in known if one.id == derived]


def derived_id(text: str) -> str:
    """Return the session id for a text that is not a UUID: a UUID v5, the same in every service."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"honeyhive-session:{valid_utf8(text)}"))


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
    name, back = steps_back(text)
    if name != text and not found:
        return [_earlier(choose(name, known, shown)[-1], back, known, shown)]
    if len(found) == 1 or any(text in one.names for one in found):
        return found
    if found:
        ids = ", ".join(one.id for one in found[-MAX_LISTED:])
        raise SelectionError(f"ambiguous session id prefix {text} ({len(found)} matches): {ids}.")
    titles = dict.fromkeys(shown(one.names[0]) for one in known if one.names and one.names[0] not in ("", "-"))
    hint = did_you_mean(text, titles, MAX_LISTED) if titles else "This kernel has no sessions with spans yet."
    raise SelectionError(f"no session {text}. {hint}")


def _earlier(latest: N, back: int, known: Sequence[N], shown: Callable[[str], str]) -> N:
    """Return the session of the same name so many before this one."""
    same = [one for one in known if one.names[-1:] == latest.names[-1:]] if latest.names[-1:] else [latest]
    place = same.index(latest)
    if place < back:
        name = shown((latest.id, *latest.names)[-1])
        earlier = (
            f"there are {place} earlier sessions" if place > 1 else f"there is {('no', 'one')[place]} earlier session"
        )
        raise SelectionError(f"no session {name}~{back}: {earlier} of this name.")
    return same[place - back]


def steps_back(text: str) -> tuple[str, int]:
    """Split `4~2` into `4` and 2; `4~` means `4~1`. The number is 0 for a text that does not end like this."""
    match = _BACK.fullmatch(text)
    return (match["text"], int(match["steps"] or 1)) if match else (text, 0)


_BACK: Final = re.compile(r"(?P<text>.+)~(?P<steps>[0-9]{0,4})", re.DOTALL)


def did_you_mean(word: str, known: Iterable[str], listed: int | None = None) -> str:
    """The hint of a message about an unknown word: the most similar known one, or the last `listed`; None for all."""
    known = tuple(known)
    similar = get_close_matches(word, known, n=1)
    return f"Did you mean {similar[0]}?" if similar else f"Known: {', '.join(known[-listed:] if listed else known)}."


# Runs of cells. The key of a run is recorded with its spans, and stored with them: `4-5f3a0c91d2e4b687-9b1c03aa` is the
# number of the cell, a digest of its id in the notebook, by which its runs are found again, and a random part. Calls
# of a run that were made again with changes are no part of it: their key has `.v1`, `.v2` behind that of the run.

MAX_RUNS: Final = 20
"""Runs of a cell that commands can go back to; the latest ones."""

_KERNEL: Final = secrets.token_bytes(16)


def run_key(number: str, cell_id: str | None) -> str:
    """Make the key of a new run of a cell.

    Args:
        number: of the cell.
        cell_id: the cell's id in the notebook, if known. A URL, as VS Code has it, may name another cell when the
            notebook is opened again, so its digest is valid in this kernel only.
    """
    digest = ""
    if cell_id is not None:
        kernel = _KERNEL if ":" in cell_id else b""
        digest = hashlib.blake2s(cell_id.encode("utf-8", "replace"), digest_size=8, key=kernel).hexdigest()
    return f"{number}-{digest}-{secrets.token_hex(4)}"


def cell_number(key: str) -> str:
    """Return the number of the cell in the key of its run."""
    return key.partition("-")[0]


def cell_of(key: str) -> str:
    """Return the digest of the cell in the key of its run; empty if the cell's id is not known."""
    return key.partition("-")[2].rpartition("-")[0]


def variant_key(run: str, number: int) -> str:
    """Make the key of a call of a run that is made again with changes.

    Args:
        run: key of the run.
        number: counts the variants of the run, from 1.
    """
    return f"{run}.v{number}"


def run_of_variant(key: str) -> str | None:
    """Return the key of the run to which a variant belongs; None if the key is that of a run."""
    run, separator, _ = key.partition(".v")
    return run if separator else None


def latest_run(cell: int | str, keys: Iterable[str], same_cell: Callable[[str], str] = cell_of) -> str | None:
    """Return the key of the run that is meant: the latest of a cell, or with `~` an earlier one; None if there is none.

    Args:
        cell: the number, or "last", with or without `~1` behind it.
        keys: the keys of runs, the latest last.
        same_cell: returns what the runs of one cell have in common; empty if that is not known of a run.
    """
    number, back = steps_back(str(cell))
    keys = [key for key in keys if run_of_variant(key) is None]
    found = [key for key in keys if number == LAST or cell_number(key) == number]
    if not found or not back:
        return found[-1] if found else None
    runs = runs_until(found[-1], keys, same_cell)
    return runs[-1 - back] if back < len(runs) else None


def runs_until(key: str, keys: Iterable[str], same_cell: Callable[[str], str] = cell_of) -> list[str]:
    """Return the keys of the runs of a cell up to this one, at most `MAX_RUNS`; see `latest_run`."""
    cell = same_cell(key)
    keys = [one for one in keys if run_of_variant(one) is None]
    runs = [one for one in keys if one == key or (cell and same_cell(one) == cell)]
    return runs[: runs.index(key) + 1][-MAX_RUNS:] if key in runs else [key]


def no_cell(cell: str, numbers: Sequence[str]) -> str:
    """Return the message about a cell that has no spans; the numbers are those of cells that have."""
    known = f"Cells with spans: {', '.join(numbers)}." if numbers else "No cell has spans yet."
    return f"no spans for {'any cell' if cell == LAST else f'cell {cell}'}. {known}"


def no_run(cell: str, runs: int) -> str:
    """Return the message about a run of a cell that is not known.

    Args:
        cell: what was typed. Example: "4~5".
        runs: number of the known runs up to the one that `~` counts from.
    """
    number, _ = steps_back(cell)
    if runs == 1:
        return f"no run {cell}: the cell was run once with spans."
    known = [number, *(f"{number}~{back}" for back in range(1, runs))]
    shown = known if runs <= 4 else [*known[:2], "...", known[-1]]
    return f"no run {cell}. Known: {', '.join(shown)}."
