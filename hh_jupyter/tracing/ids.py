"""Random ids: those of spans and traces, and UUIDs. `random.seed(...)` in a user's program does not repeat them."""

from __future__ import annotations

import os
import random
import uuid
from typing import Final

from opentelemetry.sdk.trace.id_generator import IdGenerator

UUID_BYTES: Final = 16
DRAWN_AT_ONCE: Final = 256
"""UUIDs for which the system is asked once: it answers without the interpreter's lock, which a busy thread then has."""

# One for all providers: a hook that runs after a fork stays for the life of the process, and holds what it calls.
_random: Final = random.Random()
_drawn: Final[list[bytes]] = []


def random_uuid() -> str:
    """The text of a UUID (version 4), as `uuid.uuid4` makes it, without asking the system each time."""
    while True:
        try:
            return str(uuid.UUID(bytes=_drawn.pop(), version=4))
        except IndexError:  # Nothing left, or another thread took what this one has drawn.
            drawn = os.urandom(DRAWN_AT_ONCE * UUID_BYTES)
            _drawn.extend(drawn[start : start + UUID_BYTES] for start in range(0, len(drawn), UUID_BYTES))


def _after_fork_in_child() -> None:
    """The parent goes on with the same numbers."""
    _random.seed()
    _drawn.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class PrivateIds(IdGenerator):
    """Random ids from a generator of our own; OpenTelemetry's draws from the global one, which experiments seed."""

    def generate_span_id(self) -> int:
        """64 bits, never 0."""
        return _random.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        """128 bits, never 0."""
        return _random.getrandbits(128) or 1

    def is_trace_id_random(self) -> bool:
        """True: the flag of W3C trace context, level 2."""
        return True
