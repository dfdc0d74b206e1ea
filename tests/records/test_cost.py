"""Estimates at list prices: lazily, and never a guess."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from hh_jupyter.conventions.facts import SpanFacts, Usage
from hh_jupyter.records import prices


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "_pricing", None)
    monkeypatch.setattr(prices, "_thread", None)


def call(model: str | None = "gpt-4o-mini-2024-07-18", provider: str | None = "openai", **usage: int) -> SpanFacts:
    return SpanFacts(kind="llm", model=model, provider=provider, usage=Usage(**usage) if usage else None)


@pytest.mark.usefixtures("unloaded")
def test_nothing_is_estimated_before_the_table_is_loaded() -> None:
    assert not prices.ready()
    assert prices.estimate(call(prompt=1000, completion=10)) is None


@pytest.mark.usefixtures("unloaded")
def test_the_table_loads_on_a_separate_thread_and_calls_back() -> None:
    done = threading.Event()
    prices.load_in_background(done.set)
    assert done.wait(30)
    assert prices.ready()
    assert prices.estimate(call(prompt=1000, completion=100)) == pytest.approx(0.00021)


@pytest.mark.usefixtures("unloaded")
def test_the_table_loads_at_once_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = threading.Event()
    prices.load_in_background(done.set)
    assert done.is_set()
    assert prices.ready()


def test_importing_the_package_does_not_import_the_table() -> None:
    code = "import sys, hh_jupyter.records.totals; sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_thread_that_loads_the_table_does_not_import_httpx() -> None:
    """openai looks into httpx during a request, if anybody has imported it, and fails where it is half imported."""
    code = "import sys; from hh_jupyter.records import prices; sys.exit(not prices.load() or 'httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_cached_tokens_are_part_of_the_prompt() -> None:
    assert prices.load()
    full, cached = (
        prices.estimate(call(prompt=1000, completion=0)),
        prices.estimate(call(prompt=1000, completion=0, cached=1000)),
    )
    assert full == pytest.approx(0.00015)
    assert cached == pytest.approx(0.000075)


@pytest.mark.parametrize(
    "facts",
    [
        call("no-such-model", prompt=1, completion=1),
        call(None, prompt=1, completion=1),
        call("gpt-4o", "ollama", prompt=1, completion=1),
        call("gpt-4o"),
        call("gpt-4o", prompt=1),
        call("gpt-4o", completion=1),
        call("gpt-4o", prompt=1, completion=1, cached=5),
    ],
    ids=["model", "no model", "provider", "usage", "completion", "prompt", "contradiction"],
)
def test_what_is_unknown_has_no_cost(facts: SpanFacts) -> None:
    assert prices.load()
    assert prices.estimate(facts) is None


def test_a_routed_name_is_priced_as_what_it_routes_to() -> None:
    assert prices.load()
    plain = prices.estimate(call("gpt-4o", prompt=1000, completion=1000))
    assert plain is not None
    assert prices.estimate(call("openai/gpt-4o", None, prompt=1000, completion=1000)) == plain


def test_an_embedding_needs_no_completion() -> None:
    assert prices.load()
    facts = SpanFacts(kind="embedding", model="text-embedding-3-small", provider="openai", usage=Usage(prompt=1000))
    assert prices.estimate(facts) == pytest.approx(0.00002)


@pytest.mark.usefixtures("unloaded")
def test_a_missing_price_table_is_logged_once_and_costs_are_unknown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert not prices.load()
    assert not prices.load()
    assert prices.estimate(call(prompt=1, completion=1)) is None
    assert len(caplog.records) == 1


def test_reasoning_is_part_of_the_completion_and_costs_no_more() -> None:
    assert prices.load()
    plain = prices.estimate(call("gpt-5-mini", prompt=1000, completion=300))
    assert plain is not None
    assert prices.estimate(call("gpt-5-mini", prompt=1000, completion=300, reasoning=256)) == pytest.approx(plain)


def test_anthropics_cache_is_priced_for_reading_and_for_writing() -> None:
    assert prices.load()
    model, provider = "claude-3-5-haiku-20241022", "anthropic"
    plain = prices.estimate(call(model, provider, prompt=1000, completion=0)) or 0
    read = prices.estimate(call(model, provider, prompt=1000, completion=0, cached=1000)) or 0
    written = prices.estimate(call(model, provider, prompt=1000, completion=0, cache_write=1000)) or 0
    assert 0 < read < plain < written


def test_the_price_table_has_a_date() -> None:
    assert prices.load()
    assert (prices.table() or "").startswith("genai-prices ")
    assert (prices.table() or "")[-10:] >= "2026-01-01"


@pytest.mark.parametrize(("tier", "share"), [(None, 1), ("flex", 0.5), ("priority", 1.8), ("batch", 0.5)])
def test_a_call_is_priced_by_the_tier_that_its_span_names(tier: str | None, share: float) -> None:
    assert prices.load()
    facts = replace(call("gpt-5-mini-2025-08-07", prompt=1_000_000, completion=0), service_tier=tier)
    assert prices.estimate(facts) == pytest.approx(0.25 * share)


def test_a_cost_of_nothing_yields_to_the_price_table_and_stays_where_there_is_no_price() -> None:
    assert prices.load()
    known, unknown = call(prompt=1000, completion=100), call("llama-at-home", "ollama", prompt=1000, completion=100)
    dollars, estimated = prices.cost_of(replace(known, cost=0.0))
    assert estimated
    assert dollars == pytest.approx(0.00021)
    assert prices.cost_of(replace(unknown, cost=0.0)) == (0.0, False)
    assert prices.cost_of(unknown) == (None, False)
    assert prices.cost_of(replace(known, cost=0.5)) == (0.5, False)
    assert prices.cost_of(replace(known, from_cache=True)) == (0.0, False)
