"""The stamp: context that the processor records at span start and the sealer adds to our copy after the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.sdk.trace import Event

from hh_jupyter import attributes as keys
from hh_jupyter.delivery.sending.target import Target

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan


class Session(NamedTuple):
    """A session, which groups the spans of one conversation or run.

    Attributes:
        id: UUID in lower case.
        source: the environment it ran in, if given for this session; its spans carry it.
        project: the project, if given for this session; its spans carry it.
        auto: the session was not registered; its spans ask the backend to create it when they arrive.
    """

    id: str
    name: str
    source: str | None = None
    project: str | None = None
    auto: bool = False


class Stamp(NamedTuple):
    """The context of a span, recorded at its start.

    A tuple, because one is created for every span on the caller's thread.

    Attributes:
        baggage: all baggage of the context in which the span started; an entry overrides the session's own value.
        session: the tracer's session at span start.
        cell: id of the notebook cell's run; None outside cells.
        parent_id: span id of the nearest ancestor that the filters keep; None for a root.
        by_others: destinations that other exporters of the span's provider send it to. Set at span end.
        events: events of the span that arrived as log records, in addition to its own events. Set at span end.
    """

    baggage: Mapping[str, object]
    session: Session | None
    cell: str | None
    parent_id: int | None
    by_others: tuple[Target, ...] = ()
    events: tuple[Event, ...] = ()


class LateEvent(NamedTuple):
    """An event that arrived after its span ended."""

    trace_id: int
    span_id: int
    event: Event


_OWN_BAGGAGE = frozenset(
    {
        keys.BAGGAGE_SESSION_ID,
        keys.BAGGAGE_PROJECT,
        keys.BAGGAGE_SOURCE,
        keys.BAGGAGE_PARENT_ID,
        keys.BAGGAGE_FOREIGN,
        *keys.BAGGAGE_RUN_KEYS,
    }
)
_TWICE = (
    (keys.SESSION_ID, keys.ASSOCIATION_PREFIX + keys.BAGGAGE_SESSION_ID),
    (keys.PROJECT, keys.ASSOCIATION_PREFIX + keys.BAGGAGE_PROJECT),
    (keys.SOURCE, keys.ASSOCIATION_PREFIX + keys.BAGGAGE_SOURCE),
    (keys.PARENT_ID, keys.ASSOCIATION_PREFIX + keys.BAGGAGE_PARENT_ID),
)


def session_id_of(stamp: Stamp) -> str | None:
    """Return the session id of a span. Baggage overrides the tracer's session (tests/contract/README.md, section 6)."""
    found = stamp.baggage.get(keys.BAGGAGE_SESSION_ID)
    return str(found) if found else (stamp.session.id if stamp.session else None)


def stamped_attributes(stamp: Stamp, run_ids: Mapping[str, str]) -> dict[str, Any]:
    """Return the attributes that every span carries (tests/contract/README.md, section 3).

    Args:
        stamp: stamp of the span.
        run_ids: the tracer's experiment ids by baggage key; baggage overrides them.
    """
    baggage, session = stamp.baggage, stamp.session
    session_id = session_id_of(stamp)
    values: tuple[object, ...] = (session_id, None, None, baggage.get(keys.BAGGAGE_PARENT_ID))
    if session_id:
        own = session if session is not None else Session("", "")
        project = baggage.get(keys.BAGGAGE_PROJECT) or own.project
        values = (session_id, project, baggage.get(keys.BAGGAGE_SOURCE) or own.source, values[3])
    found: dict[str, Any] = {}
    for (key, twin), value in zip(_TWICE, values, strict=True):
        if value:
            found[key] = found[twin] = str(value)
    if session is not None and session.auto and session_id == session.id:
        found[keys.SESSION_AUTO_CREATE], found[keys.AUTO_SESSION_NAME] = True, session.name
    for name in keys.BAGGAGE_RUN_KEYS:
        value = baggage.get(name) or run_ids.get(name)
        if value:
            found[f"{keys.METADATA}.{name}"] = str(value)
    if len(baggage) > 1 or (baggage and keys.BAGGAGE_SESSION_ID not in baggage):
        found.update({keys.BAGGAGE_PREFIX + k: str(v) for k, v in baggage.items() if k not in _OWN_BAGGAGE})
    return found


class EndedSpan(NamedTuple):
    """An ended span and its stamp."""

    span: ReadableSpan
    stamp: Stamp
