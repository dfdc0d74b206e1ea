"""The settings of a kernel: `%config HHJupyter` traits, `%hh login`, and their combination with `init` and `HH_*`.

Each row of the settings table that allows it has a trait. Secrets have none, because `%config` prints values.
"""

from __future__ import annotations

import ast
import dataclasses
import getpass
import json
import logging
import os
import re
import secrets
import stat
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from IPython.core.error import StdinNotImplementedError, UsageError
from traitlets import TraitError, TraitType
from traitlets.config import Config, Configurable

from hh_jupyter.display.format import count
from hh_jupyter.errors import SettingError
from hh_jupyter.export.endpoint import HONEYHIVE, endpoints_of, host_of
from hh_jupyter.export.http import KEY_REJECTED, Result
from hh_jupyter.notebook.sessions import SessionHistory
from hh_jupyter.notebook.status import load_line, storage
from hh_jupyter.setting_rules import PATTERNS
from hh_jupyter.settings import (
    CONFIG,
    DEFAULTS,
    TABLE,
    DisplaySettings,
    SettingRow,
    Settings,
    check,
    display_settings,
    resolve,
    resolve_display,
    set_display_settings,
)
from hh_jupyter.tracing.tracer import HoneyHiveTracer

FILE: Final = "configuration file"
COMMAND_LINE: Final = "command line"

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    _Trait = TraitType[Any, Any]
else:
    _Trait = TraitType  # Not generic before traitlets 5.10.


class SettingTrait(_Trait):
    """A trait that is validated by the rule of its row in the settings table."""

    def __init__(self, row: SettingRow, default: Any) -> None:
        super().__init__(default_value=default, allow_none=default is None, help=row.help, config=True)
        self.rule = row.rule
        self.info_text = row.rule.expected

    def validate(self, obj: Any, value: Any) -> Any:
        """Return the normalized value, or raise TraitError."""
        try:
            checked = self.rule.check(value)
        except (TypeError, ValueError):
            self.error(obj, value)
        if self.rule is PATTERNS and (written := _expanded_patterns(obj.parent, checked)):
            raise TraitError(
                f"%config HHJupyter.{self.name}: IPython replaces what is in braces before %config sees it, so that "
                f"{written} would be {list(checked)}. Nothing is changed. Take two lines: patterns = {written}, then "
                f"%config HHJupyter.{self.name} = patterns."
            )
        return checked

    def from_string(self, s: str) -> Any:
        """Parse a value of the command line; the spelling is that of environment variables."""
        return self.rule.parse(s)


_CONFIG_LINE: Final = re.compile(r"^\s*%config\s+HHJupyter\.redact_patterns\s*=\s*(.+)$", re.MULTILINE)


def _expanded_patterns(shell: Any, value: Sequence[str]) -> str | None:
    r"""The list that the running cell gives to `%config`, if IPython has changed it: `\d{8}` becomes `\d8`.

    The changed expression is usually valid, and would hide less than it should. Doubled braces are kept as single ones.
    """
    history = getattr(getattr(shell, "history_manager", None), "input_hist_raw", None) or [""]
    line = _CONFIG_LINE.search(history[-1])
    if line is None:
        return None
    for text in (line[1], line[1].replace("{{", "{").replace("}}", "}")):
        try:
            written = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError):
            return None  # A variable, whose value IPython does not change.
        if list(written) == list(value):
            return None
    return line[1].strip()


_NAMES = tuple(name for name, row in TABLE.items() if row.trait)
_Metaclass: Any = type(Configurable)
_Traits: Any = _Metaclass(
    "HHJupyter",
    (Configurable,),
    {name: SettingTrait(TABLE[name], DEFAULTS[name]) for name in _NAMES} | {"__module__": __name__},
)


class HHJupyter(_Traits):
    """Settings of hh_jupyter for this IPython. They override environment variables; options of magics override them."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._at_start: dict[str, Any] = {}
        self._on_command_line: Collection[str] = ()

    def explicit_values(self) -> dict[str, Any]:
        """The values that were set, by name. Defaults are left out: for those, the environment counts."""
        section = self.config.get("HHJupyter", {})
        return {name: getattr(self, name) for name in _NAMES if name in section}

    def set(self, name: str, value: Any) -> None:
        """Set one trait as `%config HHJupyter.name = value` does.

        Raises:
            TraitError: the value breaks the setting's rule.
        """
        self.update_config(Config({"HHJupyter": {name: value}}))

    def runtime_values(self) -> dict[str, Any]:
        """The values that were set while the kernel ran, as opposed to those of files and the command line."""
        at_start, now = self._at_start, self.explicit_values()
        return {name: value for name, value in now.items() if name not in at_start or at_start[name] != value}

    def precise_origins(self, origins: Mapping[str, str]) -> Mapping[str, str]:
        """Return the origins with `%config` replaced by the file or command line for traits set before the start."""
        at_runtime = self.runtime_values()
        before = {name for name, origin in origins.items() if origin == CONFIG and name not in at_runtime}
        return {**origins, **{name: COMMAND_LINE if name in self._on_command_line else FILE for name in before}}

    def restore(self, shell: Any, runtime_values: Mapping[str, Any]) -> None:
        """Record the values of files and command line, then set again what an earlier load set at run time."""
        self._at_start = {name: value for name, value in self.explicit_values().items() if name not in runtime_values}
        self._on_command_line = _command_line(shell)
        for name, value in runtime_values.items():
            self.set(name, value)


def make_config(shell: Any, runtime_values: Mapping[str, Any] = MappingProxyType({})) -> HHJupyter:
    """Make the configuration object of this shell.

    Args:
        shell: the InteractiveShell.
        runtime_values: traits that an earlier load set while the kernel ran. IPython itself keeps only those that were
            set with `%config`.
    """
    config = _valid_config(shell)
    config.restore(shell, runtime_values)
    return config


def _valid_config(shell: Any) -> HHJupyter:
    """Make the object, with one warning for each invalid value, which is ignored.

    A value that `%config` refused stays in the shell's config, and without this every later load would fail.
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
            logger.warning("%s The setting is ignored.", error)
        else:
            config.HHJupyter[name] = value
    return HHJupyter(config=config)


def _command_line(shell: Any) -> Collection[str]:
    """The names of the settings that were set on the command line."""
    app = shell
    while app is not None and not hasattr(app, "cli_config"):
        app = getattr(app, "parent", None)  # Shell -> kernel -> application.
    return frozenset(app.cli_config.get("HHJupyter", ())) if app is not None else frozenset()


# `%hh login`: asks for an API key without echo, for this kernel or saved in a file.

ORIGIN: Final = "%hh login"
SAVED_ORIGIN: Final = "saved login"
COLAB_NAME: Final = "HH_API_KEY"
PROMPT: Final = "HoneyHive API key: "
CHECK_SECONDS: Final = 2.0
"""Longest wait for the backend's answer to a key."""
OTHER_USERS: Final = 0o077
"""The bits of a file's mode that give other users access."""


class Login:
    """The API keys of `%hh login`, by server URL: typed in this kernel, or saved by an earlier one.

    A typed key overrides all others except an argument of `init`. A saved key is used if there is no other. Keys are
    never shown.
    """

    def __init__(self) -> None:
        self._typed: dict[str, str] = {}
        self._saved: Mapping[str, str] = {}

    def load(self) -> None:
        """Read the saved keys."""
        self._saved = _read(key_file())

    def set_typed_key(self, key: str, server_url: str) -> None:
        """Use this key for this server URL from now on."""
        self._typed[server_url] = key

    def save(self, settings: Settings) -> Path:
        """Save the key of these settings for their server URL, and return the file's path.

        Raises:
            UsageError: the file cannot be written.
        """
        path = key_file()
        keys = {**_read(path), settings.server_url: settings.api_key}
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(keys, file)
            draft.replace(path)
        except OSError as error:
            raise UsageError(f"%hh login: cannot write {path} ({error.strerror or error}).") from None
        return path

    def forget(self) -> Path | None:
        """Delete the saved keys and return the file's path, or None if there was none. This kernel keeps its key.

        Raises:
            UsageError: the file cannot be deleted.
        """
        path = key_file()
        try:
            path.unlink()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"%hh login: cannot delete {path} ({error.strerror or error}).") from None
        return path

    def apply(self, settings: Settings) -> Settings:
        """Return the settings with the key of the login, if it takes precedence."""
        typed = self._typed.get(settings.server_url)
        if typed is not None:
            is_argument = settings.origins.get("api_key") == "argument"
            return settings if is_argument else _with_key(settings, typed, ORIGIN)
        saved = self._saved.get(settings.server_url)
        return settings if saved is None or settings.sending_key else _with_key(settings, saved, SAVED_ORIGIN)


def log_in(
    login: Login,
    tracer: HoneyHiveTracer,
    use_key: Callable[[str], None],
    *,
    save: bool = False,
    forget: bool = False,
) -> str:
    """Ask for a key, ask the backend whether it accepts it, and send with it from now on unless it is rejected.

    Spans of local mode stay on this machine.

    Args:
        login: of this kernel.
        tracer: of this kernel.
        use_key: reconfigures the tracer with a key.
        save: save the key for later kernels.
        forget: only delete the saved keys.

    Returns:
        The lines to print.

    Raises:
        UsageError: the front end cannot prompt, the key is empty or invalid, the backend rejects it, or the file cannot
            be written.
    """
    if save and forget:
        raise UsageError("%hh login: use either --save or --forget, not both.")
    if forget:
        path = login.forget()
        return "hh: no key is saved." if path is None else f"hh: deleted {path}. This kernel keeps using its key."
    key = ask_key()
    found = _checked(_with_key(tracer.settings, key, ORIGIN))
    if found is not None and found.outcome == "key_rejected":
        raise UsageError(f"%hh login: {str(found.reason).partition('. ')[0]}; nothing was changed.")
    before = tracer.export_state()
    use_key(key)
    lines = [_login_line(found, tracer)]
    tracer.wait_processed()
    after = tracer.export_state()
    if found is not None and found.outcome == "sent" and KEY_REJECTED in str(after.reason):
        tracer.send_again()  # The same key, which is accepted now.
    elif after.rejected:
        lines.append(f"  Rejected before: {count(after.rejected, 'span')}. Use %hh send to retry.")
    if before.destination is None and before.made and tracer.destination is not None:
        lines.append(
            "  Earlier spans stay on this machine; %hh sessions lists their sessions, %hh send SESSION sends one."
        )
    if save:
        unchecked = "" if found is not None and found.outcome == "sent" else ", unchecked"
        lines.append(f"  The key for {tracer.server_url} is saved in {login.save(tracer.settings)}{unchecked}.")
    return "\n".join(lines)


def _checked(settings: Settings) -> Result | None:
    """Return what the backend answers to these settings; None if nothing is sent to it."""
    if HONEYHIVE not in endpoints_of(settings):
        return None
    from hh_jupyter.export.backend import check_key

    return check_key(settings, CHECK_SECONDS)


def _login_line(found: Result | None, tracer: HoneyHiveTracer) -> str:
    """Return the line about a key that is in use, and about what the backend answered."""
    line = load_line(
        tracer.settings, tracer.destination, tracer.session_name, exported_elsewhere=tracer.exported_elsewhere
    )
    if found is None or found.outcome == "split":  # The backend was reached, and takes no export without spans.
        return line
    if found.outcome == "sent":
        return f"{line}\n  {host_of(tracer.server_url)} accepts the key."
    where = f"Spans are kept {storage(tracer)} until they can be sent."
    check_url = "" if found.outcome == "retry" else " Check server_url (HH_API_URL)."
    return f"hh: the key is set, but {str(found.reason).rstrip('.')}.{check_url} {where} %hh? for help"


def ask_key() -> str:
    """Return Colab's secret HH_API_KEY if there is one, else ask for the key at a prompt without echo.

    Raises:
        UsageError: the front end cannot prompt, or the input is not a key.
    """
    key = _colab_secret() or _prompted()
    if not key.strip():
        raise UsageError("%hh login: the key is empty; nothing was changed.")
    try:
        return str(check("api_key", key.strip(), called="%hh login"))
    except SettingError as error:
        raise UsageError(str(error)) from None


def key_file() -> Path:
    """The path of the saved keys, in the user's configuration folder."""
    from platformdirs import user_config_path  # Jupyter kernels have imported it already.

    return user_config_path("hh_jupyter", appauthor=False) / "key"


def _colab_secret() -> str | None:
    try:
        from google.colab import userdata  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    try:
        return str(userdata.get(COLAB_NAME) or "")
    except Exception:  # boundary: a missing secret, no access and a timeout each raise an exception of Colab's
        logger.debug("cannot read the Colab secret %s", COLAB_NAME, exc_info=True)
        return None


def _prompted() -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # The input would be visible.
            return getpass.getpass(PROMPT)
    except (StdinNotImplementedError, getpass.GetPassWarning, EOFError):
        text = "this front end cannot prompt for input. Set HH_API_KEY before starting the kernel"
        raise UsageError(f"%hh login: {text}, or run %hh login --save once in a notebook or terminal.") from None


def _read(path: Path) -> dict[str, str]:
    """Read keys by server URL; empty if there is no file, or other users have access to it."""
    try:
        info = path.stat()
        if os.name == "posix" and (info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & OTHER_USERS):
            logger.warning("%s is ignored because other users can access it. Delete it, or run chmod 600 on it.", path)
            return {}
        loaded: Any = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        logger.warning("%s is ignored because it cannot be read.", path)
        return {}
    pairs = loaded.items() if isinstance(loaded, dict) else ()
    return {server_url: key for server_url, key in pairs if isinstance(key, str)}


def _with_key(settings: Settings, key: str, origin: str) -> Settings:
    return dataclasses.replace(settings, api_key=key, origins={**settings.origins, "api_key": origin})


# State that survives `%reload_ext`.


@dataclass(slots=True)
class KernelState:
    """What one kernel keeps when the extension is reloaded.

    Attributes:
        login: the keys of `%hh login`.
        arguments: of `HoneyHiveTracer.init`.
        traits: those that were set while the kernel ran.
        made: the sessions that were made and still have spans to show.
        recordings: the recordings that cells have used, by path.
    """

    login: Login = field(default_factory=Login)
    arguments: dict[str, Any] = field(default_factory=dict)
    traits: dict[str, Any] = field(default_factory=dict)
    made: SessionHistory = field(default_factory=SessionHistory)
    recordings: dict[Path, Any] = field(default_factory=dict)


_states: WeakKeyDictionary[Any, KernelState] = WeakKeyDictionary()


def kernel_state(shell: Any) -> KernelState:
    """The state of the kernel with this shell."""
    return _states.setdefault(shell, KernelState())


# The settings of the kernel's tracer: arguments of `init`, `%config`, magics, login and environment combined.

_DESTINATION: Final = ("api_key", "ingestion_api_key", "server_url", "test_mode")
_ENVIRON_KEYS: Final = tuple(os.environ.encodekey(variable) for row in TABLE.values() for variable in row.env)


class KernelSettings:
    """Resolves the settings of the kernel's tracer and outputs, and applies them when one of their sources changes.

    Args:
        config: the traits.
        state: of earlier loads in this kernel.

    Attributes:
        tracer: the kernel's; set after it was made with `initial()`.
    """

    tracer: HoneyHiveTracer

    def __init__(self, config: HHJupyter, state: KernelState) -> None:
        self._config, self._state, self._login = config, state, state.login
        self._applied = (_environ(), config.explicit_values())
        self._initialised = bool(state.arguments)

    def initial(self) -> Settings:
        """Set the display settings, and return the settings to make the tracer with."""
        self._login.load()
        settings, display = self._resolve(self._state.arguments)
        set_display_settings(display)
        return settings

    def _resolve(self, arguments: dict[str, Any], called: str = "hh_jupyter") -> tuple[Settings, DisplaySettings]:
        traits, precise = self._config.explicit_values(), self._config.precise_origins
        settings = self._login.apply(resolve(arguments, traits=traits, called=called))
        settings = dataclasses.replace(settings, origins=precise(settings.origins))
        if settings.spool is None:  # Kernels are often killed: unsent spans are kept on disk by default.
            settings = dataclasses.replace(settings, spool=True)
        display = resolve_display(arguments, traits=traits, called=called)
        return settings, dataclasses.replace(display, origins=precise(display.origins))

    def _apply(self, arguments: dict[str, Any]) -> None:
        settings, display = self._resolve(arguments)
        set_display_settings(display)
        self.tracer.configure(settings)

    def _arguments(self) -> dict[str, Any]:
        """The arguments of `init` in this kernel; they override traits and environment."""
        return {
            name: getattr(current, name)
            for current in (self.tracer.settings, display_settings())
            for name, origin in current.origins.items()
            if origin == "argument"
        }

    def save_state(self) -> None:
        """Store arguments and traits for the next load."""
        self._state.arguments = self._arguments()
        self._state.traits = self._config.runtime_values()

    def configure_from_init(self, arguments: dict[str, Any]) -> HoneyHiveTracer | None:
        """Apply the arguments of `HoneyHiveTracer.init(...)` to the kernel's tracer and outputs, and return the tracer.

        Returns None if a later call names another key or server while the first is in use: that call makes a tracer
        of its own.
        """
        if not any(arguments.get(name) is not None for name in _DESTINATION):
            arguments = {**self._arguments(), **arguments}
        settings, display = self._resolve(arguments, called="HoneyHiveTracer.init")
        current = self.tracer.settings
        same = (settings.sending_key, settings.server_url) == (current.sending_key, current.server_url)
        # A wrong or missing key can be corrected. Once spans were sent with a key, another one means another project.
        in_use = self._initialised and self.tracer.export_state().sent > 0
        if self.tracer.closed or (in_use and not same):
            return None
        self._initialised = True
        set_display_settings(display)
        self.tracer.configure(settings)
        self.tracer.provider_binding.become_global()
        return self.tracer

    def set_trait(self, name: str, value: Any) -> None:
        """Set a trait by a magic; it overrides an earlier argument of `init`."""
        self._config.set(name, value)
        self.apply_changes(changed=name)

    def log_in(self, key: str) -> None:
        """Use a key that was typed; it also overrides that of `init`."""
        self._login.set_typed_key(key, self.tracer.settings.server_url)
        arguments = self._arguments()
        arguments.pop("api_key", None)
        self._apply(arguments)

    def apply_changes(self, changed: str | None = None) -> None:
        """Resolve all settings anew if traits or `HH_*` variables changed since the last cell.

        The values are compared rather than observed: traitlets does not notify when a trait is set to its default,
        which does override a variable.

        Args:
            changed: a setting that a magic has just set.
        """
        values = (_environ(), self._config.explicit_values())
        if values == self._applied and changed is None:
            return
        self._applied = values
        arguments = self._arguments()
        arguments.pop(changed or "", None)
        self._apply(arguments)


def _environ() -> tuple[object, ...]:
    """The raw values of the settings' environment variables, for comparison only.

    This runs before every cell. `os.environ.get` encodes the name and catches an error for each variable that is not
    set, which takes 90 us for all of them; the dict behind it takes 3 us.
    """
    return tuple(map(os.environ._data.get, _ENVIRON_KEYS))  # type: ignore[attr-defined]
