"""One running cell, as the hooks know it."""

from __future__ import annotations

import asyncio
import threading
from contextvars import Token
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span

from hh_jupyter.tracing.scope import SCOPE
from hh_jupyter.tracing.session import SessionScope


@dataclass(slots=True, eq=False)
class CellFrame:
    """One running cell.

    Attributes:
        info: IPython's ExecutionInfo of this run.
        key: what its spans carry, unique per run.
        label: the number in `In [4]`.
        outer: not run by another cell's code.
        sessions: scopes entered for this cell, the outermost first.
        runs_in: thread and asyncio task of the cell's own code.
        scoped: its session was chosen in it, and what its code attached ends with it.
        show: how its output is shown, when a magic in it said so.
    """

    info: Any
    key: str
    label: str
    outer: bool
    runs_in: tuple[int, object]
    attached: Context | None = None
    token: Token[Context] | None = None
    frame_token: Token[CellFrame | None] | None = None
    sessions: list[SessionScope] = field(default_factory=list)
    scoped: bool = False
    show: str | None = None

    @property
    def cell_id(self) -> str | None:
        """The id that a notebook front end gave the cell; None in a headless run, and before IPython 8."""
        return getattr(self.info, "cell_id", None)


def in_block(frame: CellFrame) -> bool:
    """A block that the cell's code has entered is open here, and takes the session with it when it ends."""
    context, at_start = otel.get_current(), frame.attached or Context()
    # The scope of `%%hh_session` itself is none: there the cell's own code begins.
    scope = frame.sessions[-1] if frame.sessions else at_start.get(SCOPE)
    return context.get(SCOPE) is not scope or get_current_span(context) is not get_current_span(at_start)


def running() -> tuple[int, object]:
    """The thread and asyncio task that this is called in."""
    try:
        task: object = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident(), task
