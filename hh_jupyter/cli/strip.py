"""`python -m hh_jupyter strip`: our outputs out of notebook files, and nothing else; made for pre-commit.

The outputs are cut out of the file's text. Everything around them keeps its bytes, whatever indentation, order of keys,
escapes and line ends the program had that wrote the file.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Final

from hh_jupyter.display.format import count
from hh_jupyter.display.html import METADATA_KEY

CLEAN: Final = 0
FOUND: Final = 1
FAILED: Final = 2

_SPACES: Final = " \t\n\r"
_BYTE_ORDER_MARK: Final = "\ufeff"
_DECODER: Final = json.JSONDecoder()


class NotebookError(ValueError):
    """A file that is no notebook; the text says why, after the file's name."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value in the text of a JSON document: where it is, and what."""

    start: int
    end: int
    data: Any


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make `strip` one of the commands."""
    says = "Remove the outputs of hh_jupyter from notebook files; everything else stays as it is, byte for byte."
    status = "Exit status: 0 done, or nothing to do; 1 with --check: a file has such outputs; 2 a file cannot be used."
    parser = commands.add_parser("strip", help=says, description=says, epilog=status)
    parser.add_argument("--check", action="store_true", help="change nothing, name the files that would be changed")
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help="notebook, format 4")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Strip or check every file, also after one that cannot be used; the exit status."""
    worst = CLEAN
    for path in given.files:
        try:
            found = strip_file(path, check=given.check)
        except (OSError, NotebookError) as error:
            reason = getattr(error, "strerror", None) or error
            print(f"hh_jupyter strip: {path}: {reason}", file=sys.stderr)
            worst = FAILED
            continue
        if found:
            outputs = f"{count(found, 'output')} of hh_jupyter"
            print(f"{path}: {outputs}" if given.check else f"{path}: {outputs} removed")
            worst = max(worst, FOUND if given.check else CLEAN)
    return worst


def strip_file(path: Path, *, check: bool = False) -> int:
    """Remove our outputs from a notebook file, or with `check` only count them; how many there are.

    Raises:
        OSError: it cannot be read or written.
        NotebookError: it is no notebook.
    """
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotebookError(f"no notebook: not UTF-8 at byte {error.start}") from None
    stripped, found = strip_text(text)
    if found and not check:
        _replace(path.resolve(), stripped.encode("utf-8"))
    return found


def strip_text(text: str) -> tuple[str, int]:
    """A notebook's text without our outputs, and how many were removed.

    Raises:
        NotebookError: it is no notebook of format 4.
    """
    cells = _member(text, _document(text), "cells")
    if cells is None or not isinstance(cells.data, list):
        raise NotebookError('no notebook of format 4: it has no list of "cells"')
    pieces: list[str] = []
    position = found = 0
    for cell in _elements(text, cells):
        outputs = _member(text, cell, "outputs")
        if outputs is None or not isinstance(outputs.data, list) or not any(map(_is_ours, outputs.data)):
            continue
        found += sum(map(_is_ours, outputs.data))
        pieces += [text[position : outputs.start], _without_ours(text, outputs)]
        position = outputs.end
    return "".join([*pieces, text[position:]]), found


def _document(text: str) -> Value:
    try:
        json.loads(text.removeprefix(_BYTE_ORDER_MARK))
    except JSONDecodeError as error:
        raise NotebookError(f"no notebook: not JSON, {error.msg} at line {error.lineno}") from None
    except RecursionError:
        raise NotebookError("no notebook: nested too deeply") from None
    return _value(text, len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0)


def _is_ours(output: Any) -> bool:
    metadata = output.get("metadata") if isinstance(output, dict) else None
    return isinstance(metadata, dict) and METADATA_KEY in metadata


def _without_ours(text: str, outputs: Value) -> str:
    """The list as it stands, less our elements; of a list without any other nothing is left but the brackets."""
    elements = list(_elements(text, outputs))
    kept = [element for element in elements if not _is_ours(element.data)]
    if not kept:
        return "[]"
    between = text[elements[0].end : elements[1].start]
    before, after = text[outputs.start : elements[0].start], text[elements[-1].end : outputs.end]
    return before + between.join(text[element.start : element.end] for element in kept) + after


def _value(text: str, position: int) -> Value:
    start = _next(text, position)
    data, end = _DECODER.raw_decode(text, start)
    return Value(start, end, data)


def _next(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACES:
        position += 1
    return position


def _elements(text: str, array: Value) -> Iterator[Value]:
    """The elements of a list; the text is known to be JSON, so a comma stands between two of them."""
    position = array.start
    for _ in array.data:
        element = _value(text, position + 1)
        yield element
        position = _next(text, element.end)


def _member(text: str, value: Value, name: str) -> Value | None:
    """The value under a key of an object, where it stands; of equal keys the last, as everywhere."""
    found = None
    position = value.start
    while isinstance(value.data, dict) and value.data and text[position] != "}":
        key = _value(text, position + 1)
        member = _value(text, _next(text, key.end) + 1)
        found = member if key.data == name else found
        position = _next(text, member.end)
    return found


def _replace(path: Path, content: bytes) -> None:
    """Write beside the file and give that its name: whatever happens, the notebook is whole."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        shutil.copymode(path, draft)
        os.replace(draft, path)  # noqa: PTH105  # Atomic on every system.
    finally:
        draft.unlink(missing_ok=True)
