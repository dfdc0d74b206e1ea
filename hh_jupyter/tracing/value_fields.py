"""The fields of records: dataclasses, named tuples, attrs, pydantic (1 and 2) and msgspec, none of them imported.

A field that its class keeps out of the repr is left out here as well: that is where secrets are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any


def fields_of(value: Any, kind: type) -> Mapping[str, Any] | None:
    """Fields by name, as declared; None if `kind`, the value's type, is no record."""
    if issubclass(kind, tuple):
        names = getattr(kind, "_fields", None)
        return dict(zip(names, tuple.__iter__(value), strict=False)) if isinstance(names, tuple) else None
    declared = getattr(kind, "__dataclass_fields__", None)
    if isinstance(declared, dict):
        return _read(value, (field.name for field in dataclasses.fields(value) if field.repr))
    for fields in (getattr(kind, "__pydantic_fields__", None), getattr(kind, "model_fields", None)):
        if isinstance(fields, Mapping):
            return _pydantic(value, fields)
    attributes = getattr(kind, "__attrs_attrs__", None)
    if isinstance(attributes, tuple):
        return _read(value, (attribute.name for attribute in attributes if attribute.repr))
    names = getattr(kind, "__struct_fields__", None)  # msgspec
    if isinstance(names, tuple):
        return _read(value, names)
    if issubclass(kind, SimpleNamespace) or isinstance(getattr(kind, "__fields__", None), dict):  # pydantic 1
        return dict(vars(value))
    return None


def _pydantic(value: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """From the instance's own dict, since a model may compute on attribute access; undeclared fields come last."""
    found = vars(value)
    shown = {name: found[name] for name, field in fields.items() if name in found and getattr(field, "repr", True)}
    return {**shown, **(getattr(value, "__pydantic_extra__", None) or {})}


def _read(value: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: _attribute(value, name) for name in names}


def _attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # boundary: a computed field may do anything; the others are still worth showing.
        return "<unreadable>"
