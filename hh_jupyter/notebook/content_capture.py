"""Makes instrumentors that omit messages by default capture them while `%hh instrument` has them switched on."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from importlib.util import find_spec

from hh_jupyter.conventions import capture
from hh_jupyter.settings import Settings


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
        if capture.VARIABLE not in self._environ:
            self._environ[capture.VARIABLE] = self._value_set = value
        if self._value_set is not None:
            self._names.add(name)

    def switch_off(self, name: str) -> None:
        """Record that the instrumentor of this library is off; after the last one, remove the variable."""
        self._names.discard(name)
        if self._value_set is not None and not self._names:
            if self._environ.get(capture.VARIABLE) == self._value_set:
                del self._environ[capture.VARIABLE]
            self._value_set = None


def _value_for(module: str) -> str | None:
    value = capture.value_for(module)
    return capture.SPAN_ONLY if value == capture.TRUE and _uses_current_conventions(module) else value


def _uses_current_conventions(module: str) -> bool:
    """Whether an instrumentor that supports both conventions writes the current one: `util.genai` decides."""
    if module.startswith("opentelemetry.instrumentation.botocore") or find_spec("opentelemetry.util.genai") is None:
        return False
    from opentelemetry.util.genai.utils import is_experimental_mode

    return bool(is_experimental_mode())
