"""One trace over two services in two processes: the context is passed on in HTTP headers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import httpx
import pytest

from hh_jupyter import HoneyHiveTracer, inject_context_into_carrier
from hh_jupyter.testing import Backend
from tests.guide.received import SESSION, arrived, by_item, descends, in_own_sessions, registered

ITEMS = tuple(f"item{number}" for number in range(12))
StartService = Callable[..., str]


def continued(backend: Backend, ids: dict[str, str]) -> None:
    """Check that the service's spans are in the session and trace of the caller, below its span."""
    arrived(backend, len(ids))
    orders, calls = by_item(backend, "order"), by_item(backend, "look_up")
    assert {item: span["attributes"][SESSION] for item, span in orders.items()} == ids
    assert {item: span["attributes"][SESSION] for item, span in calls.items()} == ids
    assert all(descends(backend, calls[item], orders[item]) for item in ids)


@pytest.fixture(autouse=True)
def services_send_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HH_FLUSH_INTERVAL", "0.1")


@pytest.mark.slow
@pytest.mark.parametrize("service", ["service", "async_service"])
def test_the_service_continues_the_callers_trace_and_session(
    backend: Backend, program: Callable[[str], ModuleType], start_service: StartService, service: str
) -> None:
    url, caller = start_service(service), program("caller")

    def one(item: str) -> str:
        with caller.tracer.with_session(item) as session_id:
            assert "of item" in caller.order(item, url)
        return str(session_id)

    with ThreadPoolExecutor(4) as pool:
        ids = dict(zip(ITEMS, pool.map(one, ITEMS), strict=True))
    assert caller.tracer.flush()
    continued(backend, ids)
    assert registered(backend, "stock") == []


def test_concurrent_requests_of_an_async_caller_keep_their_sessions(
    backend: Backend, start_service: StartService
) -> None:
    url = start_service("async_service")
    with HoneyHiveTracer.init(session_name="shop") as tracer:

        async def one(client: httpx.AsyncClient, item: str) -> str:
            async with tracer.with_session(item) as session_id:
                with tracer.start_span("order", attributes={"honeyhive_inputs.item": item}):
                    await asyncio.sleep(0)
                    headers: dict[str, str] = {}
                    inject_context_into_carrier(headers)
                    await client.get(f"{url}/stock/{item}", headers=headers)
            return session_id

        async def main() -> list[str]:
            async with httpx.AsyncClient(timeout=30) as client:
                return await asyncio.gather(*(one(client, item) for item in ITEMS))

        ids = dict(zip(ITEMS, asyncio.run(main()), strict=True))
        assert tracer.flush()
    continued(backend, ids)


def test_the_session_of_the_callers_tracer_is_passed_on_if_no_other_is_current(
    backend: Backend, program: Callable[[str], ModuleType], start_service: StartService
) -> None:
    url, caller = start_service("service"), program("caller")
    caller.order("book", url)
    assert caller.tracer.flush()
    continued(backend, {"book": caller.tracer.session_id})


@pytest.mark.slow
@pytest.mark.parametrize("service", [("service", "1"), ("async_service",)], ids=["one thread", "asynchronous"])
def test_a_request_without_our_headers_is_not_in_the_session_of_the_request_before(
    backend: Backend, program: Callable[[str], ModuleType], start_service: StartService, service: tuple[str, ...]
) -> None:
    """Both use the same connection or thread. The service has no session of its own."""
    url, caller = start_service(*service), program("caller")
    with httpx.Client() as client, caller.tracer.with_session("first") as session_id:
        headers: dict[str, str] = {}
        caller.tracer.inject_context(headers)
        client.get(f"{url}/stock/first", headers=headers)
        client.get(f"{url}/stock/second")
        client.get(f"{url}/stock/third", headers=headers)
    assert backend.wait_for(lambda b: {"first", "third"} <= set(by_item(b, "look_up")), 20)
    found = {item: span["attributes"].get(SESSION) for item, span in by_item(backend, "look_up").items()}
    assert found.pop("second", None) != session_id
    assert found == {"first": session_id, "third": session_id}


def test_with_only_the_session_id_passed_on_the_spans_are_siblings(
    backend: Backend, program: Callable[[str], ModuleType]
) -> None:
    """The simple way: no headers, but the session id in the message; both services join the session."""
    caller, worker = program("chat"), program("chat")
    _, conversation = caller.turn("asked")
    worker.turn("worked on", conversation)
    assert HoneyHiveTracer.flush_all()
    assert in_own_sessions(backend, {"asked": conversation}) is False
    assert {span["attributes"][SESSION] for span in backend.spans()} == {conversation}
    assert {span["parent_span_id"] for span in backend.spans()} == {None}
