"""The spool's folder: where it is, who may read it, which files are in it, and the name of a destination.

Never opens a file of the spool itself: closing any handle of such a file would give up the locks that this process
holds on it (POSIX). Only sizes and names are looked at.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path
from typing import Final

from hh_jupyter.delivery.spool.record import LOCAL, SpoolFault

PREFIX: Final = "spool-"
SUFFIX: Final = ".sqlite3"
JOURNAL: Final = "-journal"
BROKEN: Final = ".broken"
SALT: Final = "salt"
SALT_BYTES: Final = 32


def default_directory() -> Path:
    """Where this platform keeps the data of a user's applications.

    Raises:
        SpoolFault: there is no home directory.
    """
    try:
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Application Support"
        else:
            given = os.environ.get("XDG_DATA_HOME", "")  # A relative one is to be ignored (XDG base directories).
            base = Path(given) if given.startswith("/") else Path.home() / ".local" / "share"
    except RuntimeError as error:
        raise SpoolFault("other", "there is no home directory") from error
    return base / "hh_jupyter" / "spool"


def prepare(directory: Path) -> None:
    """Make the folder if it is not there, for this user alone.

    Raises:
        SpoolFault: it cannot be used; the text says why.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
        if stat.S_ISLNK(found.st_mode):
            raise SpoolFault("other", f"{directory} is a symbolic link")
        if not _is_ours(found):
            raise SpoolFault("other", f"{directory} belongs to another user")
        if os.name == "posix" and found.st_mode & 0o077 and _holds_only_ours(directory):
            directory.chmod(0o700)
    except OSError as error:
        raise SpoolFault("other", f"{directory} cannot be used ({error.strerror or error})") from error


def _holds_only_ours(directory: Path) -> bool:
    """Whether its mode is ours to change: somebody may have named a folder that is used for other things, too."""
    return all(path.name.startswith((PREFIX, SALT)) for path in directory.iterdir())


def _is_ours(found: os.stat_result) -> bool:
    return os.name != "posix" or found.st_uid == os.geteuid()


def spool_files(directory: Path) -> list[tuple[Path, int]]:
    """Files of the spool and their sizes in bytes, the longest unchanged first; what is not ours is not among them."""
    try:
        named = [path for path in directory.iterdir() if path.name.startswith(PREFIX) and path.name.endswith(SUFFIX)]
    except OSError:  # The folder is gone.
        return []
    found = [(about.st_mtime, path, about.st_size) for path in named if (about := _regular(path)) is not None]
    return [(path, size) for _, path, size in sorted(found)]


def _regular(path: Path) -> os.stat_result | None:
    try:
        about = path.lstat()
    except OSError:  # Somebody has just deleted it.
        return None
    return about if stat.S_ISREG(about.st_mode) and _is_ours(about) else None


def broken_files(directory: Path) -> list[Path]:
    """Files that were set aside."""
    try:
        return sorted(path for path in directory.iterdir() if path.name.startswith(PREFIX) and path.suffix == BROKEN)
    except OSError:
        return []


def set_aside(path: Path) -> Path | None:
    """Rename a damaged file, so that nobody opens it again; None if that cannot be done."""
    try:
        Path(f"{path}{JOURNAL}").unlink(missing_ok=True)
        return path.replace(Path(f"{path}{BROKEN}"))
    except OSError:
        return None


def tidy(directory: Path, max_age_seconds: float) -> None:
    """Delete journals without their file, and broken files above the age."""
    oldest = time.time() - max_age_seconds
    try:
        for path in directory.iterdir():
            name = path.name
            if not name.startswith(PREFIX) or (about := _regular(path)) is None:
                continue
            # Looked at after the listing: an owner makes its file before the journal.
            orphan = name.endswith(SUFFIX + JOURNAL) and not Path(str(path).removesuffix(JOURNAL)).exists()
            if orphan or (name.endswith(BROKEN) and about.st_mtime < oldest):
                path.unlink(missing_ok=True)
    except OSError:
        pass  # The next process tries again.


def destination_id(url: str, key: str | None, directory: Path | None) -> str:
    """What names a destination on disk: the address, and a hash of the key that only this folder's salt repeats.

    Args:
        url: of the backend.
        key: None in local mode.
        directory: of the spool; None or one that takes no file: the name lasts for this process.

    Returns:
        "https://api.example#0f3a..." or `LOCAL`.
    """
    if key is None:
        return LOCAL
    import hashlib
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]  # A password in the address is hashed with the key.
    digest = hashlib.sha256(b"\0".join((_salt(directory), parts.netloc.encode(), key.encode("utf-8", "replace"))))
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}#{digest.hexdigest()[:16]}"


_OWN_SALT: Final = os.urandom(SALT_BYTES)


def _salt(directory: Path | None) -> bytes:
    """The folder's salt, made by whoever comes first."""
    if directory is None:
        return _OWN_SALT
    path = directory / SALT
    try:
        if (found := _read_salt(path)) is None:
            prepare(directory)  # The salt comes before the first record: a name of this process alone is nobody's heir.
            draft = directory / f"{SALT}-{os.urandom(8).hex()}"
            draft.touch(mode=0o600, exist_ok=False)
            draft.write_bytes(os.urandom(SALT_BYTES))
            _publish(draft, path)
            found = _read_salt(path)
    except (OSError, SpoolFault):
        found = None
    return found or _OWN_SALT


def _read_salt(path: Path) -> bytes | None:
    about = _regular(path)
    found = path.read_bytes() if about is not None else b""
    return found if len(found) == SALT_BYTES else None


def _publish(draft: Path, path: Path) -> None:
    """Give the draft its name unless another process was first; nobody ever sees half a salt."""
    try:
        os.link(draft, path)
    except FileExistsError:
        if _read_salt(path) is None:  # Whatever stands there is no salt.
            draft.replace(path)
    except (OSError, AttributeError):  # A file system without links: the last of two at once wins, for both.
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
