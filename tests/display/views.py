"""Views of the sample agents and of given records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hh_jupyter.display.view import CellView
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.totals import Totals, summarize
from hh_jupyter.records.tree import SpanTree
from tests.records.builders import agent_rows

SESSION = "3f2a91c0-5a0f-4d6b-9a3a-0a4f0b7c1d2e"


def totals(rows: Iterable[SpanRecord], **changes: Any) -> Totals:
    """Totals of records, with costs marked as estimated and without a price table."""
    return replace(summarize(rows, prices=lambda facts: None), **{"cost_estimated": True, **changes})


def view(rows: Iterable[SpanRecord], **changes: Any) -> CellView:
    """A view of records that were all sent."""
    rows = list(rows)
    tree = SpanTree.build(rows)
    values: dict[str, Any] = {
        "view_id": "hh-4-1",
        "label": "4",
        "tree": tree,
        "totals": totals(rows),
        "export": ExportState("api.example", made=len(rows), sent=len(rows)),
        "session_name": "refund-triage",
        "session_id": SESSION,
    }
    return CellView(**{**values, **changes})


def agent_view(*, failing: bool = False, **changes: Any) -> CellView:
    return view(agent_rows(failing=failing), **{"raised": failing, **changes})
