"""The session in baggage, and whose it is: a tracer of another backend must not file its spans under it.

Baggage is one for all tracers of a process, and it travels to other services; whose session stands in it is noted
beside it, under a key of our own that never leaves the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, cast

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from hh_jupyter import attributes as keys
from hh_jupyter.delivery.sealing.stamp import Session

# Baggage is an immutable mapping under this key; `baggage.get_all` would wrap it once more for every span.
_BAGGAGE: Final = baggage._BAGGAGE_KEY
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_OWNER: Final = otel_context.create_key("hh_jupyter-session-owner")
SESSION_KEYS: Final = (keys.BAGGAGE_SESSION_ID, keys.BAGGAGE_PROJECT, keys.BAGGAGE_SOURCE)
"""In the order in which they stand in headers."""


class Owner(Protocol):
    """Whoever makes sessions; `address` is where they are registered."""

    @property
    def address(self) -> object: ...


class _Owned(NamedTuple):
    """Whose session is in force, and what the others last had: one entry for each, so that it stays small."""

    owner: Owner
    session_id: str
    others: tuple[tuple[Owner | None, Mapping[str, object]], ...]


def with_session_baggage(session: Session, owner: Owner, context: Context | None = None) -> Context:
    """`context` (default: the current one) in which spans belong to `session`; an outer session's source ends here."""
    context = otel_context.get_current() if context is None else context
    others = _others(context, owner)
    context = baggage.set_baggage(keys.BAGGAGE_SESSION_ID, session.id, context)
    for key, value in ((keys.BAGGAGE_SOURCE, session.source), (keys.BAGGAGE_PROJECT, session.project)):
        if value:
            context = baggage.set_baggage(key, value, context)
        elif baggage.get_baggage(key, context) is not None:
            context = baggage.remove_baggage(key, context)
    return otel_context.set_value(_OWNER, _Owned(owner, session.id, others), context)


def moved(context: Context, entries: Mapping[str, str]) -> Context:
    """`context` with these entries; into another session, the source and project of the one in force do not come."""
    to, session = entries.get(keys.BAGGAGE_SESSION_ID), baggage.get_baggage(keys.BAGGAGE_SESSION_ID, context)
    if to is not None and session is not None and to != session:
        for key in (keys.BAGGAGE_SOURCE, keys.BAGGAGE_PROJECT):
            context = baggage.remove_baggage(key, context)
    for key, value in entries.items():
        context = baggage.set_baggage(key, value, context)
    return context


def entries_for(owner: Owner, context: Context) -> Mapping[str, object]:
    """The baggage as one tracer sees it: without a session that was made for another backend."""
    entries = cast("Mapping[str, object]", context.get(_BAGGAGE, _NOTHING))
    owned = cast("_Owned | None", context.get(_OWNER))
    if owned is None or owned.owner is owner:  # Asked for every span: the usual answers come first.
        return entries
    if owned.session_id != entries.get(keys.BAGGAGE_SESSION_ID):
        return entries  # Set by hand, or by a request, since then.
    if owned.owner.address == owner.address:
        return entries
    seen = {key: value for key, value in entries.items() if key not in SESSION_KEYS}
    for other, own in reversed(owned.others):
        if other is None or other is owner or other.address == owner.address:
            return {**seen, **own}
    return seen


def restored(current: Context, before: Context) -> Context:
    """`current` with the session, and nothing else, as it was in `before`."""
    for key in SESSION_KEYS:
        value = baggage.get_baggage(key, before)
        current = baggage.remove_baggage(key, current) if value is None else baggage.set_baggage(key, value, current)
    return otel_context.set_value(_OWNER, before.get(_OWNER), current)


def _others(context: Context, owner: Owner) -> tuple[tuple[Owner | None, Mapping[str, object]], ...]:
    """What every other tracer has in `context`; under None, what came in with a request or was set by hand."""
    entries = cast("Mapping[str, object]", context.get(_BAGGAGE, _NOTHING))
    session = {key: entries[key] for key in SESSION_KEYS if key in entries}
    owned = cast("_Owned | None", context.get(_OWNER))
    if owned is None or owned.session_id != entries.get(keys.BAGGAGE_SESSION_ID):
        return ((None, session),) if session else ()
    kept = tuple(pair for pair in owned.others if pair[0] is not owner and pair[0] is not owned.owner)
    return kept if owned.owner is owner else (*kept, (owned.owner, session))
