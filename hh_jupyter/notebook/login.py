"""`%hh login`: a key that is typed nowhere where it could be read again, for this kernel or kept in a file."""

from __future__ import annotations

import dataclasses
import getpass
import json
import logging
import os
import secrets
import stat
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from IPython.core.error import StdinNotImplementedError, UsageError

from hh_jupyter.errors import SettingError
from hh_jupyter.notebook.given import Given
from hh_jupyter.notebook.status import load_line
from hh_jupyter.settings import Settings, check
from hh_jupyter.tracing.tracer import HoneyHiveTracer

logger = logging.getLogger(__name__)

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
