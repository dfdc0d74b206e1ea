"""The official SDK's other way to give settings: config objects in front of the keywords."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hh_jupyter.errors import SettingTypeError
from hh_jupyter.settings import TABLE


def with_config_objects(objects: Mapping[str, Any], keywords: Mapping[str, Any], called: str) -> dict[str, Any]:
    """Settings from config objects and keywords; later objects beat earlier ones, keywords beat all of them.

    Args:
        objects: parameter name to a dict, a pydantic model, or any object that has the settings as attributes.
            Of a model only what somebody set is taken: its defaults are not ours.
        keywords: None means not given.

    Raises:
        SettingTypeError: an object that has no settings in it, such as a key given by position or a class's instance
            with other attributes.
    """
    settings: dict[str, Any] = {}
    for name, value in objects.items():
        if value is not None:
            settings.update(_fields(called, name, value))
    settings.update({name: value for name, value in keywords.items() if value is not None})
    return settings


def _fields(called: str, name: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        found: Mapping[Any, Any] = value
    elif callable(getattr(value, "model_dump", None)) and not isinstance(value, type):
        found = value.model_dump(exclude_unset=True)
    elif hasattr(value, "__dict__") and not callable(value) and _holds_settings(value):
        found = vars(value)
    else:
        raise SettingTypeError(
            f"{called}: {name} must be a dict or a config object; got {_kind(value)}. "
            "Settings are given by name: api_key=..."
        )
    return {str(field): item for field, item in found.items() if item is not None and not str(field).startswith("_")}


def _holds_settings(value: Any) -> bool:
    from hh_jupyter.setting_unused import ARGUMENTS

    return any(field in TABLE or field in ARGUMENTS for field in vars(value))


def _kind(value: Any) -> str:
    """The type, without the value, which may be a key: `HoneyHiveTracer("...")`."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    without = ", none of whose attributes is a setting" if hasattr(value, "__dict__") and not callable(value) else ""
    return f"a {type(value).__name__}{without}"
