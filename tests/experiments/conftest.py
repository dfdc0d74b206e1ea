from __future__ import annotations

from collections.abc import Iterator

import pytest

from hh_jupyter.experiments import local_runs
from hh_jupyter.tracing.api import current_tracer


@pytest.fixture(autouse=True)
def clean_up() -> Iterator[None]:
    """Remove local runs and the tracer of each test."""
    yield
    local_runs._runs.clear()
    found = current_tracer()
    if found is not None:
        found.shutdown()
