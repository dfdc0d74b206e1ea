"""What `verbose` does: this package's debug lines on standard error."""

from __future__ import annotations

import logging
from typing import Final

_logger: Final = logging.getLogger("hh_jupyter")
_handler: Final = logging.StreamHandler()
_handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))


def set_verbose(verbose: bool) -> None:
    """Write debug lines to standard error, or stop doing so; handlers of the program's own are left alone."""
    if verbose:
        _logger.addHandler(_handler)  # A second time does nothing.
        _logger.setLevel(logging.DEBUG)
    elif _handler in _logger.handlers:
        _logger.removeHandler(_handler)
        _logger.setLevel(logging.NOTSET)
