"""`%autoreload` with decorated functions: they run the new code wherever the undecorated ones would."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.driver import Kernel, kernel_with

MODULE = '''
import functools
import hh_jupyter as hh
from hh_jupyter import atrace, trace, trace_class

SUFFIX = "!"


def passing(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner


{decorator}
def plain(text="{version}"):
    """Documented: {version}."""
    return "{version}" + SUFFIX + text


{decorator}
async def coroutine():
    return "{version}" + SUFFIX


{decorator}
def generator():
    yield "{version}" + SUFFIX


{decorator}
async def stream():
    yield "{version}" + SUFFIX


class Base:
    def hello(self):
        return "{version}" + SUFFIX


class Agent(Base):
    {decorator}
    def method(self, text="{version}"):
        return "{version}" + SUFFIX + text

    {decorator}
    def hello(self):
        return super().hello() + "{version}"

    {decorator}
    async def later(self):
        return super().hello() + "{version}"

    {decorator}
    def items(self):
        yield super().hello() + "{version}"

    {decorator}
    @staticmethod
    def static():
        return "{version}" + SUFFIX

    @classmethod
    {decorator}
    def made(cls):
        return "{version}" + SUFFIX

    @property
    {decorator}
    def size(self):
        return "{version}" + SUFFIX


{class_decorator}
class Tool:
    def run(self):
        return "{version}" + SUFFIX

    async def later(self):
        return "{version}" + SUFFIX

    @staticmethod
    def static():
        return "{version}" + SUFFIX
'''
STACKED = """

{decorator}
@passing
def stacked():
    return "{version}" + SUFFIX


{decorator}
@functools.lru_cache
def cached():
    return "{version}" + SUFFIX


def closing(text):
    {decorator}
    def inner():
        return text + SUFFIX
    return inner


closed = closing("{version}")
"""
FUNCTIONS = ("plain", "coroutine", "generator", "stream")
"""The names of the functions in the module."""
METHODS = ("method()", "hello()", "later()", "items()", "static()", "made()", "size")
STACKED_FUNCTIONS = ("stacked", "cached", "closed")

SETUP = """
import inspect

async def value(found):
    if hasattr(found, "__anext__"):
        return [item async for item in found][0]
    if hasattr(found, "__await__"):
        return await found
    return next(found) if hasattr(found, "__next__") else found

def since(count):
    hh.get_tracer().wait_processed()
    return [(row.name, row.facts.event_type) for row in list(span_log().records())[count:]]
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel_with(tmp_path_factory.mktemp("modules")) as kernel:
        kernel.run(f"{SETUP}\n%load_ext autoreload")
        yield kernel


class Module:
    """A module of the user's in the kernel's folder, of which everything is imported in every way."""

    def __init__(self, kernel: Kernel, folder: Path, name: str, text: str, names: tuple[str, ...]) -> None:
        self.kernel, self.path, self.name, self.text, self.names = kernel, folder / f"{name}.py", name, text, names

    def write(self, version: str, decorator: str, class_decorator: str = "") -> None:
        lines = []
        for line in self.text.splitlines():
            if line.strip() in ("{decorator}", "{class_decorator}"):
                used = decorator if "{decorator}" in line else class_decorator
                lines += [line.replace(line.strip(), used)] if used else []
            else:
                lines.append(line.replace("{version}", version))
        earlier = self.path.stat().st_mtime if self.path.exists() else None
        self.path.write_text("\n".join(lines) + "\n")
        if earlier is not None:  # Autoreload looks at the time only.
            os.utime(self.path, (earlier + 10, earlier + 10))

    def load(self) -> None:
        names = ", ".join((*self.names, "Agent", "Tool"))
        cell = self.kernel.run(
            f"import {self.name}, {self.name} as alias\nfrom {self.name} import {names}\nagent, tool = Agent(), Tool()"
        )
        assert cell.reply == "ok", cell.tracebacks

    def values(self) -> dict[str, str]:
        """What everything returns now, by the expression in a cell."""
        agents, tools = ("agent", "Agent()", "alias.Agent()"), ("tool", "Tool()", "alias.Tool()")
        asked = [
            *(f"{place}{name}()" for place in ("", f"{self.name}.", "alias.") for name in self.names),
            *(f"{agent}.{method}" for agent in agents for method in METHODS),
            *(f"{tool}.{method}" for tool in tools for method in ("run()", "later()", "static()")),
        ]
        pairs = ", ".join(f"{one!r}: await value({one})" for one in asked)
        cell = self.kernel.run(f"count = len(list(span_log().records()))\n{{{pairs}}}")
        assert (cell.reply, cell.stderr) == ("ok", ""), cell.tracebacks
        found: dict[str, str] = ast.literal_eval(cell.results[0])
        return found

    def spans(self) -> list[tuple[str, str]]:
        """Name and event type of the spans of the last `values`."""
        found: list[tuple[str, str]] = ast.literal_eval(self.kernel.run("since(count)").results[0])
        return found

    def stale(self) -> dict[str, str]:
        return {name: text for name, text in self.values().items() if "old" in text or "new" not in text}


@pytest.fixture
def module(kernel: Kernel, request: pytest.FixtureRequest) -> Module:
    folder = Path(kernel.value("__import__('os').getcwd()"))
    name = "module_" + "".join(char if char.isalnum() else "_" for char in request.node.name)
    text = MODULE + (STACKED if "stacked" in request.node.name else "")
    return Module(kernel, folder, name, text, (*FUNCTIONS, *(STACKED_FUNCTIONS if text != MODULE else ())))


def autoreload(kernel: Kernel, mode: str, name: str) -> None:
    if mode.startswith("3") and kernel.versions[0] < 8:
        pytest.skip("no such mode")
    kernel.run(f"%autoreload {mode}" + (f"\n%aimport {name}" if mode == "1" else ""))


@pytest.mark.parametrize("mode", ["1", "2", "3"])
def test_new_code_runs_everywhere_with_the_right_spans(kernel: Kernel, module: Module, mode: str) -> None:
    module.write("old", "@trace", "@trace_class")
    module.load()
    autoreload(kernel, mode, module.name)
    assert set(module.values().values()) <= {"old!", "old!old"}
    before = module.spans()
    module.write("new", "@trace", "@trace_class")
    assert module.stale() == {}
    assert sorted(module.spans()) == sorted(before)
    assert len([name for name, _ in before if name.startswith("Tool.")]) == 9
    assert kernel.run("str(inspect.signature(plain)), plain.__doc__").results == [
        """("(text='new')", 'Documented: new.')"""
    ]


@pytest.mark.parametrize("decorator", ["@trace", "@atrace", "@hh.trace(event_type='model', event_name='mine')"])
@pytest.mark.parametrize("mode", ["2", "3"])
def test_a_decorator_can_be_added(kernel: Kernel, module: Module, mode: str, decorator: str) -> None:
    module.write("old", "", "")
    module.load()
    autoreload(kernel, mode, module.name)
    module.values()
    assert module.spans() == []
    module.write("new", decorator, "@trace_class" if mode == "3" or kernel.versions[0] < 9 else "")
    assert module.stale() == {}
    spans = module.spans()
    if "mine" in decorator:
        assert spans.count(("mine", "model")) == 3 * (len(FUNCTIONS) + len(METHODS))
    else:
        assert spans.count((f"{module.name}.plain", "tool")) == 3
        assert spans.count((f"{module.name}.hello", "tool")) == 3


@pytest.mark.parametrize("mode", ["2", "3"])
def test_a_decorator_can_be_removed(kernel: Kernel, module: Module, mode: str) -> None:
    module.write("old", "@trace", "@trace_class")
    module.load()
    autoreload(kernel, mode, module.name)
    assert len(module.values()) == len(module.spans())
    module.write("new", "", "")
    assert module.stale() == {}
    assert module.spans() == []
    module.write("newer", "@trace(event_type='chain')", "")
    assert module.stale() == {}
    assert (f"{module.name}.plain", "chain") in module.spans()


def test_arguments_of_the_decorator_can_be_changed(kernel: Kernel, module: Module) -> None:
    module.write("old", "@trace", "")
    module.load()
    autoreload(kernel, "2", module.name)
    module.values()
    module.write("new", "@trace(event_type='model', event_name='mine')", "")
    assert module.stale() == {}
    assert set(module.spans()) == {("mine", "model")}


def test_other_decorators_may_be_stacked_below(kernel: Kernel, module: Module) -> None:
    module.write("old", "@trace", "@trace_class")
    module.load()
    autoreload(kernel, "2", module.name)
    module.values()
    module.write("new", "@trace", "@trace_class")
    assert module.stale() == {}
    assert f"{module.name}.stacked" in [name for name, _ in module.spans()]


def test_importlib_reload_gives_the_module_its_new_code(kernel: Kernel, module: Module) -> None:
    module.write("old", "@trace", "@trace_class")
    module.load()
    autoreload(kernel, "0", module.name)
    module.write("new", "@trace", "@trace_class")
    assert kernel.run(f"import importlib; importlib.reload({module.name}).plain()").results == ["'new!new'"]
    assert all("new" in text for name, text in module.values().items() if name.startswith(("alias.", module.name)))


def test_a_traced_class_traces_what_autoreload_adds_to_it(kernel: Kernel, module: Module) -> None:
    module.write("old", "", "@trace_class")
    module.load()
    autoreload(kernel, "2", module.name)
    module.values()
    module.text = module.text.replace(
        "    def run(self):", "    def added(self):\n        return 'added'\n\n    def run(self):"
    )
    module.write("old", "", "@trace_class")
    assert kernel.run("count = len(list(span_log().records()))\nalias.Tool().added()").results == ["'added'"]
    assert module.spans() == [("Tool.added", "tool")]


@pytest.mark.parametrize("decorator", ["@hh.get_tracer().start_span('step')", "@hh.get_tracer().with_session('mine')"])
def test_start_span_and_with_session_as_decorators_reload_too(kernel: Kernel, module: Module, decorator: str) -> None:
    module.text = module.text.replace("async def stream():\n    yield", "async def stream():\n    return")
    module.text = module.text.replace("    {decorator}\n    @staticmethod\n", "    @staticmethod\n    {decorator}\n")
    module.write("old", decorator, "")
    module.load()
    autoreload(kernel, "2", module.name)
    module.values()
    module.write("new", decorator, "")
    assert module.stale() == {}
