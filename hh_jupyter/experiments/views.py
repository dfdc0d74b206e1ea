"""Reports of a run: its progress and its result, before they are drawn as text or HTML.

Notebooks are saved, committed and mailed. So a report holds names, numbers and redacted errors; of inputs, outputs and
explanations only what the setting `saved_detail` allows. `to_pandas()` has everything.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hh_jupyter.conventions import content
from hh_jupyter.conventions.facts import SpanContent
from hh_jupyter.display import format as fmt
from hh_jupyter.display import updatable_output
from hh_jupyter.display.content import Detail, plain
from hh_jupyter.display.format import Mark
from hh_jupyter.display.report import Report, Section, report_html
from hh_jupyter.display.table import GAP, Cell, Column, Line, Piece, RatedSpan, RowDetails, SpansLink, Table, Tone
from hh_jupyter.experiments.dataset import LOCAL_PREFIX, is_generated
from hh_jupyter.experiments.metrics import (
    LABEL,
    MetricSummary,
    error_text,
    explanations,
    is_score,
    label_text,
    names_a_score,
    number,
    score_text,
    scores_and_labels,
    summarize,
    value_text,
    within_text,
)
from hh_jupyter.experiments.results import (
    COMPLETED,
    INTERRUPTED,
    LOCAL_ONLY,
    ExperimentResultSummary,
)
from hh_jupyter.experiments.rows import STATES, ResultRow, clusters_of, scores_by_metric
from hh_jupyter.experiments.runs import current_redactor, text_without_secrets
from hh_jupyter.experiments.usage import SessionUsage
from hh_jupyter.records.dataset_rows import datapoint_of
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.tracing import registry
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.span_store import detail_store, span_log

if TYPE_CHECKING:
    from hh_jupyter.recordings.budget import Budget

SHORT_ID: Final = 8
ALL_ROWS: Final = Piece("result.to_pandas()", "code")
"""How to get every row with its texts."""

STATE_MARKS: Final[Mapping[str, str]] = {
    "failed": fmt.MARKS["error"],
    "wrong": fmt.MARKS["wrong"],
    "unclear": fmt.MARKS["unclear"],
    "passed": fmt.MARKS["ok"],
}
"""Marks of rows by state, in the order in which rows are shown."""


# Progress


def progress_report(
    name: str,
    rows: Counter[str],
    total: int | None,
    seconds: float,
    used: SessionUsage,
    doing: str = "",
    *,
    trials: int = 1,
    budget: Budget | None = None,
) -> Report:
    """The report of a run that goes on.

    Args:
        rows: number of rows that are done by state.
        total: number of all rows; None if unknown.
        seconds: duration so far.
        doing: what happens after all rows are done.
        trials: how often each data point is run.
        budget: the limits of its model calls.
    """
    done = rows.total()
    left = (total - done) * seconds / done if total is not None and done and not doing else 0.0
    stopped: list[tuple[str, Mark]] = [("stopped at the limit", "error")] if budget and budget.refused else []
    return Report(
        mark="running",
        title=text_without_secrets(name),
        duration=seconds_text(seconds),
        share=done / total if total else None,
        facts=[
            _done(done, total, trials),
            cost_text(used.cost, used.judge_cost, estimated=used.estimated) if budget is None else _used(budget),
            f"about {seconds_text(left)} left" if left >= 1 else "",
        ],
        chips=[*stopped, *chips_of(rows["failed"], rows["wrong"])],
        state=doing,
    )


def _used(budget: Budget) -> str:
    from hh_jupyter.recordings import limit  # Late: without a limit, it is not needed.

    return limit.used(budget)


def _done(done: int, total: int | None, trials: int) -> str:
    """`40 rows`, `17 of 40 rows`, `5 trials of 40 rows each`, `17 of 200 trials`."""
    noun = "row" if trials == 1 else "trial"
    if total is None:
        return fmt.count(done, noun)
    if done < total:
        return f"{done:,} of {fmt.count(total, noun)}"
    return fmt.count(total, noun) if trials == 1 else f"{trials:,} trials of {fmt.count(total // trials, 'row')} each"


# The result of a run

MAX_COLUMNS: Final = 6
"""Metrics with a column; others stand in a line below a row. Of a live table they are columns that can be chosen."""

CONFIG_LENGTH: Final = 40
PREVIEWS: Final[Mapping[Detail, tuple[int, int]]] = {"summary": (0, 0), "preview": (80, 110), "full": (1_000, 1_000)}
"""Most characters of an input or expected output, and of an output or explanation."""


def result_report(result: ExperimentResultSummary, name: str | None, max_rows: int, detail: Detail) -> Report:
    """The report of a result. `name` is its title, by default the name of the run."""
    states = Counter(row.state for row in result.rows)
    failed, wrong = states["failed"], states["wrong"]
    failed = failed or (0 if wrong else len(result.failed))
    metrics = metric_table(result)
    return Report(
        mark=_mark(result, failed, wrong),
        title=text_without_secrets(name or result.name or f"run {result.run_id[:SHORT_ID]}"),
        duration=seconds_text(result.seconds),
        facts=_facts(result),
        replayed=_replayed(result),
        headline=[_headline(one) for one in metrics.rows[:HEADLINE]],
        chips=chips_of(failed, wrong),
        state=result.delivery,
        run_id=result.run_id,
        sections=[
            Section(table=metrics, live="boxes"),
            Section(table=row_table(result, detail), live="rows"),
        ],
        notes=_notes(result, detail),
        max_rows=max_rows,
        detail=detail,
    )


def live_result(result: ExperimentResultSummary, report: Report) -> Report:
    """The report of a result for an interactive page, with the beginnings of all texts: the page is not saved.

    Args:
        report: its static form.
    """
    rows = Section(table=row_table(result, LIVE_DETAIL, live=True), live="rows")
    return replace(report, sections=[*report.sections[:-1], rows], notes=_notes(result, LIVE_DETAIL))


LIVE_DETAIL: Final = "preview"
"""How much of texts the rows of an interactive page have; a row opens to all of it."""


HEADLINE: Final = 3
"""Metrics in the summary line of a folded result."""


def _headline(summary: MetricSummary) -> str:
    if summary.mean is None:
        return ""
    value = value_text(summary.mean.value, summary.kind, summary.mean.error)
    return f"{summary.name} {value} {error_text(summary.mean, summary.kind)}".rstrip()


def _mark(result: ExperimentResultSummary, failed: int, wrong: int) -> Mark:
    if result.status == INTERRUPTED:
        return "stopped"
    if failed or result.errors or wrong:
        return "error" if failed or result.errors else "wrong"
    return "unclear" if result.rows and all(row.state == "unclear" for row in result.rows) else "ok"


def chips_of(failed: int, wrong: int, word: str = "") -> list[tuple[str, Mark]]:
    """The chips of a summary line: `3 failed`, `8 wrong`, with a word before failed and wrong."""
    chips: list[tuple[str, Mark]] = [(f"{failed:,} {word}failed", "error"), (f"{wrong:,} {word}wrong", "wrong")]
    return [chip for chip, number in zip(chips, (failed, wrong), strict=True) if number]


def _facts(result: ExperimentResultSummary) -> list[str]:
    done = len(result.rows) or len(result.datapoints)
    cost = cost_text(result.cost, result.judge_cost, complete=result.cost_complete, estimated=result.cost_estimated)
    return [
        "interrupted" if result.status == INTERRUPTED else "" if result.status == COMPLETED else result.status,
        _done(done, result.planned, result.trials),
        "" if _all_replayed(result) else cost,
        fmt.count(result.tokens, "token") if result.tokens else "",
    ]


def _all_replayed(result: ExperimentResultSummary) -> bool:
    """Whether recordings answered all model calls: what that saved is said in place of a cost of zero."""
    return 0 < result.replayed_calls == result.calls and not (result.cost or result.judge_cost)


def _replayed(result: ExperimentResultSummary) -> str:
    of = None if _all_replayed(result) else result.calls
    return fmt.replayed(result.replayed_calls, of, result.saved_cost, estimated=result.cost_estimated)


def cost_text(cost: float | None, judge_cost: float | None, *, complete: bool = True, estimated: bool) -> str:
    """Format the costs of a run: `~$0.0044+`, `~$0.027 and judge ~$0.012`; empty if unknown."""
    known = [(word, amount) for word, amount in (("", cost), ("judge ", judge_cost)) if amount is not None]
    text = " and ".join(word + fmt.usd(amount, estimated=estimated) for word, amount in known)
    return text and text + ("" if complete else "+")


def _notes(result: ExperimentResultSummary, detail: Detail) -> list[Line]:
    notes: list[Line] = [
        [Piece(text_without_secrets(error.error))] for error in result.errors if not error.datapoint_id
    ]
    if result.config:
        parts = (
            f"{key}={short_text(value, CONFIG_LENGTH)}" for key, value in list(result.config.items())[:MAX_COLUMNS]
        )
        notes.append([Piece(", ".join(parts))])
    if (clusters := clusters_of(result.rows)) is not None:
        notes.append([Piece(clusters_text(clusters))])
    unclear = [row for row in result.rows if row.state == "unclear"]
    reasons = {
        "no evaluator gave a score": any(not row.metrics for row in unclear),
        "all scores are 0 or no, which the metric may mean as good or bad": any(row.metrics for row in unclear),
    }
    if unclear:
        text = ", or ".join(reason for reason, found in reasons.items() if found)
        notes.append([Piece(f"{STATE_MARKS['unclear']} {text}")])
    if detail == "summary" and any(row.inputs or row.outputs for row in result.rows):
        notes.append([Piece("inputs and outputs: "), ALL_ROWS])
    if result.delivery == LOCAL_ONLY and updatable_output.notebook_loaded():
        plain = result.name.isidentifier() or result.name.replace("-", "").isalnum()
        notes.append([Piece(f"%hh send {result.name if plain else result.run_id[:SHORT_ID]}", "code")])
    return notes


def clusters_text(clusters: Sequence[Hashable]) -> str:
    """Say over what errors and intervals are computed."""
    return f"errors over {fmt.count(len(set(clusters)), 'cluster')} of rows"


def short_text(value: Any, limit: int) -> str:
    """The beginning of a value as text without secrets."""
    return fmt.shorten(text_without_secrets(str(value)), limit)


def metric_summaries(result: ExperimentResultSummary) -> list[MetricSummary]:
    """All metrics of numbers, bools or a few labels. Metrics of the aggregated result come first.

    The label of a score, such as that of a judge, is no metric of its own.
    """
    details = result.metrics.get_all_metrics()
    scores = scores_by_metric(result.rows)
    found = []
    for name in dict.fromkeys([*details, *scores]):
        if name in scores:
            found.append(summarize(name, *scores[name]))
            continue
        detail = details[name]
        known = list(detail.values) or [detail.aggregate] * isinstance(detail.aggregate, int | float)
        found.append(summarize(name, known))
    summaries = {summary.name: summary for summary in found if summary is not None}
    return [
        summary
        for name, summary in summaries.items()
        if summary.kind != "label" or not names_a_score(name, (), summaries)
    ]


def metric_table(result: ExperimentResultSummary) -> Table:
    """The metrics with mean, standard error, range, number of scores, kind and distribution."""
    rows, function = len(result.rows), result.metrics.aggregation_function
    details = result.metrics.get_all_metrics()

    def aggregate(summary: MetricSummary) -> str:
        if function == "average":
            return value_text(summary.mean.value, summary.kind, summary.mean.error) if summary.mean is not None else ""
        known = details[summary.name].aggregate if summary.name in details else None
        return number(known) if isinstance(known, int | float) else ""

    def scored(summary: MetricSummary) -> str:
        apart = ((summary.nan, "NaN"), (summary.infinite, "infinite"))
        nan = "".join(f", {number:,} {word}" for number, word in apart if number)
        return f"{summary.scored:,} of {max(rows, summary.scored):,}{nan}"

    def kind(summary: MetricSummary) -> str:
        if summary.name not in result.lower_is_better:
            return summary.kind
        return "less is better" if summary.kind == "number" else f"{summary.kind}, no is better"

    columns = [
        column("metric", "Metric", lambda one: one.name, weight=2),
        column("mean", "Mean" if function == "average" else function.capitalize(), aggregate, numeric=True, weight=1.1,
                cell=lambda one: [Piece(aggregate(one), "strong")] if aggregate(one) else ""),
        column("error", "± s.e.", lambda one: error_text(one.mean, one.kind) if function == "average" else "",
                numeric=True, weight=1.1, priority=1),
        column("within", "Within a row", lambda one: within_text(one.mean, one.kind) if function == "average" else "",
                numeric=True, weight=1.2, priority=1),
        column("range", "Range", _range_text, numeric=True, weight=1.6, priority=4),
        column("scored", "Scored", scored, numeric=True, weight=1.4, priority=2),
        column("kind", "Kind", kind, weight=1.7, priority=3),
        column("values", "Distribution", lambda one: None, weight=2, priority=5,
               cell=_distribution_cell),
    ]  # fmt: skip
    return Table(columns=columns, rows=metric_summaries(result), more=lambda left: more_of(left, "metric"))


def _distribution_cell(summary: MetricSummary) -> Cell:
    if summary.distribution is None:
        return ""
    return replace(summary.distribution, labels=[text_without_secrets(label) for label in summary.distribution.labels])


def _range_text(summary: MetricSummary) -> str:
    if summary.mean is None:
        return ""
    if summary.kind == "yes or no":
        return f"{round(summary.mean.value * summary.mean.n):,} yes"
    return f"{number(summary.low)} to {number(summary.high)}"


def row_table(result: ExperimentResultSummary, detail: Detail = "full", *, live: bool = False) -> Table:
    """The rows of a run: failed, wrong, unclear, then in the order of the dataset.

    Args:
        detail: how much of inputs, expected and actual outputs and explanations it has.
        live: for an interactive page, where the error of the function stands in place of the output.
    """
    names, labels = scores_and_labels([row.metrics for row in result.rows])

    shown, others = names[:MAX_COLUMNS], names[MAX_COLUMNS:]
    keys = {"id", "time", "tokens", "cost", "session", "input", "expected", "output", "error", "reasons"}

    def metric_column(name: str, **more: Any) -> Column:
        """The column of a metric. Its key differs from those of the other columns."""
        key = f"metric_{name}" if name in keys else name
        return replace(_metric_column(key, name, wrong=name in result.lower_is_better), **more)

    columns = [
        column("id", "Row", _id_order, cell=row_label, weight=2.4),
        *_text_columns(detail, live=live),
        *map(metric_column, shown),
        column("time", "Time", lambda row: row.seconds, numeric=True, priority=2,
                cell=lambda row: seconds_text(row.seconds)),
        column("tokens", "Tokens", lambda row: row.tokens, numeric=True, priority=4,
                cell=lambda row: "" if row.tokens is None else f"{row.tokens:,}"),
        column("cost", "Cost", lambda row: row.cost, numeric=True, priority=3, weight=1.5,
                cell=lambda row: "" if row.cost is None else fmt.usd(row.cost, estimated=result.cost_estimated)),
        column("session", "Session", lambda row: row.session_id[:SHORT_ID], priority=5, weight=0),
        column("error", "", errors_text, line=2,
                cell=lambda row: () if live and row.error else _strong_errors(row)),
        *(metric_column(name, weight=0 if live else 1, line=0 if live else 4) for name in others),
        *(metric_column(name, weight=0, live=True) for name in labels),
    ]  # fmt: skip
    ordered = sorted(result.rows, key=lambda row: (not row.error, STATES.index(row.state), row.index, row.trial or 0))
    return Table(
        columns=columns,
        rows=ordered,
        spans=_spans,
        more=_more_rows,
        details=lambda row: _details(row, result.lower_is_better, labels),
        text=row_text,
        filters={state: _is_in(state) for state in ("failed", "wrong", "unclear")},
        height=_height,
        bad=lambda row: row.state in ("failed", "wrong"),
    )


def _is_in(state: str) -> Callable[[ResultRow], bool]:
    return lambda row: row.state == state


def _id_order(row: ResultRow) -> str | int:
    """The value by which rows are sorted by id: of generated ids, the order of the dataset."""
    return row.index if is_generated(row.datapoint_id) else row.datapoint_id


def row_text(row: ResultRow) -> str:
    """What a search for a text reads of a row."""
    scores = (value for value in row.metrics.values() if isinstance(value, str))
    return "\n".join(
        [
            row.datapoint_id,
            row.inputs,
            row.expected,
            row.outputs,
            row.error or "",
            *row.evaluator_errors.values(),
            *scores,
        ]
    )


def _height(row: ResultRow) -> int:
    """Lines of a row: a second one for what explains that it is not right."""
    if row.state == "passed" or row.error:
        return 1
    return 2 if row.evaluator_errors or explanations(row.metrics) else 1


def _details(row: ResultRow, lower_is_better: Sequence[str], labels: Sequence[str]) -> RowDetails:
    """Everything about a row. `labels` are the metrics that stand beside their scores."""
    inputs, expected, outputs = full_texts(row)
    output = [Piece(text_without_secrets(row.error), "failed")] if row.error else [Piece(outputs)]
    texts: list[tuple[str, Line]] = [("Input", [Piece(inputs)]), ("Expected", [Piece(expected)]), ("Output", output)]
    reasons = dict(explanations(row.metrics))
    values: list[tuple[str, Line, Line]] = []
    scored = (name.removesuffix(LABEL) if name in labels else name for name in row.metrics)
    for name in dict.fromkeys([*scored, *row.evaluator_errors]):
        cell = _score_cell(row, name, wrong=name in lower_is_better)
        if name in row.evaluator_errors:
            values.append(
                (name, [Piece("failed", "failed")], [Piece(text_without_secrets(row.evaluator_errors[name]))])
            )
        elif cell or is_score(name, row.metrics.get(name)):
            values.append((name, cell, [Piece(text_without_secrets(reasons.pop(name, "")))]))
    values += [(name, (), [Piece(text_without_secrets(text))]) for name, text in reasons.items()]
    shown = [(title, line) for title, line in texts if line[0].text]
    return RowDetails(texts=shown, values=values, rated=rated(row, ""))


def full_texts(row: ResultRow) -> tuple[str, str, str]:
    """Input, expected value and output: in full from the span of the row if it is in memory, else what the row has."""
    found: list[Any] = [row.inputs, row.expected, row.outputs]
    if (span := _span_of(row)) is not None:
        point = datapoint_of(span[1].input) or {}
        given = [point.get("inputs"), point.get("ground_truth"), span[1].output]
        found = [old if new is None else new for old, new in zip(found, given, strict=True)]
    return _block(found[0]), _block(found[1]), _block(found[2])


def rated(row: ResultRow, suffix: str) -> dict[str, RatedSpan]:
    """The span that holds the feedback on a row, by the view id of its spans; empty if it is no longer in memory."""
    if (span := _span_of(row)) is None:
        return {}
    return {spans_link("", row, suffix).view_id: RatedSpan(f"{span[0].span_id:016x}", span[1].feedback)}


def _span_of(row: ResultRow) -> tuple[SpanRecord, SpanContent] | None:
    """The span of a row with its content; None if it is no longer in memory."""
    for record in span_log().records(session_id=row.session_id) if row.session_id else ():
        details = span_log().details(record) if record.parent_id is None else None
        if details is not None:
            return record, content(details.attributes, details.events)
    return None


def _block(value: Any) -> str:
    """A value as text in full length; of a mapping with one entry, the value of that."""
    while isinstance(value, Mapping) and len(value) == 1:
        (value,) = value.values()
    value = plain(value)
    return text_without_secrets(value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False))


def column(key: str, title: str, value: Callable[[Any], Any], *, numeric: bool = False, **more: Any) -> Column:
    """A column, aligned to the right if it is numeric."""
    return Column(key=key, title=title, value=value, align="right" if numeric else "left", **more)


def _metric_column(key: str, name: str, *, wrong: bool) -> Column:
    """The column of a metric. `wrong` is the score with which a yes-or-no metric says that the row is wrong."""
    value: Callable[[ResultRow], Any] = lambda row: row.metrics.get(name)  # noqa: E731
    cell: Callable[[ResultRow], Line] = lambda row: _score_cell(row, name, wrong=wrong)  # noqa: E731
    return column(key, name, value, cell=cell, numeric=True, priority=1)


def _score_cell(row: ResultRow, name: str, *, wrong: bool) -> Line:
    """The score of a row, and the label beside it."""
    text, label = (text_without_secrets(of(row.metrics, name)) for of in (score_text, label_text))
    mark = [Piece(STATE_MARKS["wrong"], "wrong"), Piece(" ")] if row.metrics.get(name) is wrong else []
    beside = [Piece(f" {label}", "below")] if text and label else []
    return [*mark, Piece(text or label), *beside] if text or label else ()


def _text_columns(detail: Detail, *, live: bool) -> Iterator[Column]:
    """Inputs, expected and actual outputs, and explanations, as far as they may be saved."""
    short, long = PREVIEWS[detail]
    if not long:
        return

    def reasons(row: ResultRow) -> Line:
        if detail == "preview" and row.state == "passed":
            return ()  # So that attention goes where it is needed.
        found = [(name, short_text(text, long)) for name, text in explanations(row.metrics)]
        parts = ((Piece(GAP), Piece(f"{name} ", "quiet"), Piece(text)) for name, text in found)
        return [piece for part in parts for piece in part][1:]

    def output(row: ResultRow) -> Line:
        return [Piece(text_without_secrets(row.error), "failed")] if live and row.error else [Piece(outputs(row))]

    def outputs(row: ResultRow) -> str:
        return short_text(row.outputs, long)

    yield column("input", "input", lambda row: short_text(row.inputs, short), line=1, priority=2, weight=5)
    yield column("expected", "expected", lambda row: short_text(row.expected, short), line=1, priority=6, weight=2.5)
    yield column("output", "output", outputs, cell=output, line=2, weight=6)
    yield column("reasons", "", lambda row: "".join(piece.text for piece in reasons(row)), cell=reasons, line=3)


def row_label(row: ResultRow) -> Line:
    """The mark of a row's state, and its id."""
    tone: Tone = "strong" if row.state in ("failed", "wrong") else ""
    notes = [f" trial {row.trial}"] if row.trial is not None else []
    notes += [f" {row.attempts} attempts"] if row.attempts > 1 else []
    note = [Piece(text, "quiet") for text in notes]
    mark: Tone = row.state
    return [Piece(STATE_MARKS[row.state], mark), Piece(f" {label_of(row)}", tone), *note]


def label_of(row: ResultRow) -> str:
    """The id of a data point. If it is a generated hash, its number and the first characters of the hash."""
    if not is_generated(row.datapoint_id):
        return text_without_secrets(row.datapoint_id)
    return f"#{row.index + 1} {row.datapoint_id.removeprefix(LOCAL_PREFIX)[:6]}"


def errors_text(row: ResultRow) -> str:
    """The errors of a row: that of the function, or those of evaluators."""
    own = [row.error] if row.error else []
    return text_without_secrets("; ".join([*own, *(f"{name}: {text}" for name, text in row.evaluator_errors.items())]))


def _strong_errors(row: ResultRow) -> Line:
    found = errors_text(row)
    return [Piece(found, "strong")] if found else ()


def _spans(row: ResultRow) -> list[SpansLink]:
    return [spans_link("", row, "")] if row.session_id else []


def spans_link(label: str, row: ResultRow, suffix: str) -> SpansLink:
    """The spans of a row. The suffix tells apart the elements of a page that shows several of its session."""
    return SpansLink(label, f"hh-session-{row.session_id}{suffix}", f"%hh show {row.session_id[:SHORT_ID]}")


def _more_rows(left: Sequence[ResultRow]) -> Line:
    states = Counter(row.state for row in left)
    parts = [f"{states[state]:,} of them {state}" for state in ("failed", "wrong") if states[state]]
    return [Piece(", ".join([fmt.count(len(left), "more row"), *parts]) + ". All of them: "), ALL_ROWS]


def more_of(left: Sequence[Any], noun: str) -> Line:
    """`3 more metrics`."""
    return [Piece(fmt.count(len(left), f"more {noun}"))]


def seconds_text(seconds: float | None) -> str:
    """A duration; empty if unknown."""
    return "" if seconds is None else fmt.duration(round(seconds * 1e9))


# The result as a file

FILE_ROWS: Final = 500
"""Most rows of a table in the file."""


def save_result(result: ExperimentResultSummary, path: Path) -> None:
    """Write an HTML page with the report, whose failed and wrong rows unfold to their spans.

    Raises:
        OSError: the file cannot be written.
    """
    from hh_jupyter.otlp_files.json_lines import write
    from hh_jupyter.report_file import result_page  # Late: few results are saved.

    report = result_report(result, None, FILE_ROWS, "full")
    sessions = {row.session_id for row in result.rows if row.state in ("failed", "wrong")}
    page = result_page(report.title, report_html(report), _bodies(sessions), current_redactor())
    write(path, [(page.data, page.span_ids)], even_without_spans=True)


def _bodies(sessions: set[str]) -> list[bytes]:
    """Return the encoded spans of sessions, from memory or from disk."""
    registry.wait_all_processed()
    records = [record for record in span_log().records() if record.session_id in sessions]
    tracer = current_tracer()
    spool = tracer.spool if tracer is not None else None
    others = sorted(sessions - {record.session_id for record in records}) if spool is not None else ()
    stored = [body for session in others for body in spool.bodies(session)] if spool is not None else []
    return [*stored, *detail_store().bodies_of(records)]
