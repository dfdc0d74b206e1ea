"""Guards IPython's hooks: an error in our code never reaches the user's cell; `%hh` reports it.

A hook that raises leaves an error output in the cell, and papermill then fails the whole run.
"""

from __future__ import annotations

import functools
import logging
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import PurePath
from typing import Final, ParamSpec, TypeVar

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

MAX_FAILURES: Final = 20
"""The number of different failures that are recorded."""

_failures: Counter[str] = Counter()


def guarded(hook: Callable[P, None]) -> Callable[P, None]:
    """Wrap a hook: an error is recorded instead of raised, and Ctrl-C ends only the hook."""

    @functools.wraps(hook)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except KeyboardInterrupt:
            logger.debug("%s was interrupted", hook.__qualname__)
        except Exception as error:  # boundary
            note_failure(hook.__qualname__, error)

    return run


def guarded_value(function: Callable[[T], T]) -> Callable[[T], T]:
    """Wrap a function that transforms a value: on an error, return the value unchanged and record the failure."""

    @functools.wraps(function)
    def run(value: T) -> T:
        try:
            return function(value)
        except Exception as error:  # boundary
            note_failure(function.__qualname__, error)
            return value

    return run


def note_failure(function: str, error: Exception) -> None:
    """Record a failure for `%hh`, with its type and place but without its message, which may contain secrets.

    Args:
        function: the name of the function that failed.
        error: the exception.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f", {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    failure = f"{function} ({type(error).__name__}{place})"
    if failure in _failures or len(_failures) < MAX_FAILURES:
        _failures[failure] += 1
    logger.debug("hh_jupyter failed in %s; the cell is not affected", failure, exc_info=error)


def failure_lines() -> list[str]:
    """One sentence for each recorded failure."""
    return [
        f"hh_jupyter failed in {failure}{f', {number} times' if number > 1 else ''}; your cells are not affected"
        for failure, number in _failures.items()
    ]
