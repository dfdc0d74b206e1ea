"""A global provider that somebody sets after ours: ours gives way, instead of having OpenTelemetry refuse theirs.

OpenTelemetry takes a global provider once and drops the next with a warning. In a notebook the next one is what the
user asked for, Logfire's or Phoenix's, and libraries that trace with the global provider belong to it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from opentelemetry import trace as otel_trace

from hh_jupyter.tracing.provider import is_ours


class Yielding:
    """A wrapper of `set_tracer_provider`: installed once, inert after `remove` even where somebody wrapped it in turn.

    Args:
        joined: called when another provider has become the global one.
    """

    def __init__(self, joined: Callable[[], None]) -> None:
        self._joined = joined
        self._active = False

    def install(self) -> None:
        """Wrap it."""
        self._active = True
        original = self._original = otel_trace.set_tracer_provider

        @functools.wraps(original)
        def set_tracer_provider(tracer_provider: otel_trace.TracerProvider) -> None:
            if self._active and is_ours(otel_trace.get_tracer_provider()) and not is_ours(tracer_provider):
                # There is no public way; where OpenTelemetry keeps it elsewhere, theirs is refused as it would be.
                vars(otel_trace).update(_TRACER_PROVIDER=tracer_provider)
            else:
                original(tracer_provider)
            if self._active:
                self._joined()

        self._ours = set_tracer_provider
        otel_trace.set_tracer_provider = set_tracer_provider

    def remove(self) -> None:
        """Put the original back where nobody else has wrapped ours."""
        self._active = False
        if otel_trace.set_tracer_provider is self._ours:
            otel_trace.set_tracer_provider = self._original
