"""Whose code is calling: the start-up session is named after it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Final

_PACKAGE: Final = str(Path(__file__).resolve().parent.parent)


def calling_file() -> str:
    """Name, without `.py`, of the file of the nearest frame outside this package; "notebook" for a cell's code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    if frame is None:
        return "unknown"
    path = Path(frame.f_code.co_filename)
    # A kernel compiles cells under made-up names: "<ipython-input-...>", "/tmp/ipykernel_123/456.py".
    if path.name.startswith("<") or path.parent.name.startswith("ipykernel_"):
        return "notebook"
    return path.stem
