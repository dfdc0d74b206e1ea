"""Span and trace ids that `random.seed(...)` in a user's program does not repeat."""

from __future__ import annotations

import os
import random
from typing import Final

from opentelemetry.sdk.trace.id_generator import IdGenerator

# One for all providers: a hook that runs after a fork stays for the life of the process, and holds what it calls.
_random: Final = random.Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


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
