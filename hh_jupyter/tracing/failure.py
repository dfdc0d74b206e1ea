"""An exception on a span: recorded once, and left exactly as it was."""

from __future__ import annotations

import logging
import os
import traceback
from pathlib import Path
from types import TracebackType
from typing import Final

from opentelemetry.trace import Span, Status, StatusCode

from hh_jupyter.tracing.serialize import text_of

logger = logging.getLogger(__name__)

_OWN_CODE: Final = f"{Path(__file__).parent}{os.sep}"

MAX_FRAMES: Final = 50
"""Innermost frames of a stack that are written; a recursion error has a thousand equal ones."""


def record_failure(span: Span, error: BaseException, *, event: bool = True, status: bool = True) -> None:
    """Write what OpenTelemetry's semantic conventions for exceptions ask for.

    Args:
        span: still running.
        error: neither its traceback nor its cause is touched.
        event: add the `exception` event.
        status: set the status to ERROR with "Type: message".
    """
    kind = type(error)
    message = text_of(error)
    try:
        _record(span, error, message, event=event)
    except Exception:  # boundary: reading a user's exception may raise; the one that is under way must come through.
        logger.debug("an exception could not be recorded", exc_info=True)
    if status:
        span.set_status(Status(StatusCode.ERROR, f"{kind.__name__}: {message}"))


def _record(span: Span, error: BaseException, message: str, *, event: bool) -> None:
    kind = type(error)
    if event:
        module = kind.__module__
        name = kind.__qualname__ if module in ("builtins", None) else f"{module}.{kind.__qualname__}"
        frames = _without_own(error.__traceback__)
        stack = "".join(traceback.format_exception(kind, error, frames, limit=-MAX_FRAMES))
        span.add_event(
            "exception", {"exception.type": name, "exception.message": message, "exception.stacktrace": stack}
        )


def _without_own(frames: TracebackType | None) -> TracebackType | None:
    """The frames below the decorator's, which the exception passed last; all where there are no others.

    To the reader they are noise, and each costs a tenth of the whole failure.
    """
    inner = frames
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(_OWN_CODE):
        inner = inner.tb_next
    return inner if inner is not None else frames
