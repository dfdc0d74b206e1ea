"""Where a setting's value comes from: argument, else trait, else environment, else default.

The table itself is in `hh_jupyter.setting_table`. Nothing is read at import and nothing is cached.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from hh_jupyter.errors import SettingError, SettingTypeError
from hh_jupyter.setting_table import DEFAULTS, LOCAL, TABLE, InForce, Row, Settings

__all__ = ["DEFAULTS", "TABLE", "InForce", "Row", "Settings", "check", "resolve"]

logger = logging.getLogger(__name__)

CONFIG: Final = "%config HHJupyter"
"""Origin of a trait's value."""
SECRET_NOTE: Final = "a hidden value"
_OURS: Final = ("HH_", "HONEYHIVE_")

_said: set[tuple[str, str]] = set()
"""Variables whose bad value was warned about: a notebook resolves its settings again and again."""


def resolve(
    arguments: Mapping[str, Any],
    *,
    traits: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    called: str = "HoneyHiveTracer.init",
) -> Settings:
    """Decide every setting.

    Args:
        arguments: what the caller gave; None means not given.
        traits: values of the notebook's configuration that somebody set.
        environ: default `os.environ`.
        called: the call to name in error messages.

    Raises:
        SettingTypeError: an unknown argument, or one of the wrong type.
        SettingError: an argument whose value its rule forbids. The same mistake in the environment is a warning, and
            what is safe is used (`Row.safe`): who mistypes an address or an off-switch must not be heard elsewhere.
    """
    for name in arguments:
        if name not in TABLE:
            _refuse_unknown(name, called)
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    closed_by: str | None = None
    for name, row in TABLE.items():
        value, origin = _in_code(name, arguments, traits or {}, called)
        if value is None:
            value, origin = _from_environment(name, row, environ)
        if value is LOCAL:
            closed_by, value, origin = origin, None, "default"
        if value is not None:
            values[name] = value
        origins[name] = origin
    if closed_by is not None and not values.get("test_mode"):
        values["test_mode"], origins["test_mode"] = True, closed_by
    return Settings(**values, origins=MappingProxyType(origins))


def check(name: str, value: Any, *, called: str = "HoneyHiveTracer.init") -> Any:
    """`value` in its final form, or the error that tells what is wrong with it.

    Raises:
        SettingTypeError: wrong type.
        SettingError: a value that the rule forbids.
    """
    row = TABLE[name]
    try:
        return row.rule.check(value)
    except (TypeError, ValueError) as error:
        got = f"{_shown(name, value, row)} ({type(value).__name__})"
        text = f"{called}: {name} must be {row.rule.says}; got {got}. {row.help}"
        raise (SettingTypeError if isinstance(error, TypeError) else SettingError)(text) from None


def _refuse_unknown(name: str, called: str) -> None:
    from difflib import get_close_matches

    from hh_jupyter.setting_unused import ARGUMENTS

    if name in ARGUMENTS:
        return
    near = get_close_matches(name, TABLE, n=1)
    hint = f" Did you mean {near[0]}?" if near else " The settings are listed in the README."
    raise SettingTypeError(f"{called}: unknown setting {name}.{hint}")


def _in_code(name: str, arguments: Mapping[str, Any], traits: Mapping[str, Any], called: str) -> tuple[Any, str]:
    """The argument, else the trait; a blank text counts as not given."""
    for origin, given in (("argument", arguments.get(name)), (CONFIG, traits.get(name))):
        value = None if given is None else check(name, given, called=called)
        if value is not None:
            return value, origin
    return None, "default"


def _from_environment(name: str, row: Row, environ: Mapping[str, str]) -> tuple[Any, str]:
    """The first variable of the row that is set and good.

    A bad one of ours is said once; where that is safer (`Row.safe`), it decides, else it is passed over.
    OpenTelemetry's variables may be meant for somebody else: a bad one is no mistake.
    """
    for variable in row.env:
        text = environ.get(variable)
        if text is None or not text.strip():
            continue
        try:
            value = row.rule.parse(text.strip())
        except (TypeError, ValueError):
            if variable.startswith(_OURS):
                _warn(variable, text, name, row)
                if row.safe is not None:
                    return row.safe, variable
            continue
        if value is not None:
            return value, variable
    return None, "default"


def _warn(variable: str, text: str, name: str, row: Row) -> None:
    if (variable, text) in _said:
        return
    _said.add((variable, text))
    then = "The default is used."
    if row.safe is not None:
        then = "To be safe, " + ("nothing is sent (local mode)." if row.safe is LOCAL else f"{name} is {row.safe}.")
    logger.warning("%s must be %s; got %s. %s", variable, row.rule.says, _shown(variable, text, row), then)


def _shown(name: str, value: Any, row: Row) -> str:
    """The value, unless it is a secret or looks like one: keys are easily pasted into the wrong place."""
    if row.secret:
        return SECRET_NOTE
    from hh_jupyter.redaction import shown

    return shown(name, value)
