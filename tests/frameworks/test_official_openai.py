"""OpenTelemetry's official instrumentor of today, whose common library openai-v2 of the other tests cannot use."""

from __future__ import annotations

import pytest

from tests.kernel.driver import Kernel

CALLS = """
import os, openai
os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "{value}"
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
OpenAIInstrumentor().instrument()
client, question = openai.OpenAI(), [{{"role": "user", "content": hello}}]
tool = {{"type": "function", "function": {{"name": "get_weather", "parameters": {{"type": "object",
         "properties": {{"city": {{"type": "string"}}}}}}}}}}
client.chat.completions.create(model="gpt-4o", messages=question, tools=[tool])
list(client.chat.completions.create(model="gpt-4o", messages=question, stream=True));
"""
SAID = """
def said(row):
    details = span_log().details(row)
    found = hh.conventions.content(details.attributes, details.events)
    return [message.text for message in found.input_messages], "gen_ai.input.messages" in details.attributes
"""


@pytest.mark.parametrize(("value", "on_the_span"), [("EVENT_ONLY", False), ("SPAN_ONLY", True)])
def test_messages_are_shown_wherever_it_writes_them(kernel: Kernel, value: str, on_the_span: bool) -> None:
    cell = kernel.run(CALLS.format(value=value))
    assert (cell.reply, cell.stderr) == ("ok", "")
    kernel.run(SAID)
    found = kernel.value("totals()")
    assert (found["llm_calls"], found["tool_call_names"]) == (2, ["get_weather"])
    asked = kernel.value("[said(row) for row in span_log().records()]")
    assert [tuple(each) for each in asked] == [(["What is the weather in Paris?"], on_the_span)] * 2
