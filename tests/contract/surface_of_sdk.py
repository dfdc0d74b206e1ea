"""The public surface of the official SDK as data: `python -m tests.contract.surface_of_sdk > FILE`.

Run by hand, from the root of the repository, by an interpreter that has the official package installed (this one is not
needed); the answer is committed as `tests/data/surface/honeyhive-<version>.json`. Only names, parameters and defaults
are read, with `inspect`.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from importlib import metadata
from types import ModuleType
from typing import Any

PACKAGE = "honeyhive"
MODULES = (PACKAGE, f"{PACKAGE}.tracer", f"{PACKAGE}.tracer.processing.context", f"{PACKAGE}.experiments")
CONFIGS = ("TracerConfig", "SessionConfig", "EvaluationConfig")
SINGLE = {f"{PACKAGE}.models": ("EventType",), f"{PACKAGE}.config.models": CONFIGS}
"""Names that the documentation's examples import, of modules that are otherwise no part of the tracer."""


def surface() -> dict[str, Any]:
    """Modules, the tracer's members and the settings, each by name; parameters as they stand in a `def`."""
    package = importlib.import_module(PACKAGE)
    tracer_class = package.HoneyHiveTracer
    configs = importlib.import_module(f"{PACKAGE}.config.models")
    return {
        "package": PACKAGE,
        "version": metadata.version(PACKAGE),
        "modules": {name: _names(importlib.import_module(name)) for name in MODULES}
        | {name: _members(importlib.import_module(name), names) for name, names in SINGLE.items()},
        "tracer": {
            "calls": dict(sorted(_calls(tracer_class))),
            "attributes": sorted(_attributes(tracer_class)),
        },
        "settings": {
            name: {field: _default(info.default) for field, info in getattr(configs, name).model_fields.items()}
            for name in CONFIGS
        },
    }


def _names(module: ModuleType) -> dict[str, Any]:
    """What the module exports: its `__all__`, else the public functions that it defines."""
    names = getattr(module, "__all__", None) or [
        name
        for name, member in vars(module).items()
        if not name.startswith("_") and inspect.isfunction(member) and member.__module__ == module.__name__
    ]
    return {name: _parameters(getattr(module, name)) for name in sorted(names)}


def _members(module: ModuleType, names: tuple[str, ...]) -> dict[str, Any]:
    """Classes, and the members of those that are enumerations; how they are made is nobody's business."""
    kinds = [getattr(module, name) for name in names]
    members = [f"{kind.__name__}.{name}" for kind in kinds for name in getattr(kind, "__members__", ())]
    return dict.fromkeys((*names, *members))


def _calls(cls: type) -> Iterator[tuple[str, Any]]:
    for name in dir(cls):
        if (not name.startswith("_") or name == "__init__") and callable(getattr(cls, name)):
            yield name, _parameters(getattr(cls, name))


def _attributes(cls: Any) -> set[str]:
    """Properties, and what an instance in test mode has besides methods."""
    properties = {name for name in dir(cls) if isinstance(inspect.getattr_static(cls, name), property)}
    return {name for name in properties | set(vars(cls.init(api_key="none", test_mode=True))) if name[0] != "_"}


def _parameters(member: Callable[..., Any]) -> str | None:
    """Parameters in order, with defaults and without types; None where there is no signature to be read."""
    try:
        parameters = inspect.signature(member).parameters.values()
    except Exception:  # boundary: metaclasses of other people; TypeError, ValueError and KeyError were seen.
        return None
    plain = [
        parameter.replace(
            annotation=parameter.empty,
            default=parameter.empty if parameter.default is parameter.empty else _default(parameter.default),
        )
        for parameter in parameters
        if parameter.name != "self"
    ]
    return str(inspect.Signature(plain))[1:-1].replace("=Ellipsis", "=...")


def _default(value: Any) -> Any:
    """A default as JSON holds it; what stands for "not given" is None, as it is here, and anything else `...`."""
    plain = value is None or isinstance(value, str | int | float)
    return value if plain else (None if _not_given(value) else ...)


def _not_given(value: Any) -> bool:
    return type(value).__name__ in ("_ExplicitType", "PydanticUndefinedType")


if __name__ == "__main__":
    print(json.dumps(surface(), indent=1))
