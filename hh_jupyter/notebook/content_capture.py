"""Lets instrumentors that leave messages out by default capture them, while `%hh instrument` has switched them on."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from importlib.util import find_spec

from hh_jupyter.conventions import capture
from hh_jupyter.settings import Settings


class ContentCapture:
    """Sets the environment variable that OpenTelemetry's official instrumentors read, as long as one of them is on.

    Some read it at each call, so it stays until the last one is off. A value of the user's own is never changed.

    Args:
        environ: the variables.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._ours: str | None = None
        self._names: set[str] = set()

    def switch_on(self, name: str, module: str, settings: Settings) -> None:
        """Set the variable if this library's instrumentor reads it and it is not set yet.

        It captures inputs and outputs together, so it is not set where the settings switch either of them off.

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
        """Note that the instrumentor of this library is off; after the last one, restore the variable."""
        self._names.discard(name)
        if self._ours is not None and not self._names:
            if self._environ.get(capture.VARIABLE) == self._ours:
                del self._environ[capture.VARIABLE]
            self._ours = None


def _value(module: str) -> str | None:
    value = capture.value_for(module)
    return capture.SPAN_ONLY if value == capture.TRUE and _writes_todays(module) else value


def _writes_todays(module: str) -> bool:
    """Whether an instrumentor that knows both conventions writes today's; `opentelemetry.util.genai` decides."""
    if module.startswith("opentelemetry.instrumentation.botocore") or find_spec("opentelemetry.util.genai") is None:
        return False
    from opentelemetry.util.genai.utils import is_experimental_mode

    return bool(is_experimental_mode())
