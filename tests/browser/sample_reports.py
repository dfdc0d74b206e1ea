"""Results of runs and comparisons as they are displayed, made without running anything."""

from __future__ import annotations

import random
import uuid
from dataclasses import replace
from typing import Any

from hh_jupyter.display.live_report import LiveReport
from hh_jupyter.display.report import as_output, output_id, report_html
from hh_jupyter.display.table import RatedSpan, RowDetails, Table
from hh_jupyter.experiments.comparison import compare_results
from hh_jupyter.experiments.comparison_view import comparison_report, live_comparison
from hh_jupyter.experiments.results import SENT, ExperimentResultSummary, RunComparisonResult, result_from_rows
from hh_jupyter.experiments.rows import ResultRow
from hh_jupyter.experiments.views import live_result, result_report

TICKETS = (
    ("Two of the six glasses are chipped, please send those two again.", "replace"),
    ("Ich habe noch immer keine Antwort auf meine Beschwerde.", "escalate"),
    ("The voucher ran out yesterday, so give me the money instead.", "decline"),
    ("Card refused, but the money is gone. Order 51902.", "refund"),
    ("The price fell by 20 % a day after I ordered.", "decline"),
)
ERRORS = (
    "TimeoutError: no answer from get_order in 10 s",
    "JSONDecodeError: Expecting value: line 1 (char 0)",
)
HOSTILE = "<img src=x onerror=alert(1)> \u202etxt.exe"


def session_of(number: int) -> str:
    """The id of the session of a row."""
    return str(uuid.UUID(int=number + 1))


def _row(number: int, version: int) -> ResultRow:
    chance = random.Random(number * 7 + version)
    question, expected = TICKETS[number % len(TICKETS)]
    failed = number % 13 == 4 + version
    right = chance.random() < 0.7 + 0.2 * version
    grounded = round(min(1.0, chance.uniform(0.3, 0.9) + 0.15 * version), 2)
    answer = "I have refunded $18.00 to the card ending 0921" if version == 0 else "A new one leaves our house today"
    said = expected if right else "refund"
    metrics: dict[str, Any] = {
        "decision": right,
        "grounded": None if number == 7 else float("nan") if number == 8 else grounded,
        "one_search": chance.random() < 0.9,
        "words": chance.randint(28, 47) - 15 * version,
        "tone": chance.choice(["kind", "kind", "curt"]),
        "grounded_explanation": f"{HOSTILE} The documents promise {chance.randint(2, 9)} glasses; none speaks of it.",
    }
    metrics = {name: value for name, value in metrics.items() if value is not None}
    return ResultRow(
        index=number,
        datapoint_id=f"t-{number:02}",
        session_id=session_of(number),
        metrics={} if failed else metrics,
        passed=False if failed else right and bool(metrics["one_search"]),
        error=ERRORS[number % 2] if failed else None,
        seconds=chance.uniform(0.8, 2.0),
        cost=None if failed else 0.0006,
        tokens=None if failed else chance.randint(900, 2300),
        inputs=f"{question} Ticket {number}." if number != 3 else HOSTILE,
        expected=expected,
        outputs="" if failed else f"Sorry about that. {answer}, reference rf_{20_931 + number}. I would {said} it.",
    )


def result(version: int = 0, size: int = 40) -> ExperimentResultSummary:
    """The result of a run of a support agent: failed, wrong and right rows, missing and NaN scores, labels."""
    return result_from_rows(
        f"977b4d3b-0000-4000-8000-00000000000{version}",
        "average",
        [_row(number, version) for number in range(size)],
        "support_agent",
        name=("baseline", "prompt-v4")[version],
        config={"model": "gpt-4.1-mini", "prompt": f"v{3 + version}", "temperature": (0.7, 0.2)[version]},
        planned=size,
        seconds=(12.4, 8.1)[version],
        cost=0.027,
        judge_cost=0.012,
        cost_estimated=True,
        tokens=62_479,
        lower_is_better=("words",),
        delivery=SENT,
    )


def comparison() -> RunComparisonResult:
    """A newer run against that one."""
    return compare_results(result(1), result())


def displayed(what: ExperimentResultSummary | RunComparisonResult) -> tuple[str, str, LiveReport]:
    """The id of its output, its static HTML, and what an interactive page gets of it."""
    if isinstance(what, ExperimentResultSummary):
        report = result_report(what, None, 60, "summary")
        live = live_result(what, report)
    else:
        report = comparison_report(what, None, 60, "summary")
        live = live_comparison(what, report)
    page = report_html(report)
    *before, rows = live.sections
    live = replace(live, sections=[*before, replace(rows, table=_with_rated_rows(rows.table))])
    return output_id(page), as_output(page), LiveReport(live)


def _with_rated_rows(table: Table | None) -> Table:
    """The table as if the spans of its rows were in memory, with a bad mark on the first one."""
    assert table is not None

    def details(row: Any) -> RowDetails:
        given = {"ok": False, "note": "misses the glasses"} if row is table.rows[0] else {}
        rated = {link.view_id: RatedSpan(f"{1:016x}", given) for link in table.spans(row)}
        return replace(table.details(row), rated=rated)

    return replace(table, details=details)
