"""The programs of the page on services whose sessions are started by a middleware."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import httpx
import pytest

from hh_jupyter.testing import Backend
from tests.guide import serving
from tests.guide.received import in_own_sessions, outputs_by_session


@pytest.mark.parametrize(("name", "serve"), [("fastapi_middleware", serving.asgi), ("flask_middleware", serving.wsgi)])
def test_each_request_has_its_own_session(
    backend: Backend, program: Callable[[str], ModuleType], name: str, serve: Any
) -> None:
    service = program(name)
    with serve(service.app) as url:
        ids = {question: httpx.get(f"{url}/ask/{question}").headers["X-Session-ID"] for question in ("why", "how")}
        assert "X-Session-ID" not in httpx.get(f"{url}/health").headers
    assert service.tracer.flush()
    assert in_own_sessions(backend, ids)
    assert {found["status"] for found in outputs_by_session(backend).values()} == {200}
    assert len(backend.sessions()) == 2
