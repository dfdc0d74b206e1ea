"""Facts of a row, from spans as real instrumentors make them."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from hh_jupyter.conventions import describe
from hh_jupyter.conventions.facts import SpanFacts
from hh_jupyter.conventions.openinference import response_id
from tests.spans import EXPECTED, RECORDINGS, recorded

KIND_NAMES = {"PROMPT": "chain"}


def facts_of(span: ReadableSpan) -> SpanFacts:
    scope = span.instrumentation_scope
    given = span.name, dict(span.attributes or {}), span.events, span.start_time or 0
    return describe(*given, scope.name if scope else "")


def by_kind(name: str, kind: str) -> list[SpanFacts]:
    return [facts for facts in map(facts_of, recorded(name)) if facts.kind == kind]


@pytest.mark.parametrize("name", [n for n in RECORDINGS if n.startswith("openinference-openai-")])
def test_every_answered_openai_call_keeps_its_response_id(name: str) -> None:
    served = [call for call in EXPECTED[name]["calls"] if call["status"] == 200 and call["api"] != "embeddings"]
    found = {facts.response_id for facts in by_kind(name, "llm")} - {None}
    hidden = name in ("openinference-openai-redacted.json", "openinference-openai-many-messages.json")
    assert found == (set() if hidden else {call["response_id"] for call in served} - {None})


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ('{"id":"msg_01","content":[]}', "msg_01"),
        ('{"choices": [{"message": {"tool_calls": [{"id": "call_1"}]}}], "id": "chatcmpl-7"}', "chatcmpl-7"),
        ('{"message": {"id": "lc_run--1", "content": [{"id": "msg_9"}], "meta": {"id": "resp_8"}}}', "resp_8"),
        ('{"choices": [], "id": "0193-mistral"}', "0193-mistral"),
        ('{"text": "say \\"id\\": \\"chatcmpl-fake\\"", "other": 1}', None),
        ("__REDACTED__", None),
        ('["' + "x" * 300_000 + '", {"id": "chatcmpl-1"}]', None),
        (None, None),
    ],
)
def test_a_response_id_is_the_answers_own_and_never_one_from_its_text(output: str | None, wanted: str | None) -> None:
    assert response_id(output) == wanted


def test_an_event_type_on_an_openinference_span_gives_the_type_and_openinference_the_rest() -> None:
    span = next(s for s in recorded("honeyhive-sdk-mixed.json") if s.name == "ChatCompletion")
    facts = describe(span.name, dict(span.attributes or {}) | {"honeyhive_event_type": "chain"}, span.events, 0)
    assert (facts.event_type, facts.kind, facts.family) == ("chain", "llm", "openinference")
    assert facts.model == "gpt-4o-mini-2024-07-18"


@pytest.mark.parametrize(
    ("chosen", "kind"), [("model", "llm"), ("tool", "tool"), ("chain", "chain"), ("banana", "other")]
)
def test_the_kind_of_a_traced_function_is_its_event_type(chosen: str, kind: str) -> None:
    facts = describe("f", {"honeyhive_event_type": chosen, "honeyhive_inputs.x": 1}, (), 0)
    assert (facts.kind, facts.event_type, facts.family) == (kind, chosen, "honeyhive")


def test_spans_of_no_convention_share_one_instance_of_facts() -> None:
    attributes = {f"app.key{n}": n for n in range(10)}
    assert describe("fetch", attributes, (), 0) is describe("store", attributes, (), 1)
    assert describe("fetch", attributes, (), 0).kind == "other"


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"http.request.method": "GET"}, "http"),
        ({"http.method": "GET", "honeyhive_event_type": "tool"}, "http"),
        ({"db.system": "postgresql"}, "db"),
        ({"http.request.method": "POST", "gen_ai.operation.name": "chat"}, "llm"),
    ],
)
def test_http_and_database_spans_are_known_and_model_clients_are_not_taken_for_them(
    attributes: dict[str, Any], kind: str
) -> None:
    assert describe("call", attributes, (), 0).kind == kind


def test_a_failed_call_still_names_the_model_it_asked_for() -> None:
    failed = facts_of(recorded("openinference-openai-errors.json")[0])
    assert (failed.model, failed.model_requested, failed.usage) == ("gpt-4o-err429", "gpt-4o-err429", None)


def test_a_stream_has_its_first_token_and_absent_usage_is_unknown() -> None:
    first, second, _ = by_kind("openinference-openai-streaming.json", "llm")
    assert first.streamed
    assert first.first_token_ns == 1795364383908403589 - 1795364383881442765
    assert second.usage is None


def test_usage_is_read_from_one_convention_and_tools_asked_in_order() -> None:
    first = by_kind("openinference-openai-dual-semconv.json", "llm")[0]
    assert first.usage is not None
    assert (first.usage.prompt, first.usage.completion, first.usage.total) == (90, 23, 113)
    assert first.tools_asked == ("get_weather", "get_weather")
    assert (first.model_requested, first.model) == ("gpt-4o", "gpt-4o-2024-08-06")


def test_tool_calls_are_ordered_as_numbers() -> None:
    key = "llm.output_messages.0.message.tool_calls.{}.tool_call.function.name"
    attributes = {"openinference.span.kind": "LLM"} | {key.format(n): f"t{n}" for n in (10, 9, 2)}
    assert describe("call", attributes, (), 0).tools_asked == ("t2", "t9", "t10")


@pytest.mark.parametrize("parameters", ["{'model': 5}", '{"model": 5}', "[1]", '{"model": ', "x" * 100_000, 7, None])
def test_invalid_request_parameters_do_not_raise(parameters: object) -> None:
    attributes = {
        "openinference.span.kind": "LLM",
        "llm.invocation_parameters": parameters,
        "llm.token_count.prompt": "many",
        "output.value": parameters,
    }
    assert describe("call", attributes, (), 0).model is None


def test_a_routed_model_name_loses_its_provider_only() -> None:
    attributes = {"openinference.span.kind": "LLM", "llm.provider": "openai", "llm.model_name": "openai/gpt-4o"}
    assert describe("call", attributes, (), 0).model == "gpt-4o"
    assert describe("call", attributes | {"llm.model_name": "meta/llama"}, (), 0).model == "meta/llama"


def test_no_kind_of_recorded_span_is_unread() -> None:
    for name in RECORDINGS:
        for span in recorded(name):
            said = (span.attributes or {}).get("openinference.span.kind")
            if said is not None:
                assert facts_of(span).kind == KIND_NAMES.get(str(said), str(said).lower()), f"{name}: {span.name}"
