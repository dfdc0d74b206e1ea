"""`DatasetRows`: rows of a dataset, kept in a file of JSON lines."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Final

from hh_jupyter.errors import SettingError
from hh_jupyter.values import json_text

FILE_MODE: Final = 0o600
"""Rows hold prompts and answers of people: only the user may read a new file."""


JSON_TYPES: Final = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", NoneType: "null"}
"""What a line may hold in place of an object."""


class DatasetRows(list[dict[str, Any]]):
    """Rows for `evaluate`: dicts with `inputs` and some of `ground_truth`, `id` and `span`, where the row comes from.

    A list that can be saved and loaded, and be changed like any other.
    """

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DatasetRows:
        """Read a file of JSON lines: one row a line. Empty lines are skipped.

        Raises:
            OSError: the file cannot be read.
            SettingError: a line is not a JSON object; the message names it.
        """
        rows = cls()
        for number, row in _lines(path):
            if isinstance(row, dict):
                rows.append(row)
                continue
            problem = str(row) if isinstance(row, ValueError) else f"it is a JSON {JSON_TYPES[type(row)]}"
            example = 'expected a JSON object such as {"inputs": {...}, "ground_truth": ...}'
            raise SettingError(f"{os.fspath(path)}, line {number}: {example}; {problem}.")
        return rows

    def save(self, path: str | os.PathLike[str]) -> int:
        """Append the rows to a file of JSON lines. A row is left out if the file has one with the same id.

        A new file is readable for the user alone. Values that JSON cannot represent become text.

        Returns:
            The number of rows that were written.

        Raises:
            OSError: the file cannot be written.
        """
        path = Path(path)
        known = {row["id"] for _, row in _lines(path) if _has_id(row)} if path.exists() else set()
        new = list(_without(self, known))
        text = "".join(f"{json_text(row)}\n" for row in new)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, FILE_MODE), "r+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                text = text if file.read() == b"\n" else "\n" + text
            file.write(text.encode("utf-8", "surrogatepass"))
        return len(new)

    def __repr__(self) -> str:
        inputs = dict.fromkeys(key for row in self for key in row.get("inputs") or ())
        expected = sum("ground_truth" in row for row in self)
        names = ", ".join(map(str, inputs)) or "none"
        rows = "1 row" if len(self) == 1 else f"{len(self):,} rows"
        return f"{rows} (inputs: {names}; {expected} with ground_truth)" if self else "no rows"


def datapoint_of(inputs: Any) -> Mapping[str, Any] | None:
    """The data point that `evaluate` ran, which its span has as the argument `dp`; None for other spans."""
    point = inputs.get("dp") if isinstance(inputs, Mapping) and len(inputs) == 1 else None
    return point if isinstance(point, Mapping) and "inputs" in point else None


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, Any]]:
    """Number and value of each line that is not empty; of a line that is not JSON, the error."""
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if text := line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").strip():
                yield number, _value(text)


def _value(line: bytes) -> Any:
    """The value of a line of JSON, or an error that says what is wrong without quoting the line."""
    try:
        return json.loads(line.decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError as error:
        return ValueError(f"byte {error.start + 1} is not UTF-8; save the file as UTF-8")
    except json.JSONDecodeError as error:
        return ValueError(f"it is not JSON: {error.msg} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:  # A number of thousands of digits, or very deep lists.
        return ValueError(f"it cannot be read: {error}")


def _has_id(row: Any) -> bool:
    return isinstance(row, Mapping) and isinstance(row.get("id"), str | int)


def _without(rows: Iterable[dict[str, Any]], known: set[Any]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if _has_id(row):
            if row["id"] in known:
                continue
            known.add(row["id"])
        yield row
