"""Plays random programs with the real API, and carries along what must then be true.

`World` is the model: the few rules that users are told change it, and after every step the OpenTelemetry context must
be what it says.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import AbstractContextManager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from typing import Any

from opentelemetry import baggage
from opentelemetry import trace as otel_trace

from hh_jupyter import HoneyHiveTracer, enrich_span_context, trace, with_distributed_trace_context
from hh_jupyter.tracing.context import tracer_in_context
from tests.tracing.programs import LEAVES, Body, Step

NOTES = ("a", "b")


@dataclass(slots=True)
class World:
    """What the current context must hold.

    Attributes:
        session: id of the current session; the tracer's own by default.
        span: id of the current span; 0 without one.
        notes: baggage of the user's own.
        has_tracer: `@trace` without a tracer uses that of the context, not the default one.
    """

    session: str
    span: int = 0
    notes: dict[str, str] = field(default_factory=dict)
    has_tracer: bool = False

    def copy(self) -> World:
        return replace(self, notes=dict(self.notes))

    def become(self, other: World) -> None:
        self.session, self.span, self.has_tracer = other.session, other.span, other.has_tracer
        self.notes = dict(other.notes)


def current_span() -> int:
    return otel_trace.get_current_span().get_span_context().span_id


def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never suspends, without an event loop."""
    with suppress(StopIteration):
        while True:
            coroutine.send(None)


class BoomError(Exception):
    """Raised by a program, caught by one of its steps."""


class Player:
    """Plays programs.

    Attributes:
        expected: session and parent's id by span name.
    """

    def __init__(self, tracer: HoneyHiveTracer) -> None:
        self.tracer = tracer
        self.expected: dict[str, tuple[str, int]] = {}
        self.otel_tracer = tracer.provider.get_tracer("the user's own")

    def play(self, program: Body) -> None:
        """Run a program from its start to its end.

        Raises:
            AssertionError: after a step, the context was not what it should be.
        """
        world = World(self.tracer.session_id or "")

        async def main() -> None:
            with suppress(BoomError):
                await self.run(program, world)
            self.check(world, "the end")

        asyncio.run(main())

    async def run(self, body: Body, world: World) -> None:
        for step in body:
            await self._step(step, world)
            self.check(world, step.kind)

    def check(self, world: World, after: str) -> None:
        """Compare the context with the world."""
        entries = dict(baggage.get_all())
        session = str(entries.get("session_id", self.tracer.session_id))
        notes = {key: str(value) for key, value in entries.items() if key in NOTES}
        found = World(session, current_span(), notes, tracer_in_context() is not None)
        assert found == world, f"after {after}"

    def _named(self, kind: str, world: World) -> str:
        name = f"{kind} {len(self.expected)}"
        self.expected[name] = (world.session, world.span)
        return name

    async def _step(self, step: Step, world: World) -> None:
        kind, bodies = step.kind, step.bodies
        if kind in LEAVES:
            await self._leaf(kind, world)
        elif kind == "catch":
            with suppress(BoomError):
                await self.run(bodies[0], world)
        elif "thread" in kind:
            await self._thread(kind, bodies[0], world)
        elif kind == "gather":
            await asyncio.gather(*(self._alone(body, world.copy()) for body in bodies))
        elif kind == "task":
            await asyncio.create_task(self._alone(bodies[0], world.copy()))
        elif "async generator" in kind:
            await self._async_generator(kind, bodies, world)
        elif "generator" in kind:
            self._generator(kind, bodies, world)
        elif kind in ("trace", "coroutine"):
            await self._call(kind, bodies[0], world)
        elif "with_session" in kind:
            await self._session(kind, bodies[0], world)
        else:
            await self._block(kind, bodies[0], world)

    async def _leaf(self, kind: str, world: World) -> None:
        if kind == "span":
            with self.tracer.start_span(self._named(kind, world)):
                pass
        elif kind == "new session":
            world.session = self.tracer.create_session("new")
        elif kind == "set baggage":
            key, value = NOTES[len(self.expected) % 2], str(len(self.expected))
            self.tracer.set_baggage(key, value)
            world.notes[key] = value
        elif kind == "pause":
            await asyncio.sleep(0)
        else:
            raise BoomError

    async def _alone(self, body: Body, world: World) -> None:
        with suppress(BoomError):
            await self.run(body, world)
        self.check(world, "a task")

    async def _thread(self, kind: str, body: Body, world: World) -> None:
        """A bare thread knows nothing of the context; the tracer's own session is its."""
        inner = World(self.tracer.session_id or "") if kind == "bare thread" else world.copy()
        failures: list[BaseException] = []

        def target() -> None:
            try:
                finish(self._alone(body, inner))
            except BaseException as error:  # Handed on to the test.
                failures.append(error)

        if kind == "to_thread":
            await asyncio.to_thread(target)
        else:
            context = Context() if kind == "bare thread" else copy_context()
            thread = threading.Thread(target=context.run, args=[target])
            thread.start()
            thread.join()
        if failures:
            raise failures[0]

    async def _call(self, kind: str, body: Body, world: World) -> None:
        """After a traced function everything is as it was before, whatever was made current inside."""
        inner = world.copy()
        traced = trace(event_name=self._named(kind, world), tracer=self.tracer)

        async def coroutine() -> None:
            inner.span, inner.has_tracer = current_span(), True
            await self.run(body, inner)

        if kind == "coroutine":
            await traced(coroutine)()
        else:
            traced(lambda: finish(coroutine()))()

    async def _session(self, kind: str, body: Body, world: World) -> None:
        """After the block the session of before is back, whoever made another inside; notes stay."""
        before = world.copy()
        block = self.tracer.with_session("block")
        try:
            if kind == "with_session":
                with block as world.session:
                    world.has_tracer = True
                    await self.run(body, world)
            else:
                async with block as world.session:
                    world.has_tracer = True
                    await self.run(body, world)
        finally:
            world.session, world.has_tracer = before.session, before.has_tracer

    async def _block(self, kind: str, body: Body, world: World) -> None:
        before = world.copy()
        name = self._named(kind, world) if kind != "headers" else ""
        try:
            with self._opened(kind, name):
                world.span = current_span()
                world.has_tracer = world.has_tracer or kind != "otel span"
                assert (world.span == before.span) == (kind == "headers")
                await self.run(body, world)
        finally:
            world.become(before)  # A session made inside ends with the block, as in the official client.

    def _opened(self, kind: str, name: str) -> AbstractContextManager[Any]:
        if kind == "start_span":
            return self.tracer.start_span(name)
        if kind == "otel span":
            return self.otel_tracer.start_as_current_span(name)
        if kind == "enrich_span_context":
            return enrich_span_context(name, tracer_instance=self.tracer)
        carrier: dict[str, str] = {}
        self.tracer.inject_context(carrier)
        return with_distributed_trace_context(carrier, self.tracer)

    def _generator(self, kind: str, bodies: tuple[Body, ...], world: World) -> None:
        """A plain generator shares its consumer's context; a traced one has a context of its own."""
        is_traced = kind.startswith("traced")
        inner = world.copy() if is_traced else world

        def generate() -> Generator[None, None, None]:
            if is_traced:
                inner.span, inner.has_tracer = current_span(), True
            before = inner.copy()
            try:
                with self.tracer.with_session("generator") as inner.session:
                    inner.has_tracer = True
                    finish(self.run(bodies[0], inner))
                    yield
                    self.check(inner, "resuming a generator")
                    finish(self.run(bodies[1], inner))
            finally:
                inner.session, inner.has_tracer = before.session, before.has_tracer
            self.check(inner, "a session in a generator")

        function = generate
        if is_traced:
            function = trace(event_name=self._named(kind, world), tracer=self.tracer)(generate)
        generator = function()
        next(generator)
        self.check(world, "the first item")
        with self.tracer.start_span(self._named("consumer of", world)):
            pass
        if kind.endswith("finished"):
            next(generator, None)
        elif kind.endswith("closed"):
            generator.close()
        del generator, function
        gc.collect(0)

    async def _async_generator(self, kind: str, bodies: tuple[Body, ...], world: World) -> None:
        is_traced = kind.startswith("traced")
        inner = world.copy() if is_traced else world

        async def generate() -> AsyncGenerator[None, None]:
            if is_traced:
                inner.span, inner.has_tracer = current_span(), True
            before = inner.copy()
            try:
                async with self.tracer.with_session("generator") as inner.session:
                    inner.has_tracer = True
                    await self.run(bodies[0], inner)
                    yield
                    self.check(inner, "resuming a generator")
                    await self.run(bodies[1], inner)
            finally:
                inner.session, inner.has_tracer = before.session, before.has_tracer
            self.check(inner, "a session in a generator")

        function = generate
        if is_traced:
            function = trace(event_name=self._named(kind, world), tracer=self.tracer)(generate)
        generator = function()
        await anext(generator)
        self.check(world, "the first item")
        with self.tracer.start_span(self._named("consumer of", world)):
            pass
        if kind.endswith("finished"):
            await anext(generator, None)
        await generator.aclose()
