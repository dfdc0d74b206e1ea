"""HTTP clients that OpenTelemetry instruments pass on trace and session, with its own propagators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import requests
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.propagate import inject

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from tests.guide.received import SESSION, arrived, by_item, descends, registered
from tests.runtimes.serving import fastapi, flask

ITEMS = ("book", "lamp", "desk")
Get = Callable[[str], Any]


@pytest.fixture(autouse=True)
def services_send_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HH_FLUSH_INTERVAL", "0.1")


@pytest.fixture
def caller() -> Iterator[HoneyHiveTracer]:
    """A tracer, with requests and httpx instrumented."""
    with HoneyHiveTracer.init(session_name="shop") as tracer:
        instrumentors: list[Any] = [RequestsInstrumentor(), HTTPXClientInstrumentor()]
        for instrumentor in instrumentors:
            instrumentor.instrument(tracer_provider=tracer.provider)
        yield tracer
        for instrumentor in instrumentors:
            instrumentor.uninstrument()


def get_async(url: str) -> None:
    async def main() -> None:
        async with httpx.AsyncClient() as client:
            await client.get(url)

    asyncio.run(main())


def get_by_hand(url: str) -> None:
    """Inject with OpenTelemetry's global propagator, as programs without this package do."""
    headers: dict[str, str] = {}
    inject(headers)
    httpx.get(url, headers=headers)


CLIENTS: dict[str, Get] = {"requests": requests.get, "httpx": httpx.get, "async httpx": get_async}


@pytest.mark.parametrize(
    ("service", "client"), [("service", "requests"), ("async_service", "httpx"), ("service", "async httpx")]
)
def test_a_service_in_another_process_continues_the_trace_of_an_instrumented_client(
    backend: Backend, caller: HoneyHiveTracer, start_service: Callable[..., str], service: str, client: str
) -> None:
    url, orders = start_service(service), {}
    for item in ITEMS:
        with caller.with_session(item), caller.start_span("order") as span:
            orders[item] = f"{span.get_span_context().span_id:016x}"
            CLIENTS[client](f"{url}/stock/{item}")
    assert caller.flush()
    arrived(backend, len(ITEMS))
    by_id = {span["span_id"]: span for span in backend.spans()}
    for item, looked_up in by_item(backend, "look_up").items():
        assert [looked_up["attributes"][SESSION]] == registered(backend, item)
        assert descends(backend, looked_up, by_id[orders[item]])
        assert looked_up["parent_span_id"] != orders[item], "the client's own span is between"
    named = [span["attributes"].get("http.url") or span["attributes"].get("url.full") for span in backend.spans()]
    assert not any(backend.url in str(name) for name in named), "nobody traces how spans are sent"


@pytest.mark.parametrize("serve", [fastapi, flask])
@pytest.mark.parametrize("get", [*CLIENTS.values(), get_by_hand], ids=[*CLIENTS, "propagator"])
def test_a_middleware_continues_the_trace_if_the_caller_may_link(
    backend: Backend, caller: HoneyHiveTracer, serve: Any, get: Get
) -> None:
    with serve(may_link=True) as url, caller.with_session("order") as session_id, caller.start_span("order"):
        get(f"{url}/ask/why")
    assert caller.flush()
    (served,) = (span for span in backend.spans() if span["name"].endswith("answer"))
    (order,) = backend.spans("order")
    assert served["attributes"][SESSION] == session_id
    assert descends(backend, served, order)
    assert {session["session_name"] for session in backend.sessions()} == {"shop", "order"}
