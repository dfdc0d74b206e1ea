"""The folder of the spool: names and sizes of its files, damaged files, the salt that names destinations.

Only names and metadata are read here: opening a file that this process owns would release its locks; see
`export.spool_file`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

LOCAL: Final = "local"
"""Destination of rows that stay on this machine until the user sends their sessions."""

PREFIX: Final = "spool-"
SUFFIX: Final = ".sqlite3"
COMPANIONS: Final = ("-wal", "-shm", "-journal")
BROKEN: Final = ".broken"
SALT: Final = "salt"
SALT_BYTES: Final = 32

Trouble = Literal["busy", "full", "broken", "version", "other"]


class SpoolFault(Exception):  # noqa: N818
    """An operation failed on the disk or the file.

    Attributes:
        trouble: busy (another process uses the file), full (the disk or the spool), broken (damaged, or not an SQLite
            file), version (another version has written it), or other.
    """

    def __init__(self, trouble: Trouble, text: str) -> None:
        super().__init__(text)
        self.trouble: Trouble = trouble


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
        # The configured folder may also be used for other things; then it keeps its mode.
        if (
            os.name == "posix"
            and found.st_mode & 0o077
            and all(n.startswith((PREFIX, SALT)) for n in _names(directory))
        ):
            directory.chmod(0o700)
    except OSError as error:
        raise SpoolFault("other", f"{directory} cannot be used ({error.strerror or error})") from error


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208  # Only names are needed.
    except OSError:  # The folder does not exist.
        return []


def unlisted(directory: Path) -> str | None:
    """Return why the files of a folder cannot be listed; None if they can, or if there is no folder."""
    try:
        os.listdir(directory)  # noqa: PTH208
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror or str(error)
    return None


def _is_ours(found: os.stat_result) -> bool:
    return os.name != "posix" or found.st_uid == os.geteuid()


def regular_file(path: Path) -> os.stat_result | None:
    try:
        about = path.lstat()
    except OSError:  # Another process has just deleted it.
        return None
    return about if stat.S_ISREG(about.st_mode) and _is_ours(about) else None


def spool_files(directory: Path) -> list[tuple[Path, int]]:
    """Return this user's files and their sizes in bytes with their WAL files, the least recently modified first."""
    found = []
    names = _names(directory)
    sizes = {name: about for name in names if name.startswith(PREFIX) and (about := regular_file(directory / name))}
    for name, about in sizes.items():
        if name.endswith(SUFFIX):
            size = sum(sizes[part].st_size for part in (name, *(name + end for end in COMPANIONS)) if part in sizes)
            changed = max(about.st_mtime, *(sizes[part].st_mtime for part in (name, f"{name}-wal") if part in sizes))
            found.append((changed, directory / name, size))
    return [(path, size) for _, path, size in sorted(found)]


def broken_files(directory: Path) -> list[tuple[Path, int]]:
    """Return the damaged files that were set aside, and their sizes in bytes."""
    paths = [directory / name for name in _names(directory) if name.startswith(PREFIX) and name.endswith(BROKEN)]
    return [(path, about.st_size) for path in sorted(paths) if (about := regular_file(path))]


def remove(path: Path) -> None:
    """Delete a file and what SQLite stores beside it."""
    for end in ("", *COMPANIONS):
        Path(f"{path}{end}").unlink(missing_ok=True)


def set_aside(path: Path) -> Path | None:
    """Rename a damaged file so that it is not opened again; return the new path, or None if renaming fails."""
    aside = Path(f"{path}{BROKEN}")
    try:
        path.replace(aside)
        remove(path)
    except OSError:
        return None
    return aside


def tidy(directory: Path, max_age_seconds: float) -> None:
    """Delete what SQLite stored beside files that are gone, and damaged files older than `max_age_seconds`."""
    oldest = time.time() - max_age_seconds
    try:
        for path, _ in broken_files(directory):
            if path.lstat().st_mtime < oldest:
                path.unlink(missing_ok=True)
        for name in _names(directory):
            for end in COMPANIONS:
                # Check after the listing: an owner creates its file before the others.
                orphan = name.endswith(SUFFIX + end) and not (directory / name.removesuffix(end)).exists()
                if orphan and name.startswith(PREFIX) and regular_file(directory / name):
                    (directory / name).unlink(missing_ok=True)
    except OSError:
        pass  # The next process retries.


_OWN_SALT: Final = os.urandom(SALT_BYTES)


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
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]  # Credentials in the URL go into the hash only.
    digest = hashlib.sha256(b"\0".join((_salt(directory), parts.netloc.encode(), key.encode("utf-8", "replace"))))
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}#{digest.hexdigest()[:16]}"


def _salt(directory: Path | None) -> bytes:
    """Return the folder's salt; the first process creates it."""
    if directory is None:
        return _OWN_SALT
    path = directory / SALT
    try:
        if (found := _read_salt(path)) is None:
            # Create the salt before the first row: other processes could not adopt rows under this process's own.
            prepare(directory)
            draft = directory / f"{SALT}-{os.urandom(8).hex()}"
            draft.touch(mode=0o600, exist_ok=False)
            draft.write_bytes(os.urandom(SALT_BYTES))
            try:
                os.link(draft, path)  # A partly written salt is never visible, and the first of two processes wins.
            except (OSError, AttributeError):  # It exists, or there are no hard links: then the last one wins.
                if _read_salt(path) is None:
                    draft.replace(path)
            draft.unlink(missing_ok=True)
            found = _read_salt(path)
    except (OSError, SpoolFault):
        found = None
    return found or _OWN_SALT


def _read_salt(path: Path) -> bytes | None:
    found = path.read_bytes() if regular_file(path) is not None else b""
    return found if len(found) == SALT_BYTES else None
