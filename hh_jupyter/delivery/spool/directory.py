"""The spool's folder: its location, permissions and files, and the names of destinations.

This module never opens a spool file: on POSIX, closing any handle of a file releases all locks that the process holds
on it. It reads only names and metadata.
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
    """Return the spool's folder in the platform's directory for application data.

    Raises:
        SpoolFault: the user has no home directory.
    """
    try:
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Application Support"
        else:
            given = os.environ.get("XDG_DATA_HOME", "")  # The XDG specification says to ignore relative paths.
            base = Path(given) if given.startswith("/") else Path.home() / ".local" / "share"
    except RuntimeError as error:
        raise SpoolFault("other", "there is no home directory") from error
    return base / "hh_jupyter" / "spool"


def prepare(directory: Path) -> None:
    """Create the folder if it does not exist, accessible to this user only.

    Raises:
        SpoolFault: the folder cannot be used; the message gives the reason.
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
    """Return whether we may change its mode: the configured folder may also be used for other things."""
    return all(path.name.startswith((PREFIX, SALT)) for path in directory.iterdir())


def _is_ours(found: os.stat_result) -> bool:
    return os.name != "posix" or found.st_uid == os.geteuid()


def spool_files(directory: Path) -> list[tuple[Path, int]]:
    """Return this user's spool files and their sizes in bytes, the least recently modified first."""
    try:
        named = [path for path in directory.iterdir() if path.name.startswith(PREFIX) and path.name.endswith(SUFFIX)]
    except OSError:  # The folder does not exist.
        return []
    found = [(about.st_mtime, path, about.st_size) for path in named if (about := _regular(path)) is not None]
    return [(path, size) for _, path, size in sorted(found)]


def _regular(path: Path) -> os.stat_result | None:
    try:
        about = path.lstat()
    except OSError:  # Another process has just deleted it.
        return None
    return about if stat.S_ISREG(about.st_mode) and _is_ours(about) else None


def broken_files(directory: Path) -> list[Path]:
    """Return the damaged files that were set aside."""
    try:
        return sorted(path for path in directory.iterdir() if path.name.startswith(PREFIX) and path.suffix == BROKEN)
    except OSError:
        return []


def set_aside(path: Path) -> Path | None:
    """Rename a damaged file so that it is not opened again; return the new path, or None if renaming fails."""
    try:
        Path(f"{path}{JOURNAL}").unlink(missing_ok=True)
        return path.replace(Path(f"{path}{BROKEN}"))
    except OSError:
        return None


def tidy(directory: Path, max_age_seconds: float) -> None:
    """Delete journals without a spool file, and broken files older than `max_age_seconds`."""
    oldest = time.time() - max_age_seconds
    try:
        for path in directory.iterdir():
            name = path.name
            if not name.startswith(PREFIX) or (about := _regular(path)) is None:
                continue
            # Check after the listing: an owner creates its file before the journal.
            orphan = name.endswith(SUFFIX + JOURNAL) and not Path(str(path).removesuffix(JOURNAL)).exists()
            if orphan or (name.endswith(BROKEN) and about.st_mtime < oldest):
                path.unlink(missing_ok=True)
    except OSError:
        pass  # The next process retries.


def destination_id(url: str, key: str | None, directory: Path | None) -> str:
    """Return the name of a destination on disk: the address and a hash of the key, salted for this folder.

    Args:
        url: URL of the backend.
        key: API key; None in local mode.
        directory: folder of the spool. If it is None or not writable, the name is valid in this process only.

    Returns:
        "https://api.example#0f3a..." or `LOCAL`.
    """
    if key is None:
        return LOCAL
    import hashlib
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]  # Credentials in the URL go into the hash only.
    digest = hashlib.sha256(b"\0".join((_salt(directory), parts.netloc.encode(), key.encode("utf-8", "replace"))))
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}#{digest.hexdigest()[:16]}"


_OWN_SALT: Final = os.urandom(SALT_BYTES)


def _salt(directory: Path | None) -> bytes:
    """Return the folder's salt; the first process creates it."""
    if directory is None:
        return _OWN_SALT
    path = directory / SALT
    try:
        if (found := _read_salt(path)) is None:
            # Create the salt before the first record: other processes could not adopt records under this process's own.
            prepare(directory)
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
    """Move the draft into place unless another process was first; a partly written salt is never visible."""
    try:
        os.link(draft, path)
    except FileExistsError:
        if _read_salt(path) is None:  # The existing file is not a valid salt.
            draft.replace(path)
    except (OSError, AttributeError):  # No hard links: of two concurrent processes, the last one wins.
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
