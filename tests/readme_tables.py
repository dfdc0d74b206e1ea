"""The generated tables of README and manual. `python -m tests.readme_tables --write` (or `make readme`) writes them."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from typing import Any

import nbformat

from hh_jupyter.__main__ import add_commands
from hh_jupyter.notebook.instrument import OWN_TRACING, PREFERRED
from hh_jupyter.notebook.libraries import LIBRARIES, InstrumentorFamily, Library
from hh_jupyter.notebook.parser import SESSION_FORMS, HHParser, session_parser
from hh_jupyter.settings import DEFAULTS, TABLE, UNUSED
from tests.contract.surface import differences_table
from tests.pages import DOCUMENTS, ROOT

LIBRARIES_NOTEBOOK = ROOT / "notebooks" / "03_libraries.ipynb"
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


def commands_table() -> str:
    """The commands of `python -m hh_jupyter`."""
    program = "python -m hh_jupyter"
    commands = add_commands(argparse.ArgumentParser(program)).items()
    return _table("command", ((f"{program} {name}", parser.description or "") for name, parser in commands))


def libraries_table() -> str:
    """The LLM libraries that `%hh instrument` knows: what traces each, and what to install for it."""
    lines = ["| library | imported as | what traces it | to install beside it |", "| --- | --- | --- | --- |"]
    for name, library in LIBRARIES.items():
        modules = ", ".join(f"`{module}`" for module in library.modules)
        by, install = _traced_by(library)
        lines.append(f"| `{name}` | {modules} | {by} | {install} |")
    return "\n".join(lines) + "\n"


def _traced_by(library: Library) -> tuple[str, str]:
    """What traces a library, and the line that installs it."""
    own = InstrumentorFamily.OWN.title
    is_openinference = library.package.startswith("openinference-")
    family = InstrumentorFamily.OPENINFERENCE if is_openinference else InstrumentorFamily.OPENLLMETRY
    install = f"`pip install {library.package}`"
    if library.complete or library.name in PREFERRED:
        return own, f"nothing; for versions without it {install}" if library.package else "nothing"
    if library.tracing:
        return f"{family.title}; without it {own}, which leaves messages out", install
    return family.title + (f"; without it {own}" if library.name in OWN_TRACING else ""), install


TABLES = {
    "magics": magics_table,
    "session options": session_options_table,
    "command options": command_options_table,
    "settings": settings_table,
    "unused settings": unused_table,
    "differences": differences_table,
    "commands": commands_table,
    "libraries": libraries_table,
}
"""Name of a table -> what stands between `<!-- name -->` and `<!-- /name -->`, in any document."""

_BLOCK = re.compile(rf"(<!-- ({'|'.join(TABLES)}) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def tables_in(text: str) -> set[str]:
    """The names of the tables in a document."""
    return {match[2] for match in _BLOCK.finditer(text)}


def with_tables(text: str) -> str:
    """A document with its tables as they must be."""
    return _BLOCK.sub(lambda match: match[1] + TABLES[match[2]]() + match[3], text)


def notebook_with_table(text: str) -> str:
    """The text of the notebook about libraries, with its table as it must be."""
    notebook = nbformat.reads(text, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = with_tables(cell.source)
    return str(nbformat.writes(notebook)) + "\n"


if __name__ == "__main__":
    stale = {path: new for path in DOCUMENTS if (new := with_tables(old := path.read_text("utf-8"))) != old}
    if (new := notebook_with_table(old := LIBRARIES_NOTEBOOK.read_text("utf-8"))) != old:
        stale[LIBRARIES_NOTEBOOK] = new
    if "--write" not in sys.argv and stale:
        sys.exit(f"stale: {', '.join(path.name for path in stale)}. Run: make readme")
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
