"""Recordings that sum their requests up instead of holding them: the same sums of a replay.

Each name below is an observation of such a recording, made of its span exports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hh_jupyter.testing import ReceivedRequest
from hh_jupyter.testing.responses import TRACES

INTERVAL_SECONDS = 5
LATEST_SECONDS = 6.4
"""Up to here a busy machine is the reason for a late export; the recorded process ends only after it."""


def summarised(recorded: Mapping[str, Any], requests: Sequence[ReceivedRequest]) -> dict[str, Any]:
    """The recorded sums, of these requests; empty for a recording without any."""
    return {name: make(requests) for name, make in SUMS.items() if name in recorded}


def _exports(requests: Sequence[ReceivedRequest]) -> list[ReceivedRequest]:
    return [request for request in requests if request.path == TRACES and request.accepted]


def _sizes(requests: Sequence[ReceivedRequest]) -> list[int]:
    return sorted(len(export.body) for export in _exports(requests))


def _total(requests: Sequence[ReceivedRequest]) -> int:
    """Spans that arrived, each counted once."""
    return len({span["span_id"] for export in _exports(requests) for span in export.body})


def _attribute_counts(requests: Sequence[ReceivedRequest]) -> dict[str, int]:
    return {span["name"]: len(span["attributes"]) for export in _exports(requests) for span in export.body}


def _seconds_to_first(requests: Sequence[ReceivedRequest]) -> float:
    """Seconds between the end of the first span and its arrival."""
    export = _exports(requests)[0]
    seconds = export.received - export.body[0]["end_ns"] / 1e9
    return INTERVAL_SECONDS if INTERVAL_SECONDS - 0.5 < seconds < LATEST_SECONDS else round(seconds, 1)


SUMS: Mapping[str, Callable[[Sequence[ReceivedRequest]], Any]] = {
    "batch_sizes_sorted": _sizes,
    "total": _total,
    "exported_attribute_counts": _attribute_counts,
    "exported_after_seconds": _seconds_to_first,
    "exports": lambda requests: len(_exports(requests)),
}
