"""The span records of this process and their content, shared by all tracers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from hh_jupyter.export.store import BodyStore
from hh_jupyter.records.log import SpanLog

MAX_RECORDS: Final = 2_000
MAX_DETAIL_BYTES: Final = 4 * 1024 * 1024
NOTEBOOK_MAX_RECORDS: Final = 20_000
NOTEBOOK_MAX_DETAIL_BYTES: Final = 32 * 1024 * 1024

_log = SpanLog(MAX_RECORDS)
_details = BodyStore(MAX_DETAIL_BYTES)
_log.load_details = _details.load
_titles: Callable[[], Mapping[str, str]] = dict


def span_log() -> SpanLog:
    """The log of span records of this process; it loads their details on demand."""
    return _log


def detail_store() -> BodyStore:
    """The encoded spans from which the log loads its details."""
    return _details


def session_titles() -> Mapping[str, str]:
    """Display names of the sessions that the notebook created, by session id."""
    return _titles()


def set_session_titles(titles: Callable[[], Mapping[str, str]] | None) -> None:
    """Set the function that returns the session titles by id; None removes it."""
    global _titles
    _titles = titles or dict


def raise_limits_for_notebook() -> None:
    """Raise the limits, so that a user who scrolls back in a notebook still finds the spans of earlier cells."""
    _log.resize(NOTEBOOK_MAX_RECORDS)
    _details.max_bytes = NOTEBOOK_MAX_DETAIL_BYTES
