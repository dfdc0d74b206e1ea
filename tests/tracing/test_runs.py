"""The run history of cells, made of the span log and of what earlier kernels left on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hh_jupyter.export.store import BodyStore
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.selection import MAX_RUNS, run_key
from hh_jupyter.tracing.runs import RunHistory
from tests.records.builders import span


def history(log: SpanLog, titles: Mapping[str, str] | None = None) -> RunHistory:
    return RunHistory(log, BodyStore(), lambda: None, lambda: titles or {})


def add(log: SpanLog, key: str, spans: int = 1, session: str | None = None) -> str:
    log.extend(replace(span(number, None, 0, 1), cell=key, session_id=session) for number in range(spans))
    return key


def test_the_runs_of_a_cell_are_those_with_its_id() -> None:
    log = SpanLog()
    runs = [add(log, run_key(str(number), "abc" if number % 2 else "other")) for number in range(1, 6)]
    assert [run.number for run in history(log).until(runs[4])] == ["1", "3", "5"]
    assert [run.number for run in history(log).until(runs[2])] == ["1", "3"]


def test_without_a_cell_id_the_runs_of_a_named_session_are_found() -> None:
    log = SpanLog()
    titles = {"a": "refund", "b": "refund #2", "c": "other"}
    runs = [add(log, run_key(str(number), None), session=one) for number, one in enumerate("abcd")]
    assert [run.key for run in history(log, titles).until(runs[1])] == runs[:2]
    assert [run.key for run in history(log, titles).until(runs[2])] == [runs[2]]
    assert [run.key for run in history(log, titles).until(runs[3])] == [runs[3]], "the notebook's own session"


def test_twenty_runs_are_kept() -> None:
    log = SpanLog()
    runs = [add(log, run_key(str(number), "abc")) for number in range(MAX_RUNS + 5)]
    assert [run.key for run in history(log).until(runs[-1])] == runs[5:]


def test_a_run_of_which_the_log_has_dropped_spans_has_no_records() -> None:
    log = SpanLog(max_rows=5)
    old, new = add(log, run_key("1", "abc"), 3), add(log, run_key("2", "abc"), 3)
    found = history(log)
    assert [run.key for run in found.until(new)] == [old, new]
    assert [len(found.records(run)) for run in found.until(new)] == [0, 3]
