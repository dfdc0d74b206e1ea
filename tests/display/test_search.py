"""Searching spans: what has a hit, the line around it, and that the look at the bytes rules out no hit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hh_jupyter.display import search
from hh_jupyter.display.found import MAX_ROWS, Found, FoundGroup, bundle
from hh_jupyter.display.search import HitCounter, Hits, SearchText, search_reply
from hh_jupyter.records.calls import key_of
from hh_jupyter.records.record import SpanDetails, SpanRecord
from hh_jupyter.values import valid_utf8
from tests.display.hostile import HOSTILE
from tests.records.builders import span


def encoded(attributes: Mapping[str, Any]) -> bytes:
    """One span with these attributes, as it is exported."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from hh_jupyter.export.otlp import write_attributes

    request = ExportTraceServiceRequest()
    write_attributes(request.resource_spans.add().scope_spans.add().spans.add(name="work").attributes, attributes)
    return request.SerializeToString()


def hits(text: str, **attributes: Any) -> Hits | None:
    """The hits in a span with these attributes; the bytes must agree."""
    wanted, row = SearchText(text), span(1, None, 0, 340, "plan trip")
    found = wanted.hits(row, SpanDetails(attributes=attributes))
    assert found is None or "plan trip" in found.before + found.match or wanted.may_be_in(encoded(attributes))
    return found


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("OSLO", "to Oslo now"),
        ("two words", "two\n  words"),
        ('"hi"', json.dumps({"say": 'he said "hi"'})),
        ("späte", json.dumps({"say": "SPÄTE"})),
        ("späte", json.dumps({"say": "SPÄTE"}, ensure_ascii=False)),
        ("😀", json.dumps({"say": json.dumps(["a 😀"])})),
        ("a/b", '{"path": "a\\/b"}'),
        ("<b>", '{"html": "\\u003cb\\u003e"}'),
        ("abc", '{"x": "\\u0061\\u0062\\u0063"}'),
        ("naïve", "{'x': 'na\\xefve'}"),
        ("abc", "{'x': 'ab' 'c'}"),
        ("abc", "{'x': 'a\\142c'}"),
        ("nested text", json.dumps({"a": json.dumps({"b": json.dumps({"c": 'nested "text"'.replace('"', "")})})})),
        ("kelvin", "\u212aelvin"),
        ("straße", "STRAẞE"),
        ("1200", 1200),
        ("-7", -7),
        ("0.91", 0.91),
        ("1e+20", 1e20),
        ("0.5", [0.25, 0.5]),
        ("日本", json.dumps(["東京、日本"])),
        ("city", json.dumps({"city": 1})),
    ],
)
def test_a_text_is_found_in_any_form_that_it_is_stored_in(text: str, stored: Any) -> None:
    assert hits(text, **{"my.attribute": stored}) is not None
    assert hits("no such text", **{"my.attribute": stored}) is None


LETTERS = st.text(st.sampled_from("abkisKIS 019.-\"\\/<&'éÉßẞıİſσς日😀\n\t{[:"), max_size=8)
ENCODERS = st.sampled_from(
    [str, json.dumps, repr, ascii, lambda text: json.dumps(text, ensure_ascii=False), lambda text: json.dumps([text])]
)


@given(LETTERS, LETTERS, LETTERS, st.lists(ENCODERS, max_size=3))
def test_the_look_at_the_bytes_rules_out_no_hit(before: str, text: str, after: str, encoders: list[Any]) -> None:
    if not text.split():
        return
    stored: Any = before + text.swapcase() + after
    for encode in encoders:
        stored = encode({"k": stored}) if encode in (json.dumps, repr) else encode(stored)
    attributes = {"honeyhive_inputs.x": stored, "other": stored}
    wanted = SearchText(text)
    if wanted.hits(span(1, None, 0, 1, "-"), SpanDetails(attributes=attributes)) is not None and text.strip() != "-":
        assert wanted.may_be_in(encoded(attributes))


def test_a_request_without_the_text_is_ruled_out() -> None:
    body = encoded({"a": json.dumps({"say": 'Wörter "quoted"\n'}), "n": 1200, "f": 0.5})
    for text in ("parcel", "wörtlich", "日本", "1201", "say parcel"):
        assert not SearchText(text).may_be_in(body)


def test_a_hit_has_its_place_and_a_line_of_context() -> None:
    found = hits(
        "parcel", **{"honeyhive_inputs.order": "x" * 90 + " where is\nmy  PARCEL,\tplease? " + "y" * 90, "b": 1}
    )
    assert found is not None
    assert (found.where, found.count, found.match) == ("input order", 1, "PARCEL")
    assert found.before.endswith("x where is my ")
    assert found.before.startswith("…")
    assert found.after.startswith(", please? y")
    assert found.after.endswith("…")


def test_hits_in_the_content_are_counted_once_and_those_in_attributes_only_without_any() -> None:
    content = {"honeyhive_inputs.a": "oslo, Oslo", "honeyhive_outputs.result": "to OSLO"}
    found = hits("oslo", **content, **{"copy.of.the.input": "oslo"})
    assert found is not None
    assert found.count == 3
    found = hits("oslo", **{"city.of.oslo": 1})
    assert found is not None
    assert (found.where, found.before) == ("attribute", "city.of.")


def test_base64_is_not_searched() -> None:
    assert hits("AAAA", image="data:image/png;base64," + "A" * 400) is None


def test_a_span_without_content_is_searched_by_its_name() -> None:
    found = SearchText("PLAN").hits(span(1, None, 0, 340, "plan trip"), None)
    assert found is not None
    assert (found.where, found.match, found.after) == ("name", "plan", " trip")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_are_inert_in_text_and_html(text: str) -> None:
    row = span(1, None, 0, 340, text)
    found = SearchText("needle").hits(
        row, SpanDetails(attributes={text: 1, "honeyhive_inputs.x": f"{text} needle {text}"})
    )
    assert found is not None
    shown = bundle(Found(text, [FoundGroup(text, "%hh show 4", [found])], "1 span", [text]), "hh-4-found")
    assert "<script" not in shown["text/html"].lower()
    assert "<img" not in shown["text/html"].lower()
    assert "\x1b" not in shown["text/plain"] + shown["text/html"]
    assert "\n\n" not in shown["text/html"]
    assert ">needle</b>" in shown["text/html"]
    assert "«needle»" in shown["text/plain"]


def test_a_long_list_is_cut_and_says_what_it_leaves_out() -> None:
    found = SearchText("plan").hits(span(1, None, 0, 340, "plan"), None)
    assert found is not None
    groups = [FoundGroup(f"cell {number}", f"%hh show {number}", [found] * 20) for number in (9, 8, 7)]
    shown = bundle(Found("plan", groups, "70 spans"), "hh-4-found")
    assert shown["text/plain"].startswith("60 hits in 60 of 70 spans for plan")
    assert shown["text/plain"].count("«plan»") == shown["text/html"].count(">plan</b>") == MAX_ROWS
    for text in shown.values():
        assert "30 more spans in 1 more cell or session not shown." in text


def test_hits_in_names_of_sessions_are_counted_apart_from_those_in_spans() -> None:
    found = hits("plan", **{"honeyhive_inputs.a": "the plan"})
    assert found is not None
    spans, name = (
        FoundGroup("cell 4", "%hh show 4", [found]),
        FoundGroup("session plan", "%hh show 1a2b", [], named=True),
    )
    assert Found("plan", [spans, name, name], "9 spans").summary == "2 hits in 1 of 9 spans and 2 in session names"
    assert Found("plan", [name], "9 spans").summary == "1 hit in session names"


def test_the_line_of_a_hit_gets_what_the_other_columns_leave() -> None:
    """JupyterLab's tables have a fixed layout: columns without a width share the rest equally."""
    found = hits("plan", **{"honeyhive_inputs.a": "the plan"})
    assert found is not None
    html = bundle(Found("plan", [FoundGroup("cell 4", "%hh show 4", [found])], "1 span"), "hh-4-found")["text/html"]
    *narrow, line = re.findall(r'<td style="([^"]*)"', html)
    widths = [int(width) for style in narrow for width in re.findall(r";width:(\d+)%", style)]
    assert len(widths) == len(narrow) == 3
    assert sum(widths) < 50
    assert ";width:" not in line


# All spans of a view at once


class Kept:
    """Encoded spans as the kernel keeps them, and which of them were read."""

    def __init__(self, *attributes: Mapping[str, Any]) -> None:
        self.rows = [span(number, None, 0, 340, f"step {number}") for number in range(1, len(attributes) + 1)]
        self.details = dict(zip(map(key_of, self.rows), attributes, strict=True))
        self.read: list[int] = []
        self.counter = HitCounter(self.candidates)

    def candidates(self, records: Sequence[SpanRecord], wanted: Callable[[bytes], bool]) -> search.Candidates:
        kept = [key for key in map(key_of, records) if key in self.details]
        return {key: partial(self.decode, key) for key in kept if wanted(encoded(self.details[key]))}

    def decode(self, key: tuple[int, int]) -> SpanDetails:
        self.read.append(key[1])
        return SpanDetails(attributes=self.details[key])

    def counts(self, text: str) -> dict[int, int]:
        counts, left = self.counter.counts(self.rows, text)
        assert left == 0
        return counts


def test_the_hits_of_each_span_are_counted() -> None:
    """Those in attributes only where there is none above them; names, keys and numbers count; no span has none."""
    kept = Kept(
        {"honeyhive_inputs.city": "Oslo,  OSLO", "copy": "oslo again"},
        {"copy": "in oslo", "oslo.key": 1},
        {"honeyhive_inputs.order": 48213, "odd": json.dumps({"say": 'he said "hi"'})},
    )
    for text, counts in {
        "oslo": {1: 2, 2: 2},
        "  oslo,\n oslo ": {1: 1},
        "48213": {3: 1},
        '"hi"': {3: 1},
        "STEP": {1: 1, 2: 1, 3: 1},
        "step 2": {2: 1},
        "nowhere": {},
        " ": {},
    }.items():
        assert kept.counts(text) == counts, text


@given(LETTERS, LETTERS, LETTERS, st.lists(ENCODERS, max_size=2))
def test_as_many_hits_are_counted_as_a_search_finds(before: str, text: str, after: str, encoders: list[Any]) -> None:
    if not text.split():
        return
    stored: Any = before + text.swapcase() + after
    for encode in encoders:
        stored = encode(stored)
    kept = Kept({"honeyhive_inputs.x": stored})
    found = SearchText(text).hits(kept.rows[0], SpanDetails(attributes={"honeyhive_inputs.x": stored}))
    assert kept.counts(text).get(1, 0) == (found.count if found is not None else 0)


def test_only_spans_that_may_have_a_hit_are_read_and_each_once() -> None:
    kept = Kept({"a": "refund the order"}, {"a": "order a refund"}, {"a": "the order, refund"}, {"b": "the refund"})
    for _ in range(2):
        assert kept.counts("order a refund") == {2: 1}
    assert kept.read == [2]


def test_spans_that_changed_are_counted_again() -> None:
    kept = Kept({"a": "one"}, {"a": "two"})
    assert kept.counts("one") == {1: 1}
    kept.rows[1] = changed = replace(kept.rows[1], redacted=1)
    kept.details[key_of(changed)] = {"a": "one one"}
    assert kept.counts("one") == {1: 1, 2: 2}
    assert kept.read == [1, 2]


def test_a_page_gets_an_answer_before_all_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has all spans that may have a hit; those that are still to be read have none yet."""
    monkeypatch.setattr(search, "READ_AT_LEAST", 2)
    monkeypatch.setattr(search, "REPLY_SECONDS", 0)
    kept = Kept(*[{"a": "word"}] * 5, {"a": "other"})
    replies = [search_reply(kept.counter, kept.rows, "word") for _ in range(3)]
    assert [reply["left"] for reply in replies] == [3, 1, 0]
    assert [sum(reply["hits"].values()) for reply in replies] == [2, 4, 5]
    assert [len(reply["hits"]) for reply in replies] == [5, 5, 5]
    assert replies[0]["hits"]["0000000000000001"] == 1
    assert search_reply(kept.counter, kept.rows, "oth")["hits"] == {"0000000000000006": 1}


def test_spans_without_content_are_counted_by_name() -> None:
    kept = Kept({"a": "one"})
    kept.details.clear()
    assert kept.counts("step 1") == {1: 1}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hits_are_counted_in_any_text(text: str) -> None:
    assert set(Kept({"a": valid_utf8(text), valid_utf8(text)[:100]: 1}).counts(text[:1_000])) <= {1}
