"""Estimated cost of a call, from the price table of `genai-prices`.

The table takes 0.2 s and 7 MB to load, so it is loaded when a price is first wanted, on a thread of its own. Until
then, and for models it does not know, a cost is None: unknown is never 0.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from typing import Any, Final

from hh_jupyter.conventions.facts import SpanFacts

logger = logging.getLogger(__name__)

Pricing = Callable[[str, str | None, dict[str, int]], float | None]
"""(model, provider, tokens by the table's names) -> US dollars, or None for a model that it does not know."""

_THREAD_NAME: Final = "hh-prices"
_lock = threading.Lock()
_pricing: Pricing | None = None
_thread: threading.Thread | None = None
_table: str | None = None
_prices_reasoning = False
_DATE = re.compile(r"20\d\d-\d\d-\d\d")


def ready() -> bool:
    """Whether `estimate` can answer without loading anything."""
    return _pricing is not None


def load() -> bool:
    """Load the price table now; False if it is missing or broken, which is logged once and not an error."""
    global _pricing
    with _lock:
        if _pricing is None:
            _pricing = _load()
    return _pricing is not _no_price


def load_in_background(then: Callable[[], None] | None = None) -> None:
    """Load the price table on a daemon thread, unless it is loaded or being loaded.

    Args:
        then: called on that thread when the table has been loaded by this call; not called otherwise.
    """
    global _thread
    if ready() or (_thread is not None and _thread.is_alive()):
        return

    def run() -> None:
        if load() and then is not None:
            then()

    _thread = threading.Thread(target=run, name=_THREAD_NAME, daemon=True)
    _thread.start()


def table() -> str | None:
    """Which prices `estimate` takes, "genai-prices 0.2.3 of 2026-10-14"; None before they are loaded, or without any.

    The date is the latest that the table itself tells of: prices changed since then are not in it.
    """
    return _table


def estimate(facts: SpanFacts) -> float | None:
    """US dollars for the tokens of a call at list prices; None if model or tokens are unknown, or no table is loaded.

    Args:
        facts: of a model or embedding call. Cached tokens are part of the prompt and reasoning ones of the completion;
            each are priced as their provider does.
    """
    usage, pricing = facts.usage, _pricing
    model = facts.model or facts.model_requested
    if pricing is None or usage is None or not model or usage.prompt is None:
        return None
    if usage.completion is None and facts.kind != "embedding":
        return None
    tokens = {
        "input_tokens": usage.prompt,
        "output_tokens": usage.completion or 0,
        "cache_read_tokens": usage.cached or 0,
        "cache_write_tokens": usage.cache_write or 0,
    }
    if usage.reasoning and _prices_reasoning:  # Part of the completion; a few providers price it apart.
        tokens["output_reasoning_tokens"] = usage.reasoning
    names = [(model, facts.provider)]
    if "/" in model:
        # LiteLLM and OpenRouter route by name: "openai/gpt-4o".
        prefix, _, plain = model.partition("/")
        names += [(plain, prefix), (plain, facts.provider)]
    prices = (pricing(name, provider, tokens) for name, provider in names)
    return next((price for price in prices if price is not None), None)


def _load() -> Pricing:
    global _table, _prices_reasoning
    try:
        from genai_prices import Usage, __version__, calc_price
    except ImportError as error:
        logger.warning("costs are not estimated: %s", error)
        return _no_price

    def price(model: str, provider: str | None, tokens: dict[str, int]) -> float | None:
        arguments: dict[str, Any] = {} if provider is None else {"provider_id": provider}
        try:
            return float(calc_price(Usage(**tokens), model, **arguments).total_price)
        except (LookupError, ValueError):
            # Another model, another provider, or counts that contradict each other.
            return None

    price("gpt-4o", "openai", {"input_tokens": 1, "output_tokens": 1})  # the table itself loads at the first question
    _prices_reasoning = _takes(Usage, "output_reasoning_tokens")
    _table = " of ".join(filter(None, (f"genai-prices {__version__}", _latest_date())))
    return price


def _takes(usage: Any, name: str) -> bool:
    """Whether this release of the table knows a kind of tokens."""
    import warnings

    try:
        with warnings.catch_warnings(action="error"):
            usage(**{name: 1})
    except (TypeError, UserWarning):
        return False
    return True


def _latest_date() -> str | None:
    """The latest day on which the table says that a price was looked up; the package itself has no date."""
    from datetime import UTC, datetime

    from genai_prices import data_snapshot

    comments = (
        model.price_comments or "" for provider in data_snapshot.get_snapshot().providers for model in provider.models
    )
    today = datetime.now(tz=UTC).date().isoformat()
    return max((day for text in comments for day in _DATE.findall(text) if day <= today), default=None)


def _no_price(model: str, provider: str | None, tokens: dict[str, int]) -> float | None:
    return None
