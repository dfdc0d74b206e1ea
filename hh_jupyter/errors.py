"""What can be wrong, as exceptions.

    HHError
    ├── SettingError (also ValueError)       a setting has a value that its rule forbids
    │   └── SettingTypeError (also TypeError)  a setting is unknown, or has the wrong type
    └── BackendError                         a question to the backend got no usable answer

Tracing raises for mistakes in the caller's own code only. Trouble with the network, the backend or the disk never does:
it is counted, shown by `%hh` and logged under the logger `hh_jupyter`. `BackendError` is for the few calls that have
nothing to return without an answer: `evaluate`, which makes a run, and `get_run_result`.
"""

from __future__ import annotations


class HHError(Exception):
    """Base of every exception that this package raises."""


class SettingError(HHError, ValueError):
    """A setting or an argument has a value that its rule forbids. The text names it, the value and the rule."""


class SettingTypeError(SettingError, TypeError):
    """A setting or an argument has the wrong type, or no such setting exists."""


class BackendError(HHError):
    """A question to the backend got no usable answer. The text names the call, the host and what came instead.

    Attributes:
        status: the HTTP status that was answered; None when nothing was.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status
