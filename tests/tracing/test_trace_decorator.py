"""`@trace` records the calls of a function and does not change its behaviour."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer, SettingTypeError, enrich_span, trace, trace_class
from hh_jupyter.testing import Backend


def spans_of(backend: Backend, tracer: HoneyHiveTracer) -> dict[str, dict[str, Any]]:
    """Spans by name, after a flush."""
    assert tracer.force_flush()
    return {span["name"]: span for span in backend.spans()}


def test_arguments_defaults_and_result_are_recorded(backend: Backend, tracer: HoneyHiveTracer) -> None:
    @trace(event_type="tool", event_name="add")
    def add(a: int, b: int = 2, nothing: object = None, *rest: int, key: str = "k") -> dict[str, Any]:
        return {"sum": a + b, "parts": [a, None, b]}

    assert add(1) == {"sum": 3, "parts": [1, None, 2]}
    attributes = spans_of(backend, tracer)["add"]["attributes"]
    captured = {name: value for name, value in attributes.items() if "puts" in name}
    assert captured == {
        "honeyhive_inputs.a": 1,
        "honeyhive_inputs.b": 2,
        "honeyhive_inputs.key": "k",
        "honeyhive_outputs.result.sum": 3,
        "honeyhive_outputs.result.parts.0": 1,
        "honeyhive_outputs.result.parts.2": 2,
    }
    assert attributes["honeyhive_duration_ms"] >= 0


def test_an_exception_propagates_unchanged_and_is_recorded_once(backend: Backend, tracer: HoneyHiveTracer) -> None:
    thrown = ValueError("Tracer error: boom")
    calls: list[int] = []

    @trace(event_name="failing")
    def failing() -> None:
        calls.append(1)
        raise thrown

    @trace(event_name="afailing")
    async def afailing() -> None:
        raise thrown

    for call in (failing, lambda: asyncio.run(afailing())):
        with pytest.raises(ValueError, match="boom") as caught:
            call()
        assert caught.value is thrown
        assert thrown.__cause__ is None
        assert thrown.__context__ is None
    assert calls == [1]
    spans = spans_of(backend, tracer)
    assert set(spans) == {"failing", "afailing"}
    for span in spans.values():
        assert span["status"] == {"code": "ERROR", "message": "ValueError: Tracer error: boom"}
        assert [event["name"] for event in span["events"]] == ["exception"]
        assert "honeyhive_duration_ms" not in span["attributes"]


def test_an_exception_whose_str_raises_propagates_unchanged(backend: Backend, tracer: HoneyHiveTracer) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @trace(event_name="mute")
    def mute() -> None:
        raise MuteError

    with pytest.raises(MuteError):
        mute()
    assert spans_of(backend, tracer)["mute"]["status"]["message"] == "MuteError: <MuteError without text>"


def test_the_span_of_a_generator_lasts_until_its_end_and_has_its_children(
    backend: Backend, tracer: HoneyHiveTracer
) -> None:
    @trace(event_name="stream")
    def stream(n: int) -> Iterator[int]:
        for number in range(n):
            with tracer.start_span(f"child {number}"):
                pass
            got = yield number
            assert got is None
        return "done"  # type: ignore[return-value]

    items = stream(3)
    assert [next(items), next(items)] == [0, 1]
    with tracer.start_span("the consumer's"):
        pass
    assert next(items) == 2
    with pytest.raises(StopIteration) as stop:
        next(items)
    assert stop.value.value == "done"
    spans = spans_of(backend, tracer)
    inside = spans["stream"]["span_id"]
    assert {name: s["parent_span_id"] for name, s in spans.items()} == {
        "stream": None, "the consumer's": None, "child 0": inside, "child 1": inside, "child 2": inside,
    }  # fmt: skip
    assert spans["stream"]["attributes"]["honeyhive_outputs.result.2"] == 2


def test_an_abandoned_generator_ends_its_span_without_an_error(backend: Backend, tracer: HoneyHiveTracer) -> None:
    closed: list[int] = []

    @trace(event_name="stream")
    def stream() -> Iterator[int]:
        try:
            yield 1
        finally:
            closed.append(1)

    items = stream()
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert closed == [1]
    span = spans_of(backend, tracer)["stream"]
    assert span["status"]["code"] == "UNSET"
    assert span["attributes"]["honeyhive_outputs.result.0"] == 1


def test_a_coroutine_closed_in_another_context_ends_its_span_without_a_warning(
    backend: Backend, tracer: HoneyHiveTracer, caplog: pytest.LogCaptureFixture
) -> None:
    """This happens to the coroutine of a task when its event loop is closed."""

    @trace(event_name="abandoned")
    async def abandoned() -> None:
        await asyncio.Event().wait()

    async def start() -> Any:
        coroutine = abandoned()
        contextvars.copy_context().run(coroutine.send, None)
        return coroutine

    asyncio.run(start()).close()
    assert "abandoned" in spans_of(backend, tracer)
    names = [record.name for record in caplog.records]
    assert not [name for name in names if name.startswith(("hh_jupyter", "opentelemetry.context"))]


def test_the_span_of_an_async_generator_lasts_until_its_end(backend: Backend, tracer: HoneyHiveTracer) -> None:
    @trace(event_name="astream")
    async def astream() -> AsyncIterator[str]:
        for word in ("a", "b"):
            with tracer.start_span(f"child {word}"):
                await asyncio.sleep(0)
            yield word

    async def main() -> list[str]:
        return [word async for word in astream()]

    assert asyncio.run(main()) == ["a", "b"]
    assert inspect.isasyncgenfunction(astream)
    spans = spans_of(backend, tracer)
    assert spans["child a"]["parent_span_id"] == spans["child b"]["parent_span_id"] == spans["astream"]["span_id"]


def test_a_class_keeps_its_static_and_class_methods_and_properties(backend: Backend, tracer: HoneyHiveTracer) -> None:
    @trace_class
    class Shop:
        @staticmethod
        def static(x: int) -> int:
            return x

        @classmethod
        def named(cls) -> str:
            return cls.__name__

        @property
        def size(self) -> int:
            return 3

        def method(self, y: int) -> int:
            return y + self.size

    shop = Shop()
    assert (shop.static(1), Shop.static(2), Shop.named(), shop.size, shop.method(1)) == (1, 2, "Shop", 3, 4)
    assert set(spans_of(backend, tracer)) == {"Shop.static", "Shop.named", "Shop.method"}


def test_without_a_tracer_the_function_just_runs() -> None:
    @trace(event_type="tool")
    def plain(x: int) -> int:
        return x * 2

    assert plain(21) == 42


def test_session_source_and_project_of_the_decorator_apply_to_the_span(
    backend: Backend, tracer: HoneyHiveTracer
) -> None:
    chosen = "66666666-6666-4666-8666-666666666666"

    @trace(event_name="moved", session_id=chosen, source="qa", project="other")
    def moved() -> None:
        with tracer.start_span("child"):
            pass

    moved()
    for span in spans_of(backend, tracer).values():
        assert span["attributes"]["honeyhive.session_id"] == chosen
        assert span["attributes"]["honeyhive.source"] == "qa"
        assert span["attributes"]["honeyhive.project"] == "other"


def test_an_unknown_parameter_raises_at_decoration() -> None:
    with pytest.raises(SettingTypeError, match="trace: unknown parameter evnt_type"):
        trace(evnt_type="tool")  # type: ignore[call-overload]


def test_enriching_needs_a_span(backend: Backend, tracer: HoneyHiveTracer) -> None:
    assert not enrich_span(metadata={"lost": 1})
    with tracer.start_span("here"):
        assert enrich_span(metadata={"kept": {"deep": [1, {"x": "y"}]}}, tier=3)
    attributes = spans_of(backend, tracer)["here"]["attributes"]
    assert attributes["honeyhive_metadata.kept.deep.1.x"] == "y"
    assert attributes["honeyhive_metadata.tier"] == 3


def test_methods_may_be_decorated_in_either_order(backend: Backend, tracer: HoneyHiveTracer) -> None:
    class Shop:
        @trace(event_name="static")
        @staticmethod
        def static(x: int) -> int:
            return x

        @trace
        @classmethod
        def named(cls) -> str:
            return cls.__name__

        @trace(event_name="size")  # type: ignore[prop-decorator]
        @property
        def size(self) -> int:
            return 3

    assert (Shop().static(1), Shop.named(), Shop().named(), Shop().size) == (1, "Shop", "Shop", 3)
    assert set(spans_of(backend, tracer)) == {"static", f"{__name__}.named", "size"}


def test_decorating_a_class_raises() -> None:
    with pytest.raises(SettingTypeError, match="trace_class"):
        trace(dict)


def test_yielded_items_are_recorded_as_they_were_when_yielded(backend: Backend, tracer: HoneyHiveTracer) -> None:
    @trace(event_name="growing")
    def growing() -> Iterator[list[int]]:
        items: list[int] = []
        for number in range(2):
            items.append(number)
            yield items

    for _ in growing():
        pass
    attributes = spans_of(backend, tracer)["growing"]["attributes"]
    outputs = {name: value for name, value in attributes.items() if name.startswith("honeyhive_outputs")}
    assert outputs == {
        "honeyhive_outputs.result.0.0": 0,
        "honeyhive_outputs.result.1.0": 0,
        "honeyhive_outputs.result.1.1": 1,
    }


def test_the_cleanup_of_a_closed_generator_is_inside_its_span(backend: Backend, tracer: HoneyHiveTracer) -> None:
    @trace(event_name="stream")
    def stream() -> Iterator[int]:
        try:
            yield 1
        finally:
            with tracer.start_span("cleanup"):
                pass

    items = stream()
    next(items)
    items.close()  # type: ignore[attr-defined]
    spans = spans_of(backend, tracer)
    assert spans["cleanup"]["parent_span_id"] == spans["stream"]["span_id"]
