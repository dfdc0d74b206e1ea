"""A program that calls a model, traced by OpenInference's instrumentor and a provider of its own, without our tracer.

    python -m tests.instrumentors.exported

Prints a report of a `SpanList` of the exporter's spans, and of one read from the file that it has written.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openai
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hh_jupyter import SpanList

QUESTION = "What is the weather in Oslo?"
TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}


def main() -> None:
    """Call the model, then print the reports."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    client = openai.OpenAI(base_url=f"{os.environ['FAKE_LLM']}/v1", api_key="sk-fake", max_retries=0)
    messages: Any = [{"role": "user", "content": QUESTION}]
    with provider.get_tracer("app").start_as_current_span("answer"):
        client.chat.completions.create(model="gpt-4o", messages=messages, tools=[TOOL])
        for _ in client.chat.completions.create(
            model="gpt-4o", messages=messages, stream=True, stream_options={"include_usage": True}
        ):
            pass
    exported = exporter.get_finished_spans()
    spans = SpanList(exported)
    with TemporaryDirectory() as folder:
        path = Path(folder, "trace.jsonl")
        path.write_text(spans.to_otlp_json())
        reports = [_report(spans), _report(SpanList.from_otlp(path))]
    pairs = zip(exported, spans, strict=True)
    reports[0]["same content by span"] = all(spans.content(span) == spans.content(record) for span, record in pairs)
    print(json.dumps(reports))


def _report(spans: SpanList) -> dict[str, Any]:
    contents = [content for record in spans if (content := spans.content(record)) and content.input_messages]
    return {
        "tree": [(node.record.name, node.depth) for node in spans.tree.nodes],
        "tokens": spans.totals.total_tokens,
        "calls": spans.totals.llm_calls,
        "questions": [content.input_messages[0].text for content in contents],
        "tools": [
            call.name for content in contents for message in content.output_messages for call in message.tool_calls
        ],
    }


if __name__ == "__main__":
    main()
