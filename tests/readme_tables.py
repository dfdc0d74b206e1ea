"""The README's generated tables. `python -m tests.readme_tables --write` (or `make readme`) puts them in anew."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from hh_jupyter.settings import DEFAULTS, TABLE

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)


def settings_table() -> str:
    """The settings as a Markdown table, one row each, in the order of the table in the code."""
    lines = ["| setting | environment | default | what it does |", "| --- | --- | --- | --- |"]
    for name, row in TABLE.items():
        variables = ", ".join(f"`{variable}`" for variable in row.env)
        title = f"`{name}`" if row.trait else f"`{name}` (1)"
        lines.append(f"| {title} | {variables} | {_default(DEFAULTS[name])} | {row.help} |")
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    return "" if value is None or value == () else f"`{value}`"


def with_tables(text: str) -> str:
    """The README's text with the tables as they must be.

    Raises:
        ValueError: the README has no place for them.
    """
    if not BLOCK.search(text):
        raise ValueError("the README has no block <!-- settings --> ... <!-- /settings -->")
    return BLOCK.sub(lambda _: settings_table(), text)


if __name__ == "__main__":
    current = README.read_text(encoding="utf-8")
    wanted = with_tables(current)
    if "--write" in sys.argv:
        README.write_text(wanted, encoding="utf-8")
    elif wanted != current:
        sys.exit("README.md is stale: make readme")
