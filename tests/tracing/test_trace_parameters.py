"""The parameters of `@trace`, as they arrive at the backend."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend


def _attributes(backend: Backend, tracer: HoneyHiveTracer) -> dict[str, Any]:
    assert tracer.force_flush()
    (span,) = backend.spans()
    found: dict[str, Any] = span["attributes"]
    return found


def test_parameters_become_fields_and_not_metadata(backend: Backend, tracer: HoneyHiveTracer) -> None:
    @hh.trace(event_type="tool", event_name="named", user_id="u", session_name="s", metadata={"own": 1})
    def work() -> None: ...

    work()
    found = _attributes(backend, tracer)
    assert {name for name in found if name.startswith("honeyhive_metadata")} == {"honeyhive_metadata.own"}
    assert (found["honeyhive_event_type"], found["honeyhive_event_name"]) == ("tool", "named")


def test_the_documented_fields_are_sent(backend: Backend, tracer: HoneyHiveTracer) -> None:
    @hh.trace(event_type="tool", config={"c": 1}, tags=["x"], user_properties={"u": 1})
    def work() -> None: ...

    work()
    found = _attributes(backend, tracer)
    assert (found["honeyhive_config.c"], found["honeyhive_user_properties.u"]) == (1, 1)
    assert "x" in [value for name, value in found.items() if "tags" in name]


def test_arguments_and_results_are_converted_alike_and_none_is_left_out(
    backend: Backend, tracer: HoneyHiveTracer
) -> None:
    value = {"pair": (1, "two"), "day": datetime.date(2024, 1, 2), "nothing": None}

    @hh.trace(event_type="tool")
    def work(pair: Any, day: Any, nothing: Any) -> Any:
        return value

    work(**value)
    found = _attributes(backend, tracer)
    for name in value:
        assert found.get(f"honeyhive_inputs.{name}") == found.get(f"honeyhive_outputs.result.{name}")
    assert (found["honeyhive_inputs.pair"], found["honeyhive_inputs.day"]) == ('[1, "two"]', "2024-01-02")
    assert "honeyhive_inputs.nothing" not in found


def test_the_exception_of_a_coroutine_function_is_untouched(tracer: HoneyHiveTracer) -> None:
    thrown = ValueError("boom")

    @hh.trace(event_type="tool")
    async def work() -> None:
        raise thrown

    with pytest.raises(ValueError, match="boom") as caught:
        asyncio.run(work())
    assert caught.value is thrown
    assert (thrown.__cause__, thrown.__context__) == (None, None)


def test_a_session_id_is_sent_as_a_uuid_everywhere(backend: Backend, tracer: HoneyHiveTracer) -> None:
    """The backend accepts only UUIDs as session ids; the original text is sent as well."""

    @hh.trace(event_type="tool", session_id="conversation 7")
    def work() -> None: ...

    work()
    found = _attributes(backend, tracer)
    made = tracer.create_session("the same", session_id="conversation 7")
    assert found["honeyhive_session_id"] == found["honeyhive.session_id"] == made
    assert found["honeyhive_metadata.session_id_given"] == "conversation 7"


def test_a_span_in_another_session_does_not_inherit_source_and_project(
    backend: Backend, tracer: HoneyHiveTracer
) -> None:
    other = "77777777-7777-4777-8777-777777777777"

    def work() -> None: ...

    with tracer.with_session("qa", source="qa") as current:
        hh.trace(event_name="moved", session_id=other)(work)()
        hh.trace(event_name="told", session_id=other, source="prod")(work)()
        hh.trace(event_name="stayed", session_id=current)(work)()
        hh.trace(event_name="inside")(work)()
        with hh.enrich_span_context("block", session_id=other, tracer_instance=tracer):
            pass
    assert tracer.force_flush()
    sources = {span["name"]: span["attributes"]["honeyhive.source"] for span in backend.spans()}
    assert sources == {"moved": "dev", "told": "prod", "stayed": "qa", "inside": "qa", "block": "dev"}
