"""The committed table of honeyhive's surface is complete, and says of this package what is true."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hh_jupyter
import hh_jupyter.experiments
from hh_jupyter import settings
from hh_jupyter.settings import DEFAULTS, TABLE
from tests.contract.surface import OTHER_DEFAULTS, OTHERS, PARAMETER, Mark, official, table
from tests.pages import page

DATA = json.loads((Path(__file__).parents[1] / "data/surface/honeyhive-1.7.0.json").read_text(encoding="utf-8"))
MARKS = table()
DIFFERENT = {key for keys in OTHER_DEFAULTS for key in keys.split()}
CALLS = official(DATA)
SETTINGS = {name: default for fields in DATA["settings"].values() for name, default in fields.items()}
DOCUMENTED_OF_TRACE = (
    "source project session_id user_id session_name inputs outputs metadata metrics feedback config span_config error "
    "event_id tracer"
)
"""Keywords of `@trace` that its official signature does not name (contract, section 7; documentation)."""


def _parameters(text: str) -> list[inspect.Parameter]:
    """Parameters written as in a `def`; a default `...` is one that cannot be written down."""
    arguments = ast.parse(f"def f({text}): ...").body[0].args  # type: ignore[attr-defined]
    empty = inspect.Parameter.empty
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [empty] * (len(plain) - len(arguments.defaults)) + [ast.literal_eval(d) for d in arguments.defaults]
    kind = inspect.Parameter
    found = [kind(a.arg, kind.POSITIONAL_OR_KEYWORD, default=d) for a, d in zip(plain, defaults, strict=True)]
    found += [kind(arguments.vararg.arg, kind.VAR_POSITIONAL)] if arguments.vararg else []
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        value = empty if default is None else ast.literal_eval(default)
        found.append(kind(argument.arg, kind.KEYWORD_ONLY, default=value))
    return [*found, *([kind(arguments.kwarg.arg, kind.VAR_KEYWORD)] if arguments.kwarg else [])]


def _stars(parameter: inspect.Parameter) -> str:
    return str(parameter.replace(default=parameter.empty))


def _all_keys() -> Iterator[str]:
    for name, text in CALLS.items():
        yield name
        if MARKS.get(name, (Mark.NOT_OFFERED, ""))[0] is not Mark.NOT_OFFERED:
            yield from (f"{name}({_stars(parameter)})" for parameter in _parameters(text or ""))
    yield from (f"init({name})" for name in SETTINGS)


def _ours(name: str) -> Any:
    """What stands here under an official name; raises AttributeError if nothing does."""
    first, _, member = name.partition(".")
    found = getattr(hh_jupyter, first, None) or getattr(hh_jupyter.experiments, first)
    return getattr(found, member) if member else found


def _offered(name: str) -> bool:
    try:
        _ours(name)
    except AttributeError:
        return name.removeprefix("HoneyHiveTracer.") in _instance_attributes() and "." in name
    return True


def _instance_attributes() -> set[str]:
    with hh_jupyter.HoneyHiveTracer.init(test_mode=True) as tracer:
        return set(vars(tracer))


def test_nothing_official_is_missing_from_the_table_and_nothing_else_stands_in_it() -> None:
    keys = set(_all_keys())
    assert sorted(keys - set(MARKS)) == []
    assert sorted(set(MARKS) - keys) == []


@pytest.mark.parametrize("name", [name for name in CALLS if MARKS[name][0] is Mark.SAME])
def test_what_is_called_the_same_exists_and_takes_the_same(name: str) -> None:
    assert _offered(name)
    text = CALLS[name]
    if text is None:
        return
    function: Callable[..., Any] = _ours(name)
    ours = {p.name: p for p in inspect.signature(function).parameters.values() if p.name != "self"}
    kept = [p for p in _parameters(text) if MARKS[f"{name}({_stars(p)})"][0] is not Mark.NOT_OFFERED]
    positional = [p.name for p in kept if p.kind is p.POSITIONAL_OR_KEYWORD]
    own = [p.name for p in ours.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert own[: len(positional)] == positional, "positions"
    for parameter in kept:
        _assert_taken(name, parameter, ours)
    added = [p for p in ours.values() if p.name not in {known.name for known in kept}]
    assert all(p.default is not p.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in added), "added"


def _assert_taken(name: str, official: inspect.Parameter, ours: dict[str, inspect.Parameter]) -> None:
    open_ended = any(p.kind is p.VAR_KEYWORD for p in ours.values())
    if official.kind is official.VAR_KEYWORD:
        assert open_ended
    elif name == "HoneyHiveTracer" and official.name not in ours:
        assert official.name in {*TABLE, *settings.ARGUMENTS}
    elif official.name not in ours:
        assert open_ended, official.name
        assert name in ("trace", "atrace")
    elif f"{name}({official.name})" in DIFFERENT:
        assert ours[official.name].default != official.default
    elif official.default is ...:
        assert ours[official.name].default is not official.empty, official.name
    elif official.default is not official.empty:
        assert ours[official.name].default == official.default, official.name


@pytest.mark.parametrize("name", [name for name in MARKS if MARKS[name][0] is Mark.NOT_OFFERED])
def test_what_is_not_offered_does_not_exist(name: str) -> None:
    if call := PARAMETER.fullmatch(name):
        parameters = inspect.signature(_ours(call[1])).parameters.values()
        assert call[2] not in {_stars(parameter) for parameter in parameters}
    else:
        assert not _offered(name)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_setting_is_taken_with_the_official_default_or_ignored(name: str) -> None:
    if MARKS[f"init({name})"][0] is Mark.IGNORED:
        assert name in settings.ARGUMENTS
        assert name not in TABLE
        return
    assert name in TABLE
    if SETTINGS[name] is not None:  # None: taken from the environment, or nothing.
        assert DEFAULTS[name] == SETTINGS[name]


def test_trace_takes_the_keywords_that_are_documented() -> None:
    given: dict[str, Any] = {name: {"k": 1} for name in DOCUMENTED_OF_TRACE.split()}
    given["tracer"] = None
    assert hh_jupyter.trace(event_type="tool", **given)(len)([1]) == 1


def test_every_reason_is_one_sentence() -> None:
    for reason in (*(other.reason for other in OTHERS), *OTHER_DEFAULTS.values()):
        assert reason.endswith(".")
        assert ". " not in reason, reason
    assert set(MARKS) >= DIFFERENT


def test_every_name_of_ours_is_importable() -> None:
    for module in (hh_jupyter, hh_jupyter.experiments):
        assert [name for name in module.__all__ if not hasattr(importlib.import_module(module.__name__), name)] == []


def test_the_page_says_truly_what_is_importable_from_where() -> None:
    same = {name for name in CALLS if MARKS[name][0] is Mark.SAME and "." not in name}
    elsewhere = sorted(same - set(hh_jupyter.__all__))
    assert elsewhere == sorted(same & set(hh_jupyter.experiments.__all__) - set(hh_jupyter.__all__))
    said = " and ".join(f"`{name}`" for name in elsewhere)
    text = " ".join(page("from-honeyhive.md").split())
    assert f"The only exceptions are the types of results, {said}, which are in `hh_jupyter.experiments`." in text
