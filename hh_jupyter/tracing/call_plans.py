"""What the parameters of `@trace` mean for each call: they are read once, when the function is decorated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from hh_jupyter import attributes as keys
from hh_jupyter.errors import SettingTypeError
from hh_jupyter.tracing.arguments import unknown_parameter
from hh_jupyter.tracing.callables import without_partial
from hh_jupyter.tracing.calls import CallPlan, argument_reader
from hh_jupyter.tracing.enrichment import span_attributes
from hh_jupyter.tracing.serialize import flatten, text_of
from hh_jupyter.tracing.session import session_uuid
from hh_jupyter.tracing.session_baggage import SESSION_KEYS

if TYPE_CHECKING:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

_FIELDS: Final = {
    "event_type": keys.EVENT_TYPE,
    "event_id": keys.EVENT_ID,
    "user_id": keys.USER_ID,
    "session_name": keys.SESSION_NAME,
    "source": keys.EVENT_SOURCE,
    "project": keys.EVENT_PROJECT,
    "session_id": keys.EVENT_SESSION_ID,
}
_PARAMETERS: Final = frozenset({*_FIELDS, *keys.NAMESPACES, "span_config", "error", "tags"})


def plan_maker(
    given: Mapping[str, Any],
    event_name: str | None,
    tracer: HoneyHiveTracer | None,
    outputs: Mapping[str, Any] | None,
    capture_inputs: bool | None,
    capture_outputs: bool | None,
) -> Callable[[Callable[..., Any]], CallPlan]:
    """What makes the plan of a function that is decorated with these parameters.

    Args:
        given: the parameters that are not among the following, by name.

    Raises:
        SettingTypeError: one of them is unknown.
    """
    unknown = [name for name in given if name not in _PARAMETERS]
    if unknown:
        known = (*_PARAMETERS, "event_name", "tracer", "capture_inputs", "capture_outputs")
        raise SettingTypeError(unknown_parameter("trace", unknown[0], known))
    moves, moved_to = _moves(given)
    attributes = {**_attributes(given, event_name, outputs), **moved_to}

    def make(function: Callable[..., Any]) -> CallPlan:
        return CallPlan(
            name=text_of(event_name or _name_of(function)),
            tracer=tracer,
            attributes=attributes,
            baggage=moves,
            arguments=argument_reader(function),
            capture_inputs=capture_inputs,
            capture_result=False if outputs is not None else capture_outputs,
        )

    return make


def _attributes(given: Mapping[str, Any], event_name: str | None, outputs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The attributes that the parameters become."""
    found = {_FIELDS[name]: text_of(value) for name, value in given.items() if name in _FIELDS and value is not None}
    if event_name:
        found[keys.EVENT_NAME] = text_of(event_name)
    namespaces = {name: given.get(name) for name in keys.NAMESPACES if name != "outputs"}
    namespaces["config"] = given.get("config") or given.get("span_config")
    tags = {"tags": given["tags"]} if given.get("tags") is not None else {}
    return {
        **found,
        **span_attributes(namespaces, error=given.get("error"), extra=tags),
        **(flatten(keys.OUTPUTS, outputs) if outputs is not None else {}),
    }


def _moves(given: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Where a call is moved to, session, source or project: entries of the baggage, and attributes that say so."""
    # The parameters are called as the entries of the baggage are.
    moves = {name: text_of(given[name]) for name in SESSION_KEYS if given.get(name) is not None}
    if keys.BAGGAGE_SESSION_ID not in moves:
        return moves, {}
    final_id, text = session_uuid(moves[keys.BAGGAGE_SESSION_ID])
    moves[keys.BAGGAGE_SESSION_ID] = final_id
    said = {keys.EVENT_SESSION_ID: final_id}
    return moves, said if text is None else {**said, keys.SESSION_ID_GIVEN: text}


def _name_of(function: Any) -> str:
    function = without_partial(function)
    module, name = getattr(function, "__module__", None), getattr(function, "__name__", type(function).__name__)
    return f"{module}.{name}" if module else name
