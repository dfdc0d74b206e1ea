"""`%hh save FILE`: spans as a file of OTLP JSON lines, which other tools read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from IPython.core.error import UsageError

from hh_jupyter.display.format import count
from hh_jupyter.notebook.stored_sessions import SessionStore

MODE: Final = 0o600
"""Prompts and answers are nobody else's business."""


def save(words: Sequence[str], store: SessionStore, *, replace: bool = False) -> str:
    """Write the spans of this kernel, or of the named sessions, to a file.

    Args:
        words: the file, then sessions.
        replace: a file that is there.

    Raises:
        UsageError: no file is named, it exists, it cannot be written, a session is not known, or there are no spans.
    """
    name, *sessions = words or [""]
    if not name:
        raise UsageError("%hh save: name a file. Example: %hh save spans.jsonl")
    path = Path(os.path.expanduser(name))  # noqa: PTH111  # A home that is not known must not raise.
    if path.exists() and not replace:
        raise UsageError(f"%hh save: {path} exists. %hh save {name} --force replaces it.")
    chosen = store.choose(sessions, "save") if sessions else None
    wanted = store.span_ids(chosen)
    saved = _write(path, store.bodies(chosen))
    if not saved:
        raise UsageError("%hh save: there are no spans to save, nothing is written.")
    missing = len(wanted - saved)
    lost = f" {count(missing, 'span')} more had been sent and are no longer kept here." if missing else ""
    return f"hh: {count(len(saved), 'span')} saved to {path}.{lost}"


def _write(path: Path, bodies: Sequence[bytes]) -> set[int]:
    """Write to a new file beside it and give that its name: a file is complete, or it is not there.

    Returns:
        ids of the spans in it.
    """
    from hh_jupyter.delivery.sealing.otlp_file import lines  # Loads protobuf.

    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    saved: set[int] = set()
    try:
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "wb") as file:
                for line, span_ids in lines(bodies):
                    file.write(line)
                    saved.update(span_ids)
            if saved:
                draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"%hh save: {path} cannot be written ({error.strerror or error}).") from None
    return saved
