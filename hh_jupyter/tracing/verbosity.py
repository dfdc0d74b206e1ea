"""What `verbose` does: this package's debug lines on standard error, while any tracer asks for them."""

from __future__ import annotations

import logging

_logger = logging.getLogger("hh_jupyter")


class _DebugHandler(logging.StreamHandler):  # type: ignore[type-arg]  # The stream is the standard error of the moment.
    """Ours, told from handlers of the program by its class."""


_asking: set[int] = set()


def set_verbose(tracer: object, verbose: bool) -> None:
    """Write debug lines to standard error, or stop when nobody asks any more.

    Handlers of the program's own are left alone.
    """
    (_asking.add if verbose else _asking.discard)(id(tracer))
    ours = [handler for handler in _logger.handlers if isinstance(handler, _DebugHandler)]
    if _asking and not ours:
        handler = _DebugHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        _logger.addHandler(handler)
        _logger.setLevel(logging.DEBUG)
    elif ours and not _asking:
        _logger.removeHandler(ours[0])
        _logger.setLevel(logging.NOTSET)
