"""Messages of instrumentors that leave them out by default: captured by those that `%hh instrument` switches on."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from importlib.util import find_spec

from hh_jupyter.conventions import capture
from hh_jupyter.settings import Settings


class ContentCapture:
    """Holds the environment variable that OpenTelemetry's official instrumentors read while one of them is on here.

    It must stay as long as they are on: some read it at each call. A value of the user's own is never changed.

    Args:
        environ: the variables.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._ours: str | None = None
        self._names: set[str] = set()

    def switch_on(self, name: str, module: str, settings: Settings) -> None:
        """Set the variable for the instrumentor of this library, if it reads it and nobody has set it.

        Not where the settings say that inputs or outputs are not captured: the variable knows both or none.

        Args:
            name: of the library.
            module: of the instrumentor.
        """
        value = _value(module)
        if value is None or not (settings.capture_inputs and settings.capture_outputs):
            return
        if capture.VARIABLE not in self._environ:
            self._environ[capture.VARIABLE] = self._ours = value
        if self._ours is not None:
            self._names.add(name)

    def switch_off(self, name: str) -> None:
        """The instrumentor of this library is off: after the last one the variable is as it was."""
        self._names.discard(name)
        if self._ours is not None and not self._names:
            if self._environ.get(capture.VARIABLE) == self._ours:
                del self._environ[capture.VARIABLE]
            self._ours = None


def _value(module: str) -> str | None:
    value = capture.value_for(module)
    return capture.SPAN_ONLY if value == capture.TRUE and _writes_todays(module) else value


def _writes_todays(module: str) -> bool:
    """Whether an instrumentor that can write both conventions will write today's, as the common library decides."""
    if module.startswith("opentelemetry.instrumentation.botocore") or find_spec("opentelemetry.util.genai") is None:
        return False
    from opentelemetry.util.genai.utils import is_experimental_mode

    return bool(is_experimental_mode())
