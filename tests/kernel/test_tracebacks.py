"""IPython shows the user's frames of an exception, whatever kind of function was decorated."""

from __future__ import annotations

import re

import pytest

from tests.kernel.driver import Kernel

DEFINED = """
import contextlib
{decorator}
def function(): return 1 / 0
{decorator}
async def coroutine(): return function()
{decorator}
def generator():
    yield 1
    function()
{decorator}
def delegating(): yield from generator()
{decorator}
async def stream():
    yield 1
    await coroutine()
@contextlib.contextmanager
{decorator}
def managed(): yield from generator()
{class_decorator}
class Tool:
    def run(self): return list(generator())
    async def later(self): return [item async for item in stream()]
def thrown(made):
    next(made)
    made.throw(KeyError("thrown"))
async def athrown(made):
    await anext(made)
    await made.athrow(KeyError("thrown"))
async def asent(made):
    await anext(made)
    await made.asend(2)
def in_block():
    with managed():
        pass
"""
CALLS = (
    "function()",
    "await coroutine()",
    "list(generator())",
    "list(delegating())",
    "[item async for item in stream()]",
    "thrown(generator())",
    "thrown(delegating())",
    "await athrown(stream())",
    "await asent(stream())",
    "in_block()",
    "Tool().run()",
    "await Tool().later()",
)


def shown(kernel: Kernel, call: str) -> list[str]:
    """The frames of the traceback and their current lines, without colors, cell numbers and addresses."""
    cell = kernel.run(call)
    assert cell.reply == "error"
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(cell.tracebacks))
    text = re.sub(r"(?:In\s*\[|Cell In\s*\[|ipython-input-|ipykernel_|0x)[\w.\-/]+", "#", text)
    return [" ".join(line.split()) for line in text.splitlines() if re.match(r"-+>|#|~|/|File|\w+Error|.*hidden", line)]


def define(kernel: Kernel, decorator: str, class_decorator: str) -> None:
    kernel.run(DEFINED.replace("{decorator}", decorator).replace("{class_decorator}", class_decorator))


@pytest.mark.slow
@pytest.mark.parametrize("xmode", ["Context", "Verbose"])
def test_tracebacks_are_the_same_as_without_decorators(fresh: Kernel, xmode: str) -> None:
    fresh.run(f"same = lambda function: function\n%xmode {xmode}")
    define(fresh, "@same", "@same")
    plain = {call: shown(fresh, call) for call in CALLS}
    define(fresh, "@hh.trace", "@hh.trace_class")
    for call in CALLS:
        assert shown(fresh, call) == plain[call]
