"""The entry point of the startup file that `python -m hh_jupyter enable` writes.

Startup files outlive the version that wrote them and import `start` from this module: keep its name and place.
"""

from __future__ import annotations

from typing import Any

from hh_jupyter.notebook import extension


def start(shell: Any) -> None:
    """Load the extension silently and leave OpenTelemetry's global provider unset."""
    extension.load(shell, quiet=True, set_global=False)
