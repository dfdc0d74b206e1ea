"""A program that calls a model with OpenTelemetry's own instrumentor; prints the content shown for each call.

    python -m tests.instrumentors.log_events today|before

`before` writes one log record for each message, as the common library does below version 1.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from hh_jupyter import HoneyHiveTracer, spans
from hh_jupyter.conventions import content
from hh_jupyter.tracing.span_store import span_log
from tests.instrumentors.scenario import OpenAI

WEATHER: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def main(conventions: str) -> None:
    """Instrument the client, call the model, print the content."""
    if conventions == "before":
        vars(importlib.import_module("opentelemetry.util.genai.utils")).update(is_experimental_mode=lambda: False)
    tracer = HoneyHiveTracer.init(session_name="logs")
    module = importlib.import_module("opentelemetry.instrumentation.openai_v2")
    module.OpenAIInstrumentor().instrument(tracer_provider=tracer.provider)
    client = OpenAI(os.environ["FAKE_LLM"])
    client.ask()
    assert list(client.ask(stream=True))
    question: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
    client.sync.chat.completions.create(model=client.model, messages=question, tools=[WEATHER])
    assert tracer.flush()
    shown = []
    for row in spans():
        details = span_log().details(row)
        assert details is not None
        span_content = content(details.attributes, details.events)
        texts = [message.text for message in (*span_content.input_messages, *span_content.output_messages)]
        shown.append({"texts": texts, "asked": row.facts.tools_asked, "attributes": sorted(details.attributes)})
    print(json.dumps(shown))


if __name__ == "__main__":
    main(*sys.argv[1:])
