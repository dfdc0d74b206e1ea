"""The local trace store: list the sessions in the spool's files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hh_jupyter.delivery.spool.record import SESSION_START, StoredSession

if TYPE_CHECKING:
    from hh_jupyter.delivery.spool.file import SpoolFile


def sessions_of(file: SpoolFile, *, here: bool) -> list[StoredSession]:
    """Return the sessions of one file.

    Args:
        file: the open file.
        here: whether it is this process's own file.
    """
    starts = file.rows("kind = ?", (SESSION_START,))
    names = {start.session_id: _name(start.body) for start in starts}
    return [
        StoredSession(session_id, names.get(session_id), first, last, spans, destination, here)
        for session_id, destination, first, last, spans in file.sessions()
    ]


def _name(body: bytes) -> str | None:
    try:
        name = json.loads(body)["session"]["session_name"]
    except (ValueError, LookupError, TypeError):
        return None
    return name if isinstance(name, str) else None


def merged(rows: Iterable[StoredSession]) -> list[StoredSession]:
    """Merge rows into one for each session and destination, the earliest session first."""
    found: dict[tuple[str, str], StoredSession] = {}
    for row in rows:
        key = row.session_id, row.destination
        other = found.get(key, row)
        found[key] = StoredSession(
            row.session_id,
            other.name or row.name,
            min(other.first, row.first),
            max(other.last, row.last),
            row.spans + (0 if other is row else other.spans),
            row.destination,
            row.here or other.here,
        )
    names = {row.session_id: row.name for row in found.values() if row.name}
    for key, row in found.items():
        if row.name is None and row.session_id in names:  # Its start has, or was sent to, another destination.
            found[key] = StoredSession(
                row.session_id, names[row.session_id], row.first, row.last, row.spans, row.destination, row.here
            )
    return sorted(found.values(), key=lambda row: row.first)
