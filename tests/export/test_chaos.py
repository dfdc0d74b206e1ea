"""Under random faults every promise of the exporter holds, and the chaos program's judge notices a broken one."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.export.chaos import (
    MILLISECOND,
    SECOND,
    Evidence,
    Judge,
    Limits,
    Process,
    judged,
    report,
    run_round,
)

LIMITS = Limits(slack=100.0)
"""Other tests run at the same time."""

SEED = 7
ROUND_SECONDS = 2.5


def assert_kept(evidence: Evidence) -> None:
    """Assert that every promise was kept in this round."""
    verdict = judged(evidence, LIMITS)
    assert not verdict.faults, report(evidence, verdict)
    few_made = (
        verdict.figures["spans made"] < 2_000
    )  # On an overloaded machine a round may end before anything is sent.
    assert few_made or verdict.figures["spans arrived"] > 100, report(evidence, verdict)


@pytest.mark.parametrize("number", range(1, 4))
def test_no_promise_is_broken_under_random_faults(tmp_path: Path, number: int) -> None:
    assert_kept(run_round(SEED, number, ROUND_SECONDS, tmp_path))


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", range(40))
def test_no_promise_is_broken_in_ten_minutes_of_random_faults(tmp_path: Path, number: int) -> None:
    assert_kept(run_round(SEED + 1, number, 10.0, tmp_path))


# The judge

Entry = dict[str, Any]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A round with something to falsify: on a busy machine, all flushes of a round may fail."""
    rounds = (run_round(SEED, 0, ROUND_SECONDS, tmp_path_factory.mktemp("round")) for _ in range(4))
    return next(evidence for evidence in rounds if any(flushes_that_succeeded(evidence)))


def flushes_that_succeeded(evidence: Evidence) -> Iterator[tuple[Process, int, str]]:
    """Yield flushes that sent something: the process, when the flush ended, and a span that it sent."""
    for process in evidence.processes.values():
        for began, ended, _, done in process.flushes:
            yield from ((process, ended, span) for moment, _, span in process.spans[:1] if done and moment < began)


@pytest.fixture
def evidence(played: Evidence) -> Evidence:
    """A round to falsify."""
    return copy.deepcopy(played)


@pytest.mark.slow
def test_no_promise_is_broken_in_the_round_that_is_falsified_below(played: Evidence) -> None:
    assert_kept(played)


def stored_once(evidence: Evidence) -> list[tuple[Entry, Process, int, str]]:
    """Return the promised spans that arrived once: the entry of the record, the process, when it ended and its id."""
    judge = Judge(evidence, LIMITS)
    return [
        (judge.stores[span][0], process, moment, span)
        for process in evidence.processes.values()
        for moment, _, span in process.spans
        if len(judge.stores[span]) == 1 and judge.promised(process, moment)
    ]


def remove_span(entry: Entry, span: str) -> None:
    entry["spans"] = [one for one in entry["spans"] if one[0] != span]


def lose_a_span(evidence: Evidence) -> str:
    entry, _, _, span = stored_once(evidence)[0]
    remove_span(entry, span)
    return f"did not arrive.* the first is {span}"


def lose_an_early_span_of_a_killed_process(evidence: Evidence) -> str:
    entry, process, _, span = next(
        one for one in stored_once(evidence) if one[1].end == "exit" and one[2] < one[1].last - SECOND
    )
    process.killed, process.end, process.warm = process.last, "", True
    remove_span(entry, span)
    return f"process {process.pid} .*killed.* did not arrive.* the first is {span}"


def lose_an_update(evidence: Evidence) -> str:
    for entry in evidence.record:
        if any(number is not None for _, number in entry.get("calls", ())):
            entry["stored"] = False
    return "update . of session .* did not arrive"


def simple_start(evidence: Evidence) -> Entry:
    """Return the entry of a start that was sent once, before spans of its session."""
    judge = Judge(evidence, LIMITS)
    with_spans = {session for entry, *_ in stored_once(evidence) for _, session, _ in entry["spans"]}
    return next(
        entries[0]
        for (session, number), entries in judge.calls.items()
        if number is None and len(entries) == 1 and session in with_spans and entries[0]["stored"]
    )


def lose_a_start(evidence: Evidence) -> str:
    entry = simple_start(evidence)
    session = entry["calls"][0][0]
    entry["calls"] = []
    return f"the start of session {session} is lost"


def delay_a_start(evidence: Evidence) -> str:
    entry = simple_start(evidence)
    evidence.record.remove(entry)
    entry["number"] = evidence.record[-1]["number"] + 1
    evidence.record.append(entry)
    return f"the start of session {entry['calls'][0][0]} came at line {entry['number']}"


def swap_two_updates(evidence: Evidence) -> str:
    calls = Judge(evidence, LIMITS).calls
    session, number = next(
        (session, number)
        for (session, number), entries in calls.items()
        if number and len(entries) == 1 == len(calls.get((session, number + 1), ()))
    )
    one, other = calls[session, number][0], calls[session, number + 1][0]
    one["calls"], other["calls"] = other["calls"], one["calls"]
    return f"update {number + 1} of session {session} came at line"


def repeat_a_span(evidence: Evidence) -> str:
    judge = Judge(evidence, LIMITS)
    for entry, maker, *_ in stored_once(evidence):
        sender = judge._sender(entry)  # The judge is what is tested here.
        if entry["number"] in judge.answered and sender is maker and sender.end == "exit" and not sender.terminated:
            sender.ended += SECOND  # As if it had gone on after the answer.
            evidence.record.append({**entry, "number": evidence.record[-1]["number"] + 1})
            return "sent again though they had arrived"
    raise AssertionError("no request was answered well")


def send_a_span_that_was_never_made(evidence: Evidence) -> str:
    entry, process, _, _ = next(one for one in stored_once(evidence) if one[1].end == "exit")
    entry["spans"].append(["0123456789abcdef", entry["spans"][0][1], process.pid])
    return f"1 spans of process {process.pid} arrived that it did not make"


def send_a_span_with_another_session(evidence: Evidence) -> str:
    entry, *_ = stored_once(evidence)[0]
    entry["spans"][0][1] = "another"
    return f"span {entry['spans'][0][0]} .* arrived with session another"


def return_true_too_early(evidence: Evidence) -> str:
    judge = Judge(evidence, LIMITS)
    process, ended, span = next(flushes_that_succeeded(evidence))
    for entry in judge.stores[span]:
        entry["at"] = ended + SECOND
    return f"a flush of process {process.pid} .* was True without span"


def return_too_late(evidence: Evidence) -> str:
    process = next(one for one in evidence.processes.values() if one.flushes)
    began, _, timeout, done = process.flushes[0]
    ended = began + int(timeout + 500) * MILLISECOND
    process.flushes[0] = began, ended, timeout, done
    process.ticks = list(range(began, ended, 10 * MILLISECOND))
    return f"a flush of process {process.pid} .* within {timeout:.0f} ms took {timeout + 500:.0f} ms"


def print_a_traceback(evidence: Evidence) -> str:
    evidence.errors["producer9"] = "Traceback (most recent call last):\n  ...\nKeyError: 1\n"
    return "producer9 has 'Traceback'"


def end_without_a_reason(evidence: Evidence) -> str:
    process = next(one for one in evidence.processes.values() if one.end)
    process.end, process.killed, process.terminated = "", 0, 0
    return f"process {process.pid} .* ended without a reason"


def leave_something_in_the_spool(evidence: Evidence) -> str:
    evidence.successors[-1]["done"] = False
    return "the last process could not send everything"


@pytest.mark.parametrize(
    "falsify",
    [
        lose_a_span,
        lose_an_early_span_of_a_killed_process,
        lose_an_update,
        lose_a_start,
        delay_a_start,
        swap_two_updates,
        repeat_a_span,
        send_a_span_that_was_never_made,
        send_a_span_with_another_session,
        return_true_too_early,
        return_too_late,
        print_a_traceback,
        end_without_a_reason,
        leave_something_in_the_spool,
    ],
)
def test_the_judge_notices(evidence: Evidence, falsify: Callable[[Evidence], str]) -> None:
    before = set(judged(evidence, LIMITS).faults)
    expected = falsify(evidence)
    new = "\n".join(set(judged(evidence, LIMITS).faults) - before)
    assert re.search(expected, new), f"{expected!r} is not in:\n{new}"


def test_what_ended_just_before_a_kill_may_be_lost(evidence: Evidence) -> None:
    before = judged(evidence, LIMITS).faults
    entry, process, moment, span = max(stored_once(evidence), key=lambda one: one[2])
    remove_span(entry, span)
    process.flushes.clear()
    assert judged(evidence, LIMITS).faults != before
    process.killed = process.last = moment + 10 * MILLISECOND
    assert judged(evidence, LIMITS).faults == before


def test_a_start_that_the_backend_refused_may_come_after_its_spans(evidence: Evidence) -> None:
    entry = simple_start(evidence)
    before = judged(evidence, LIMITS).faults
    refused = {**entry, "stored": False, "mode": "503"}
    evidence.record[evidence.record.index(entry)] = refused
    evidence.record.append({**entry, "number": evidence.record[-1]["number"] + 1})
    assert judged(evidence, LIMITS).faults == before


@pytest.mark.parametrize(("killed", "faults"), [(2 * SECOND, 0), (0, 1), (5 * SECOND, 1)])
def test_rows_of_a_dead_process_may_come_twice_if_their_adopter_was_killed(killed: int, faults: int) -> None:
    """Two files have them if it dies after it has copied them, and before it has deleted them."""
    span, session = "0123456789abcdef", "a-session"
    request = {"stored": True, "mode": "ok", "port": 1, "spans": [[span, session, 1]]}
    maker = Process(1, spans=[(SECOND // 2, session, span)], killed=SECOND, last=SECOND)
    adopter = Process(2, killed=killed, last=killed or 6 * SECOND, end="" if killed else "exit")
    sender = Process(3, connections=[(2 * SECOND, 1)], end="exit", ended=6 * SECOND)
    record: list[Entry] = [
        {"number": 1, "at": 3 * SECOND, **request},
        {"number": 2, "at": 3 * SECOND, "answered": 1},
        {"number": 3, "at": 4 * SECOND, **request},
    ]
    judge = Judge(Evidence(0, 0, {1: maker, 2: adopter, 3: sender}, record), LIMITS)
    judge._check_repeats()
    assert len(judge.found.faults) == faults
