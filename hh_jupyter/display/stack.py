"""Python stack traces as text: the user's own frames apart from those of libraries."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FRAME = re.compile(r'^  File "(?P<file>[^"\n]+)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE)
_LIBRARY = re.compile(
    r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib[/\\]python\d|^<frozen |[/\\]Lib[/\\](?!site)"
    r"|[/\\]hh_jupyter[/\\](?:tracing|experiments|notebook)[/\\]"
)
_CELL = re.compile(r"[/\\]ipykernel_\d+[/\\]|^<ipython-input-")
MOST_FRAMES = 60


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack trace in two lengths, outermost frame first.

    Attributes:
        own: frames of user code, as `payments.py:41  in post_refund` and the line of code; empty without any.
        full: the whole text, as recorded.
        library_frames: how many frames `own` leaves out.
    """

    own: str
    full: str
    library_frames: int


def read_stack(text: str) -> Stack:
    """Take a printed Python traceback apart. Of chained ones the last counts, since that is what left the span."""
    last = text.rpartition("Traceback (most recent call last):")[2]
    frames = list(_FRAME.finditer(last))[-MOST_FRAMES:]
    own = [frame for frame in frames if not _LIBRARY.search(frame["file"])]
    places = [_place(frame) for frame in own]
    width = max((len(place) for place in places), default=0)
    lines = []
    for frame, place in zip(own, places, strict=True):
        lines.append(f"{place:<{width}}  in {frame['function']}")
        code = last[frame.end() :].lstrip("\n").partition("\n")[0]
        if code.startswith("    "):
            lines.append(f"    {code.strip()}")
    return Stack("\n".join(lines), text.strip(), len(frames) - len(own))


def _place(frame: re.Match[str]) -> str:
    """`payments.py:41`; a notebook cell has a made-up file name that says nothing."""
    file = "cell" if _CELL.search(frame["file"]) else re.split(r"[/\\]", frame["file"])[-1]
    return f"{file}:{frame['line']}"
