"""What a deviation is, and those that many cases share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Deviation:
    """An allowed difference.

    Attributes:
        what: a line of `tests.contract.comparison.differences`; `*` stands for any text, `{a|b}` for one of several.
        reason: what a user gains by it.
        always: False: it depends on timing and need not occur.
    """

    what: str
    reason: str
    always: bool = True

    def allows(self, difference: str) -> bool:
        """Whether the difference is the one this deviation is about."""
        pattern = re.escape(self.what).replace(r"\*", ".*")
        pattern = re.sub(r"\\\{(.*?)\\\}", lambda match: "(?:" + match[1].replace(r"\|", "|") + ")", pattern)
        return re.fullmatch(pattern, difference, re.DOTALL) is not None


OWN_ID: Final = Deviation(
    "call POST /session/start: body.session.session_id: absent -> *",
    "Session ids are drawn here and sent along, so that nobody waits for the backend to learn one.",
)
NO_ECHO: Final = Deviation(
    "span *: attributes.honeyhive_metadata."
    "{event_type|event_name|source|project|session_id|user_id|session_name}: * -> absent",
    "The parameters of @trace are fields of their own; repeated as metadata they are noise on every span.",
)
ONE_EVENT: Final = Deviation("span *: events.1.*: * -> absent", "An exception is recorded once.")
NO_ESCAPED: Final = Deviation(
    'span *: events.0.attributes.exception.escaped: "False" -> absent',
    "OpenTelemetry's conventions have deprecated exception.escaped.",
)
NO_TWIN: Final = Deviation("span *_error: missing", "A failed function is one span, not a second one beside it.")
NO_NAME_IN_BAGGAGE: Final = "The name of a session stays out of the baggage, which travels to other services."
TRACE_MOVES: Final = "session_id=, project= and source= of @trace decide where its span is filed."
EVENT_ID: Final = Deviation(
    "call POST /events: body.event.event_id: absent -> *", "The id of an event is made here too, and returned at once."
)
TRIED_AGAIN: Final = Deviation("call POST /session/start: unexpected", "A start that fails is tried again.")
