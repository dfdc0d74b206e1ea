"""The comparison of replays with recordings sees what it must see: without this, a green replay would prove nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hh_jupyter.testing import ReceivedRequest
from hh_jupyter.testing.responses import TRACES
from tests.contract.comparison import differences
from tests.contract.deviations import Deviation
from tests.contract.recording import DATA, Call, Run, load
from tests.contract.summary import summarised

CASES = sorted(path.stem for path in DATA.glob("*.json"))


@pytest.mark.parametrize("name", CASES)
def test_a_recording_equals_itself(name: str) -> None:
    case = load(name)
    assert differences(case.recorded, case.recorded, ordered=case.ordered) == []


def _changed_span(change: Callable[[dict[str, Any]], object]) -> Callable[[Run], Run]:
    def apply(run: Run) -> Run:
        spans = [copy.deepcopy(dict(span)) for span in run.spans]
        change(spans[0])
        return replace(run, spans=spans)

    return apply


def _other_session(span: dict[str, Any]) -> None:
    span["attributes"]["honeyhive.session_id"] = "<uuid:77>"


def _changed_call(**fields: Any) -> Callable[[Run], Run]:
    return lambda run: replace(run, calls=[replace(run.calls[0], **fields), *run.calls[1:]])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (_changed_span(lambda s: s.update(name="other")), "span before: missing"),
        (_changed_span(lambda s: s.update(kind="SERVER")), 'span before: kind: "INTERNAL" -> "SERVER"'),
        (_changed_span(lambda s: s["attributes"].update(new=1)), "span before: attributes.new: absent -> 1"),
        (_changed_span(lambda s: s["events"].append({"name": "e"})), "span before: events: [] -> absent"),
        (_changed_span(lambda s: s.update(parent_span_id="x")), 'span before: parent: null -> "<remote>"'),
        (
            _changed_span(_other_session),
            'span before: attributes.honeyhive.session_id: "<session startup>" -> "<id in span before attributes.',
        ),
        (_changed_call(method="PUT"), "call POST /session/start: missing"),
        (_changed_call(authorization="Bearer other"), 'authorization: "Bearer <api_key>" -> "Bearer other"'),
        (_changed_call(query={"a": "b"}), 'call POST /session/start: query.a: absent -> "b"'),
        (lambda run: replace(run, calls=run.calls[::-1]), "order: <session request 7>: "),
        (lambda run: replace(run, spans=run.spans[1:]), "span before: missing"),
        (lambda run: replace(run, spans=[*run.spans, run.spans[0]]), "span before: unexpected"),
        (lambda run: replace(run, observations={}), "observed: baggage: true -> absent"),
    ],
)
def test_every_kind_of_difference_is_seen(change: Callable[[Run], Run], line: str) -> None:
    recorded = load("create_session_full").recorded
    assert any(line in found for found in differences(recorded, change(recorded)))


def test_a_span_in_the_session_of_another_span_is_a_difference() -> None:
    """Exchanging the sessions of two spans keeps every value in the run; only what belongs together changes."""
    recorded = load("create_session_full").recorded
    spans = [copy.deepcopy(dict(span)) for span in recorded.spans]
    keys = [key for key in spans[0]["attributes"] if key.endswith("session_id")]
    for key in keys:
        one, two = spans[0]["attributes"], spans[1]["attributes"]
        one[key], two[key] = two[key], one[key]
    assert len(differences(recorded, replace(recorded, spans=spans))) == 2 * len(keys)


def _call(method: str, path: str, body: dict[str, Any], session_id: str | None = None) -> Call:
    return Call(method, path, {}, None, body, session_id)


def _start(identifier: str, n: int) -> Call:
    return _call("POST", "/session/start", {"session": {"session_name": "s", "inputs": {"n": n}}}, identifier)


RUN = _call("POST", "/v1/runs", {"run_id": "<uuid:9>", "name": "r"})
END = _call("PUT", "/v1/runs/<uuid:9>", {"event_ids": ["<uuid:1>", "<uuid:2>"]})
ONE, TWO = _start("<uuid:1>", 1), _start("<uuid:2>", 2)
UPDATE = _call("PUT", "/events", {"event_id": "<uuid:1>"})


@pytest.mark.parametrize(
    ("calls", "line"),
    [
        ([RUN, TWO, ONE, UPDATE, END], None),
        ([RUN, UPDATE, TWO, ONE, END], "order: <session s>: "),
        ([RUN, ONE, UPDATE, END, TWO], "order: <session s #2>: "),
        ([RUN, replace(ONE, session_id="<uuid:2>"), replace(TWO, session_id="<uuid:1>"), UPDATE, END], "event_id: "),
    ],
)
def test_calls_of_different_sessions_may_overtake_each_other(calls: list[Call], line: str | None) -> None:
    """Those of one may not, nor those that belong to none; and which session is which shows in its inputs."""
    found = differences(Run([RUN, ONE, TWO, UPDATE, END], []), Run(calls, []))
    assert found == [] if line is None else any(line in text for text in found)


def test_the_order_of_lists_counts_unless_the_case_is_concurrent() -> None:
    want = Run([RUN, ONE, TWO, END], [])
    got = Run([RUN, ONE, TWO, replace(END, body={"event_ids": ["<uuid:2>", "<uuid:1>"]})], [])
    assert len(differences(want, got)) == 2
    assert differences(want, got, ordered=False) == []


def test_what_is_nearest_is_compared() -> None:
    """Whichever comes first: else one difference would be told as many."""
    one = {"a": 1, "b": 1, "c": 1, "d": 1}
    two = {"a": 2, "b": 2, "c": 2, "d": 2}
    want = Run([_call("PUT", "/x", one), _call("PUT", "/x", two)], [])
    got = Run([_call("PUT", "/x", {**two, "d": 3}), _call("PUT", "/x", {**one, "d": 3})], [])
    assert differences(want, got) == [f"call PUT /x: body.d: {n} -> 3" for n in (1, 2)]


def test_a_summary_counts_each_span_that_arrived_once() -> None:
    spans = [{"span_id": n, "name": f"s{n}", "attributes": {"a": 1, "b": 2}, "end_ns": 10**9} for n in "xy"]
    export: dict[str, Any] = {"method": "POST", "path": TRACES, "query": {}, "headers": {}, "size": 1, "answer": {}}
    requests = [
        ReceivedRequest(**export, body=spans, status=200, received=6.2),
        ReceivedRequest(**export, body=spans[:1], status=200, received=9.0),
        ReceivedRequest(**export, body=spans, status=503),
    ]
    recorded = ("batch_sizes_sorted", "total", "exported_attribute_counts", "exported_after_seconds", "exports")
    found = summarised(dict.fromkeys(recorded), requests)
    assert list(found.values()) == [[1, 2], 2, {"sx": 2, "sy": 2}, 5, 2]
    late = replace(requests[0], received=9.0)
    assert summarised({"exported_after_seconds": 5}, [late]) == {"exported_after_seconds": 8.0}
    assert summarised({"other": 1}, requests) == {}


def test_a_deviation_allows_what_it_names_and_nothing_else() -> None:
    deviation = Deviation("span *: attributes.a: 1 -> absent", "a reason")
    assert deviation.allows("span work: attributes.a: 1 -> absent")
    assert not deviation.allows("span work: attributes.ab: 1 -> absent")
    assert not deviation.allows("span work: attributes.a: 1 -> 2")
    assert not deviation.allows("span work: attributes.a: 1 -> absent and more")
    assert not deviation.allows("in span work: attributes.a: 1 -> absent")


def test_a_deviation_may_name_alternatives() -> None:
    deviation = Deviation("span *: attributes.{a|b.c}: * -> absent", "a reason")
    assert deviation.allows('span work: attributes.b.c: "x" -> absent')
    assert not deviation.allows('span work: attributes.bxc: "x" -> absent')
