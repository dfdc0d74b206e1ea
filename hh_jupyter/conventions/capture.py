"""The variable with which OpenTelemetry's official instrumentors, which omit messages by default, capture them."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from importlib.util import find_spec
from typing import Final

from hh_jupyter.settings import Settings

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


class ContentCapture:
    """Sets the environment variable of OpenTelemetry's official instrumentors while one of them is on.

    Some instrumentors read it at each call; it stays set until the last one is off. A value set by the user is kept.

    Args:
        environ: the environment variables.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._value_set: str | None = None
        self._names: set[str] = set()

    def switch_on(self, name: str, module: str, settings: Settings) -> None:
        """Set the variable if this instrumentor reads it and it is not set yet.

        The variable captures inputs and outputs together; it is not set if the settings exclude either of them.

        Args:
            name: of the library.
            module: of the instrumentor.
            settings: of the tracer.
        """
        value = _value_for(module)
        if value is None or not (settings.capture_inputs and settings.capture_outputs):
            return
        if VARIABLE not in self._environ:
            self._environ[VARIABLE] = self._value_set = value
        if self._value_set is not None:
            self._names.add(name)

    def switch_off(self, name: str) -> None:
        """Record that the instrumentor of this library is off; after the last one, remove the variable."""
        self._names.discard(name)
        if self._value_set is not None and not self._names:
            if self._environ.get(VARIABLE) == self._value_set:
                del self._environ[VARIABLE]
            self._value_set = None


def _value_for(module: str) -> str | None:
    value = value_for(module)
    return SPAN_ONLY if value == TRUE and _uses_current_conventions(module) else value


def _uses_current_conventions(module: str) -> bool:
    """Whether an instrumentor that supports both conventions writes the current one: `util.genai` decides."""
    if module.startswith("opentelemetry.instrumentation.botocore") or find_spec("opentelemetry.util.genai") is None:
        return False
    from opentelemetry.util.genai.utils import is_experimental_mode

    return bool(is_experimental_mode())
