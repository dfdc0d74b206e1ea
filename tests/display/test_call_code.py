"""The code of calls: that of every recorded span compiles, says everything that was recorded, and runs."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache, partialmethod
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace import ReadableSpan

from hh_jupyter.conventions import content
from hh_jupyter.conventions.facts import SpanFacts, mapping
from hh_jupyter.display.call_code import call_code
from hh_jupyter.display.snippet import MAX_CHARACTERS, python_code
from hh_jupyter.records.record import SpanDetails, SpanRecord, record_of
from tests.conventions.cases import CASES, spans_of
from tests.display.views import view
from tests.fake_llm import FakeLLM
from tests.spans import RECORDINGS, recorded

pytestmark = pytest.mark.usefixtures("clients_dropped")

SPANS = [(name, span) for name in RECORDINGS for span in recorded(name)]
SPANS += [(name, span) for name in CASES for span in spans_of(name)]


def code_of(span: ReadableSpan, **changed: Any) -> str:
    """Copy as Python; keyword arguments are changed attributes, None for a removed one."""
    record = record_of(span)
    attributes = {key: value for key, value in {**(span.attributes or {}), **changed}.items() if value is not None}
    details = SpanDetails(attributes=attributes, events=span.events)  # type: ignore[arg-type]
    return python_code(view([record], mode="tree"), record, details)


def details_of(span: ReadableSpan) -> SpanDetails:
    return SpanDetails(attributes=dict(span.attributes or {}), events=span.events)  # type: ignore[arg-type]


def again(code: str) -> str:
    """The part that makes the call again."""
    return code[code.index("# The same") :] if "# The same" in code else ""


@cache
def calls() -> tuple[tuple[str, ReadableSpan, SpanRecord], ...]:
    """The recorded model calls of which the messages were recorded."""
    rows = ((name, span, record_of(span)) for name, span in SPANS)
    return tuple(row for row in rows if row[2].facts.kind == "llm" and again(code_of(row[1])))


@cache
def exact() -> tuple[tuple[str, ReadableSpan], ...]:
    """The calls of which the arguments of the client were recorded as they are."""
    return tuple(
        (name, span) for name, span in requests() if mapping((span.attributes or {}).get("input.value")).get("model")
    )


def requests() -> list[tuple[str, ReadableSpan]]:
    """The calls of OpenAI and Anthropic."""
    return [(name, span) for name, span, record in calls() if record.facts.provider in ("openai", "anthropic")]


def test_the_code_of_every_recorded_span_compiles() -> None:
    for name, span in SPANS:
        code = code_of(span)
        ast.parse(code)
        assert len(code) <= MAX_CHARACTERS, name
    assert len(calls()) > 150


def test_every_parameter_and_tool_is_in_the_code() -> None:
    for name, span, _ in calls():
        code, call = again(code_of(span)), content(span.attributes or {}, span.events)
        renamed = {"stop_sequences": "stop", "choice.count": "n", "max_tokens": "max_output_tokens"}
        for param, value in call.params.items():
            if value is not None and not mapping((span.attributes or {}).get("input.value")).get("model"):
                names = param, renamed.get(param)
                assert any(f"{one}=" in code or f"'{one}':" in code for one in names), (name, span.name, param, code)
        assert ("tools=" in code or "'tools':" in code) is bool(call.tools_offered) or "'name':" not in str(
            call.tools_offered
        ), (name, code)
        for tool in call.tools_offered:
            assert repr(tool["name"]) in code, (name, tool)


class Clients:
    """The real clients, connected to the stand-in server by the environment, as a user's may be."""

    def __init__(self, fake: FakeLLM) -> None:
        self._fake = fake

    @property
    def path(self) -> str:
        return str(self._fake.last_request[0])

    def run(self, code: str) -> Mapping[str, Any]:
        """Run the code and return the request."""
        self._fake.last_request = "", {}
        # The server answers some models with an error.
        with suppress(openai.APIStatusError, anthropic.APIStatusError, openai.APIConnectionError):
            exec(code, {"print": lambda chunk: None})
        return dict(self._fake.last_request[1])


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    with FakeLLM() as fake, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", f"{fake.url}/v1")
        patch.setenv("ANTHROPIC_BASE_URL", fake.url)
        patch.setenv("OPENAI_API_KEY", "sk-fake")
        patch.setenv("ANTHROPIC_API_KEY", "sk-fake")
        for client in (openai.OpenAI, anthropic.Anthropic):  # No retries of answers that are errors.
            patch.setattr(client, "__init__", partialmethod(client.__init__, max_retries=0))
        yield Clients(fake)


@pytest.mark.slow
def test_every_request_runs(clients: Clients) -> None:
    paths = set()
    for name, span in requests():
        body = clients.run(again(code_of(span)))
        assert body["model"], name
        paths.add(clients.path)
    assert paths == {"/v1/chat/completions", "/v1/responses", "/v1/messages"}


def wanted_body(span: ReadableSpan) -> dict[str, Any]:
    """The recorded request as it is sent."""
    request = mapping((span.attributes or {})["input.value"])
    sent = {"stream": True} if span.name == "messages.stream" else {}
    return {**sent, **{key: value for key, value in request.items() if value is not None and key != "extra_headers"}}


@pytest.mark.slow
def test_the_request_is_the_recorded_one(clients: Clients) -> None:
    for name, span in exact():
        assert clients.run(again(code_of(span))) == wanted_body(span), name
    assert {name.split("-")[1] for name, _ in exact()} >= {"openai", "anthropic"}


def plain(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request with one form of what the APIs accept in several."""
    found = dict(request)
    if isinstance(found.get("system"), list):
        found["system"] = "\n\n".join(block["text"] for block in found["system"])
    for name in ("messages", "input"):
        value = found.get(name)
        if isinstance(value, str):
            found[name] = [{"role": "user", "content": value}]
        elif value:
            found[name] = [_plain_message(message) for message in value]
    found["tools"] = list(found.get("tools", ()))
    return found


def _plain_message(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in message.items() if value is not None and key not in ("annotations", "refusal")}
    if isinstance(kept.get("content"), list):
        blocks = [{key: value for key, value in block.items() if key != "is_error"} for block in kept["content"]]
        kept["content"] = blocks[0]["text"] if len(blocks) == 1 and "text" in blocks[0] else blocks
    return kept


@pytest.mark.slow
def test_a_request_that_is_rebuilt_from_its_parts_is_the_same(clients: Clients) -> None:
    for name, span in exact():
        wanted = wanted_body(span)
        rebuilt = clients.run(again(code_of(span, **{"input.value": None})))
        assert {**plain(rebuilt), "tools": []} == {**plain(wanted), "tools": []}, (name, span.name)
        assert plain(rebuilt)["tools"] == plain(wanted)["tools"], (name, span.name)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("otel-langchain-agent.json", "convert_currency(\n    amount=250,\n    to='example',\n)"),
        ("openllmetry040-langchain-agent.json", "get_weather(\n    city='Paris',\n)"),
        ("openinference-langchain-agent.json", "get_weather('Paris')"),
        ("honeyhive-sdk-mixed.json", "lookup(\n    city='Paris',\n)"),
    ],
)
def test_a_tool_is_called_again(name: str, code: str) -> None:
    found = [again(code_of(span)) for span in recorded(name) if record_of(span).facts.kind == "tool"]
    assert f"# The same call again:\n{code}" in found


def test_a_tool_of_a_module_is_imported() -> None:
    (span,) = (span for span in recorded("honeyhive-sdk-mixed.json") if span.name == "__main__.lookup")
    named = ReadableSpan(name="json.loads", attributes=span.attributes, context=span.context, start_time=1, end_time=2)
    assert again(code_of(named)) == "# The same call again:\nimport json\njson.loads(\n    city='Paris',\n)"


@pytest.mark.parametrize("name", ["x(); print(1)", "a b", "class", "a\nimport os", "", "__main__.<lambda>"])
def test_a_name_that_is_no_function_is_not_code(name: str) -> None:
    (span,) = (span for span in recorded("honeyhive-sdk-mixed.json") if span.name == "__main__.lookup")
    named = ReadableSpan(name=name, attributes=span.attributes, context=span.context, start_time=1, end_time=2)
    assert "# The arguments of the tool:\narguments = {'city': 'Paris'}" in code_of(named)


def first(name: str, span_name: str = "ChatCompletion") -> ReadableSpan:
    return next(span for span in recorded(name) if span.name == span_name)


def test_a_stream_is_read_so_that_the_request_is_sent(clients: Clients) -> None:
    (span, *_) = (span for name, span in requests() if record_of(span).facts.streamed and "streaming" in name)
    code = again(code_of(span))
    assert "for chunk in openai.OpenAI()." in code
    assert code.endswith(":\n    print(chunk)")
    assert clients.run(code)["stream"] is True


def test_a_variable_stands_for_a_long_value_that_is_equal_and_for_a_client() -> None:
    span = first("openinference-openai-tool-loop.json")
    record, details = record_of(span), details_of(span)
    request = mapping((span.attributes or {})["input.value"])
    client = openai.OpenAI(api_key="sk-fake")
    names = {"_hidden": request["tools"], "tools": tuple(request["tools"]), "other": ["x"], "n": 1, "llm": client}
    code = call_code(record, details, names)
    assert code.startswith("# The same request again:\nllm.chat.completions.create(\n")
    assert "    tools=tools,\n" in code
    assert "import" not in code
    changed = call_code(record, details, {"tools": [*request["tools"], 1], "prompt": "x" * 50})
    assert "=tools" not in changed
    names = {"prompt": request["messages"][0]["content"], "llm": openai.AsyncOpenAI(api_key="sk-fake")}
    code = call_code(record, details, names)
    assert "\nawait llm.chat.completions.create(" in code
    assert ("'content': prompt" in code) is (len(request["messages"][0]["content"]) >= 40)


def test_a_long_text_inside_a_message_becomes_its_variable() -> None:
    system = "You answer questions about parcels, in one sentence, and politely."
    span = first("openinference-openai-chat.json")
    request = {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": "hi"}],
    }
    details = SpanDetails(attributes={**(span.attributes or {}), "input.value": json.dumps(request)})
    code = call_code(record_of(span), details, {"SYSTEM": system, "hi": "hi", "client": object()})
    assert "{'role': 'system', 'content': SYSTEM}, {'role': 'user', 'content': 'hi'}" in code
    assert "openai.OpenAI()." in code


def test_no_code_of_the_users_runs_when_variables_are_compared() -> None:
    class Trap:
        def __eq__(self, other: object) -> bool:
            raise AssertionError

        __hash__ = None  # type: ignore[assignment]

        def __len__(self) -> int:
            raise AssertionError

    class Texts(list):  # type: ignore[type-arg]
        __eq__, __len__, __hash__ = Trap.__eq__, Trap.__len__, None

    span = first("openinference-openai-tool-loop.json")
    names = {"trap": Trap(), "many": [Trap(), Trap()], "texts": Texts(), "by": {"role": Trap(), "content": Trap()}}
    assert call_code(record_of(span), details_of(span), names) == call_code(record_of(span), details_of(span))


@pytest.mark.parametrize(
    ("provider", "client", "method"),
    [
        ("google", "google.genai.Client()", "models.generate_content"),
        ("gcp.gen_ai", "google.genai.Client()", "models.generate_content"),
        ("mistral_ai", "mistralai.Mistral(api_key=os.environ['MISTRAL_API_KEY'])", "chat.complete"),
        ("cohere", "cohere.ClientV2()", "chat"),
        ("groq", "groq.Groq()", "chat.completions.create"),
        ("azure", "openai.AzureOpenAI()", "chat.completions.create"),
    ],
)
def test_the_client_is_that_of_the_provider(provider: str, client: str, method: str) -> None:
    span = first("openinference-openai-chat.json")
    record = record_of(span)
    record = replace(record, facts=replace(record.facts, provider=provider))
    attributes = {**(span.attributes or {}), "input.value": None}
    code = call_code(record, SpanDetails(attributes=attributes))
    ast.parse(code)
    assert f"\n{client}.{method}(\n    model=" in code


def test_a_request_to_google_has_its_form() -> None:
    span = first("openinference-openai-tool-loop.json")
    record = record_of(span)
    record = replace(record, facts=replace(record.facts, provider="google", streamed=True))
    (*_, later) = (one for one in recorded("openinference-openai-tool-loop.json") if one.name == "ChatCompletion")
    attributes = {**(later.attributes or {}), "input.value": None, "gen_ai.request.max_tokens": 60}
    code = call_code(record, SpanDetails(attributes=attributes))
    call = ast.parse(code.partition("for chunk in ")[2].rpartition(":\n    print")[0]).body[0]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    assert ast.unparse(call.value.func) == "google.genai.Client().models.generate_content_stream"
    arguments = {one.arg: ast.literal_eval(one.value) for one in call.value.keywords}
    assert set(arguments) <= {"model", "contents", "config"}
    parts = [part for content in arguments["contents"] for part in content["parts"]]
    assert {content["role"] for content in arguments["contents"]} == {"user", "model"}
    called = [part["function_call"]["name"] for part in parts if "function_call" in part]
    assert called
    assert [part["function_response"]["name"] for part in parts if "function_response" in part] == called
    (tools,) = arguments["config"]["tools"]
    assert {"name", "parameters_json_schema"} <= set(tools["function_declarations"][0])


def embedding(**attributes: Any) -> tuple[SpanRecord, SpanDetails]:
    span = first("openinference-openai-dual-semconv.json", "CreateEmbeddings")
    return record_of(span), SpanDetails(attributes={**(span.attributes or {}), **attributes})


def test_an_embedding_is_requested_again() -> None:
    request = {"model": "text-embedding-3-small", "input": ["one", "two"], "dimensions": 256}
    code = call_code(*embedding(**{"input.value": json.dumps(request)}))
    assert code.endswith(
        "openai.OpenAI().embeddings.create(\n    model='text-embedding-3-small',\n    input=['one', 'two'],\n"
        "    dimensions=256,\n)"
    )
    wrapped = first("openinference-llamaindex-rag.json", "OpenAIEmbedding._get_query_embedding")
    rebuilt = call_code(record_of(wrapped), details_of(wrapped))
    assert rebuilt.endswith(
        ".create(\n    model='text-embedding-3-small',\n    input=['When are refunds paid to the card?'],\n)"
    )


def test_what_limits_left_out_and_a_missing_model_are_said() -> None:
    span = first("openinference-openai-chat.json")
    cut = SpanDetails(attributes={**(span.attributes or {}), "honeyhive_metadata.hh_truncated": "2 attributes"})
    assert "# The span was too large: 2 attributes left out, so the request may" in call_code(record_of(span), cut)
    assert "left out" not in call_code(record_of(span), details_of(span))
    record = replace(record_of(span), facts=SpanFacts(kind="llm"))
    kept = {"openinference.span.kind": "LLM", "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "hi"}  # fmt: skip
    code = call_code(record, SpanDetails(attributes=kept))
    assert "# model is required; its value was not recorded.\n" in code
    assert "    model='',\n" in code


def test_a_variable_stands_for_an_image_that_would_be_left_out() -> None:
    image = "data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUgAA" * 20
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]}
    request = {"model": "gpt-4o", "messages": [message]}
    span = first("openinference-openai-chat.json")
    details = SpanDetails(attributes={**(span.attributes or {}), "input.value": json.dumps(request)})
    code = call_code(record_of(span), details)
    assert "# Base64 data is left out; brackets hold its type and size.\n" in code
    assert "[image/png, " in code
    code = call_code(record_of(span), details, {"image": image})
    assert "'url': image}" in code
    assert "Base64" not in code
