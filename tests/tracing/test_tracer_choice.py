"""`@trace` without a tracer uses the default tracer at the time of each call, in every thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import hh_jupyter as hh
from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend


@pytest.fixture
def pair(backend: Backend) -> Iterator[tuple[HoneyHiveTracer, HoneyHiveTracer]]:
    """Two tracers in the order of creation."""
    with (
        HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url, source="first") as first,
        HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url, source="second") as second,
    ):
        yield first, second


@hh.trace(event_type="tool", event_name="choice")
def _choice() -> None: ...


def _call_here_and_in_a_thread() -> None:
    _choice()
    thread = threading.Thread(target=_choice)
    thread.start()
    thread.join()


def test_every_thread_uses_the_default_tracer_of_the_moment(
    backend: Backend, pair: tuple[HoneyHiveTracer, HoneyHiveTracer]
) -> None:
    first, second = pair
    expected = []
    for default, source in ((None, "first"), (second, "second"), (first, "first")):
        if default is not None:
            hh.set_default_tracer(default)
        _call_here_and_in_a_thread()
        assert first.force_flush()
        assert second.force_flush()
        expected += [source, source]
        assert [span["attributes"]["honeyhive.source"] for span in backend.spans("choice")] == expected
