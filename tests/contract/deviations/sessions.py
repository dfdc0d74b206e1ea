"""Sessions and events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.contract.deviations.rows import (
    EVENT_ID,
    NO_ECHO,
    NO_NAME_IN_BAGGAGE,
    OWN_ID,
    TRACE_MOVES,
    TRIED_AGAIN,
    Deviation,
)

BY_SOURCE: Final = "The source of a session is the source of its spans."
RESTORED: Final = "with_session restores the session of before: nested, after the block, after an exception."
NEW_SESSION: Final = "session_start() begins a session: its id is returned, and spans are in it."

DEVIATIONS: Final[Mapping[str, tuple[Deviation, ...]]] = {
    "acreate_session_tasks": (OWN_ID, NO_ECHO),
    "create_event": (
        OWN_ID,
        EVENT_ID,
    ),
    "create_session_full": (
        OWN_ID,
        Deviation('span after: attributes.*.source: "dev" -> "prod"', BY_SOURCE),
    ),
    "create_session_link": (
        OWN_ID,
        Deviation("span in {linked|odd}: attributes.baggage.session_name: * -> absent", NO_NAME_IN_BAGGAGE),
        Deviation("observed: name_in_baggage: * -> null", NO_NAME_IN_BAGGAGE),
        Deviation(
            '{span in odd: attributes.*.session_id|observed: not_validated}: "not a uuid" -> "<id in *>"',
            "An id that is no UUID becomes a name-based one: the backend files under UUIDs only.",
        ),
    ),
    "enrich_session_bad_values": (
        OWN_ID,
        Deviation(
            "call PUT /events: unexpected",
            "What can be sent is sent: dates, sets and objects as text, others under `value`.",
        ),
    ),
    "enrich_session_fields": (OWN_ID,),
    "session_precedence": (
        OWN_ID,
        NO_ECHO,
        Deviation(
            "{span decorated: attributes.honeyhive_outputs.result|observed: decorated_sets_session_baggage}: "
            "true -> false",
            "A decorated function leaves the baggage as it is.",
        ),
        Deviation(
            "span explicit: attributes.{honeyhive.session_id|traceloop.association.properties.session_id|"
            "honeyhive_session_id}: *",
            TRACE_MOVES,
        ),
    ),
    "session_response_minimal": (
        OWN_ID,
        Deviation(
            'span work: attributes.*.session_id: "<id in span work *>" -> "<session again>"',
            "An answer that holds the id and nothing else is an answer.",
        ),
        Deviation('observed: session_id: "<id in span work *>" -> "<session small answer>"', "The same."),
        Deviation('observed: create_session: null -> "<session again>"', "The same."),
    ),
    "session_response_other_id": (
        Deviation(
            "observed: {init_kept|create_session_kept}: false -> true",
            "The caller keeps the id that it asked for; what it sends goes to the session that the backend answered.",
        ),
    ),
    "session_start_failure": (
        OWN_ID,
        TRIED_AGAIN,
        Deviation(
            'observed: {create_session|acreate_session|with_session}: null -> "<id in *>"',
            "Sessions are made locally: whatever the backend answers, the caller is in the session it asked for.",
        ),
        Deviation(
            'observed: session_id: "<id in span inside *>" -> "<id in observed session_id>"',
            "So the span inside of with_session is not in the start-up session.",
        ),
    ),
    "session_start_method": (
        OWN_ID,
        # Which of the two is the second depends on which arrived first.
        Deviation("span work: attributes.*.session_id: *", NEW_SESSION, always=False),
        Deviation("observed: {returns_old_id|session_id_unchanged}: true -> false", NEW_SESSION),
    ),
    "session_threads": (OWN_ID,),
    "with_session_scope": (
        OWN_ID,
        Deviation('span {in outer|back in outer}: attributes.*.source: "dev" -> "qa"', BY_SOURCE),
        Deviation('span back in outer: attributes.*.session_id: "<session inner>" -> "<session outer>"', RESTORED),
        Deviation(
            'span after {both|exception}: attributes.*.session_id: "<session {inner|failing}>" -> "<session startup>"',
            RESTORED,
        ),
        Deviation(
            "observed: {after_inner_is_outer: false -> true|after_exception_is_failing: true -> false}", RESTORED
        ),
        Deviation('observed: after_outer_baggage: "<session inner>" -> null', RESTORED),
    ),
}
