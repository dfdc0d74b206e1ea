"""`start_span` applies its arguments, and sets each attribute once."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.trace import Link

from hh_jupyter import HoneyHiveTracer, SettingTypeError
from hh_jupyter.testing import Backend


def test_attributes_are_set_once_with_their_types(backend: Backend, tracer: HoneyHiveTracer) -> None:
    given = {"a.b": 1, "c-d": 2, "list": [1, 2], "text": "x"}
    with tracer.start_span("work", attributes=given):
        pass
    assert tracer.force_flush()
    attributes = backend.spans("work")[0]["attributes"]
    own = {name: value for name, value in attributes.items() if not name.startswith(("honeyhive", "traceloop"))}
    # Lists are flattened; a list does not become text.
    assert own in (given, {"a.b": 1, "c-d": 2, "list.0": 1, "list.1": 2, "text": "x"})


@pytest.mark.parametrize(
    ("switch", "events", "status"), [("record_exception", 0, "ERROR"), ("set_status_on_exception", 1, "UNSET")]
)
def test_recording_an_exception_can_be_switched_off(
    switch: str, events: int, status: str, backend: Backend, tracer: HoneyHiveTracer
) -> None:
    with pytest.raises(ValueError, match="boom"), tracer.start_span("work", **{switch: False}):  # type: ignore[arg-type]
        raise ValueError("boom")
    assert tracer.force_flush()
    (span,) = backend.spans()
    assert (len(span["events"]), span["status"]["code"]) == (events, status)


@pytest.mark.parametrize("protocol", ["http/json", "http/protobuf"])
def test_links_arrive_with_both_protocols(protocol: str, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HH_OTLP_PROTOCOL", protocol)
    with HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url) as tracer:
        with tracer.start_span("cause") as cause:
            pass
        with tracer.start_span("effect", links=[Link(cause.get_span_context(), {"why": "test"})]):
            pass
        assert tracer.force_flush()
    (link,) = backend.spans("effect")[0]["links"]
    assert (link["span_id"], link["attributes"]) == (backend.spans("cause")[0]["span_id"], {"why": "test"})


def test_as_a_decorator_it_makes_a_span_for_each_call(backend: Backend, tracer: HoneyHiveTracer) -> None:
    """As with the official client's context managers. Calls may overlap and fail."""

    @tracer.start_span("count")
    def count(number: int) -> int:
        return number + count(number - 1) if number else 0

    @tracer.trace("ask", event_type="model")
    async def ask(question: str) -> str:
        await asyncio.sleep(0)
        raise ValueError(question)

    async def main() -> list[str | BaseException]:
        return list(await asyncio.gather(ask("one"), ask("two"), return_exceptions=True))

    assert count(2) == 3
    assert [str(answer) for answer in asyncio.run(main())] == ["one", "two"]
    assert tracer.force_flush()
    innermost, inner, outer = backend.spans("count")
    assert (outer["parent_span_id"], inner["parent_span_id"]) == (None, outer["span_id"])
    assert innermost["parent_span_id"] == inner["span_id"]
    assert [span["status"]["message"] for span in backend.spans("ask")] == ["ValueError: one", "ValueError: two"]
    assert {span["attributes"]["honeyhive_event_type"] for span in backend.spans("ask")} == {"model"}
    with pytest.raises(SettingTypeError, match="function must be a function"):
        tracer.start_span("class")(dict)
