"""This process's rows and details: one log, whichever tracer made the spans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from hh_jupyter.delivery.sealing.details import DetailStore
from hh_jupyter.records.log import SpanLog

ROWS: Final = 2_000
DETAIL_BYTES: Final = 4 * 1024 * 1024
NOTEBOOK_ROWS: Final = 20_000
NOTEBOOK_DETAIL_BYTES: Final = 32 * 1024 * 1024

_log = SpanLog(ROWS)
_details = DetailStore(DETAIL_BYTES)
_log.load_details = _details.load
_titles: Callable[[], Mapping[str, str]] = dict


def span_log() -> SpanLog:
    """Rows of the spans of this process; details on demand."""
    return _log


def detail_store() -> DetailStore:
    """The bodies that the log's details are read from."""
    return _details


def session_titles() -> Mapping[str, str]:
    """How sessions are called, by id: those that a notebook made."""
    return _titles()


def set_session_titles(titles: Callable[[], Mapping[str, str]] | None) -> None:
    """Give the sessions' titles by id; None: there are none."""
    global _titles
    _titles = titles or dict


def raise_limits_for_notebook() -> None:
    """Keep as much as somebody who scrolls back in a notebook may ask for."""
    _log.resize(NOTEBOOK_ROWS)
    _details.max_bytes = NOTEBOOK_DETAIL_BYTES
