"""The settings of a notebook: traitlets, the kernel's own choices, and the login.

One trait for each row of the settings table that has one; secrets have none, because `%config` prints values.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import logging
import os
import secrets
import stat
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from IPython.core.error import StdinNotImplementedError, UsageError
from traitlets import TraitError, TraitType
from traitlets.config import Config, Configurable

from hh_jupyter.errors import SettingError
from hh_jupyter.notebook.parser import Given
from hh_jupyter.notebook.sessions import Made
from hh_jupyter.notebook.status import load_line
from hh_jupyter.settings import CONFIG, DEFAULTS, TABLE, SettingRow, Settings, check, resolve
from hh_jupyter.tracing.tracer import HoneyHiveTracer

FILE: Final = "configuration file"
COMMAND_LINE: Final = "command line"

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    _Trait = TraitType[Any, Any]
else:
    _Trait = TraitType  # Not generic before traitlets 5.10.


class SettingTrait(_Trait):
    """A trait whose rule is the row's rule."""

    def __init__(self, row: SettingRow, default: Any) -> None:
        super().__init__(default_value=default, allow_none=default is None, help=row.help, config=True)
        self.rule = row.rule
        self.info_text = row.rule.expected

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


# `%hh login`: a key that is typed nowhere where it could be read again, for this kernel or kept in a file.

ORIGIN: Final = "%hh login"
SAVED_ORIGIN: Final = "saved login"
COLAB_NAME: Final = "HH_API_KEY"
PROMPT: Final = "HoneyHive API key: "
OTHERS: Final = 0o077
"""Bits of a file's mode that let other users read or write it."""


class Login:
    """The keys that were given to `%hh login` in this kernel or, saved, in an earlier one. Never shown.

    Each is for one address. A key that was typed beats every other but one that `init` is given; a saved one is used
    where no other is given.
    """

    def __init__(self) -> None:
        self._typed: dict[str, str] = {}
        self._saved: Mapping[str, str] = {}

    def load(self) -> None:
        """Read what was saved."""
        self._saved = _read(key_file())

    def take(self, key: str, server_url: str) -> None:
        """Use this key for this address from now on."""
        self._typed[server_url] = key

    def keep(self, settings: Settings) -> Path:
        """Save the key of these settings, for their address.

        Raises:
            UsageError: the file cannot be written.
        """
        path = key_file()
        kept = {**_read(path), settings.server_url: settings.api_key}
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(kept, file)
            draft.replace(path)
        except OSError as error:
            raise UsageError(f"%hh login: {path} cannot be written ({error.strerror or error}).") from None
        return path

    def forget(self) -> Path | None:
        """Delete what was saved; the file, or None if there was none. This kernel goes on with its key.

        Raises:
            UsageError: the file cannot be deleted.
        """
        path = key_file()
        try:
            path.unlink()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"%hh login: {path} cannot be deleted ({error.strerror or error}).") from None
        return path

    def applied_to(self, settings: Settings) -> Settings:
        """The same settings with the key of the login, where it counts."""
        typed = self._typed.get(settings.server_url)
        if typed is not None:
            given = settings.origins.get("api_key") == "argument"
            return settings if given else _with_key(settings, typed, ORIGIN)
        saved = self._saved.get(settings.server_url)
        return settings if saved is None or settings.sending_key else _with_key(settings, saved, SAVED_ORIGIN)


def log_in(given: Given, login: Login, tracer: HoneyHiveTracer, use_key: Callable[[str], None]) -> str:
    """Ask for a key and send with it from now on; what was made in local mode stays.

    Args:
        given: `--save`, `--forget` or nothing.
        login: of this kernel.
        tracer: of this kernel.
        use_key: makes a key the one to send with.

    Returns:
        what holds now, one line or two.

    Raises:
        UsageError: nobody to ask, no key, or a file that cannot be written.
    """
    if len(given.options) > 1:
        raise UsageError("%hh login: one of --save and --forget only.")
    if "--forget" in given:
        path = login.forget()
        return "hh: no key is saved." if path is None else f"hh: {path} is deleted. This kernel goes on with its key."
    before = tracer.export_state()
    use_key(ask_key())
    said = [load_line(tracer.settings, tracer.destination, tracer.session_name, shows_only=tracer.left_to_others)]
    if before.destination is None and before.made and tracer.destination is not None:
        said.append("  What was made before stays on this machine; %hh send SESSION sends it, %hh sessions lists it.")
    if "--save" in given:
        said.append(f"  The key for {tracer.server_url} is kept in {login.keep(tracer.settings)}.")
    return "\n".join(said)


def ask_key() -> str:
    """The key: Colab's secret of that name, else what is typed at a prompt that shows nothing.

    Raises:
        UsageError: nobody can be asked, or what was given is no key.
    """
    key = _colab_secret() or _prompted()
    if not key.strip():
        raise UsageError("%hh login: no key was given, nothing is changed.")
    try:
        return str(check("api_key", key.strip(), called="%hh login"))
    except SettingError as error:
        raise UsageError(str(error)) from None


def key_file() -> Path:
    """Where `--save` keeps keys: the user's configuration folder (XDG base directories)."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    base = given if given.startswith("/") else os.path.expanduser("~/.config")  # noqa: PTH111  # Must not raise.
    return Path(base) / "hh_jupyter" / "key"


def _colab_secret() -> str | None:
    try:
        from google.colab import userdata  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    try:
        return str(userdata.get(COLAB_NAME) or "")
    except Exception:  # boundary: no such secret, no access to it, or no answer; each has an exception of Colab's own
        logger.debug("Colab gave no secret %s", COLAB_NAME, exc_info=True)
        return None


def _prompted() -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # It would show what is typed.
            return getpass.getpass(PROMPT)
    except (StdinNotImplementedError, getpass.GetPassWarning, EOFError):
        text = "nobody can be asked for a key here. Set HH_API_KEY before the kernel starts"
        raise UsageError(f"%hh login: {text}, or run %hh login --save once in a notebook or terminal.") from None


def _read(path: Path) -> dict[str, str]:
    """Keys by address; empty if there is no such file, or none that is this user's alone."""
    try:
        about = path.stat()
        if os.name == "posix" and (about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & OTHERS):
            logger.warning("%s is not used: others can read it. Delete it, or chmod 600 it.", path)
            return {}
        found: Any = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        logger.warning("%s cannot be read and is not used.", path)
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {address: key for address, key in pairs if isinstance(key, str)}


def _with_key(settings: Settings, key: str, origin: str) -> Settings:
    return dataclasses.replace(settings, api_key=key, origins={**settings.origins, "api_key": origin})


# What was chosen in a kernel stays from one load of the extension to the next.


@dataclass(slots=True)
class Memory:
    """`%reload_ext` brings new code, and is no reason to ask for a key again.

    Attributes:
        login: the keys that were typed.
        arguments: what `HoneyHiveTracer.init` was given.
        traits: those that were set while the kernel ran.
        made: the sessions that were made, of which there are still spans to show.
    """

    login: Login = field(default_factory=Login)
    arguments: dict[str, Any] = field(default_factory=dict)
    traits: dict[str, Any] = field(default_factory=dict)
    made: Made = field(default_factory=Made)


_of_shell: WeakKeyDictionary[Any, Memory] = WeakKeyDictionary()


def memory_of(shell: Any) -> Memory:
    """The memory of the kernel with this shell."""
    return _of_shell.setdefault(shell, Memory())


# The settings of the kernel's tracer: what `init` was given, `%config`, magics, logins, and the environment.

_ADDRESS: Final = ("api_key", "ingestion_api_key", "server_url", "test_mode")
_ENCODED: Final = tuple(os.environ.encodekey(variable) for row in TABLE.values() for variable in row.env)


class KernelSettings:
    """Makes them from their sources, and applies them when one of these changes.

    Args:
        config: the traits.
        memory: what was chosen in this kernel before.

    Attributes:
        tracer: the kernel's; whoever makes it sets it.
    """

    tracer: HoneyHiveTracer

    def __init__(self, config: HHJupyter, memory: Memory) -> None:
        self._config, self._memory, self._login = config, memory, memory.login
        self._seen = (_environ(), config.given())
        self._initialised = bool(memory.arguments)

    def first(self) -> Settings:
        """Those to make a tracer with."""
        self._login.load()
        return self._of(self._memory.arguments)

    def _of(self, arguments: dict[str, Any], called: str = "hh_jupyter") -> Settings:
        settings = self._login.applied_to(resolve(arguments, traits=self._config.given(), called=called))
        settings = dataclasses.replace(settings, origins=self._config.exact(settings.origins))
        # A kernel is killed more often than it ends: here what waits is kept on disk unless somebody says no.
        return settings if settings.spool is not None else dataclasses.replace(settings, spool=True)

    def _arguments(self) -> dict[str, Any]:
        """What `init` was given in this kernel; it stays in force over traits and environment."""
        now = self.tracer.settings
        return {name: getattr(now, name) for name, origin in now.origins.items() if origin == "argument"}

    def remember(self) -> None:
        """Note what was chosen, for the next load."""
        self._memory.arguments = self._arguments()
        self._memory.traits = self._config.chosen()

    def adopt(self, arguments: dict[str, Any]) -> HoneyHiveTracer | None:
        """`HoneyHiveTracer.init(...)` in this kernel: its settings are the kernel's tracer's from now on.

        None for a second call that names another key or address: that is a tracer of its own.
        """
        if not any(arguments.get(name) is not None for name in _ADDRESS):
            arguments = {**self._arguments(), **arguments}
        settings = self._of(arguments, called="HoneyHiveTracer.init")
        now = self.tracer.settings
        same = (settings.sending_key, settings.server_url) == (now.sending_key, now.server_url)
        # A key that was wrong, or came late, is corrected; one that was in use is another tracer's business.
        in_use = self._initialised and self.tracer.export_state().sent > 0
        if self.tracer.closed or (in_use and not same):
            return None
        self._initialised = True
        self.tracer.configure(settings)
        self.tracer.span_source.become_global()
        return self.tracer

    def set_trait(self, name: str, value: Any) -> None:
        """Set one by a magic: it beats what `init` was given before."""
        self._config.set(name, value)
        self.apply_changes(chosen=name)

    def log_in(self, key: str) -> None:
        """Use a key that was typed: it beats that of `init`, too."""
        self._login.take(key, self.tracer.settings.server_url)
        arguments = self._arguments()
        arguments.pop("api_key", None)
        self.tracer.configure(self._of(arguments))

    def apply_changes(self, chosen: str | None = None) -> None:
        """Apply traits and `HH_*` variables that changed since the last cell to the tracer.

        Compared instead of observed: setting a trait to its default is no change, and yet beats a variable.

        Args:
            chosen: a setting that was given just now.
        """
        seen = (_environ(), self._config.given())
        if seen == self._seen and chosen is None:
            return
        self._seen = seen
        arguments = self._arguments()
        arguments.pop(chosen or "", None)
        self.tracer.configure(self._of(arguments))


def _environ() -> tuple[object, ...]:
    """The variables of the settings as they stand in the environment, only to be compared.

    Read before every cell. `os.environ.get` encodes the name and catches an error for each that is not set: 90 us for
    all of them, against 3 us from the dict behind it [measured].
    """
    return tuple(map(os.environ._data.get, _ENCODED))  # type: ignore[attr-defined]
