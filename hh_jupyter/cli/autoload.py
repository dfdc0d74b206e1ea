"""Loading without `%load_ext`: one startup file of IPython, put in place and removed by `python -m hh_jupyter`.

A startup file has a name of its own, so that no other package overwrites it, and a user's `extensions = [...]` does not
drop it, which an entry in IPython's configuration would not survive [measured].
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hh_jupyter.version import VERSION

FILE: Final = "50-hh_jupyter.py"
MARK: Final = "`python -m hh_jupyter enable`"
"""Stands in every file that was written here, and in no other."""
HERE: Final = Path(__file__).parent
ENVIRONMENT: Final = "--sys-prefix"
USER: Final = "--user"
DONE: Final = 0
FAILED: Final = 1


@dataclass(frozen=True, slots=True)
class Place:
    """A folder whose files IPython runs as it starts.

    Attributes:
        flag: how it is chosen on the command line.
        whose: in whose kernels the file is read, in words.
        folder: of the file; it need not exist.
        root: the lowest folder above that is not ours to remove.
    """

    flag: str
    whose: str
    folder: Path
    root: Path

    @property
    def file(self) -> Path:
        """The startup file."""
        return self.folder / FILE

    def text(self) -> str | None:
        """What is in the file; None if there is none that was written here."""
        try:
            text = self.file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        return text if MARK in text else None


def start(shell: Any) -> None:
    """What the startup file calls: load, say nothing, and leave OpenTelemetry's global provider to others."""
    from hh_jupyter.notebook import extension

    extension.load(shell, quiet=True, set_global=False)


def places() -> tuple[Place, Place]:
    """This environment, and this user in all environments."""
    from IPython.paths import get_ipython_dir  # Takes long, and `strip`, which runs at every commit, has no use for it.

    prefix, profile, whose = Path(sys.prefix), Path(get_ipython_dir()) / "profile_default", _whose()
    return (
        Place(ENVIRONMENT, whose[ENVIRONMENT], prefix / "etc" / "ipython" / "startup", prefix),
        Place(USER, whose[USER], profile / "startup", profile),
    )


def add_commands(commands: Any) -> None:
    """Add `enable`, `disable` and `status` to those of `python -m hh_jupyter`."""
    for name, run, says in (
        ("enable", enable, "load the extension in every IPython and kernel, from the next start on"),
        ("disable", disable, "no longer load it"),
        ("status", status, "say where it is loaded"),
    ):
        parser = commands.add_parser(name, help=says, description=f"{says[0].upper()}{says[1:]}.")
        which = parser.add_mutually_exclusive_group()
        for flag, whose in _whose().items():
            which.add_argument(flag, dest="flag", action="store_const", const=flag, help=whose)
        parser.set_defaults(run=run)


def enable(given: argparse.Namespace) -> int:
    """Write the startup file; in a virtual environment for that, else for the user, unless a flag says which."""
    environment, user = places()
    flag = given.flag or (environment.flag if _in_environment() else user.flag)
    place = environment if flag == environment.flag else user
    try:
        if place.file.exists() and place.text() is None:
            return _failed(f"{place.file} is somebody else's file; nothing is changed.")
        place.folder.mkdir(parents=True, exist_ok=True)
        place.file.write_text(startup_text(), encoding="utf-8")
    except OSError as error:
        other = " --user enables it for you alone." if place is environment else ""
        return _failed(f"{place.file} cannot be written ({error.strerror or error}).{other}")
    print(f"hh_jupyter is loaded from the next start of a kernel on, for {place.whose}.")
    print(f"  {place.file}")
    print("  Undo: python -m hh_jupyter disable")
    return DONE


def disable(given: argparse.Namespace) -> int:
    """Remove the startup file, and the folders that only it needed; without a flag, wherever it is."""
    chosen = [place for place in places() if given.flag in (None, place.flag)]
    found = [place for place in chosen if place.text() is not None]
    for place in found:
        try:
            place.file.unlink()
        except OSError as error:
            return _failed(f"{place.file} cannot be removed ({error.strerror or error}).")
        _remove_empty(place)
        print(f"hh_jupyter is no longer loaded for {place.whose}; {place.file} is removed.")
    if not found:
        print("hh_jupyter is not loaded at start; nothing to remove.")
    return DONE


def status(given: argparse.Namespace) -> int:
    """Say for each place whether the startup file is there."""
    print(f"hh_jupyter {VERSION} in {HERE.parent}")
    for place in places():
        if given.flag in (None, place.flag):
            print(f"  {_state(place):<9} for {place.whose}: {place.file}")
    return DONE


def startup_text() -> str:
    """The startup file as it is written; beside this module where the package is installed, else in the checkout."""
    beside = HERE / FILE
    return (beside if beside.exists() else HERE.parents[1] / "jupyter-config" / FILE).read_text(encoding="utf-8")


def _whose() -> dict[str, str]:
    return {ENVIRONMENT: f"this environment ({Path(sys.prefix)})", USER: "this user, in every environment"}


def _state(place: Place) -> str:
    text = place.text()
    if text is None:
        return "off"
    return "on" if text == startup_text() else "on (written by another version; enable writes it anew)"


def _in_environment() -> bool:
    """A virtual environment, or one of conda, which is not the system's Python either."""
    return sys.prefix != sys.base_prefix or (Path(sys.prefix) / "conda-meta").is_dir()


def _remove_empty(place: Place) -> None:
    for folder in _up_to(place.folder, place.root):
        try:
            folder.rmdir()
        except OSError:  # Something else is in it.
            return


def _up_to(folder: Path, root: Path) -> Iterator[Path]:
    while folder not in (root, folder.parent):
        yield folder
        folder = folder.parent


def _failed(text: str) -> int:
    print(f"python -m hh_jupyter: {text}", file=sys.stderr)
    return FAILED
