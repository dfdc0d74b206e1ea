"""Where recordings are: one file per name, in a folder next to the notebook, script or test."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Final

SUFFIX: Final = ".jsonl"

_FORBIDDEN: Final = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]')
"""Characters that a file name cannot hold on one of the systems where a repository may be checked out."""
_RESERVED: Final = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""Names of devices on Windows."""
_MAX_BYTES: Final = 180
"""File systems allow 255 bytes; the rest is for suffixes, also of temporary files."""


def recording_path(name: str, folder: Path, directory: str) -> Path:
    """Return the file of the recordings with this name.

    Args:
        name: of a session, notebook, script or test; any text.
        folder: of the notebook, script or test.
        directory: the setting `recordings_dir`; a relative one is below `folder`.
    """
    return folder / Path(directory).expanduser() / f"{file_name(name)}{SUFFIX}"


def recordings_in(directory: Path) -> list[Path]:
    """Return the files in a folder of recordings, by name; empty if it cannot be read."""
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))
    except OSError:
        return []


def file_name(name: str) -> str:
    """Return a name as every file system can store it: the name itself, if possible.

    A name that has to be changed gets a digest at its end, so that `a/b` and `a:b` do not share a file.
    """
    safe = _FORBIDDEN.sub("_", name).encode()[:_MAX_BYTES].decode(errors="ignore").strip(". ")
    if _RESERVED.fullmatch(safe):
        safe = f"_{safe}"
    if safe and safe == name:
        return name
    digest = hashlib.blake2s(name.encode(errors="surrogatepass"), digest_size=3).hexdigest()
    return f"{safe}-{digest}" if safe else digest


def script_location() -> tuple[str, Path]:
    """Return the name and the folder of the running script.

    A program that is no file of Python code, or is started by `python -m`, may be installed anywhere: its recordings
    are in the working directory.
    """
    main = sys.modules.get("__main__")
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__"), Path.cwd()
    if file and str(file).endswith(".py"):
        script = Path(file).resolve()
        return script.stem, script.parent
    return Path(sys.argv[0] if sys.argv else "").stem or "python", Path.cwd()
