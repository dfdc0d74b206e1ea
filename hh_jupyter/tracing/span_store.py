"""The span records of this process and their content, shared by all tracers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from hh_jupyter.export.store import BodyStore
from hh_jupyter.records.log import SpanLog

if TYPE_CHECKING:
    from hh_jupyter.records.record import SpanRecord


class Selected(NamedTuple):
    """Spans that a text selects.

    Attributes:
        title: what was selected. Examples: "run 4", "refund-triage #2".
        label: selects it again in a command; empty if no command does.
    """

    records: Sequence[SpanRecord]
    title: str
    label: str = ""


MAX_RECORDS: Final = 2_000
MAX_DETAIL_BYTES: Final = 4 * 1024 * 1024
NOTEBOOK_MAX_RECORDS: Final = 20_000
NOTEBOOK_MAX_DETAIL_BYTES: Final = 32 * 1024 * 1024

_log = SpanLog(MAX_RECORDS)
_details = BodyStore(MAX_DETAIL_BYTES)
_log.load_details = _details.load
_titles: Callable[[], Mapping[str, str]] = dict
_selector: Callable[[str], Selected] | None = None


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


def selector() -> Callable[[str], Selected] | None:
    """Returns the spans that a text selects, as the commands of the notebook do; None in a program."""
    return _selector


def set_selector(select: Callable[[str], Selected] | None) -> None:
    """Set the function that selects spans by text; it raises SelectionError. None removes it."""
    global _selector
    _selector = select


def raise_limits_for_notebook() -> None:
    """Raise the limits, so that a user who scrolls back in a notebook still finds the spans of earlier cells."""
    _log.resize(NOTEBOOK_MAX_RECORDS)
    _details.max_bytes = NOTEBOOK_MAX_DETAIL_BYTES
