"""The README's section on runtimes shows the programs of this folder word for word."""

from __future__ import annotations

import re

import pytest

from tests.guide.conftest import source_of
from tests.readme_tables import README

TITLE = "## Where to initialise"
SHOWN = (
    "script",
    "fastapi_middleware",
    "flask_middleware",
    "django_settings",
    "lambda_handler",
    "fastapi_app",
    "chat",
    "caller",
    "service",
    "pool",
)


def test_each_code_block_is_the_beginning_of_a_tested_program() -> None:
    section = README.read_text("utf-8").partition(f"\n{TITLE}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == len(SHOWN), f"README.md: {TITLE}"
    for block, name in zip(blocks, SHOWN, strict=True):
        assert source_of(name).startswith(block), f"the block of {name} is not the beginning of that program"


@pytest.mark.parametrize("name", SHOWN)
def test_each_program_uses_only_public_names(name: str) -> None:
    modules = re.findall(r"^(?:from|import) (hh_jupyter\S*)", source_of(name), re.MULTILINE)
    assert [module for module in modules if module != "hh_jupyter" and ".runtimes." not in module] == []
