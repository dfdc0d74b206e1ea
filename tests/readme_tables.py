"""The README's generated tables. `python -m tests.readme_tables --write` (or `make readme`) puts them in anew."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hh_jupyter.notebook.parser import SESSION_FORMS, HHParser, session_parser
from hh_jupyter.settings import DEFAULTS, TABLE, UNUSED
from tests.contract.surface import differences_table

README = Path(__file__).parents[1] / "README.md"
LOADING = ("%load_ext hh_jupyter", "Sets up one tracer for this kernel; prints in one line where spans are sent.")


def magics_table() -> str:
    """The magics, one row for each form."""
    sessions = ((f"{form} NAME", says) for form, says in SESSION_FORMS.items())
    commands = ((command.synopsis, command.description or "") for command in HHParser().commands.values())
    return _table("magic", (LOADING, *sessions, *commands))


def session_options_table() -> str:
    """The arguments of the session magics."""
    return _table("option", session_parser().rows())


def command_options_table() -> str:
    """The arguments and options of the commands of `%hh`."""
    commands = HHParser().commands.values()
    return _table(
        "option", ((f"{command.prog} {words}", says) for command in commands for words, says in command.rows())
    )


def _table(first: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {first} | what it does |", "| --- | --- |"]
    lines += [f"| `{_escaped(left.rstrip())}` | {_escaped(right)} |" for left, right in rows]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


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


def unused_table() -> str:
    """What is accepted and has nothing to do here, with the reason."""
    lines = ["| argument | environment | why nothing happens |", "| --- | --- | --- |"]
    for reason, names in UNUSED.items():
        quoted = [f"`{name}`" for name in names.split()]
        arguments, variables = (", ".join(filter(case, quoted)) for case in (str.islower, str.isupper))
        lines.append(f"| {arguments} | {variables} | {reason} |")
    return "\n".join(lines) + "\n"


TABLES = {
    "magics": magics_table,
    "session options": session_options_table,
    "command options": command_options_table,
    "settings": settings_table,
    "unused settings": unused_table,
    "differences": differences_table,
}
"""Name of a block in the README -> what stands between `<!-- name -->` and `<!-- /name -->`."""


def with_tables(text: str) -> str:
    """The README's text with the tables as they must be.

    Raises:
        ValueError: the README has no place for them.
    """
    for name, table in TABLES.items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not end:
            raise ValueError(f"the README has no block <!-- {name} --> ... <!-- /{name} -->")
        text = before + start + table() + end + after
    return text


if __name__ == "__main__":
    current = README.read_text(encoding="utf-8")
    wanted = with_tables(current)
    if "--write" in sys.argv:
        README.write_text(wanted, encoding="utf-8")
    elif wanted != current:
        sys.exit("README.md is stale: make readme")
