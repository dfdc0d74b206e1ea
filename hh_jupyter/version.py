"""The package's version; the build reads it here. `importlib.metadata` would read it from disk with every start."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.2.0"
