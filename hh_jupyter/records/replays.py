"""Answers that came from a recording, so that the spans of their calls can be found by the response id."""

from __future__ import annotations

from typing import Final

from hh_jupyter.threads import evict_oldest

_MOST_IDS: Final = 4096
_MOST_TIMES: Final = 64

_replays: dict[str, list[tuple[int, int]]] = {}


def note(response_id: str, time_ns: int, ms: int) -> None:
    """Remember an answer.

    Args:
        response_id: the provider's id in the answer; the original call has the same.
        time_ns: when it was given, in Unix nanoseconds.
        ms: how long the original took, in milliseconds.
    """
    times = _replays.setdefault(response_id, [])
    times.append((time_ns, ms))
    del times[:-_MOST_TIMES]
    evict_oldest(_replays, _MOST_IDS)


def find(response_id: str | None, start_ns: int | None, end_ns: int | None) -> int | None:
    """How long the original of a replayed call took, in milliseconds; None if the call was not replayed.

    Args:
        response_id: of the call.
        start_ns: start of its span; a span of the original call has ended before the answer was given again.
        end_ns: end of its span.
    """
    if not _replays or response_id is None:
        return None
    start, end = start_ns or 0, end_ns or 0
    return next((ms for time_ns, ms in _replays.get(response_id, ()) if start <= time_ns <= end), None)
