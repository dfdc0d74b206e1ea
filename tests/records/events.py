"""A span event made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NamedEvent:
    name: str
    timestamp: int = 0
    attributes: Mapping[str, Any] | None = None
