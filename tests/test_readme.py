"""The README says what the code does: its tables come from the code, its links and commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import hh_jupyter
from tests.readme_tables import README, with_tables

ROOT = README.parent
TEXT = README.read_text(encoding="utf-8")


def test_the_settings_table_is_the_one_in_the_code() -> None:
    assert with_tables(TEXT) == TEXT, "run: make readme"


def test_every_file_the_readme_links_to_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link and not link.startswith("#")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z-]+)", TEXT))
    assert named
    assert [target for target in sorted(named) if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_every_name_the_readme_imports_is_public() -> None:
    imports = re.findall(r"^from hh_jupyter import ([\w, ]+)", TEXT, re.MULTILINE)
    names = {name.strip() for line in imports for name in line.split(",")}
    assert names
    assert names <= set(hh_jupyter.__all__)


def test_every_command_of_the_magic_is_in_the_readme() -> None:
    """The commands are read from the help that `%hh?` shows."""
    from hh_jupyter.notebook.magics import HHMagics

    help_text = (HHMagics.hh.__doc__ or "").partition("Commands::")[2]
    commands = re.findall(r"^\s+([a-z]+)\s", help_text, re.MULTILINE)
    assert "instrument" in commands
    assert [command for command in commands if f"`%hh {command}" not in TEXT] == []


def test_the_examples_of_the_readme_compile() -> None:
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        compile(block, f"README.md block {number}", "exec")


def test_nothing_of_the_machine_it_was_written_on_is_named() -> None:
    for path in (README, ROOT / "CHANGELOG.md", *Path(ROOT / "notebooks").glob("*.ipynb")):
        assert not re.search(r"/(home|root|work|tmp|Users)/", path.read_text(encoding="utf-8")), path.name
