"""Numbers as people read them. One number per fact, three digits where more would be noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hh_jupyter.records.totals import Totals


def duration(nanoseconds: int) -> str:
    """`<0.1 ms`, `4.2 ms`, `340 ms`, `2.38 s`, `1m 34s`, `2h 05m`."""
    millis = nanoseconds / 1e6
    if millis < 0.05:
        return "0 ms" if nanoseconds <= 0 else "<0.1 ms"
    if millis < 9.95:
        return f"{millis:.1f} ms"
    if millis < 999.5:
        return f"{millis:.0f} ms"
    if millis < 59_995:
        return f"{millis / 1000:.2f} s"
    minutes, seconds = divmod(round(millis / 1000), 60)
    if minutes < 60:
        return f"{minutes}m {seconds:02d}s"
    return f"{minutes // 60:,}h {minutes % 60:02d}m"


def count(number: int, noun: str) -> str:
    """`1 span`, `2,001 spans`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def usd(dollars: float, *, estimated: bool = False) -> str:
    """`$0.0044`, `$0.044`, `$1,204.40`, an estimate `~$0.0044`; `<$0.0001` rather than a zero that is none."""
    if 0 < dollars < 0.00005:
        return "<$0.0001"
    mark = "~" if estimated else ""
    if dollars < 0.01:
        return f"{mark}${dollars:.4f}" if dollars else f"{mark}$0"
    return f"{mark}${dollars:.3f}" if dollars < 0.9995 else f"{mark}${dollars:,.2f}"


def tokens(totals: Totals) -> str:
    """`3,961 tokens`, embeddings included; `3,961+ tokens` if some calls do not tell, `tokens unknown` if none does."""
    known = totals.total_tokens + totals.embedding_tokens
    if not totals.unknown_usage_calls:
        return count(known, "token") if known else ""
    return f"{known:,}+ tokens" if known else "tokens unknown"


def cost(totals: Totals) -> str:
    """`$0.0044`; `~` before an estimate, `+` after a sum that misses some calls; `cost unknown`.

    Empty without any cost and without a model call that went well: there is nothing to pay then.
    """
    if totals.cost is None:
        return "cost unknown" if totals.llm_calls > totals.llm_calls_failed else ""
    return usd(totals.cost, estimated=totals.cost_estimated) + ("" if totals.cost_complete else "+")
