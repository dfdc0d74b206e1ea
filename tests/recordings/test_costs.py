"""What a call of any API has cost, read from its response: whole, streamed, cut, without usage, or broken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hh_jupyter.recordings.costs import ModelRequest, model_request
from hh_jupyter.records import prices

pytestmark = pytest.mark.usefixtures("clients_dropped")

OPENAI, ANTHROPIC = "https://api.openai.com/v1", "https://api.anthropic.com/v1/messages"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash"
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module", autouse=True)
def _price_table() -> None:
    assert prices.load()


def request(url: str, **body: Any) -> ModelRequest:
    found = model_request("POST", url, json.dumps(body).encode())
    assert found is not None
    return found


def cost(url: str, model: str, *events: Any, status: int = 200) -> float | None:
    """Of a call whose response is one object, or several events of a stream."""
    lines = "".join(f"event: x\ndata: {json.dumps(event)}\n\n" for event in events)
    body = json.dumps(events[0]) if len(events) == 1 else f"{lines}data: [DONE]\n\n"
    return request(url, model=model, messages=HELLO).cost(status, body.encode())


CHAT = {"model": "gpt-4o-2024-08-06", "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}}
CHAT_COST = 0.0075
CLAUDE = {
    "input_tokens": 1000,
    "cache_read_input_tokens": 500,
    "cache_creation_input_tokens": 200,
    "output_tokens": 300,
}
CLAUDE_COST = 0.0084
GEMINI = {"promptTokenCount": 1000, "candidatesTokenCount": 300, "thoughtsTokenCount": 200, "totalTokenCount": 1500}
GEMINI_COST = 0.00155

RESPONSES: dict[str, tuple[str, str, list[Any], float]] = {
    "openai chat": (f"{OPENAI}/chat/completions", "gpt-4o", [CHAT], CHAT_COST),
    "openai stream": (
        f"{OPENAI}/chat/completions",
        "gpt-4o",
        [{"model": "gpt-4o", "usage": None, "choices": [{"delta": {"content": "x"}}]}, {"choices": [], **CHAT}],
        CHAT_COST,
    ),
    "openai responses": (
        f"{OPENAI}/responses",
        "gpt-4o",
        [{"model": "gpt-4o", "usage": {"input_tokens": 1000, "output_tokens": 500}}],
        CHAT_COST,
    ),
    "openai responses stream": (
        f"{OPENAI}/responses",
        "gpt-4o",
        [
            {"type": "response.created", "response": {"model": "gpt-4o", "usage": None}},
            {
                "type": "response.completed",
                "response": {"model": "gpt-4o", "usage": {"input_tokens": 1000, "output_tokens": 500}},
            },
        ],
        CHAT_COST,
    ),
    "openai embeddings": (
        f"{OPENAI}/embeddings",
        "text-embedding-3-small",
        [{"model": "text-embedding-3-small", "usage": {"prompt_tokens": 1000, "total_tokens": 1000}}],
        0.00002,
    ),
    "anthropic": (
        ANTHROPIC,
        "claude-sonnet-4-0",
        [{"model": "claude-sonnet-4-20250514", "usage": CLAUDE}],
        CLAUDE_COST,
    ),
    "anthropic stream": (
        ANTHROPIC,
        "claude-sonnet-4-0",
        [
            {
                "type": "message_start",
                "message": {"model": "claude-sonnet-4-20250514", "usage": {**CLAUDE, "output_tokens": 1}},
            },
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 300}},
        ],
        CLAUDE_COST,
    ),
    "google": (
        f"{GOOGLE}:generateContent",
        "",
        [{"modelVersion": "gemini-2.5-flash", "usageMetadata": GEMINI}],
        GEMINI_COST,
    ),
    "google stream": (
        f"{GOOGLE}:streamGenerateContent?alt=sse",
        "",
        [
            {"modelVersion": "gemini-2.5-flash", "usageMetadata": {"promptTokenCount": 1000}},
            {"modelVersion": "gemini-2.5-flash", "usageMetadata": GEMINI},
        ],
        GEMINI_COST,
    ),
    "mistral": (
        "https://api.mistral.ai/v1/chat/completions",
        "mistral-large-2411",
        [{"model": "mistral-large-2411", "usage": {"prompt_tokens": 1000, "completion_tokens": 500}}],
        0.005,
    ),
    "cohere": (
        "https://api.cohere.com/v2/chat",
        "command-a-03-2025",
        [{"usage": {"billed_units": {"input_tokens": 1000, "output_tokens": 500}, "tokens": {"input_tokens": 1500}}}],
        0.0075,
    ),
    "cohere stream": (
        "https://api.cohere.com/v2/chat",
        "command-a-03-2025",
        [
            {"type": "content-delta", "delta": {"message": {"content": {"text": "x"}}}},
            {
                "type": "message-end",
                "delta": {"usage": {"billed_units": {"input_tokens": 1000, "output_tokens": 500}}},
            },
        ],
        0.0075,
    ),
    "openrouter": (
        "https://openrouter.ai/api/v1/chat/completions",
        "openai/gpt-4o",
        [{"model": "openai/gpt-4o", "usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.0123}}],
        0.0123,
    ),
}


@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("host", ["the provider's", "a proxy's"])
def test_the_cost_of_a_call_is_read_from_the_response_of_every_api(name: str, host: str) -> None:
    url, model, events, expected = RESPONSES[name]
    if host != "the provider's":
        url = f"http://127.0.0.1:4000/{url.split('/', 3)[3]}"
    assert cost(url, model, *events) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("url", [f"{OPENAI}/chat/completions", "http://localhost:1/v1/chat/completions"])
def test_a_stream_without_usage_is_counted_by_its_characters(url: str) -> None:
    events = [{"model": "gpt-4o", "choices": [{"delta": {"content": "word " * 8}}]} for _ in range(100)]
    found = request(url, model="gpt-4o", messages=[{"role": "user", "content": "word " * 800}])
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    assert found.cost(200, body.encode()) == pytest.approx(1000 * 2.5e-6 + 1000 * 10e-6, rel=0.05)
    cut = found.cost(200, body[: len(body) // 2].encode())
    assert cut == pytest.approx(1000 * 2.5e-6 + 500 * 10e-6, rel=0.05)


def test_a_price_tier_is_taken_from_the_response() -> None:
    url = f"{OPENAI}/chat/completions"
    usual = cost(url, "gpt-5", {**CHAT, "model": "gpt-5"})
    flex = cost(url, "gpt-5", {**CHAT, "model": "gpt-5", "service_tier": "flex"})
    assert usual is not None
    assert flex == pytest.approx(usual / 2)


def test_a_failed_call_costs_nothing() -> None:
    assert cost(f"{OPENAI}/chat/completions", "gpt-4o", {"error": {"message": "overloaded"}}, status=529) == 0


def test_the_cost_of_a_model_without_a_price_is_unknown() -> None:
    assert cost("http://localhost:1/v1/chat/completions", "acme-1", {**CHAT, "model": "acme-1"}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["usage", "model", "delta", "message", "response", "prompt_tokens", "input_tokens", "cost", "text"]
            ),
            inner,
            max_size=4,
        )
    ),
)


@given(st.lists(JSON, max_size=4), st.sampled_from([url for url, *_ in RESPONSES.values()]), st.binary(max_size=30))
def test_any_response_has_a_cost_that_is_not_negative_or_none(events: list[Any], url: str, rest: bytes) -> None:
    whole = json.dumps(events[0] if events else None).encode()
    lines = b"".join(b"data: " + json.dumps(event).encode() + b"\n" for event in events)
    for body in (whole, lines + rest, json.dumps(events).encode(), rest):
        found = request(url, model="gpt-4o", messages=HELLO).cost(200, body)
        assert found is None or 0 <= found < float("inf")


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("GET", f"{OPENAI}/models", b""),
        ("POST", f"{OPENAI}/files", b"--x"),
        ("POST", f"{OPENAI}/batches", b'{"model": "gpt-4o"}'),
        ("POST", f"{OPENAI}/moderations", b'{"model": "omni-moderation-latest"}'),
        ("POST", f"{ANTHROPIC}/count_tokens", b'{"model": "claude-sonnet-4-0"}'),
        ("POST", f"{GOOGLE}:countTokens", b"{}"),
        ("DELETE", f"{OPENAI}/responses/1", b""),
    ],
)
def test_a_request_that_calls_no_model_is_not_counted(method: str, url: str, body: bytes) -> None:
    assert model_request(method, url, body) is None


@pytest.mark.parametrize(
    ("url", "body", "model"),
    [
        (f"{OPENAI}/chat/completions", b'{"model": "gpt-4o"}', "gpt-4o"),
        (f"{GOOGLE}:generateContent", b"{}", "gemini-2.5-flash"),
        ("https://x.openai.azure.com/openai/deployments/gpt-4o/chat/completions?api-version=1", b"{}", "gpt-4o"),
        (f"{OPENAI}/audio/transcriptions", b"--boundary", "unknown"),
    ],
)
def test_the_model_is_in_the_body_or_in_the_address(url: str, body: bytes, model: str) -> None:
    found = model_request("POST", url, body)
    assert found is not None
    assert found.model == model


def test_an_estimate_takes_the_longest_answer_that_the_request_allows() -> None:
    url = f"{OPENAI}/chat/completions"
    prompt = [{"role": "user", "content": "word " * 800}]
    free = request(url, model="gpt-4o", messages=prompt).estimate()
    assert free.prompt == pytest.approx(1000 * 2.5e-6, rel=0.05)
    assert free.long == pytest.approx(free.prompt + 8192 * 10e-6)
    short = request(url, model="gpt-4o", messages=prompt, max_completion_tokens=100).estimate()
    assert short.long == short.usual == pytest.approx(free.prompt + 100 * 10e-6, abs=1e-4)


def test_a_large_request_is_read_like_a_small_one() -> None:
    said = {"role": "user", "content": '{"model": "other", "max_tokens": 1} ' * 10_000}
    found = request(f"{OPENAI}/chat/completions", messages=[said], max_completion_tokens=77, model="gpt-4o")
    assert (found.model, found.most) == ("gpt-4o", 77)
    assert found.prompt > 90_000


def test_an_image_in_a_prompt_is_not_taken_for_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 100_000}}
    found = request(f"{OPENAI}/chat/completions", model="gpt-4o", messages=[{"role": "user", "content": [image]}])
    assert found.prompt < 200
