"""The comparison of replays with recordings sees what it must see: without this, a green replay would prove nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.contract.comparison import differences
from tests.contract.deviations import Deviation
from tests.contract.recording import DATA, Run, load

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
        (lambda run: replace(run, calls=run.calls[::-1]), "order: calls: "),
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
