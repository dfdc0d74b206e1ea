"""The one boundary between IPython's hooks and our code: nothing that goes wrong here reaches the user's cell.

A hook that raises leaves an error output in the cell, which makes papermill fail the whole run [measured].
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec

logger = logging.getLogger(__name__)

P = ParamSpec("P")
_said: set[str] = set()


def guarded(hook: Callable[P, None]) -> Callable[P, None]:
    """Run the hook; a failure is logged once with its traceback. Ctrl-C in it ends the hook only."""

    @functools.wraps(hook)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except KeyboardInterrupt:
            logger.debug("%s was interrupted", hook.__qualname__)
        except Exception as error:  # boundary
            failure = f"{hook.__qualname__}: {type(error).__name__}"
            if failure not in _said:
                _said.add(failure)
                logger.warning("hh_jupyter failed in %s; the cell is not affected", failure, exc_info=True)

    return run
