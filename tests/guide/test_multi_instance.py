"""Two tracers in one process, with two keys and two backends: no span reaches the wrong backend."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer, enrich_span, trace
from hh_jupyter.testing import Backend
from tests.guide.received import SESSION, outputs_by_session

KEYS = {"alpha": "key-of-tenant-alpha", "beta": "key-of-tenant-beta"}


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    backend: Backend
    tracer: HoneyHiveTracer


@pytest.fixture
def tenants() -> Iterator[list[Tenant]]:
    with contextlib.ExitStack() as stack:
        made = []
        for name, key in KEYS.items():
            backend = stack.enter_context(Backend())
            tracer = HoneyHiveTracer(api_key=key, server_url=backend.url, project=f"project-{name}", session_name=name)
            made.append(Tenant(name, backend, stack.enter_context(tracer)))
        yield made


@trace(event_type="tool")
def current_tracer_span(tenant: str) -> None:
    """Make a span of the current tracer, which is that of the enclosing block."""
    enrich_span(attributes={"n": 1})


def request(tenant: Tenant, number: int) -> str:
    attributes: dict[str, Any] = {"tenant": tenant.name}
    with tenant.tracer.with_session(f"request {number}") as session_id:
        with tenant.tracer.start_span("work", attributes=attributes):
            current_tracer_span(tenant.name)
        tenant.tracer.enrich_session(outputs={"tenant": tenant.name})
    return session_id


def complete(tenants: list[Tenant], ids: dict[str, list[str]]) -> None:
    assert HoneyHiveTracer.flush_all()
    for tenant in tenants:
        work = [span for span in tenant.backend.spans() if span["name"] == "work"]
        inner = [span for span in tenant.backend.spans() if span["name"].endswith("current_tracer_span")]
        assert [span["attributes"]["tenant"] for span in work] == [tenant.name] * len(ids[tenant.name])
        assert {s["attributes"]["honeyhive_inputs.tenant"] for s in inner} == {tenant.name}
        assert {s["parent_span_id"] for s in inner} == {s["span_id"] for s in work}
        assert {s["attributes"][SESSION] for s in work + inner} == set(ids[tenant.name])
        assert outputs_by_session(tenant.backend) == {key: {"tenant": tenant.name} for key in ids[tenant.name]}
        registered = [session["session_id"] for session in tenant.backend.sessions()]
        assert sorted(registered) == sorted([str(tenant.tracer.session_id), *ids[tenant.name]])
        headers = {request.headers["authorization"] for request in tenant.backend.requests}
        assert headers == {f"Bearer {KEYS[tenant.name]}"}


def test_each_of_successive_blocks_uses_its_own_tracer(tenants: list[Tenant]) -> None:
    ids: dict[str, list[str]] = {name: [] for name in KEYS}
    for number in range(10):
        for tenant in tenants:
            ids[tenant.name].append(request(tenant, number))
    complete(tenants, ids)


def test_concurrent_threads_use_the_tracers_of_their_blocks(tenants: list[Tenant]) -> None:
    work = [tenants[number % 2] for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(request, work, range(20)))
    complete(tenants, {name: [i for t, i in zip(work, found, strict=True) if t.name == name] for name in KEYS})


def test_concurrent_tasks_use_the_tracers_of_their_blocks(tenants: list[Tenant]) -> None:
    async def one(tenant: Tenant, number: int) -> tuple[str, str]:
        await asyncio.sleep(0)
        return tenant.name, await asyncio.to_thread(request, tenant, number)

    async def main() -> list[tuple[str, str]]:
        return await asyncio.gather(*(one(tenants[number % 2], number) for number in range(20)))

    found = asyncio.run(main())
    complete(tenants, {name: [session_id for owner, session_id in found if owner == name] for name in KEYS})


def test_a_decorator_with_a_tracer_works_outside_any_block(tenants: list[Tenant]) -> None:
    functions = []
    for tenant in tenants:

        @trace(event_type="chain", tracer=tenant.tracer)
        def decided(name: str = tenant.name, tracer: HoneyHiveTracer = tenant.tracer) -> None:
            tracer.enrich_span(attributes={"n": 1})

        functions.append(decided)
    for decided in functions * 3:
        decided()
    assert HoneyHiveTracer.flush_all()
    for tenant in tenants:
        spans = tenant.backend.spans()
        assert [span["attributes"]["honeyhive_inputs.name"] for span in spans] == [tenant.name] * 3
        assert {span["attributes"][SESSION] for span in spans} == {tenant.tracer.session_id}


def test_an_unreachable_backend_does_not_delay_the_other(tenants: list[Tenant]) -> None:
    alpha, beta = tenants
    alpha.backend.close()
    for tenant in tenants:
        request(tenant, 1)
    assert beta.tracer.flush()
    assert not alpha.tracer.flush(200)
    assert len(beta.backend.spans()) == 2
    alpha.backend.listen()
    assert alpha.tracer.flush()
    assert len(alpha.backend.spans()) == 2
