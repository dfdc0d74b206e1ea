"""A FastAPI service that this package traces, and that follows its callers; for tests of `%hh listen`."""

from __future__ import annotations

from fastapi import FastAPI

from hh_jupyter import HoneyHiveTracer, trace
from hh_jupyter.runtimes.asgi import SessionMiddleware

HoneyHiveTracer.init(skip_backend_session_creation=True, flush_interval=0.1)
app = FastAPI()
app.add_middleware(SessionMiddleware, may_link=lambda headers: True)


@trace(event_type="tool")
def look_up(item: str) -> str:
    return f"{len(item)} of {item}"


@app.get("/stock/{item}")
def stock(item: str) -> str:
    return look_up(item)
