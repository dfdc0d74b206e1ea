"""Somebody else's OpenTelemetry provider, there before or set later: joined, left in place, given back."""

from __future__ import annotations

from pathlib import Path

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.conftest import KEY, StartKernel
from tests.kernel.driver import PRELUDE, Kernel

FOREIGN = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

class Proxy(trace.TracerProvider):
    # As Logfire's: not the SDK's class, without a hash, with another provider inside after each configuration.
    __hash__ = None
    def __init__(self, provider):
        self.provider = provider
    def get_tracer(self, *args, **kwargs):
        return self.provider.get_tracer(*args, **kwargs)

def sdk():
    memory = InMemorySpanExporter()
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(memory))
    return made, memory

def names(memory):
    return [span.name for span in memory.get_finished_spans()]

def library(name):
    with trace.get_tracer("library").start_as_current_span(name):
        pass

mine, memory = sdk()
proxy = Proxy(mine)
"""
SAME_BACKEND = """
import os
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor

exporter = OTLPSpanExporter(
    endpoint=f"{os.environ['HH_API_URL']}/opentelemetry/v1/traces",
    headers={"authorization": f"Bearer {os.environ['HH_API_KEY']}"},
)
mine.add_span_processor(BatchSpanProcessor(exporter))
"""
LEFT = "hh: spans are displayed here; another exporter sends them to "


@pytest.fixture
def kernel(start_kernel: StartKernel) -> Kernel:
    """With a foreign provider at hand that is not global yet."""
    made = start_kernel()
    assert made.run(FOREIGN).reply == "ok"
    return made


@pytest.mark.slow
@pytest.mark.parametrize("theirs", ["mine", "proxy"])
def test_one_that_was_there_is_joined_and_left_as_it_was(tmp_path: Path, theirs: str) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run(f"{FOREIGN}\ntrace.set_tracer_provider({theirs})")
        kernel.run(f"%load_ext hh_jupyter\n{PRELUDE}")
        _joined_and_left(kernel, theirs)


def _joined_and_left(kernel: Kernel, theirs: str) -> None:
    cell = kernel.run("span('ours'); library('theirs')")
    assert "2 spans" in cell.output.text
    assert kernel.value("names(memory)") == ["ours", "theirs"]
    assert "using the existing global TracerProvider" in kernel.run("%hh").stdout
    for _ in range(3):
        kernel.run("%reload_ext hh_jupyter")
    assert "2 spans" in kernel.run("span('again'); library('once')").output.text, "joined once only"
    assert kernel.value("len(mine._active_span_processor._span_processors)") == 2
    kernel.run("%unload_ext hh_jupyter")
    assert kernel.run("library('after')").outputs == []
    assert kernel.value(f"trace.get_tracer_provider() is {theirs}")
    assert kernel.value("names(memory)")[-1] == "after"


@pytest.mark.slow
@pytest.mark.parametrize("theirs", ["mine", "proxy"])
def test_one_that_is_set_later_becomes_the_global_one_and_is_joined(kernel: Kernel, theirs: str) -> None:
    kernel.run("early = trace.get_tracer('early'); library('before')")
    cell = kernel.run(f"trace.set_tracer_provider({theirs})\nlibrary('theirs')\nspan('ours')")
    assert cell.stderr == "", "OpenTelemetry would have refused it with a warning"
    assert kernel.value(f"trace.get_tracer_provider() is {theirs}")
    assert "2 spans" in cell.output.text
    assert kernel.value("names(memory)") == ["theirs", "ours"]
    # What an instrumentor holds of ours goes on working.
    assert "kept" in kernel.run("with early.start_as_current_span('kept'): pass").output.text
    kernel.run("%unload_ext hh_jupyter")
    assert kernel.run("library('after')\nwith early.start_as_current_span('late'): pass").outputs == []
    assert kernel.value(f"trace.get_tracer_provider() is {theirs}")
    assert kernel.value("trace.set_tracer_provider.__module__") == "opentelemetry.trace"


def test_a_proxy_that_is_configured_again_is_followed(kernel: Kernel) -> None:
    kernel.run("trace.set_tracer_provider(proxy)")
    kernel.run("proxy.provider, memory2 = sdk()")
    cell = kernel.run("library('theirs'); span('ours')")
    assert "2 spans" in cell.output.text
    assert kernel.value("names(memory2)") == ["theirs", "ours"]


@pytest.mark.slow
def test_a_second_provider_after_theirs_is_refused_by_opentelemetry_as_ever(kernel: Kernel) -> None:
    cell = kernel.run("trace.set_tracer_provider(mine)\ntrace.set_tracer_provider(sdk()[0])")
    assert "Overriding of current TracerProvider is not allowed" in cell.stderr
    assert kernel.value("trace.get_tracer_provider() is mine")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_one_that_sends_to_our_backend_itself_is_joined_for_display_only(
    tmp_path: Path, backend: Backend, when: str
) -> None:
    with Kernel(tmp_path, {"HH_API_KEY": KEY, "HH_API_URL": backend.url}) as kernel:
        theirs = f"{FOREIGN}\n{SAME_BACKEND}\ntrace.set_tracer_provider(mine)"
        load = f"%load_ext hh_jupyter\n{PRELUDE}"
        loaded = [kernel.run(code) for code in ((theirs, load) if when == "before" else (load, theirs))]
        assert (LEFT in loaded[1].stdout) == (when == "before")
        early = kernel.run("library('theirs'); span('ours')").output
        session = kernel.run("%%hh_session apart\nspan('in a session')").output
        for output in (early, session):
            assert "left to others" in output.text
            assert "Left to others" in output.html
        assert LEFT in kernel.run("%hh").stdout
        assert "3 left to others" in kernel.run("%hh").stdout
        kernel.run("%hh off")
        assert LEFT in kernel.run("%hh on").stdout
        kernel.run("hh.get_tracer().force_flush(); mine.force_flush()")
        assert sorted(span["name"] for span in backend.spans()) == ["in a session", "ours", "theirs"]
        assert backend.sessions() == []
