"""The setting that makes OpenTelemetry's official instrumentors capture messages, which they omit by default."""

from __future__ import annotations

from typing import Final

VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""Environment variable. Instrumentors read it when they are enabled, some of them again at each call."""

SPAN_ONLY: Final = "SPAN_ONLY"
"""Value for instrumentors of today's conventions: content goes on the span, not into logs."""
TRUE: Final = "true"
"""Value for instrumentors of the older conventions, which know only true and false."""

_VALUES: Final = {
    "opentelemetry.util.genai": SPAN_ONLY,
    "opentelemetry.instrumentation.genai": SPAN_ONLY,
    "opentelemetry.instrumentation.openai_v2": TRUE,
    "opentelemetry.instrumentation.google_genai": TRUE,
    "opentelemetry.instrumentation.vertexai": TRUE,
    "opentelemetry.instrumentation.botocore": TRUE,
}
"""Prefix of a span's scope or of the instrumentor's module -> value of `VARIABLE`."""


def value_for(scope: str) -> str | None:
    """The value of `VARIABLE` that makes this instrumentor capture messages; None if it does not read the variable."""
    return next((value for start, value in _VALUES.items() if f"{scope}.".startswith(f"{start}.")), None)
