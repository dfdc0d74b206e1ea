"""Recordings that sum their requests up instead of holding them: the same sums of a replay.

Each name below is an observation of such a recording, made of its span exports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.backend_answers import TRACES
from tests.backend_server import Request

INTERVAL_SECONDS = 5
LATEST_SECONDS = 6.4
"""Up to here a busy machine is the reason for a late export; the recorded process ends only after it."""


def summarised(recorded: Mapping[str, Any], requests: Sequence[Request]) -> dict[str, Any]:
    """The recorded sums, of these requests; empty for a recording without any."""
    return {name: make(requests) for name, make in SUMS.items() if name in recorded}


def _exports(requests: Sequence[Request]) -> list[Request]:
    return [request for request in requests if request.path == TRACES and request.accepted]


def _sizes(requests: Sequence[Request]) -> list[int]:
    return sorted(len(export.body) for export in _exports(requests))


def _total(requests: Sequence[Request]) -> int:
    """Spans that arrived, each counted once."""
    return len({span["span_id"] for export in _exports(requests) for span in export.body})


def _attribute_counts(requests: Sequence[Request]) -> dict[str, int]:
    return {span["name"]: len(span["attributes"]) for export in _exports(requests) for span in export.body}


def _seconds_to_first(requests: Sequence[Request]) -> float:
    """Seconds between the end of the first span and its arrival."""
    export = _exports(requests)[0]
    seconds = export.received - export.body[0]["end_ns"] / 1e9
    return INTERVAL_SECONDS if INTERVAL_SECONDS - 0.5 < seconds < LATEST_SECONDS else round(seconds, 1)


SUMS: Mapping[str, Callable[[Sequence[Request]], Any]] = {
    "batch_sizes_sorted": _sizes,
    "total": _total,
    "exported_attribute_counts": _attribute_counts,
    "exported_after_seconds": _seconds_to_first,
    "exports": lambda requests: len(_exports(requests)),
}
