"""An exception on a span: recorded once, and left exactly as it was."""

from __future__ import annotations

import traceback

from opentelemetry.trace import Span, Status, StatusCode

from hh_jupyter.tracing.serialize import text_of

MAX_FRAMES = 50
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
    if event:
        module = kind.__module__
        name = kind.__qualname__ if module in ("builtins", None) else f"{module}.{kind.__qualname__}"
        stack = "".join(traceback.format_exception(kind, error, error.__traceback__, limit=-MAX_FRAMES))
        span.add_event(
            "exception", {"exception.type": name, "exception.message": message, "exception.stacktrace": stack}
        )
    if status:
        span.set_status(Status(StatusCode.ERROR, f"{kind.__name__}: {message}"))
