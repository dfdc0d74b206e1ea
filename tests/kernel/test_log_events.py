"""OpenTelemetry's own instrumentor in a real kernel: messages in logs, the variable that captures them, the hint."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_llm import FakeLLM
from tests.kernel.driver import PYTHON, Kernel, kernel_with

pytestmark = pytest.mark.skipif(sys.executable != PYTHON, reason="the environments of the matrix have no openai-v2")

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
PRELUDE = f"""
import openai, os
from opentelemetry import trace
from opentelemetry._logs import LogRecord, get_logger, get_logger_provider, set_logger_provider
client = openai.OpenAI()
hello = [{{"role": "user", "content": "Hello, model"}}]
def variable():
    return os.environ.get("{CAPTURE}")
def said():
    hh.get_tracer().wait_processed()
    row = [row for row in span_log().records() if row.facts.kind == "llm"][-1]
    details = span_log().details(row)
    found = hh.conventions.content(details.attributes, details.events)
    return [message.text for message in (*found.input_messages, *found.output_messages)]
"""
# OpenInference and OpenLLMetry come before it where they are installed, as they are here.
ONLY_OFFICIAL = """
import hh_jupyter.notebook.instrument as instrument
every = instrument.installed_instrumentors
instrument.installed_instrumentors = lambda: {
    "openai": [each for each in every()["openai"] if each.entry.module.endswith("openai_v2")]
}
"""
CHAT = "client.chat.completions.create(model='gpt-4o', messages=hello);"
ANSWER = ["Hello, model", "Hello! How can I help you today?"]
HINT = f"messages were not captured: set {CAPTURE}=SPAN_ONLY before the instrumentor is enabled"


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with (
        FakeLLM() as fake,
        kernel_with(tmp_path, OPENAI_BASE_URL=f"{fake.url}/v1", OPENAI_API_KEY="sk-fake") as kernel,
    ):
        assert kernel.run(PRELUDE + ONLY_OFFICIAL).reply == "ok"
        yield kernel


@pytest.mark.slow
def test_instrument_captures_messages_for_what_it_switches_on_and_puts_the_variable_back(kernel: Kernel) -> None:
    before = kernel.value("variable()")
    assert "tracing openai" in kernel.run("%hh instrument openai").stdout
    assert kernel.value("variable()") == "SPAN_ONLY"
    kernel.run(CHAT)
    assert kernel.value("said()") == ANSWER
    kernel.run("%hh instrument --off")
    assert (before, kernel.value("variable()")) == (None, None)
    kernel.run("%hh instrument openai")
    kernel.run("%unload_ext hh_jupyter")
    assert kernel.value("variable()") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice", [f"os.environ['{CAPTURE}'] = 'NO_CONTENT'", "%config HHJupyter.capture_outputs = False"]
)
def test_a_choice_of_the_users_own_stays_and_the_view_says_what_to_set(kernel: Kernel, choice: str) -> None:
    kernel.run(choice)
    value = kernel.value("variable()")
    kernel.run("%hh instrument openai")
    assert kernel.value("variable()") == value
    kernel.run(CHAT)
    shown = kernel.run("%hh show --detail full").output
    assert HINT in " ".join(shown.text.split())
    kernel.run("%hh instrument --off")
    assert kernel.value("variable()") == value


@pytest.mark.slow
def test_events_are_shown_and_a_logger_provider_that_is_set_later_gets_them_too(kernel: Kernel) -> None:
    kernel.run(f"os.environ['{CAPTURE}'] = 'EVENT_ONLY'")
    kernel.run("%hh instrument openai")
    kernel.run(CHAT)
    assert kernel.value("said()") == ANSWER
    cell = kernel.run(
        "from opentelemetry.sdk._logs import LoggerProvider\n"
        "from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor\n"
        "mine, memory = LoggerProvider(), InMemoryLogRecordExporter()\n"
        "mine.add_log_record_processor(SimpleLogRecordProcessor(memory))\n"
        f"set_logger_provider(mine)\n{CHAT}"
    )
    assert (cell.reply, cell.stderr) == ("ok", "")
    assert kernel.value("said()") == ANSWER
    assert kernel.value("len(memory.get_finished_logs())") == 1
    kernel.run("%unload_ext hh_jupyter")
    assert kernel.value("get_logger_provider() is mine")


@pytest.mark.slow
def test_loading_and_unloading_leave_the_logger_provider_as_it_was(kernel: Kernel) -> None:
    kernel.run("%unload_ext hh_jupyter")
    kernel.run("before = get_logger_provider()")
    for _ in range(2):
        kernel.run("%load_ext hh_jupyter")
        assert kernel.value("get_logger_provider() is not before")
        kernel.run("%unload_ext hh_jupyter")
        assert kernel.value("get_logger_provider() is before")


@pytest.mark.slow
def test_an_evaluation_in_a_later_cell_is_shown_with_the_span_it_judges(kernel: Kernel) -> None:
    kernel.run("%hh instrument openai")
    kernel.run(f"with hh.get_tracer().start_span('ask'):\n    judged = trace.get_current_span()\n    {CHAT}")
    result = {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.9}
    kernel.run(
        "get_logger('judge').emit(LogRecord(event_name='gen_ai.evaluation.result', "
        f"context=trace.set_span_in_context(judged), attributes={result}))"
    )
    assert kernel.value("hh.get_tracer().wait_processed()")
    found = kernel.value(
        "[dict(span_log().details(row).events[0].attributes) for row in span_log().records() if row.name == 'ask']"
    )
    assert found == [result]
