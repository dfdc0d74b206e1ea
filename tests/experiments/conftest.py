from __future__ import annotations

from collections.abc import Iterator

import pytest

from hh_jupyter.tracing.default import current_tracer


@pytest.fixture(autouse=True)
def no_tracer_left() -> Iterator[None]:
    """No test sees another's tracer."""
    yield
    found = current_tracer()
    if found is not None:
        found.shutdown()
