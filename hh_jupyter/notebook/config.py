"""The traitlets face of the settings: `%config HHJupyter`, `c.HHJupyter.source = "staging"`, `--HHJupyter.source=...`.

One trait for each row of the settings table that has one; secrets have none, because `%config` prints values.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from traitlets import TraitError, TraitType
from traitlets.config import Config, Configurable

from hh_jupyter.settings import CONFIG, DEFAULTS, TABLE, Row

FILE: Final = "configuration file"
COMMAND_LINE: Final = "command line"

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    _Trait = TraitType[Any, Any]
else:
    _Trait = TraitType  # Not generic before traitlets 5.10.


class SettingTrait(_Trait):
    """A trait whose rule is the row's rule."""

    def __init__(self, row: Row, default: Any) -> None:
        super().__init__(default_value=default, allow_none=default is None, help=row.help, config=True)
        self.rule = row.rule
        self.info_text = row.rule.says

    def validate(self, obj: Any, value: Any) -> Any:
        """The value in its final form, else TraitError."""
        try:
            return self.rule.check(value)
        except (TypeError, ValueError):
            self.error(obj, value)

    def from_string(self, s: str) -> Any:
        """A value from the command line, spelled as in the environment."""
        return self.rule.parse(s)


_NAMES = tuple(name for name, row in TABLE.items() if row.trait)
_Metaclass: Any = type(Configurable)
_Traits: Any = _Metaclass(
    "HHJupyter",
    (Configurable,),
    {name: SettingTrait(TABLE[name], DEFAULTS[name]) for name in _NAMES} | {"__module__": __name__},
)


class HHJupyter(_Traits):
    """Settings of hh_jupyter for this IPython; magics' options beat them, environment variables do not."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._at_start: dict[str, Any] = {}
        self._by_command_line: Collection[str] = ()

    def given(self) -> dict[str, Any]:
        """The values that somebody set, by name; defaults are left out, so that the environment can decide those."""
        section = self.config.get("HHJupyter", {})
        return {name: getattr(self, name) for name in _NAMES if name in section}

    def set(self, name: str, value: Any) -> None:
        """Set one trait as `%config HHJupyter.name = value` does.

        Raises:
            TraitError: the value breaks the setting's rule.
        """
        self.update_config(Config({"HHJupyter": {name: value}}))

    def chosen(self) -> dict[str, Any]:
        """What was set while the kernel ran; the rest of `given` was there before."""
        at_start = self._at_start
        return {name: value for name, value in self.given().items() if name not in at_start or at_start[name] != value}

    def exact(self, origins: Mapping[str, str]) -> Mapping[str, str]:
        """The same origins; but of the traits, those that were set before the kernel ran come from elsewhere."""
        chosen = self.chosen()
        before = {name for name, origin in origins.items() if origin == CONFIG and name not in chosen}
        return {**origins, **{name: COMMAND_LINE if name in self._by_command_line else FILE for name in before}}

    def start(self, shell: Any, earlier: Mapping[str, Any]) -> None:
        """Take what is set now as what was set before the kernel ran, but for `earlier`, which is set again."""
        self._at_start = {name: value for name, value in self.given().items() if name not in earlier}
        self._by_command_line = _command_line(shell)
        for name, value in earlier.items():
            self.set(name, value)


def configured(shell: Any, earlier: Mapping[str, Any] = MappingProxyType({})) -> HHJupyter:
    """The configuration object of this shell.

    Args:
        shell: the InteractiveShell.
        earlier: traits that were set in an earlier load, while the kernel ran. IPython keeps those of `%config` only.
    """
    made = _configured(shell)
    made.start(shell, earlier)
    return made


def _configured(shell: Any) -> HHJupyter:
    """A value refused by `%config` stays in the shell's config and would make every later load fail [measured]: such
    values are named in one warning each and passed over.
    """
    try:
        return HHJupyter(parent=shell)
    except TraitError:
        pass
    config = Config({"HHJupyter": {}})
    for name, value in shell.config.HHJupyter.items():
        try:
            HHJupyter(config=Config({"HHJupyter": {name: value}}))
        except TraitError as error:
            logger.warning("%s The setting is not used.", error)
        else:
            config.HHJupyter[name] = value
    return HHJupyter(config=config)


def _command_line(shell: Any) -> Collection[str]:
    """Names of the settings that the command line gave."""
    app = shell
    while app is not None and not hasattr(app, "cli_config"):
        app = getattr(app, "parent", None)  # A kernel stands between its shell and the application.
    return frozenset(app.cli_config.get("HHJupyter", ())) if app is not None else frozenset()
