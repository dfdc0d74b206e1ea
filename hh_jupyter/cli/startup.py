"""`python -m hh_jupyter enable`, `disable` and `status`: manage the IPython startup file that loads the extension.

A startup file with a name of its own is not overwritten by other packages, and unlike an entry in IPython's
configuration it survives a user's `extensions = [...]` (see tests/kernel/test_autoload.py).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hh_jupyter.version import VERSION

FILE: Final = "50-hh_jupyter.py"
MARK: Final = "`python -m hh_jupyter enable`"
"""Identifies the startup files that this command wrote."""

ENVIRONMENT: Final = "--sys-prefix"
USER: Final = "--user"
SUCCESS: Final = 0
FAILED: Final = 1

_CLI_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class StartupFolder:
    """A folder whose files IPython runs when it starts.

    Attributes:
        flag: selects this folder on the command line.
        scope: the kernels that read the folder, in words.
        folder: its path; it need not exist.
        root: the nearest parent folder that `disable` never removes.
    """

    flag: str
    scope: str
    folder: Path
    root: Path

    @property
    def file(self) -> Path:
        """The startup file."""
        return self.folder / FILE

    def text(self) -> str | None:
        """The content of the startup file; None if it does not exist or was not written by `enable`."""
        try:
            text = self.file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        return text if MARK in text else None


def startup_folders() -> tuple[StartupFolder, StartupFolder]:
    """The startup folders of this environment and of this user."""
    from IPython.paths import get_ipython_dir  # Slow to import, and `strip`, which runs at every commit, needs none.

    prefix, profile, scopes = Path(sys.prefix), Path(get_ipython_dir()) / "profile_default", _scopes()
    return (
        StartupFolder(ENVIRONMENT, scopes[ENVIRONMENT], prefix / "etc" / "ipython" / "startup", prefix),
        StartupFolder(USER, scopes[USER], profile / "startup", profile),
    )


def add_commands(commands: Any) -> None:
    """Add `enable`, `disable` and `status` to the commands of `python -m hh_jupyter`."""
    for name, run, help_text in (
        ("enable", enable, "load the extension in every IPython and kernel that starts from now on"),
        ("disable", disable, "stop loading the extension at start"),
        ("status", status, "show where the extension is loaded at start"),
    ):
        parser = commands.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.")
        flags = parser.add_mutually_exclusive_group()
        for flag, scope in _scopes().items():
            flags.add_argument(flag, dest="flag", action="store_const", const=flag, help=scope)
        parser.set_defaults(run=run)


def enable(arguments: argparse.Namespace) -> int:
    """Write the startup file. Without a flag: for the virtual environment if there is one, else for the user."""
    environment, user = startup_folders()
    flag = arguments.flag or (environment.flag if _in_environment() else user.flag)
    target = environment if flag == environment.flag else user
    try:
        if target.file.exists() and target.text() is None:
            return _failed(f"{target.file} was not written by hh_jupyter and is left unchanged. Rename or delete it.")
        target.folder.mkdir(parents=True, exist_ok=True)
        target.file.write_text(startup_text(), encoding="utf-8")
    except OSError as error:
        hint = " To enable hh_jupyter for your user only: --user" if target is environment else ""
        return _failed(f"cannot write {target.file} ({error.strerror or error}).{hint}")
    print(f"hh_jupyter will be loaded in every kernel that starts from now on, for {target.scope}.")
    print(f"  {target.file}")
    print("  Undo: python -m hh_jupyter disable")
    return SUCCESS


def disable(arguments: argparse.Namespace) -> int:
    """Remove the startup file and the folders that are empty without it. Without a flag: in both places."""
    selected = [folder for folder in startup_folders() if arguments.flag in (None, folder.flag)]
    enabled = [folder for folder in selected if folder.text() is not None]
    for folder in enabled:
        try:
            folder.file.unlink()
        except OSError as error:
            return _failed(f"cannot remove {folder.file} ({error.strerror or error}).")
        _remove_empty(folder)
        print(f"hh_jupyter is no longer loaded for {folder.scope}. Removed {folder.file}")
    if not enabled:
        print("hh_jupyter is not loaded at start; nothing to remove.")
    return SUCCESS


def status(arguments: argparse.Namespace) -> int:
    """Print whether the startup file is in place, for the environment and for the user."""
    print(f"hh_jupyter {VERSION} in {_CLI_FOLDER.parent}")
    for folder in startup_folders():
        if arguments.flag in (None, folder.flag):
            print(f"  {_state(folder):<9} for {folder.scope}: {folder.file}")
    return SUCCESS


def startup_text() -> str:
    """The content to write: from beside this module in an installed package, from `jupyter-config` in a checkout."""
    installed = _CLI_FOLDER / FILE
    source = installed if installed.exists() else _CLI_FOLDER.parents[1] / "jupyter-config" / FILE
    return source.read_text(encoding="utf-8")


def _scopes() -> dict[str, str]:
    return {ENVIRONMENT: f"this environment ({Path(sys.prefix)})", USER: "this user, in every environment"}


def _in_environment() -> bool:
    """Whether this is a virtual environment or one of conda, rather than the system's Python."""
    return sys.prefix != sys.base_prefix or (Path(sys.prefix) / "conda-meta").is_dir()


def _remove_empty(startup: StartupFolder) -> None:
    folder = startup.folder
    while folder not in (startup.root, folder.parent):
        try:
            folder.rmdir()
        except OSError:  # The folder holds other files.
            return
        folder = folder.parent


def _state(folder: StartupFolder) -> str:
    text = folder.text()
    if text is None:
        return "off"
    return "on" if text == startup_text() else "on (written by another version: run enable again)"


def _failed(text: str) -> int:
    print(f"python -m hh_jupyter: {text}", file=sys.stderr)
    return FAILED
