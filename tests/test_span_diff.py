"""`hh_jupyter.diff` in a program: of spans and sessions, as lists, a table, text and HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

import hh_jupyter
from hh_jupyter import HoneyHiveTracer, SpanList, diff, spans
from hh_jupyter.tracing.span_store import span_log
from tests.spans import recorded


@pytest.fixture(scope="module")
def sessions() -> Iterator[tuple[str, str]]:
    """Ids of two sessions: an agent, and the agent with another input and one call more."""
    span_log().clear()
    with HoneyHiveTracer.init(test_mode=True, session_name="diff") as tracer:
        for name, city, calls in ("old", "Oslo", 1), ("new", "Bergen", 2):
            with tracer.with_session(name), tracer.start_span("agent", attributes={"honeyhive_inputs.city": city}):
                for _ in range(calls):
                    with tracer.start_span("search", attributes={"honeyhive_inputs.k": 4}):
                        pass
        tracer.force_flush()
        ids = list(dict.fromkeys(record.session_id or "" for record in spans()))
        yield ids[0], ids[1]
    span_log().clear()


def test_two_sessions_are_compared(sessions: tuple[str, str]) -> None:
    found = diff(*sessions)
    assert [(one.name, one.what) for one in found.changed] == [("agent", ("city",))]
    assert [one.name for one in found.added] == ["search"]
    assert (found.removed, found.moved) == ([], [])
    back = diff(sessions[1], sessions[0])
    assert [one.name for one in back.removed] == ["search"]
    (city,) = [text for text in found.changed[0].texts if not text.same]
    assert (city.section, city.name, city.old, city.new) == ("Input", "city", "Oslo", "Bergen")
    assert hh_jupyter.SpanDiff is type(found)


def test_lists_of_spans_are_compared_also_those_of_the_sdk(sessions: tuple[str, str]) -> None:
    old, new = (spans(session=one) for one in sessions)
    assert len(diff(old, new).different) == 2
    assert not diff(list(old), old).different
    recording = recorded("openinference-langchain-agent.json")
    same = diff(recording, SpanList(recording))
    assert not same.different
    assert same.not_compared == 0


def test_the_table_has_a_row_for_each_span_of_either_run(sessions: tuple[str, str]) -> None:
    table = diff(*sessions).to_pandas()
    assert list(table["mark"]) == ["changed", "added", "same"]
    assert list(table["what"]) == ["city", "", ""]
    agent = table.iloc[0]
    assert agent["change_ms"] == pytest.approx(agent["new_ms"] - agent["old_ms"])
    assert table["old_span_id"].isna().tolist() == [False, True, False]


def test_it_is_shown_as_text_and_html(sessions: tuple[str, str]) -> None:
    found = diff(*sessions, detail="full")
    bundle = found._repr_mimebundle_()
    assert bundle["text/plain"] == repr(found)
    assert "1 changed, 1 added, 1 the same" in bundle["text/plain"]
    assert "[-Oslo-] {+Bergen+}" in bundle["text/plain"]
    assert "Bergen" in bundle["text/html"]
    assert "Bergen" not in diff(*sessions)._repr_html_(), "names and numbers only, as the setting says"
    assert found._repr_mimebundle_(include=["text/html"]).keys() == {"text/html"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "diff(): no spans in 'nothing'."),
        (([], []), "diff(): no spans in 'spans'."),
        (("all",), "diff(): what has no run before needs two arguments, the old spans and the new ones."),
        (([],), "diff(): what has no run before needs two arguments, the old spans and the new ones."),
        ((4,), "diff(): no spans in '4'."),
    ],
)
@pytest.mark.usefixtures("sessions")
def test_a_mistake_says_what_is_missing(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        diff(*arguments)


@pytest.mark.parametrize("wrong", [True, 1.5, [1], object()])
def test_what_is_no_span_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError):
        diff(wrong, wrong)
    with pytest.raises(ValueError, match="detail='all'"):
        diff([], [], detail="all")  # type: ignore[arg-type]
