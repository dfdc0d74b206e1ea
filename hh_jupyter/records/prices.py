"""Estimated cost of a call, from the price table of `genai-prices`.

Loading the table takes 0.2 s and 7 MB, so it is loaded on a separate thread when a price is first needed. Until then,
and for models that it does not list, a cost is None: an unknown cost is never 0.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from hh_jupyter.conventions.facts import SpanFacts, service_tier
from hh_jupyter.threads import start_thread

logger = logging.getLogger(__name__)

Tokens = tuple[tuple[str, int], ...]
Pricing = Callable[[str, str | None, Tokens, str | None], float | None]
"""(model, provider, tokens by the table's names, service tier) -> US dollars, or None for an unknown model."""

_PROVIDERS: Final = {
    "azure.ai.inference": "azure", "azure.ai.openai": "azure", "az.ai.inference": "azure", "az.ai.openai": "azure",
    "azure_ai": "azure", "azure_openai": "azure", "azureopenai": "azure",
    "aws.bedrock": "aws", "aws_bedrock": "aws", "bedrock": "aws", "bedrock_converse": "aws", "amazon_bedrock": "aws",
    "gcp.gen_ai": "google", "gcp.vertex_ai": "google", "gcp.gemini": "google", "gemini": "google",
    "google_genai": "google", "google_vertexai": "google", "google-gla": "google", "google-vertex": "google",
    "vertex_ai": "google", "vertexai": "google", "vertex_ai_beta": "google",
    "mistral_ai": "mistral", "mistralai": "mistral", "moonshot_ai": "moonshotai", "moonshot": "moonshotai",
    "x_ai": "x-ai", "xai": "x-ai", "grok": "x-ai",
    "together_ai": "together", "together-ai": "together", "fireworks_ai": "fireworks", "fireworks-ai": "fireworks",
    "meta_llama": "meta", "voyage": "voyageai", "perplexity_ai": "perplexity",
}  # fmt: skip
"""Provider in OpenTelemetry's conventions, LangChain, LiteLLM or Pydantic AI -> provider in the table."""

_BEDROCK = re.compile(r"(?:[a-z-]{2,10}\.)?[a-z0-9]+\.[a-z][\w.-]*(?::\d+)?")
"""A model name of Bedrock, with region and vendor: "us.anthropic.claude-sonnet-4-20250514-v1:0"."""

_BEDROCK_VENDORS: Final = ("amazon", "meta", "mistral", "cohere", "openai", "deepseek", "qwen", "ai21")
"""Vendors to try: OpenLLMetry removes the vendor from a model's name, but the table lists only Anthropic's without."""

_NUMBERED = re.compile(r"-00\d$")

_THREAD_NAME: Final = "hh-prices"
_lock = threading.RLock()
"""Reentrant: while the table is loading, a destructor may end a response whose cost is asked for."""
_pricing: Pricing | None = None
_thread: threading.Thread | None = None
_table: str | None = None
_BASE_TOKEN_TYPES: Final = frozenset({"input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"})
_extra_token_types: frozenset[str] = frozenset()
"""Further token types that the loaded release of the table has prices for."""
_takes_tier = False
"""Whether the loaded release of the table has prices by service tier."""
_DATE = re.compile(r"20\d\d-\d\d-\d\d")


def ready() -> bool:
    """Whether the price table is loaded."""
    return _pricing is not None


def load() -> bool:
    """Load the price table now. False if it cannot be imported, which is logged once."""
    global _pricing
    with _lock:
        if _pricing is None:
            _pricing = _load()
    return _pricing is not _no_price


def load_in_background(then: Callable[[], None] | None = None) -> None:
    """Load the price table on a daemon thread, unless it is loaded or loading already; now, if none can be started.

    Args:
        then: called there after this call has loaded the table; not called otherwise.
    """
    global _thread
    if ready() or (_thread is not None and _thread.is_alive()):
        return

    def run() -> None:
        if load() and then is not None:
            then()

    _thread = start_thread(run, _THREAD_NAME)
    if _thread is None:
        run()


def table() -> str | None:
    """Name, version and date of the loaded price table, "genai-prices 0.2.3 of 2026-10-14"; None if none is loaded.

    The date is the latest one in the table; it has no price changes after that date.
    """
    return _table


def cost_of(facts: SpanFacts, prices: Callable[[SpanFacts], float | None] | None = None) -> tuple[float | None, bool]:
    """US dollars for a span and whether they are estimated; (None, False) if the cost is unknown.

    A cost on the span takes precedence over an estimate, unless it is 0: some instrumentors write 0 for unknown.

    Args:
        prices: function that estimates a call; `estimate` by default.
    """
    if facts.from_cache or facts.replayed:
        return 0.0, False
    if facts.cost:
        return facts.cost, False
    price = (prices or estimate)(facts)
    return (facts.cost, False) if price is None else (price, True)


def saved_cost(
    facts: SpanFacts, prices: Callable[[SpanFacts], float | None] | None = None
) -> tuple[float | None, bool]:
    """US dollars that a replayed call would have cost, and whether they are estimated.

    (None, False) if that is unknown, or the call was not replayed.
    """
    return cost_of(replace(facts, replayed=False), prices) if facts.replayed else (None, False)


def needs_table(facts: SpanFacts) -> bool:
    """Whether the cost of a span has to be estimated from the price table."""
    return not facts.cost and not facts.from_cache and (facts.model or facts.model_requested) is not None


def estimate(facts: SpanFacts) -> float | None:
    """US dollars for the tokens of a call at list prices; None if model or tokens are unknown or no table is loaded.

    Args:
        facts: of a model or embedding call. Cached and audio tokens are part of the prompt, reasoning and audio tokens
            part of the completion; each type has its provider's price.
    """
    usage, pricing = facts.usage, _pricing
    model = facts.model or facts.model_requested
    if pricing is None or usage is None or not model or usage.prompt is None:
        return None
    if usage.completion is None and facts.kind != "embedding":
        return None
    counts = {
        "input_tokens": usage.prompt,
        "output_tokens": usage.completion or 0,
        "cache_read_tokens": usage.cached or 0,
        "cache_write_tokens": usage.cache_write or 0,
        "output_reasoning_tokens": usage.reasoning or 0,  # A few providers price it separately.
        "input_audio_tokens": usage.audio_prompt or 0,
        "output_audio_tokens": usage.audio_completion or 0,
    }
    tokens = tuple(
        (name, count)
        for name, count in counts.items()
        if name in _BASE_TOKEN_TYPES or (count and name in _extra_token_types)
    )
    names = [(model, facts.provider)]
    if "/" in model:
        # A route of LiteLLM or OpenRouter: "openai/gpt-4o".
        prefix, _, plain = model.partition("/")
        names += [(plain, prefix), (plain, facts.provider)]
    if facts.provider is None and _BEDROCK.fullmatch(model):
        names.append((model, "aws"))
    if facts.provider is not None and _PROVIDERS.get(facts.provider) == "aws" and "." not in model:
        names += [(f"{vendor}.{model}", "aws") for vendor in _BEDROCK_VENDORS]
    if facts.model_requested and facts.model_requested != model:
        names.append((facts.model_requested, facts.provider))
    # The response may name a version that the table does not list: "gemini-2.5-flash-001".
    names.append((_NUMBERED.sub("", model), facts.provider))
    found = (
        pricing(name, _PROVIDERS.get(who, who) if who else None, tokens, facts.service_tier) for name, who in names
    )
    return next((price for price in found if price is not None), None)


def cost_of_response(document: Mapping[str, Any], url: str) -> float | None:
    """US dollars of a call, read from the JSON of its response by the table's own rules for the provider.

    None if no table is loaded, or the table does not know the provider's address, this form of its responses or the
    model. Blocks while the table is loading.

    Args:
        document: a whole response.
        url: address of the request.
    """
    if not load():
        return None
    from genai_prices import extract_usage

    path = urlsplit(url).path
    flavor = next((flavor for part, flavor in _FLAVORS.items() if part in path), "default")
    tier = service_tier(document.get("service_tier"))
    context: dict[str, Any] = {} if tier is None or not _takes_tier else {"price_context": _price_context(tier)}
    for each in dict.fromkeys((flavor, "default")):
        try:
            extracted = extract_usage(document, provider_api_url=url, api_flavor=each)
            return float(extracted.calc_price(**context).total_price)
        except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError):
            continue  # An unknown provider, form or model, or a response that is not what it should be.
    return None


_FLAVORS: Final = {
    "/chat/completions": "chat", "/responses": "responses", "/embeddings": "embeddings", "/embed": "embeddings",
    "/images/": "images", "/v1/messages": "anthropic",
}  # fmt: skip
"""Part of a request's path -> the table's name for the form of the response."""


def _load() -> Pricing:
    global _table, _extra_token_types, _takes_tier
    try:
        from genai_prices import Usage, __version__, calc_price
    except ImportError as error:
        logger.warning("costs are not estimated: %s", error)
        return _no_price

    import inspect

    _takes_tier = "price_context" in inspect.signature(calc_price).parameters

    # A lookup takes 0.1 ms, and every display of a span repeats it.
    @lru_cache(maxsize=16_384)
    def price(model: str, provider: str | None, tokens: Tokens, tier: str | None) -> float | None:
        arguments: dict[str, Any] = {} if provider is None else {"provider_id": provider}
        if tier is not None and _takes_tier:
            arguments["price_context"] = _price_context(tier)
        try:
            return float(calc_price(Usage(**dict(tokens)), model, **arguments).total_price)
        except (LookupError, ValueError):
            # Unknown model or provider, or inconsistent counts.
            return None

    # The first lookup loads the table.
    price("gpt-4o", "openai", (("input_tokens", 1), ("output_tokens", 1)), None)
    more = ("output_reasoning_tokens", "input_audio_tokens", "output_audio_tokens")
    _extra_token_types = frozenset(name for name in more if _has_token_type(Usage, name))
    _table = " of ".join(filter(None, (f"genai-prices {__version__}", _latest_date())))
    return price


def _price_context(tier: str) -> dict[str, str]:
    """The table knows batches by how they are processed, not by Anthropic's tier of that name."""
    return {"processing": "batch"} if tier == "batch" else {"service_tier": tier}


def _has_token_type(usage: Any, name: str) -> bool:
    """Whether this release of the table has a token type."""
    import warnings

    try:
        with warnings.catch_warnings(action="error"):
            usage(**{name: 1})
    except (TypeError, UserWarning):
        return False
    return True


def _latest_date() -> str | None:
    """The latest date on which a price was checked, from the table's comments; the package itself has no date."""
    from datetime import UTC, datetime

    from genai_prices import data_snapshot

    comments = (
        model.price_comments or "" for provider in data_snapshot.get_snapshot().providers for model in provider.models
    )
    today = datetime.now(tz=UTC).date().isoformat()
    return max((day for text in comments for day in _DATE.findall(text) if day <= today), default=None)


def _no_price(model: str, provider: str | None, tokens: Tokens, tier: str | None) -> float | None:
    return None
