"""How instrumentors are told to capture messages that leave them out by default."""

from __future__ import annotations

from typing import Final

VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""Of OpenTelemetry's official instrumentors. They read it when they are switched on, some again at each call."""

SPAN_ONLY: Final = "SPAN_ONLY"
"""For those that write today's conventions: on the span, in no log record."""
TRUE: Final = "true"
"""For those that write the conventions of before, which know yes and no."""

_VALUES: Final = {
    "opentelemetry.util.genai": SPAN_ONLY,
    "opentelemetry.instrumentation.genai": SPAN_ONLY,
    "opentelemetry.instrumentation.openai_v2": TRUE,
    "opentelemetry.instrumentation.google_genai": TRUE,
    "opentelemetry.instrumentation.vertexai": TRUE,
    "opentelemetry.instrumentation.botocore": TRUE,
}
"""By the beginning of a span's scope, or of the instrumentor's module."""


def value_for(scope: str) -> str | None:
    """The value of `VARIABLE` with which this instrumentor captures messages; None for one that does not read it."""
    return next((value for start, value in _VALUES.items() if f"{scope}.".startswith(f"{start}.")), None)
