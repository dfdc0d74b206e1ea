"""What `verbose` does: this package's debug lines on standard error."""

from __future__ import annotations

import logging

_logger = logging.getLogger("hh_jupyter")


class _DebugHandler(logging.StreamHandler):  # type: ignore[type-arg]  # The stream is the standard error of the moment.
    """Ours, told from handlers of the program by its class."""


def set_verbose(verbose: bool) -> None:
    """Write debug lines to standard error, or stop doing so; handlers of the program's own are left alone."""
    ours = [handler for handler in _logger.handlers if isinstance(handler, _DebugHandler)]
    if verbose and not ours:
        handler = _DebugHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        _logger.addHandler(handler)
        _logger.setLevel(logging.DEBUG)
    elif ours and not verbose:
        _logger.removeHandler(ours[0])
        _logger.setLevel(logging.NOTSET)
