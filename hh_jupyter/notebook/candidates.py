"""The words that Tab can offer now: sessions, cells, libraries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from hh_jupyter.notebook.instrument import Instrumentors
from hh_jupyter.notebook.magic_table import LISTED_WORDS, Kind
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.sessions import Sessions
from hh_jupyter.notebook.stored_sessions import SHORT_ID, SessionStore

EXPANDED: Final = frozenset("{}$\n")
"""Marks in a title that would not be read as they stand."""


class WordsOfKind:
    """Tells the words that a kind has now, the likeliest first.

    Args:
        sessions, store, outputs, instrumentors: what they come from.
    """

    def __init__(self, sessions: Sessions, store: SessionStore, outputs: Outputs, instrumentors: Instrumentors) -> None:
        self._sessions, self._store = sessions, store
        self._outputs, self._instrumentors = outputs, instrumentors

    def __call__(self, kind: Kind) -> Iterable[str]:
        """Words of this kind."""
        if kind is Kind.JOINED:
            return ("last", *_named(reversed(self._sessions.made.items())))
        if kind is Kind.SESSION:
            return (*self._titles(), "all")
        if kind is Kind.CELL_SESSION_OR_FILE:
            return ("last", *reversed(self._outputs.cells.labels()), *self._titles(), "all", "background")
        if kind is Kind.LIBRARY:
            return self._instrumentors.known()
        return LISTED_WORDS.get(kind, ())

    def _titles(self) -> Iterator[str]:
        return _named((session.id, session.title) for session in reversed(self._store.all()))


def _named(sessions: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Each session's title if it is the only one that has it and can be typed, else the beginning of its id."""
    seen: set[str] = set()
    for session_id, title in sessions:
        unclear = title in seen or title in ("-", "") or EXPANDED & set(title)
        yield session_id[:SHORT_ID] if unclear else title
        seen.add(title)
