"""The hint for a cell that used an LLM library which nothing traces: else it looks as if nothing had happened."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, Final

from hh_jupyter.notebook.libraries import LIBRARIES, Library, is_installed, library_of

_DEEPEST: Final = 3
"""The user's functions that call each other are followed so far."""

_MAGIC_BODY: Final = frozenset({"run_cell_magic"})


class UntracedHint:
    """Says once for each library that it is not traced.

    Args:
        is_traced: by the library's name.
        transform: IPython's cell text -> Python.
        names: the user's namespace.
    """

    def __init__(
        self, is_traced: Callable[[str], bool], transform: Callable[[str], str], names: Mapping[str, Any]
    ) -> None:
        self._is_traced, self._transform, self._names = is_traced, transform, names
        self._said: set[str] = set()

    def of(self, cell: str) -> str | None:
        """The line for a cell that made no spans, or None.

        Args:
            cell: its text.
        """
        loaded = {name for name, library in LIBRARIES.items() if library.modules[0] in sys.modules} - self._said
        if not loaded:
            return None
        for library in _used(_parsed(self._transform(cell)), self._names):
            if library.name in loaded and not self._is_traced(library.name) and is_installed(library.distribution):
                self._said.add(library.name)
                return f"hh: {library.name} is not traced. %hh instrument {library.name}"
        return None


def _parsed(code: str) -> list[ast.AST]:
    """The cell's code, and what stands below a magic in it."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return []
    trees: list[ast.AST] = [tree]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MAGIC_BODY:
            body = node.args[-1] if node.args else None
            if isinstance(body, ast.Constant) and isinstance(body.value, str):
                trees += _parsed(body.value)
    return trees


def _used(trees: Iterable[ast.AST], names: Mapping[str, Any]) -> Iterator[Library]:
    """The libraries whose objects are called, or handed to a call, in this code or in the user's functions it calls.

    An import is no use, nor is making a client: `openai.OpenAI()` sends nothing.
    """
    for tree in trees:
        for node in _run(tree):
            name, last = _root(node.func), _last(node.func)
            if name is not None and name in names:
                yield from _of_callee(names[name], last, names)
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(argument, ast.Name) and (found := _of_object(names.get(argument.id))) is not None:
                    yield found


def _run(tree: ast.AST) -> Iterator[ast.Call]:
    """The calls in code that runs at once: not those in the functions that it defines."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call):
            yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _of_callee(value: Any, last: str | None, names: Mapping[str, Any]) -> Iterator[Library]:
    if isinstance(value, ModuleType):
        found = library_of(value.__name__)
        if found is not None and last is not None and not last[:1].isupper():
            yield found
    elif isinstance(value, type):
        found = library_of(value.__module__ or "")
        if found is not None and last is not None:  # A method of what was made: `ChatOpenAI().invoke()`.
            yield found
    elif isinstance(value, FunctionType):
        yield from _of_function(value, names)
    elif (found := _of_object(value)) is not None:
        yield found


def _of_function(function: FunctionType, names: Mapping[str, Any]) -> Iterator[Library]:
    """The library of a function of one; of the user's own those of what it refers to."""
    found = library_of(function.__module__ or "")
    if found is not None:
        yield found
        return
    waiting, seen = [(function, 0)], {function}
    while waiting:
        own, depth = waiting.pop()
        if own.__globals__ is not names and own.__module__ != "__main__":
            continue
        for name in own.__code__.co_names:
            value = names.get(name)
            if isinstance(value, FunctionType) and value not in seen and depth < _DEEPEST:
                seen.add(value)
                waiting.append((value, depth + 1))
            elif isinstance(value, ModuleType):
                if (found := library_of(value.__name__)) is not None:
                    yield found
            elif (found := _of_object(value)) is not None:
                yield found


def _of_object(value: Any) -> Library | None:
    """The library whose class this object is of."""
    if value is None or isinstance(value, ModuleType | type | FunctionType):
        return None
    return library_of(type(value).__module__ or "")


def _root(node: ast.AST) -> str | None:
    """`client` in `client.chat.completions.create`, through calls and items."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Await):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _last(node: ast.AST) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else None
