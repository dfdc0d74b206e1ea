"""The page on services shows the programs of this folder word for word."""

from __future__ import annotations

import re

import pytest

from tests.guide.conftest import source_of
from tests.pages import blocks, page

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
    section = page("services.md").partition(f"\n{TITLE}\n")[2].partition("\n## ")[0]
    shown = [block.code for block in blocks(section)]
    assert len(shown) == len(SHOWN), f"services.md: {TITLE}"
    for block, name in zip(shown, SHOWN, strict=True):
        assert source_of(name).startswith(block), f"the block of {name} is not the beginning of that program"


@pytest.mark.parametrize("name", SHOWN)
def test_each_program_uses_only_public_names(name: str) -> None:
    modules = re.findall(r"^(?:from|import) (hh_jupyter\S*)", source_of(name), re.MULTILINE)
    assert [module for module in modules if module != "hh_jupyter" and ".runtimes." not in module] == []
