"""A tracer that sends to the stand-in backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend

KEY = "test-key-of-nobody-0001"


@pytest.fixture
def tracer(backend: Backend) -> Iterator[HoneyHiveTracer]:
    """The default tracer of the test; `with backend` answers everything at once."""
    made = HoneyHiveTracer.init(api_key=KEY, server_url=backend.url, session_name="home")
    yield made
    made.shutdown()
