"""`python -m hh_jupyter strip`: removes the outputs of hh_jupyter from notebook files, for use with pre-commit.

The outputs are cut out of the file's text. All other bytes stay the same: indentation, order of keys, escapes and line
ends depend on the program that wrote the file.
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
    """The file is not a notebook of format 4; the message gives the reason, to follow the file's name."""


@dataclass(frozen=True, slots=True)
class JsonValue:
    """A value in the text of a JSON document, with its position."""

    start: int
    end: int
    data: Any


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `strip` to the commands of `python -m hh_jupyter`."""
    help_text = "Remove the outputs of hh_jupyter from notebook files; all other bytes stay the same."
    status = "Exit status: 0 success; 1 a file has such outputs (with --check); 2 a file cannot be processed."
    parser = commands.add_parser("strip", help=help_text, description=help_text, epilog=status)
    parser.add_argument("--check", action="store_true", help="change nothing; list the files that would be changed")
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help="a notebook of format 4")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Strip or check every file, continue after errors, and return the exit status."""
    exit_status = CLEAN
    for path in arguments.files:
        try:
            found = strip_file(path, check=arguments.check)
        except (OSError, NotebookError) as error:
            reason = getattr(error, "strerror", None) or error
            print(f"hh_jupyter strip: {path}: {reason}", file=sys.stderr)
            exit_status = FAILED
            continue
        if found:
            outputs = f"{count(found, 'output')} of hh_jupyter"
            print(f"{path}: {outputs}" if arguments.check else f"{path}: {outputs} removed")
            exit_status = max(exit_status, FOUND if arguments.check else CLEAN)
    return exit_status


def strip_file(path: Path, *, check: bool = False) -> int:
    """Remove our outputs from a notebook file, or only count them with `check`. Returns their number.

    Raises:
        OSError: the file cannot be read or written.
        NotebookError: the file is not a notebook.
    """
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotebookError(f"not a notebook: not UTF-8 at byte {error.start}") from None
    stripped, found = strip_text(text)
    if found and not check:
        _replace(path.resolve(), stripped.encode("utf-8"))
    return found


def strip_text(text: str) -> tuple[str, int]:
    """Return a notebook's text without our outputs, and their number.

    Raises:
        NotebookError: the text is not a notebook of format 4.
    """
    cells = _member(text, _document(text), "cells")
    if cells is None or not isinstance(cells.data, list):
        raise NotebookError('not a notebook of format 4: it has no list "cells"')
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


def _document(text: str) -> JsonValue:
    try:
        json.loads(text.removeprefix(_BYTE_ORDER_MARK))
    except JSONDecodeError as error:
        raise NotebookError(f"not a notebook: not JSON, {error.msg} at line {error.lineno}") from None
    except RecursionError:
        raise NotebookError("not a notebook: nested too deeply") from None
    return _value(text, len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0)


def _is_ours(output: Any) -> bool:
    metadata = output.get("metadata") if isinstance(output, dict) else None
    return isinstance(metadata, dict) and METADATA_KEY in metadata


def _without_ours(text: str, outputs: JsonValue) -> str:
    """The text of the list without our elements; `[]` if there are no others."""
    elements = list(_elements(text, outputs))
    kept = [element for element in elements if not _is_ours(element.data)]
    if not kept:
        return "[]"
    between = text[elements[0].end : elements[1].start]
    before, after = text[outputs.start : elements[0].start], text[elements[-1].end : outputs.end]
    return before + between.join(text[element.start : element.end] for element in kept) + after


def _value(text: str, position: int) -> JsonValue:
    start = _next(text, position)
    data, end = _DECODER.raw_decode(text, start)
    return JsonValue(start, end, data)


def _next(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACES:
        position += 1
    return position


def _elements(text: str, array: JsonValue) -> Iterator[JsonValue]:
    """The elements of a list. The text is valid JSON: a single comma separates them."""
    position = array.start
    for _ in array.data:
        element = _value(text, position + 1)
        yield element
        position = _next(text, element.end)


def _member(text: str, value: JsonValue, name: str) -> JsonValue | None:
    """The value of a key of an object; for duplicate keys the last one, as in `json.loads`."""
    found = None
    position = value.start
    while isinstance(value.data, dict) and value.data and text[position] != "}":
        key = _value(text, position + 1)
        member = _value(text, _next(text, key.end) + 1)
        found = member if key.data == name else found
        position = _next(text, member.end)
    return found


def _replace(path: Path, content: bytes) -> None:
    """Write a temporary file and rename it: the notebook is never half written."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        shutil.copymode(path, temporary)
        os.replace(temporary, path)  # noqa: PTH105  # Atomic on all systems.
    finally:
        temporary.unlink(missing_ok=True)
