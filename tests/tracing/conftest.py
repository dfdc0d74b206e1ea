"""A tracer that sends to the stand-in backend, closed after the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from hh_jupyter.tracing import validation


@pytest.fixture
def tracer(backend: Backend) -> Iterator[HoneyHiveTracer]:
    """The default tracer of the test, which sends to `backend`."""
    made = HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url, session_name="startup", project="shop")
    yield made
    made.shutdown()


@pytest.fixture
def local() -> Iterator[HoneyHiveTracer]:
    """A tracer in local mode, for tests without a backend."""
    with HoneyHiveTracer.init(test_mode=True, session_name="startup") as made:
        yield made


@pytest.fixture(autouse=True)
def no_warnings_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test see warnings that are logged once per process."""
    monkeypatch.setattr(validation, "_warned", set())
