"""What can be wrong, as exceptions.

    HHError
    └── SettingError (also ValueError)       a setting has a value that its rule forbids
        └── SettingTypeError (also TypeError)  a setting is unknown, or has the wrong type

Only mistakes in the caller's own code raise. Trouble with the network, the backend or the disk never does: it is
counted, shown by `%hh` and logged under the logger `hh_jupyter`.
"""

from __future__ import annotations


class HHError(Exception):
    """Base of every exception that this package raises."""


class SettingError(HHError, ValueError):
    """A setting or an argument has a value that its rule forbids. The text names it, the value and the rule."""


class SettingTypeError(SettingError, TypeError):
    """A setting or an argument has the wrong type, or no such setting exists."""
