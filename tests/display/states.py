"""One view for each state of an output."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hh_jupyter.display.content import Detail, collect_content
from hh_jupyter.display.view import CellView
from hh_jupyter.notebook.status import local_notice, outage_notice
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.tree import SpanTree
from hh_jupyter.settings import Settings
from tests.browser.sample_cells import Cell, many, one_call, rag, running, support_agent

HOST = "api.example"
UNREACHABLE = f"{HOST} cannot be reached"


def with_content(cell: Cell, view: CellView, detail: Detail) -> CellView:
    """The view with the content of its spans, as in a kernel."""
    content, omitted = collect_content(view.tree, detail, lambda record: cell.details[f"{record.span_id:016x}"])
    return replace(view, detail=detail, content=content, content_omitted=omitted)


def export(made: int, **changes: Any) -> ExportState:
    return ExportState(HOST, made=made, **changes)


def states() -> dict[str, CellView]:
    """Views by the name of their state, in the order of the design's table."""
    agent, failing, one, small, big = support_agent(2), support_agent(4, fails=True), one_call(3), rag(6), many(8)
    survived = SpanTree.build(failing.records, ended_ok_ns=failing.records[0].end_ns)
    unsent = export(3, waiting=3, failing=True, reason=UNREACHABLE)
    partly = export(14, sent=12, waiting=2, failing=True, reason=UNREACHABLE)
    refused = export(3, parked=3, failing=True, reason=f"{HOST} rejected the key (401). Set a valid HH_API_KEY")
    local = ExportState(None, made=3)
    made = {
        "ok": agent.view("hh-ok", "3"),
        "ok opened": agent.view("hh-tree", "3", mode="tree", session_url="https://app.example/s/3f2a91c0"),
        "one span": one.view("hh-one", "4", mode="tree"),
        "error": failing.view("hh-error", "5", raised=True),
        "error that the cell handled": failing.view("hh-handled", "6", tree=survived),
        "interrupted": running(5).view("hh-interrupted", "7", raised=True, interrupted=True),
        "sending": small.view("hh-sending", "8", export=export(6, waiting=6)),
        "not sent": small.view("hh-unsent", "9", export=unsent, notice=outage_notice(unsent, "on disk")),
        "not sent, noticed before": small.view("hh-unsent-2", "10", export=unsent),
        "key refused": small.view("hh-refused", "11", export=refused, notice=outage_notice(refused, "on disk")),
        "partly sent": agent.view("hh-partly", "12", export=partly, notice=outage_notice(partly, "in this kernel")),
        "local": small.view("hh-local", "13", export=local, notice=local_notice(Settings())),
        "local, noticed before": small.view("hh-local-2", "14", export=local),
        "late spans": small.view("hh-late", "15", late=3),
        "truncated": big.view("hh-big", "16", mode="tree", max_rows=12, evicted=2_000),
    }
    preview = with_content(failing, failing.view("hh-preview", "17", raised=True), "preview")
    full = with_content(one, one.view("hh-full", "18", mode="tree", content_requested=True), "full")
    return {**made, "error with a preview": preview, "one span in full": full}
