"""What changed since the run before, in a few words: the bar of a cell that was run again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from hh_jupyter.display import format as fmt
from hh_jupyter.display.format import count
from hh_jupyter.records.totals import Totals
from hh_jupyter.records.tree import SpanTree

if TYPE_CHECKING:
    from hh_jupyter.records.diff import Mark, TreeDiff

DELTA: Final = "Δ"
CHANGED_SHARE: Final = 0.1
CHANGED_NS: Final = 50_000_000
"""A time counts as changed if it changed by this share and by this many nanoseconds."""


@dataclass(frozen=True, slots=True)
class RunDelta:
    """What changed since the run before, in words; what did not change is empty.

    Attributes:
        failed: Example: "1 call newly failed".
        time, tokens, cost: with a sign. Example: "-120 ms".
        calls: Example: "2 calls changed".
        against: the run before. Example: "run 3 of this cell, 14:02".
        command: shows the difference. Example: "%hh diff 4".
    """

    failed: str
    time: str
    tokens: str
    cost: str
    calls: str
    against: str
    command: str

    @property
    def words(self) -> tuple[str, ...]:
        """The parts that changed, in the order of the bar."""
        return tuple(filter(None, (self.failed, self.time, self.tokens, self.cost, self.calls)))

    @property
    def shortened(self) -> RunDelta:
        """The same without time, tokens and cost, for narrow displays."""
        return replace(self, time="", tokens="", cost="")


def run_delta(diff: TreeDiff, against: str, command: str) -> RunDelta | None:
    """Return what changed in a few words; None if nothing did.

    Args:
        diff: the difference to the run before.
        against: names the run before.
        command: shows the difference.
    """
    old, new = diff.totals
    failed, times = len(diff.newly_failed), (run_duration(diff.old), run_duration(diff.new))
    delta = RunDelta(
        failed=f"{count(failed, 'call')} newly failed" if failed else "",
        time=time_change(*times) if time_changed(*times) else "",
        tokens=_token_change(_tokens(old), _tokens(new)),
        cost=_cost_change(old, new),
        calls=_calls(diff),
        against=against,
        command=command,
    )
    return delta if delta.words else None


def _calls(diff: TreeDiff) -> str:
    """`2 calls changed, 1 added`; of spans if no model call differs."""
    for noun, found in (
        ("call", {mark: len(diff.calls(mark)) for mark in _COUNTED}),
        ("span", {mark: sum(row.mark == mark for row in diff.rows) for mark in _COUNTED}),
    ):
        known = [(mark, number) for mark, number in found.items() if number]
        if known:
            first, *others = known
            return ", ".join(
                [f"{count(first[1], noun)} {first[0]}", *(f"{number:,} {mark}" for mark, number in others)]
            )
    return ""


_COUNTED: Final[tuple[Mark, ...]] = ("changed", "added", "removed")


# Numbers of both runs.


def run_duration(tree: SpanTree) -> int:
    """Nanoseconds from the first start to the last end."""
    return tree.end_ns - tree.start_ns


def time_changed(old: int, new: int) -> bool:
    """Whether a time in nanoseconds counts as changed."""
    return abs(new - old) >= max(CHANGED_NS, CHANGED_SHARE * old)


def _signed(text: str, change: float) -> str:
    return f"{'-' if change < 0 else '+'}{text}"


def time_change(old: int, new: int) -> str:
    """`-120 ms`."""
    return _signed(fmt.duration(abs(new - old)), new - old)


def _tokens(totals: Totals) -> int | None:
    return None if totals.unknown_usage_calls else totals.total_tokens + totals.embedding_tokens


def _token_change(old: int | None, new: int | None) -> str:
    return "" if old is None or new is None or old == new else _signed(count(abs(new - old), "token"), new - old)


def _cost_change(old: Totals, new: Totals) -> str:
    return cost_change(old.cost, new.cost) if old.cost_complete and new.cost_complete else ""


def cost_change(old: float | None, new: float | None) -> str:
    """`-$0.0002`; empty if one is unknown, or both show as the same."""
    if old is None or new is None or fmt.usd(old) == fmt.usd(new):
        return ""
    change = fmt.usd(abs(new - old))
    return "" if "<" in change else _signed(change, new - old)


def clock(start_ns: int, other_ns: int) -> str:
    """When a run started: `14:02`, with the date if the other one did not start on the same day."""
    start, day = (datetime.fromtimestamp(one / 1e9).astimezone() for one in (start_ns, other_ns))
    return start.strftime("%H:%M" if start.date() == day.date() else "%Y-%m-%d %H:%M")
