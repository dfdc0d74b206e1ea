"""The report of a comparison of two runs, before it is drawn as text or HTML: what `views` does for a result."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from hh_jupyter.display import format as fmt
from hh_jupyter.display.content import Detail
from hh_jupyter.display.report import Report, Section
from hh_jupyter.display.table import GAP, Cell, Interval, Line, Piece, RowDetails, SpansLink, Table, Tone
from hh_jupyter.experiments.comparison import ROW_STATES, pair_clusters
from hh_jupyter.experiments.dataset import own_id
from hh_jupyter.experiments.metrics import (
    error_text,
    explanations,
    label_text,
    score_text,
    scores_and_labels,
    value_text,
)
from hh_jupyter.experiments.results import (
    ExperimentResultSummary,
    MetricChange,
    RowChange,
    RowState,
    RunComparisonResult,
)
from hh_jupyter.experiments.rows import ResultRow
from hh_jupyter.experiments.runs import text_without_secrets
from hh_jupyter.experiments.statistics import FEWEST_PAIRS
from hh_jupyter.experiments.views import (
    CONFIG_LENGTH,
    LIVE_DETAIL,
    PREVIEWS,
    SHORT_ID,
    chips_of,
    clusters_text,
    column,
    errors_text,
    full_texts,
    more_of,
    rated,
    row_label,
    row_text,
    seconds_text,
    short_text,
    spans_link,
)
from hh_jupyter.records.diff import word_pieces

COUNTED_STATES: Final = ROW_STATES[2:]
"""States whose numbers follow the sentence; the chips count what newly failed or is newly wrong."""


def comparison_report(found: RunComparisonResult, name: str | None, max_rows: int, detail: Detail) -> Report:
    """The report of a comparison. `name` is its title, by default the names of the runs."""
    new, old = _run_name(found.new, found.new_run_id), _run_name(found.old, found.old_run_id)
    worse = any(change.verdict == "worse" for change in found.changes if change.kind not in _USAGE)
    bad = found.newly_wrong or found.missing or worse
    rows = [change for change in found.row_changes if change.state != "same"]
    return Report(
        mark="error" if found.newly_failed else "wrong" if bad else "ok",
        title=name or f"{new} against {old}",
        facts=_comparison_facts(found),
        chips=chips_of(len(found.newly_failed), len(found.newly_wrong), "newly "),
        run_id="",
        sections=[
            Section(lines=[_sentence(found), *_config_lines(found), _state_counts(found)]),
            Section(
                lines=() if found.changes else [[Piece("The runs have no metric in common.")]],
                table=change_table(found.changes, old, new),
            ),
            Section(table=row_change_table(rows, old, new, detail), live="rows"),
        ],
        notes=_comparison_notes(found, detail),
        max_rows=max_rows,
        detail=detail,
    )


def live_comparison(found: RunComparisonResult, report: Report) -> Report:
    """The report of a comparison for an interactive page: all rows, with the beginnings of their texts.

    Args:
        report: its static form.
    """
    new, old = _run_name(found.new, found.new_run_id), _run_name(found.old, found.old_run_id)
    rows = Section(table=row_change_table(found.row_changes, old, new, LIVE_DETAIL, live=True), live="rows")
    sections = [*report.sections[:-1], rows]
    return dataclasses.replace(report, sections=sections, notes=_comparison_notes(found, LIVE_DETAIL))


_USAGE: Final = ("seconds", "dollars", "estimated dollars")


def _run_name(result: ExperimentResultSummary | None, run_id: str) -> str:
    named = result is not None and result.name
    return text_without_secrets(str(named)) if named else f"run {run_id[:SHORT_ID]}"


def _comparison_facts(found: RunComparisonResult) -> list[str]:
    facts = [fmt.count(found.common_datapoints, "row") + " in both"]
    results = [result for result in (found.old, found.new) if result is not None]
    times = [seconds_text(one.seconds) for one in results if one.seconds is not None]
    costs = [fmt.usd(one.cost, estimated=one.cost_estimated) for one in results if one.cost is not None]
    return [*facts, *(_old_to_new(*pair) for pair in (times, costs) if len(pair) == 2)]


def _old_to_new(old: str, new: str) -> str:
    return f"{new}, the same" if old == new else f"{old} → {new}"


MANY_METRICS: Final = 5
"""Number of metrics from which a note says that each interval stands for itself."""

_TITLES: Final = {"better": "Better: ", "worse": "Worse: ", "changed": "Changed: ", "same": "The same: "}


def _sentence(found: RunComparisonResult) -> Line:
    """The first thing to know: which metrics are better or worse, and what could not be compared."""
    scores = [change for change in found.changes if change.kind not in _USAGE and change.n]
    by_verdict: dict[str, list[MetricChange]] = {}
    for change in scores:
        by_verdict.setdefault(change.verdict, []).append(change)
    sentences: list[Line] = [
        [Piece(title), *_listed([Piece(change.name, "strong") for change in by_verdict.pop(verdict)])]
        for verdict, title in _TITLES.items()
        if verdict in by_verdict
    ]
    if few := [change for change in by_verdict.pop("", ()) if change.better or change.worse]:
        counts = (f"{change.name} {_better_worse(change)} of {fmt.count(change.n, 'row')}" for change in few)
        title = "" if found.new is None else f"Fewer than {FEWEST_PAIRS} rows tell no difference: "
        sentences.append([Piece(title), *_listed([Piece(text) for text in counts], "; ")])
    for verdict, changes in by_verdict.items():
        names = _listed([Piece(change.name, "strong") for change in changes])
        sentences.append([Piece("For "), *names, Piece(f" {verdict}")])
    failed = sum("failed" in (new.state, old.state) for new, old in found.pairs)
    without_scores = sum(bool(new.error or old.error) for new, old in found.pairs)
    of_rows = f"of {fmt.count(found.common_datapoints, 'row')}"
    if without_scores:
        are = "is" if without_scores == 1 else "are"
        sentences.append([Piece(f"{without_scores:,} {of_rows} failed in a run and {are} not paired")])
    if some_scores := failed - without_scores:
        text = f"An evaluator failed in {some_scores:,} {of_rows}, which count for the other metrics only"
        sentences.append([Piece(text)])
    if not sentences:
        nothing = "The runs have no score in common" if found.common_datapoints else "No row is in both runs"
        sentences.append([Piece(nothing)])
    return [piece for sentence in sentences for piece in (*sentence, Piece(". "))]


def _listed(items: Sequence[Piece], between: str = ", ") -> Line:
    """`a, b and c`."""
    joined = [piece for item in items for piece in (Piece(between), item)][1:]
    if between == ", " and len(items) > 1:
        joined[-2] = Piece(" and ")
    return joined


def _config_lines(found: RunComparisonResult) -> list[Line]:
    """What changed in the config: short values in one line, long ones below each other with their differences."""
    lines: list[Line] = []
    short: list[Piece] = []
    for key, (old, new) in found.config_changes.items():
        before, after = (_config_text(value) for value in (old, new))
        if len(before) + len(after) <= CONFIG_LENGTH:
            short += [Piece(GAP if short else ""), Piece(f"{key} ", "quiet"), Piece(before, "old"), Piece(" → "),
                      Piece(after, "new")]  # fmt: skip
            continue
        marked = word_differences(before, after)
        lines += [
            [Piece(f"{key} {word} ", "quiet"), *pieces] for word, pieces in zip(("old", "new"), marked, strict=True)
        ]
    return ([short] if short else []) + lines


MAX_CONFIG_TEXT: Final = 400


def _config_text(value: Any) -> str:
    return "none" if value is None else short_text(value, MAX_CONFIG_TEXT)


def _state_counts(found: RunComparisonResult) -> Line:
    states = Counter(change.state for change in found.row_changes)
    parts = [f"{states[state]:,} {state}" for state in COUNTED_STATES if states[state]]
    return [Piece("Rows: ", "quiet"), Piece(", ".join(parts))] if parts else ()


_VERDICTS: Final[Mapping[tuple[str, str], str]] = {
    ("seconds", "better"): "faster",
    ("seconds", "worse"): "slower",
    **{(kind, "better"): "cheaper" for kind in ("dollars", "estimated dollars")},
    **{(kind, "worse"): "more expensive" for kind in ("dollars", "estimated dollars")},
}


def change_table(metrics: Sequence[MetricChange], old: str, new: str) -> Table:
    """The metrics of two runs with their paired differences."""

    def mean(change: MetricChange, side: str) -> Line:
        found = getattr(change, side)
        if found is None:
            return ()
        value = value_text(found.value, change.kind, found.error)
        error = error_text(found, change.kind)
        return [Piece(value, "strong" if side == "new" else ""), *([Piece(f" {error}", "below")] if error else [])]

    def verdict(change: MetricChange) -> Line:
        word = _VERDICTS.get((change.kind, change.verdict), change.verdict)
        tone: Tone = "better" if change.verdict == "better" else "worse" if change.verdict == "worse" else ""
        return [Piece(word, tone)] if word else ()

    columns = [
        column("metric", "Metric", lambda change: change.name, cell=_change_name, weight=1.6),
        column("old", old, lambda change: change.old and change.old.value, cell=lambda change: mean(change, "old"),
                numeric=True, weight=1.3, priority=2),
        column("new", new, lambda change: change.new and change.new.value, cell=lambda change: mean(change, "new"),
                numeric=True, weight=1.3),
        column("difference", "Difference, 95 %" if any(change.low is not None for change in metrics) else "Difference",
                lambda change: change.difference, cell=_difference, numeric=True, weight=1.8),
        column("interval", "", lambda change: change.difference, cell=_interval, weight=1.8, live=True),
        column("rows", "Rows", lambda change: change.n, cell=_better_worse, weight=1.4, priority=1),
        column("verdict", "Verdict", lambda change: change.verdict, cell=verdict, weight=2.5),
    ]  # fmt: skip
    return Table(columns=columns, rows=metrics, more=lambda left: more_of(left, "metric"))


def _change_name(change: MetricChange) -> Line:
    lower = [Piece(" less is better", "below")] if change.lower_is_better and change.kind not in _USAGE else []
    return [Piece(change.name), *lower]


def _difference(change: MetricChange) -> Line:
    """The difference with its interval. Too few rows have neither."""
    if change.difference is None or (_too_few(change) and change.low is not None):
        return ()
    ends = [end for end in (change.low, change.high) if end is not None]
    error = (ends[1] - ends[0]) / 2 if len(ends) == 2 else None
    texts = [value_text(end, change.kind, error, signed=True).removesuffix(" points") for end in ends]
    interval = [Piece(f" {' to '.join(texts)}", "below")] if len(texts) == 2 else []
    return [Piece(value_text(change.difference, change.kind, error, signed=True), "strong"), *interval]


def _interval(change: MetricChange) -> Cell:
    if change.low is None or change.high is None or change.difference is None or _too_few(change):
        return ""
    return Interval(low=change.low, value=change.difference, high=change.high)


def _too_few(change: MetricChange) -> bool:
    return not change.verdict or (change.n < FEWEST_PAIRS and change.verdict == "same")


def _better_worse(change: MetricChange) -> str:
    better, worse = (_VERDICTS.get((change.kind, word), word) for word in ("better", "worse"))
    parts = [f"{change.better:,} {better}, {change.worse:,} {worse}"] if change.better or change.worse else []
    return ", ".join([*parts, *([f"{change.changed:,} changed"] if change.changed else [])])


OUTPUT_LENGTH: Final = 200
"""Most characters of an output in a preview: enough to show where two differ."""


def row_change_table(
    rows: Sequence[RowChange], old: str, new: str, detail: Detail = "full", *, live: bool = False
) -> Table:
    """The rows of two runs: what changed, with the differences of their outputs.

    Args:
        detail: how much of inputs and outputs it has.
        live: for an interactive page, where the errors of the function stand in place of the outputs.
    """
    short, long = PREVIEWS[detail]

    def input_of(change: RowChange) -> str:
        row = change.new or change.old
        return short_text(row.inputs, short) if row is not None else ""

    def outputs(change: RowChange) -> tuple[Line, Line]:
        errors = [row.error if row is not None else None for row in (change.old, change.new)]
        before, after = (
            short_text(row.outputs, max(long, OUTPUT_LENGTH)) if row is not None else ""
            for row in (change.old, change.new)
        )
        if live and any(errors):
            old_line, new_line = (
                [Piece(text_without_secrets(error), "failed")] if error else [Piece(text)]
                for error, text in zip(errors, (before, after), strict=True)
            )
            return old_line, new_line
        return word_differences(before, after) if before and after else ([Piece(before)], [Piece(after)])

    texts = [
        column("input", "input", input_of, line=1, priority=4, weight=4),
        column("old_output", old, lambda change: change.old and change.old.outputs, line=2, priority=3,
                cell=lambda change: outputs(change)[0], weight=7),
        column("new_output", new, lambda change: change.new and change.new.outputs, line=3,
                cell=lambda change: outputs(change)[1], weight=7),
    ]  # fmt: skip
    columns = [
        column("id", "Row", lambda change: change.datapoint_id, cell=_change_label, weight=2.4),
        column("state", "State", lambda change: ROW_STATES.index(change.state), weight=1.4, cell=_state_cell),
        *(texts if long else ()),
        column("changes", "What changed", lambda change: len(change.metrics), weight=6,
                cell=lambda change: _what_changed(change, live=live)),
    ]  # fmt: skip

    def spans(change: RowChange) -> list[SpansLink]:
        return [spans_link(f"{side} run", row, f"-{side}") for side, row in _sides(change) if row.session_id]

    def more(left: Sequence[RowChange]) -> Line:
        states = Counter(change.state for change in left)
        parts = ", ".join(f"{number:,} {state}" for state, number in states.items())
        return [Piece(f"{fmt.count(len(left), 'more row')}: {parts}. All of them: "), Piece("to_pandas()", "code")]

    return Table(
        columns=columns,
        rows=rows,
        spans=spans,
        more=more,
        details=lambda change: _details(change, old, new),
        text=lambda change: "\n".join([change.datapoint_id, change.state, *map(row_text, _rows(change))]),
        filters={name: lambda change, states=states: change.state in states for name, states in FILTERS.items()}
        | {"changed": _is_other_text},
        height=lambda change: 3,
        bad=lambda change: change.state in ("newly failed", "newly wrong"),
    )


FILTERS: Final[Mapping[str, tuple[RowState, ...]]] = {
    "newly-failed": ("newly failed",),
    "newly-wrong": ("newly wrong",),
    "newly-right": ("newly right",),
    "worse": ("worse", "newly wrong", "newly failed"),
    "better": ("better", "newly right"),
}
"""States of rows by the name of the filter that shows them."""


def _is_other_text(change: RowChange) -> bool:
    """Whether the output is another one in the new run, or one run failed."""
    outputs = [(row.outputs, row.outputs_digest, row.error) for row in _rows(change)]
    return len(outputs) == 2 and outputs[0] != outputs[1]


def _sides(change: RowChange) -> list[tuple[str, ResultRow]]:
    return [(side, row) for side, row in (("new", change.new), ("old", change.old)) if row is not None]


def _rows(change: RowChange) -> list[ResultRow]:
    return [row for _, row in _sides(change)]


def _details(change: RowChange, old: str, new: str) -> RowDetails:
    """Everything about a row in both runs, with the differences of its outputs."""
    rows = _rows(change)
    if not rows:
        return RowDetails(texts=())
    inputs, expected, _ = full_texts(rows[0])
    sides = [(title, row) for title, row in ((old, change.old), (new, change.new)) if row is not None]
    if len(sides) == 2 and not any(row.error for _, row in sides):
        before, after = (full_texts(row)[2] for _, row in sides)
        lines: Sequence[Line] = whole_differences(before, after)
    else:
        lines = [_output_of(row) for _, row in sides]
    texts: list[tuple[str, Line]] = [("Input", [Piece(inputs)]), ("Expected", [Piece(expected)])]
    return RowDetails(
        texts=[(title, line) for title, line in texts if line[0].text],
        beside=[(title, line) for (title, _), line in zip(sides, lines, strict=True)],
        values=[*_metric_values(change)],
        rated={view: one for side, row in _sides(change) for view, one in rated(row, f"-{side}").items()},
    )


def _output_of(row: ResultRow) -> Line:
    return [Piece(text_without_secrets(row.error), "failed")] if row.error else [Piece(full_texts(row)[2])]


def _metric_values(change: RowChange) -> Iterator[tuple[str, Line, Line]]:
    """Each metric with its old and new score, and what explains them."""
    rows = _rows(change)
    reasons = [dict(explanations(row.metrics)) for row in rows]
    for name in scores_and_labels([row.metrics for row in rows])[0]:
        scores = [_score(row, name) or "–" for row in reversed(rows)]
        value = [Piece(" → ".join(dict.fromkeys(scores))), *_verdict_word(change.metrics.get(name, "changed"))]
        found = [text_without_secrets(one.get(name, "")) for one in reasons]
        before = [Piece(" before: ", "quiet"), Piece(found[-1])] if len(found) == 2 and found[-1] != found[0] else []
        yield name, value, [Piece(found[0]), *(before if before and found[-1] else [])]


def _change_label(change: RowChange) -> Line:
    row = change.new or change.old
    return row_label(row) if row is not None else [Piece(own_id(change.datapoint_id))]


def _state_cell(change: RowChange) -> Line:
    tone: Tone = "strong" if change.state == "newly failed" else ""
    return [Piece(change.state, _STATE_TONES.get(change.state, tone))]


_STATE_TONES: Final[Mapping[str, Tone]] = {
    "newly wrong": "worse", "worse": "worse", "newly right": "better", "better": "better"
}  # fmt: skip


def _what_changed(change: RowChange, *, live: bool) -> Line:
    """How the state changed, then each metric that did: `decision yes → no worse`."""
    parts: list[Line] = []
    none = "text"  # A score that is a long text.
    if change.new is not None and change.old is not None:
        before, after = (_state_text(row, short=live) for row in (change.old, change.new))
        if "failed" in (change.new.state, change.old.state):
            parts.append([Piece(after if before == after else f"{before} → {after}")])
    for name, word in change.metrics.items():
        part = [Piece(name, "quiet")]
        if change.new is not None and change.old is not None:
            before, after = (_score(row, name) for row in (change.old, change.new))
            part.append(Piece(f" {before or none} → {after or none}"))
        parts.append([*part, *_verdict_word(word)])
    return [piece for part in parts for piece in (Piece(", "), *part)][1:]


def _score(row: ResultRow, name: str) -> str:
    """A score with its label: `0.5 fair`; empty if there is none."""
    return text_without_secrets(" ".join(filter(None, (score_text(row.metrics, name), label_text(row.metrics, name)))))


def _verdict_word(word: Literal["better", "worse", "changed"]) -> list[Piece]:
    return [] if word == "changed" else [Piece(f" {word}", word)]


def _state_text(row: ResultRow, *, short: bool) -> str:
    """The state of a row; of a failed one, its errors, unless they stand beside it."""
    return (not short and errors_text(row)) or {"passed": "right"}.get(row.state, row.state)


def _comparison_notes(found: RunComparisonResult, detail: Detail) -> list[Line]:
    if found.new is None:
        return [[Piece("Compared by the backend: scores only, so rows that failed in a run are not counted")]]
    lower = ", ".join(found.lower_is_better)
    notes = [
        f"less is better for {lower}" if lower else "higher is assumed to be better; lower_is_better=[...] changes that"
    ]
    runs = [run for run in (found.new, found.old) if run is not None]
    labels = scores_and_labels([row.metrics for run in runs for row in run.rows])[1]
    for which, metrics in (("new", found.new_only_metrics), ("old", found.old_only_metrics)):
        if names := [name for name in metrics if name not in labels]:
            notes.append(f"only the {which} run has {', '.join(names)}")
    notes += [
        f"{name}: {fmt.count(delta['found_once_count'], 'row')} with a score in one run only"
        for name, delta in found.metric_deltas.items()
        if delta.get("found_once_count") and name not in labels
    ]
    if (clusters := pair_clusters(found.pairs)) is not None:
        notes.append(clusters_text(clusters))
    scores = [change for change in found.changes if change.kind not in _USAGE]
    if len(scores) > 1:
        each = ", each interval for itself" if len(scores) >= MANY_METRICS else ""
        notes.append(f"{len(scores)} metrics are compared{each}")
    lines: list[Line] = [[Piece(note)] for note in notes]
    if detail == "summary" and any(change.state != "same" for change in found.row_changes):
        lines.append([Piece("outputs: "), Piece("to_pandas()", "code")])
    return lines


def word_differences(old: str, new: str) -> tuple[Line, Line]:
    """Both texts on a line, with the words marked that the other does not have at this place."""
    sides: tuple[list[Piece], list[Piece]] = ([], [])
    for number, pieces in enumerate(whole_differences(old, new)):
        for text, tone in pieces:
            if words := " ".join(text.split()):
                sides[number].append(Piece((" " if sides[number] else "") + words, tone))
    return sides


def whole_differences(old: str, new: str) -> tuple[Line, Line]:
    """Both texts with their lines, with the words marked that the other does not have at this place."""
    pieces = word_pieces(old, new)
    olds = [Piece(piece.old, "" if piece.same else "old") for piece in pieces if piece.old]
    return olds, [Piece(piece.new, "" if piece.same else "new") for piece in pieces if piece.new]
