"""Which cells cause the hint that a library is not traced."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from hh_jupyter.notebook.instrument import UntracedHint

pytestmark = pytest.mark.usefixtures("clients_dropped")

CELLS_BEFORE = """
import openai
from openai import OpenAI
from openai._utils import is_given
client = OpenAI(api_key="sk-test")
def ask(): return client.chat
def outer(): return ask()
def check(): return is_given(1)
def make(): return OpenAI()
def again(): return again()
"""


@functools.cache
def user_names() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(CELLS_BEFORE, names)
    return names


def hint(cell: str, *, traced: bool = False) -> str | None:
    return UntracedHint(lambda name: traced, TransformerManager().transform_cell, user_names()).for_cell(cell)


@pytest.mark.parametrize(
    "cell",
    [
        "client.chat.completions.create()",
        "answers = [client.chat() for _ in range(3)]",
        "(await client.chat())()",
        "OpenAI().chat()",
        "openai.chat()",
        "is_given(1)",
        "print(client)",
        "print(end=client)",
        "ask()",
        "outer()",
        "check()",
        "asyncio.run(ask())",
        "class Batch:\n    answer = client.chat()",
        "%%time\nclient.chat()",
        "%%time\nask()",
    ],
)
def test_a_cell_that_uses_a_library_directly_or_by_functions_causes_the_hint(cell: str) -> None:
    assert hint(cell) == "hh: openai is not traced. %hh instrument openai"
    assert hint(cell, traced=True) is None


@pytest.mark.parametrize(
    "cell",
    [
        "client",
        "import openai",
        "openai.OpenAI()",
        "OpenAI()",
        "make()",
        "again()",
        "help(openai)",
        "isinstance(1, OpenAI)",
        "def later():\n    client.chat()",
        "later = lambda: client.chat()",
        "unknown.chat()",
        "get_ipython().run_cell_magic()",
        "client.chat(",
    ],
)
def test_a_cell_that_only_prepares_to_use_a_library_causes_no_hint(cell: str) -> None:
    assert hint(cell) is None
