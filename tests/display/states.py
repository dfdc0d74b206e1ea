"""One view for each state of an output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from hh_jupyter.display.content import Detail, collect_content
from hh_jupyter.display.view import CellView, Limit
from hh_jupyter.notebook.status import local_notice, outage_notice, stop_notice
from hh_jupyter.recordings.budget import Budget, Call
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.record import SpanError, SpanRecord
from hh_jupyter.records.tree import Ending, SpanTree
from hh_jupyter.settings import Settings
from tests.browser.sample_cells import (
    NOT_RECORDED,
    Cell,
    many,
    one_call,
    rag,
    replayed,
    running,
    support_agent,
    unrecorded,
)
from tests.display.views import view
from tests.records.builders import START, UNAVAILABLE, span

HOST = "api.example"
UNREACHABLE = f"{HOST} cannot be reached"


def with_content(cell: Cell, view: CellView, detail: Detail) -> CellView:
    """The view with the content of its spans, as in a kernel."""
    content, omitted = collect_content(view.tree, detail, lambda record: cell.details[f"{record.span_id:016x}"])
    return replace(view, detail=detail, content=content, content_omitted=omitted)


def export(made: int, **changes: Any) -> ExportState:
    return ExportState(HOST, made=made, **changes)


OWN = SpanError("RuntimeError", "no more refunds", "cell:7", frames=("cell:7",))


def cancelled_rows() -> list[SpanRecord]:
    """A call that a timeout cancelled, and its caller, whose error was caught."""
    late, stopped = SpanError("TimeoutError", ""), SpanError("CancelledError", "")
    called = replace(span(2, 1, 1, 50, "slow_call", error=stopped), status="cancelled")
    own = replace(span(3, None, 60, 70, "stopped", trace=2, error=SpanError("StopAgent", "enough")), status="cancelled")
    return [span(1, None, 0, 51, "ask_twice", error=late), called, own]


def one_caught() -> list[SpanRecord]:
    return [span(1, None, 0, 9, "issue_refund", error=UNAVAILABLE)]


def converted_rows() -> list[SpanRecord]:
    error = replace(OWN, causes=((UNAVAILABLE.type, UNAVAILABLE.message),))
    return [span(1, None, 0, 9, "agent", error=error), span(2, 1, 1, 5, "issue_refund", error=UNAVAILABLE)]


def cell_of_rows(
    view_id: str, label: str, rows: list[SpanRecord], ending: Ending | None, *, raised: bool = False
) -> CellView:
    tree = SpanTree.build(rows, ending=ending)
    return view(rows, view_id=view_id, label=label, tree=tree, mode="tree", raised=raised)


def stopped() -> Budget:
    """A budget that 61 calls have used up."""
    budget = Budget(0.5, raise_with="%%hh_session refund-batch --{option} {value}")
    for _ in range(61):
        call = Call(budget, "gpt-4o")
        call.admit()
        call.end(0.4988 / 61)
    return budget


@cache
def states() -> Mapping[str, CellView]:
    """Views by the name of their state, in the order of the design's table."""
    agent, failing, one, small, big = support_agent(2), support_agent(4, fails=True), one_call(3), rag(6), many(8)
    survived = SpanTree.build(failing.records, ending=Ending(failing.records[0].end_ns or 0))
    unsent = export(3, waiting=3, failing=True, reason=UNREACHABLE)
    partly = export(14, sent=12, waiting=2, failing=True, reason=UNREACHABLE)
    refused = export(3, rejected=3, failing=True, reason=f"{HOST} rejected the key (401). Set a valid HH_API_KEY")
    local = ExportState(None, made=3)
    made = {
        "ok": agent.view("hh-ok", "3"),
        "ok opened": agent.view("hh-tree", "3", mode="tree", session_url="https://app.example/s/3f2a91c0"),
        "one span": one.view("hh-one", "4", mode="tree"),
        "error": failing.view("hh-error", "5", raised=True),
        "error that the cell handled": failing.view("hh-handled", "6", tree=survived),
        "cancelled": cell_of_rows("hh-cancelled", "19", cancelled_rows(), Ending(START + 10**9)),
        "error of the cell": cell_of_rows("hh-own", "20", one_caught(), Ending(START + 10**9, OWN), raised=True),
        "error raised from another": cell_of_rows("hh-from", "21", converted_rows(), None, raised=True),
        "interrupted": running(5).view("hh-interrupted", "7", raised=True, interrupted=True),
        "sending": small.view("hh-sending", "8", export=export(6, waiting=6)),
        "not sent": small.view("hh-unsent", "9", export=unsent, notice=outage_notice(unsent, "on disk")),
        "not sent, noticed before": small.view("hh-unsent-2", "10", export=unsent),
        "key refused": small.view("hh-refused", "11", export=refused, notice=outage_notice(refused, "on disk")),
        "partly sent": agent.view("hh-partly", "12", export=partly, notice=outage_notice(partly, "in this kernel")),
        "local": small.view("hh-local", "13", export=local, notice=local_notice(Settings())),
        "local, noticed before": small.view("hh-local-2", "14", export=local),
        "limited": agent.view("hh-limited", "24", limit=Limit(used="~$0.31 of $0.50", share=0.62, spent=0.0093)),
        "limited, with other cells": agent.view(
            "hh-shared", "25", limit=Limit(used="~$0.31 of $0.50, 12 of 40 calls", share=0.62, spent=0.31)
        ),
        "stopped at the limit": failing.view(
            "hh-stopped",
            "26",
            raised=True,
            limit=Limit(used="~$0.4988 of $0.50", share=0.9976, spent=0.4988, stopped=True),
            notice=stop_notice(stopped(), 3),
        ),
        "late spans": small.view("hh-late", "15", late=3),
        "replayed": replayed(9).view("hh-replayed", "22", mode="tree"),
        "partly replayed": replayed(10, "decide").view("hh-partly-replayed", "23", mode="tree"),
        "not recorded": unrecorded(11).view("hh-missed", "24", raised=True, unrecorded=1, notice=NOT_RECORDED),
        "truncated": big.view("hh-big", "16", mode="tree", max_rows=12, evicted=2_000),
    }
    preview = with_content(failing, failing.view("hh-preview", "17", raised=True), "preview")
    full = with_content(one, one.view("hh-full", "18", mode="tree", content_requested=True), "full")
    return {**made, "error with a preview": preview, "one span in full": full}
