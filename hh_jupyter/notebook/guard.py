"""The one boundary between IPython's hooks and our code: nothing that goes wrong here reaches the user's cell.

A hook that raises leaves an error output in the cell, which makes papermill fail the whole run [measured]. What failed
is kept, each failure once, and told by `%hh`.
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

MOST_FAILURES: Final = 20
"""Different failures that are kept; a fault of ours has a few."""

_failures: Counter[str] = Counter()


def guarded(hook: Callable[P, None]) -> Callable[P, None]:
    """Run the hook; a failure is noted. Ctrl-C in it ends the hook only."""

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
    """Run what changes a value of IPython's; if it fails, the value stays as it is, and the failure is noted."""

    @functools.wraps(function)
    def run(value: T) -> T:
        try:
            return function(value)
        except Exception as error:  # boundary
            note_failure(function.__qualname__, error)
            return value

    return run


def note_failure(what: str, error: Exception) -> None:
    """Keep a failure of ours for `%hh`. Where it happened, not its text: that may quote anything.

    Args:
        what: name of the function that failed.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f", {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    failure = f"{what} ({type(error).__name__}{place})"
    if failure in _failures or len(_failures) < MOST_FAILURES:
        _failures[failure] += 1
    logger.debug("hh_jupyter failed in %s; the cell is not affected", failure, exc_info=error)


def failure_lines() -> list[str]:
    """What failed so far, one sentence for each kind; empty, as it should be, when nothing did."""
    return [
        f"hh_jupyter failed in {failure}{f', {number} times' if number > 1 else ''}; your cells are not affected"
        for failure, number in _failures.items()
    ]
