"""Runs of one cell before and after its prompt was edited, and their differences as the page gets them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from hh_jupyter.display.delta import RunDelta
from hh_jupyter.display.diff import DiffView
from hh_jupyter.display.diff_columns import encode_change, encode_diff
from hh_jupyter.display.view import CellView
from hh_jupyter.notebook.diffs import PENDING, Computed
from hh_jupyter.records.calls import SpanKey, key_of
from hh_jupyter.records.diff import TreeDiff
from hh_jupyter.records.record import SpanDetails, SpanRecord
from hh_jupyter.records.tree import SpanTree
from tests.browser.sample_cells import Cell, conversation, exchange, hostile, many

ASKED = "Hi, order 48213 arrived with a cracked lid. Can I get my money back? Card on file is the one ending 4410."
POLICY = (
    "You are a support agent for Northwind. Look up the order before you promise anything. Quote the policy you rely"
)
SYSTEMS = {
    "old": f"{POLICY} on. Be friendly and apologise for the trouble.",
    "new": f"{POLICY} on by its number. Answer in at most two sentences.",
}
REPLIES = {
    "old": "Sorry about the cracked lid. I have refunded $34.00 to the card ending 4410, reference rf_20931. It "
    "usually shows within three to five business days. You do not need to send the jar back: please recycle it, and "
    "keep the photo in case the carrier asks. This follows our policy for items that arrive damaged. If anything else "
    "is wrong with the order, just reply to this message.",
    "new": "Sorry about the cracked lid. I have refunded $34.00 to the card ending 4410 (reference rf_20931), and it "
    "shows within five business days. You do not need to send the jar back (policy 4.2, items that arrive damaged).",
}
TOOL = {"type": "function", "function": {"name": "issue_refund", "parameters": {"type": "object"}}}
LIMIT_TOOL = {"type": "function", "function": {"name": "check_limit", "parameters": {"type": "object"}}}


def call(version: str, *messages: dict[str, Any]) -> dict[str, Any]:
    """A model call whose parameters and tools differ too."""
    new = version == "new"
    attributes = conversation({"role": "system", "content": SYSTEMS[version]}, *messages)
    parameters = {"temperature": 0.2 if new else 0.7, "max_tokens": 160 if new else 400, "top_p": 1, "seed": 7}
    attributes["llm.invocation_parameters"] = json.dumps(parameters)
    for index, tool in enumerate([TOOL, LIMIT_TOOL] if new else [TOOL]):
        attributes[f"llm.tools.{index}.tool.json_schema"] = json.dumps(tool)
    return attributes


def refund_agent(trace_id: int, version: str) -> Cell:
    """An agent; the edited prompt changes two model calls, a try is gone, a tool is new."""
    cell, new = Cell(trace_id), version == "new"
    user, decided = {"role": "user", "content": ASKED}, {"role": "assistant", "content": "It qualifies for a refund."}
    root = cell.add("agent", "support_agent", 0, 2720 if new else 2840, attributes=exchange({"question": ASKED}))
    plan = conversation(user, {"role": "assistant", "content": "Look up the order."}, model="gpt-4.1-mini")
    plan_end = 364 if new else 352
    cell.add("llm", "plan", 12, plan_end, parent=root, model="gpt-4.1-mini", tokens=(412, 38), attributes=plan)
    search = cell.add("retriever", "search_policy", 370, 699 if new else 712, parent=root)
    for i in range(12):
        start = 380 + i * 17
        cell.add("embedding", "embed_chunk", start, start + 42 + i, parent=search, model="small", tokens=(118, 0))
    cell.add("retriever", "vector_query", 600, 661 if new else 668, parent=search, attributes=exchange({"k": 4}, 4))
    order = cell.add("tool", "get_order", 720, 1268, parent=root, attributes=exchange({"order_id": 48213}))
    if not new:
        cell.add("http", "GET /orders/48213", 722, 843, parent=order, attributes={"http.response.status_code": 503})
    cell.add(
        "http", "GET /orders/48213", 850, 1356 if new else 1248, parent=order, attributes={"http.route": "/orders"}
    )
    usage = (1710, 60) if new else (1702, 60)
    end = 1955 if new else 2092
    cell.add(
        "llm", "decide", 1300, end, parent=root, model="gpt-4.1", tokens=usage, cost=0.0039,
        attributes=call(version, user, decided),
    )  # fmt: skip
    if new:
        cell.add(
            "tool", "check_limit", 1956, 1997, parent=root, attributes=exchange({"amount": 34.0}, {"allowed": True})
        )
    given = exchange({"order_id": 48213, "amount_usd": 34.0}, {"refund_id": "rf_20931"})
    cell.add("tool", "issue_refund", 2000, 2318 if new else 2323, parent=root, attributes=given)
    result = {"role": "tool", "content": json.dumps({"refund_id": "rf_20931", "state": "accepted"})}
    reply = {"role": "assistant", "content": REPLIES[version]}
    cell.add(
        "llm", "write_reply", 2330, 3092 if new else 3117, parent=root, model="gpt-4.1",
        tokens=(2055, 52) if new else (1990, 92), cost=0.0045 if new else 0.0047,
        attributes=call(version, user, decided, result, reply),
    )  # fmt: skip
    return cell


EDITED = refund_agent(31, "new")
"""The latest run."""


def edited(view_id: str, **changes: Any) -> CellView:
    """The latest run, with what changed since the run before in the bar."""
    delta = RunDelta(
        "", "-120 ms", "+33 tokens", "-$0.0002", "2 calls changed, 1 added", "run 3 of this cell, 14:02", "%hh diff 4"
    )
    return EDITED.view(view_id, "4", mode="tree", delta=delta, **changes)


def asked(trace_id: int, question: str) -> Cell:
    """One model call with a question in the middle of a long text."""
    cell = Cell(trace_id)
    words = " ".join(f"word-{number}" for number in range(400))
    text = f"{words} {question} {words}"
    messages = conversation({"role": "user", "content": text}, {"role": "assistant", "content": "The same."})
    cell.add("llm", "chat", 0, 100, model="gpt-4.1", attributes=messages)
    return cell


LENGTHY = asked(34, "Bergen?")


def twisted(trace_id: int) -> Cell:
    """The hostile corpus, where every second text is another one."""
    cell = hostile(trace_id)
    for index, details in enumerate(cell.details.values()):
        if index % 2:
            changed = {key: f"{value} <b>changed</b>" for key, value in details.attributes.items()}
            cell.details[list(cell.details)[index]] = SpanDetails(attributes=changed, events=details.events)
    return cell


COMPARED = ("edited", "compared", "hostile", "big", "lengthy")
"""Sample cells that were run before."""


@cache
def compared(name: str) -> tuple[tuple[str, Cell], ...]:
    """The runs of a sample cell by their names, the oldest first."""
    if name in ("edited", "compared"):
        first = ("Run 2, 13:51", refund_agent(29, "old"))
        return first, ("Run 3, 14:02", refund_agent(30, "old")), ("Run 4, 14:09", EDITED)
    if name == "hostile":
        return ("Run 3, <b>x</b>", hostile(9)), ("Run 4, 14:09", twisted(39))
    if name == "big":
        return ("Run 3, 14:02", many(38, 250)), ("Run 4, 14:09", many(40, 251))
    return ("Run 3, 14:02", asked(33, "Oslo?")), ("Run 4, 14:09", LENGTHY)


class ComparedRuns:
    """Answers the page's questions about differences, as `hub.ViewSource` does.

    Attributes:
        pending: number of replies that say the difference is still being computed.
        forgets: differences are no longer kept when the page asks for a span.
    """

    def __init__(self) -> None:
        self.pending, self.forgets = 0, False
        self._diffs: dict[str, TreeDiff] = {}
        self._computed: Computed[dict[str, Any]] = Computed(9)

    def diff(self, view_id: str, old: str | None, new: str | None) -> dict[str, Any] | None:
        if self.pending:
            self.pending -= 1
            return {"pending": True}
        name = view_id.removeprefix("hh-")
        if name not in COMPARED:
            return None
        try:
            return self._computed.get((name, old, new), lambda: self._compare(name, old, new))
        except TimeoutError:
            return PENDING

    def _compare(self, name: str, old: str | None, new: str | None) -> dict[str, Any]:
        runs = compared(name)
        at, before = (int(new) if new else len(runs) - 1), (int(old) if old else len(runs) - 2)
        names = [{"key": str(index), "name": run[0]} for index, run in enumerate(runs)]
        (old_name, old_cell), (new_name, new_cell) = runs[before], runs[at]
        kept = {key_of(row): found for one in (old_cell, new_cell) for row, found in _details(one)}

        def load(records: Sequence[SpanRecord]) -> dict[SpanKey, SpanDetails]:
            return {key_of(record): kept[key_of(record)] for record in records}

        diff = TreeDiff(SpanTree.build(old_cell.records), SpanTree.build(new_cell.records), load)
        diff_id = f"{name}-{before}-{at}"
        self._diffs[diff_id] = diff
        chosen = {"id": diff_id, "runs": names, "old": before, "new": at}
        return {**chosen, **encode_diff(DiffView(diff, old_name, new_name))}

    def diff_span(self, diff_id: str, row: int) -> dict[str, Any] | None:
        if self.forgets:
            self.forgets = False
            return None
        return encode_change(self._diffs[diff_id].rows[row])


def _details(cell: Cell) -> list[tuple[SpanRecord, SpanDetails]]:
    return [(record, cell.details[f"{record.span_id:016x}"]) for record in cell.records]
