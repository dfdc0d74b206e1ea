"""What a request to a model may cost, and what it has cost: read from its body and from the body of the response.

The response says how many tokens it took, a stream in one of its last events. Where it does not, as with a stream that
was cut or was not asked for its usage, the characters of prompt and answer are counted, four to a token.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from hh_jupyter.conventions.facts import SpanFacts, Usage, counts_of, from_json, service_tier, text, usage_of
from hh_jupyter.recordings.budget import Estimate
from hh_jupyter.records import prices

CHARACTERS_PER_TOKEN: Final = 4

USUAL_ANSWER: Final = 400
"""Tokens of an answer of usual length."""

LONG_ANSWER: Final = 8_192
"""Tokens that few answers exceed."""

UNKNOWN_MODEL: Final = "unknown"

_IN_PATH: Final = re.compile(r"/(?:models|deployments|model)/([^/:]+)")
"""The model in an address, as Google, Azure and Bedrock have it."""

_NOT_A_CALL: Final = re.compile(
    r"count_?tokens$|/(?:input_tokens|tokenize|moderations|batches|files|uploads)(?:/|$)", re.IGNORECASE
)
"""Addresses that may name a model and cost nothing, or cost it later."""

_WITHOUT_MODEL: Final = re.compile(
    r":\w*(?:generate|embed|predict)\w*$|/(?:transcriptions|translations)$", re.IGNORECASE
)
"""Addresses of models whose body may not be JSON, or may not name the model."""

_PROVIDERS: Final = {
    "/chat/completions": "openai", "/responses": "openai", "/embeddings": "openai", "/v1/messages": "anthropic",
    ":generateContent": "google", ":streamGenerateContent": "google", ":embedContent": "google",
    ":batchEmbedContents": "google", "/v2/chat": "cohere", "/v2/embed": "cohere",
}  # fmt: skip
"""Part of a path -> the provider whose API it is, for models that the price table finds only by provider."""

_DATA_SIZE: Final = 2_000
"""Bytes from which a string without a space is taken for an image or a file."""

_LARGE: Final = 64 * 1024
_MODEL: Final = re.compile(rb'"model"\s*:\s*"([^"\\]+)"')
_LENGTH: Final = re.compile(
    rb'"max(?:_tokens|_completion_tokens|_output_tokens|OutputTokens|Tokens)"\s*:\s*(\d{1,9})\b'
)
"""Quotes inside texts have a backslash before them, so these find keys only."""

_HAS_USAGE: Final = re.compile(rb'"(?:usage|usageMetadata|billed_units)"\s*:\s*\{')
"""An event of a stream that says how many tokens it took so far."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A request to a model, as far as its cost depends on it.

    Attributes:
        url: its address.
        model: the requested model, or `UNKNOWN_MODEL`.
        prompt: tokens of its body, roughly.
        most: the tokens that it allows the answer; infinite if it does not say.
    """

    url: str
    model: str
    prompt: int
    most: float

    def estimate(self) -> Estimate:
        """What it may cost: 0 if the price of the model is unknown, or no price table is loaded yet."""
        answers = (0, min(USUAL_ANSWER, self.most), min(LONG_ANSWER, self.most))
        return Estimate(*(self.price(self.model, Usage(self.prompt or 1, int(answer))) or 0.0 for answer in answers))

    def price(self, model: str, usage: Usage, tier: str | None = None) -> float | None:
        """US dollars for these tokens; None if the price is unknown."""
        requested = self.model if self.model != UNKNOWN_MODEL else None
        facts = SpanFacts(kind="embedding", model=model, model_requested=requested, usage=usage, service_tier=tier)
        price = prices.estimate(facts)
        if price is not None:
            return price
        path = urlsplit(self.url).path
        provider = next((name for form, name in _PROVIDERS.items() if form in path), None)
        return prices.estimate(replace(facts, provider=provider)) if provider is not None else None

    def cost(self, status: int, body: bytes) -> float | None:
        """US dollars of the call; None if the price of the model is unknown.

        Args:
            status: HTTP status of the response; a failed request costs nothing.
            body: body of the response, not compressed; the part of it that was read, if it was cut.
        """
        if status >= 400:
            return 0.0
        prices.load()
        events = list(_documents(body))
        document = _merged(events)
        usage = _raw_usage(document)
        named = _amount(usage.get("cost"))  # OpenRouter knows what it charges.
        if named is not None:
            return named
        cost = _amount(prices.cost_of_response(document, self.url)) if usage else None
        if cost is not None:
            return cost
        model = text(document.get("model")) or text(document.get("modelVersion")) or self.model
        read = _usage(usage) or Usage(self.prompt or 1, _answer_length(events) // CHARACTERS_PER_TOKEN)
        tier = service_tier(document.get("service_tier") or usage.get("service_tier"))
        return _amount(self.price(model, read, tier))


def model_request(method: str, url: str, body: bytes) -> ModelRequest | None:
    """Return what is known of a request to a model API; None if it calls no model, such as one for a list of them."""
    path = urlsplit(url).path.rstrip("/")
    if method.upper() != "POST" or _NOT_A_CALL.search(path):
        return None
    document = _fields(body)
    in_path = _IN_PATH.search(path)
    model = text(document.get("model")) or text(document.get("modelId")) or (in_path[1] if in_path else None)
    if model is None and not _WITHOUT_MODEL.search(path):
        return None
    prompt = _text_size(body) // CHARACTERS_PER_TOKEN if document else 0
    return ModelRequest(url, (model or UNKNOWN_MODEL).removeprefix("models/"), prompt, _asked_length(document))


# Reading of bodies. They come from a server: any of it may be missing, of another type, or huge.

_LENGTHS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")
_USAGES: Final = ("usage", "usageMetadata", "meta")
_TEXTS: Final = frozenset(
    ("content", "text", "delta", "arguments", "partial_json", "thinking", "reasoning", "reasoning_content", "refusal")
)
"""Keys of the texts of an answer, in events of streams and in whole answers."""


def _fields(body: bytes) -> Mapping[str, Any]:
    """Return the JSON of a request; of a large one, which takes 5 ms a megabyte to decode, what is needed here."""
    if len(body) <= _LARGE or body[:1] != b"{":
        return _mapping(_json(body))
    fields: dict[str, Any] = {"size": len(body)}
    if model := _MODEL.search(body):
        fields["model"] = model[1].decode("utf-8", "replace")
    if length := _LENGTH.search(body):
        fields["max_tokens"] = int(length[1])
    return fields


def _text_size(body: bytes) -> int:
    """Return the bytes of a JSON body without those of images and files."""
    strings = (string for string in body.split(b'"') if len(string) >= _DATA_SIZE)
    return len(body) - sum(len(one) for one in strings if b" " not in one and b"\\" not in one and one.isascii())


def _asked_length(document: Mapping[str, Any]) -> float:
    """Return the most tokens that a request allows the answer."""
    inside = (document, _mapping(document.get("generationConfig")), _mapping(document.get("inferenceConfig")))
    found = [_amount(part.get(name)) for part in inside for name in (*_LENGTHS, "maxTokens")]
    return min((length for length in found if length), default=math.inf)


def _documents(body: bytes) -> Iterator[Mapping[str, Any]]:
    """Yield the JSON of a response: one object, or the events of a stream."""
    whole = _json(body)
    if isinstance(whole, Mapping):
        yield whole
        return
    lines: Sequence[Any] = whole if isinstance(whole, list) else body.splitlines()  # Google can stream a JSON array.
    with_usage = [line for line in lines if isinstance(line, bytes) and _HAS_USAGE.search(line)]
    if with_usage:
        # Not all the others: that takes 30 µs an event. Anthropic has two, Google one in each event.
        lines = [*with_usage[:1], *with_usage[-2:]]
    for line in lines:
        event = _json(line.removeprefix(b"data:").strip()) if isinstance(line, bytes) else line
        if isinstance(event, Mapping):
            yield event


def _merged(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one object with what the events of a stream say of model, tier and usage. Later events are more complete.

    Responses of OpenAI are inside their events, as is the first message of Anthropic, and the usage of Cohere.
    """
    merged: dict[str, Any] = dict(events[0]) if len(events) == 1 else {}
    for event in events:
        parts = (event, *(_mapping(event.get(name)) for name in ("response", "message", "delta", "interaction")))
        for part in parts:
            for name in ("model", "modelVersion", "service_tier"):
                if text(part.get(name)):
                    merged[name] = part[name]
            for name in _USAGES:
                known = {key: value for key, value in _mapping(part.get(name)).items() if value is not None}
                if known:
                    merged[name] = {**_mapping(merged.get(name)), **known}
    return merged


def _raw_usage(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the provider's usage object, with the names of its counts in snake case; empty without one."""
    found = next((found for name in _USAGES if (found := _mapping(document.get(name)))), {})
    found = _mapping(found.get("billed_units")) or _mapping(found.get("tokens")) or found
    return {re.sub(r"(?<=[a-z])([A-Z])", r"_\1", str(name)).lower(): value for name, value in found.items()}


def _usage(raw: Mapping[str, Any]) -> Usage | None:
    usage = usage_of(*counts_of(raw))
    # Anthropic and Bedrock count cached tokens apart from the others, Google the thoughts.
    apart = "cache_read_input_tokens" in raw or "cache_creation_input_tokens" in raw
    return usage and usage.with_all_parts(without_cached=apart)


def _answer_length(events: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of characters of an answer, or of the part of it that a stream had before it was cut."""
    total, level = 0, list[Any](events)
    while level:
        below: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                total += sum(len(inner) for key, inner in value.items() if key in _TEXTS and isinstance(inner, str))
                below.extend(inner for inner in value.values() if isinstance(inner, Mapping | list))
            elif isinstance(value, list):
                below.extend(value)
        level = below
    return total


def _json(body: bytes) -> Any:
    if body[:1] not in (b"{", b"[", b" ", b"\n", b"\r"):
        return None
    try:
        return from_json(body.decode("utf-8", "replace"))
    except ValueError:
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _amount(value: Any) -> float | None:
    """The value if it is a finite number that is not negative."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    return float(value) if good else None
