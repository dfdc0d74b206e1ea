"""Attributes of any type and size are survived: whatever a span holds, reading it raises nothing."""

from __future__ import annotations

import ast
import gc
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hh_jupyter.conventions import content, describe, readable_name
from hh_jupyter.conventions.facts import as_count, grouped, parsed
from tests.conventions.cases import CASES, spans_of
from tests.records.events import NamedEvent
from tests.spans import RECORDINGS, recorded

SPANS = [span for read, names in ((recorded, RECORDINGS), (spans_of, CASES)) for name in names for span in read(name)]
KNOWN = sorted({key for span in SPANS for key in span.attributes or {}})
"""Every key of every recording and case, so that known keys meet values of any type."""

KNOWN_OF_EVENTS = sorted({key for span in SPANS for event in span.events for key in event.attributes or {}})
EVENTS = sorted({event.name for span in SPANS for event in span.events})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = "type role content text name id function input usage response_metadata documents total cached_tokens score"
fields: st.SearchStrategy[dict[str, Any]] = st.dictionaries(st.sampled_from(FIELDS.split()), json_values, max_size=4)
parts: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            [
                *("text", "tool_call", "tool_call_response", "tool_use", "tool_result", "image", "reasoning", "human"),
                *("function_call", "function_call_output", 5, None),
            ]
        ),
        "role": json_values,
        "parts": st.deferred(lambda: st.lists(parts, max_size=3)) | json_values,
        "content": json_values,
        "tool_calls": st.lists(json_values, max_size=2) | json_values,
        "function": json_values,
        "name": json_values,
        "arguments": json_values,
        "response": json_values,
        "id": json_values,
        "lc": json_values,
        "kwargs": fields,
        "message": fields,
        "toolUse": fields,
        "toolResult": fields,
        "text": json_values,
        "score": json_values,
    },
)
WHOLE = "messages input contents prompt system config tools kwargs choices generations candidates output usage id model"
wholes: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(WHOLE.split()), st.lists(fields, max_size=2) | fields | json_values, max_size=4
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.binary(max_size=8)
values = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    json_values.map(lambda value: json.dumps(value, default=str)),
    json_values.map(repr),
    st.lists(parts, max_size=3),
    st.lists(parts, max_size=3).map(json.dumps),
    st.lists(parts, max_size=3).map(repr),
    wholes,
    wholes.map(json.dumps),
    st.lists(wholes, max_size=2).map(json.dumps),
    json_values,
)
attributes_of_any_kind = st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=20), values, max_size=12)
kinds = st.fixed_dictionaries(
    {},
    optional={
        "openinference.span.kind": st.sampled_from(["LLM", "TOOL", "EMBEDDING", "AGENT", "RETRIEVER"]) | values,
        "gen_ai.operation.name": st.sampled_from(["chat", "embeddings", "execute_tool", "invoke_agent"]) | values,
        "traceloop.span.kind": st.sampled_from(["tool", "task"]) | values,
        "llm.request.type": st.sampled_from(["chat", "embedding"]) | values,
        "honeyhive_event_type": st.sampled_from(["model", "tool"]) | values,
        "mlflow.spanType": st.sampled_from(['"CHAT_MODEL"', '"RETRIEVER"', '"EMBEDDING"', '"TOOL"']) | values,
        "langfuse.observation.type": st.sampled_from(["generation", "embedding", "retriever", "span"]) | values,
        "langsmith.span.kind": st.sampled_from(["llm", "embedding", "retriever", "tool", "prompt"]) | values,
        "ai.operationId": st.sampled_from(["ai.streamText.doStream", "ai.embed", "ai.rerank", "ai.toolCall"]) | values,
        "mcp.method.name": st.sampled_from(["tools/call", "resources/read", "ping"]) | values,
    },
)
events = st.lists(
    st.builds(
        NamedEvent,
        st.sampled_from([*EVENTS, "exception", "gen_ai.choice", "gen_ai.user.message", "mlflow.chunk.item.0", "x"]),
        st.integers(),
        st.none() | attributes_of_any_kind | st.dictionaries(st.sampled_from(KNOWN_OF_EVENTS), values, max_size=4),
    ),
    max_size=3,
)


@pytest.mark.slow
@given(attributes_of_any_kind, kinds, events)
@settings(max_examples=200)
def test_any_attributes_are_read(attributes: dict[str, Any], kind: dict[str, Any], happened: list[NamedEvent]) -> None:
    whole_span = attributes | kind
    facts = describe("name", whole_span, happened, 0)
    assert isinstance(facts.kind, str)
    assert facts.model is None or isinstance(facts.model, str)
    assert all(isinstance(name, str) for name in facts.tools_asked)
    assert isinstance(readable_name("{x}", whole_span), str)
    said = content(whole_span, happened)
    for message in (*said.input_messages, *said.output_messages):
        assert isinstance(message.role, str)
        assert message.text is None or isinstance(message.text, str)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ('{"a": 1}', {"a": 1}),
        ("{'a': 1}", {"a": 1}),
        ("('a', 1)", ("a", 1)),
        ("[1, 2", "[1, 2"),
        ("{'a': f()}", "{'a': f()}"),
        ("{'a': __import__('os')}", "{'a': __import__('os')}"),
        (r"{'a': '\d'}", r"{'a': '\d'}"),
        ("[" * 5_000 + "]" * 5_000, "[" * 5_000 + "]" * 5_000),
        ("[" * 60 + "]" * 60, json.loads("[" * 60 + "]" * 60)),
        ('{"a":' * 70 + "1" + "}" * 70, '{"a":' * 70 + "1" + "}" * 70),
        ("(" * 70 + "1," + ",)" * 70, "(" * 70 + "1," + ",)" * 70),
        ("[" + "9" * 5_000 + "]", "[" + "9" * 5_000 + "]"),
        ("(not a tuple)", "(not a tuple)"),
        (r"""['it\'s', "a \"b\"", '\n\x41\u0041\101\N{BULLET}', u'x' 'y']""", ["it's", 'a "b"', "\nAAA•", "xy"]),
        (r"{b'\xff\n': {1, 2}, 'n': [set(), (), (1), (1,), {}]}", {b"\xff\n": {1, 2}, "n": [set(), (), 1, (1,), {}]}),
        (
            "{-1: +2.5, 1_000: .5e-3, None: [True, False,], 0x1F: 2.}",
            {-1: 2.5, 1000: 0.0005, None: [True, False], 31: 2.0},
        ),
        ("[1], (2)", ([1], 2)),
        (r"[b'\u0041']", r"[b'\u0041']"),
        ("[b'é']", "[b'é']"),
        (r"['\N{no such character}']", r"['\N{no such character}']"),
        ("{[1]: 2}", "{[1]: 2}"),
        ("{1: 2, 3}", "{1: 2, 3}"),
        ("['a' b'b']", "['a' b'b']"),
        ("[,]", "[,]"),
        ("[1 2]", "[1 2]"),
        ("[nan, Truely]", "[nan, Truely]"),
        ("[f'{1}']", "[f'{1}']"),
        ("['" + "a" * 19_990 + "]", "['" + "a" * 19_990 + "]"),
        ("", ""),
        (5, 5),
    ],
    ids=range(30),
)
def test_json_and_literals_are_parsed_and_nothing_else(said: object, wanted: object) -> None:
    assert parsed(said) == wanted


def _python_reads(text: str) -> object:
    """Return the literal in a text, or the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return text


hashable = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=8)
literals = st.recursive(
    hashable | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=1)
    ),
    max_leaves=10,
)


@given(literals)
def test_what_python_writes_of_a_value_is_that_value(value: object) -> None:
    assert repr(parsed(repr([value]))) == repr([value])


@given(literals, st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["", *"[](){},:'\"\\ 019.e_-bux#"]))))
@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_no_text_is_read_in_another_way_than_python_does(value: object, changes: list[tuple[int, str]]) -> None:
    text = repr([value])
    for at, other in changes:
        text = text[:at] + other + text[at + 1 :]
    found = parsed(text)
    assert found == text or repr(found) in (repr(_python_reads(text)), repr(_json_of(text)))


def _json_of(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


class _ActsWhenFreed:
    def __init__(self) -> None:
        self.cycle = self

    def __del__(self) -> None:
        list(range(20))


def test_literals_are_read_beside_a_program_that_builds_syntax_trees() -> None:
    """In Python 3.11, threads that build syntax trees make each other fail when one collects garbage meanwhile."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(10)

    def read(number: int) -> bool:
        data = [{"number": index, "text": [str(number)]} for index in range(20)]
        return all((_ActsWhenFreed(), parsed(repr(data)) == data)[1] for _ in range(100))

    def build() -> bool:
        return all(ast.parse("[" + "f(x), " * 20 + "]").body and _ActsWhenFreed() for _ in range(300))

    try:
        with ThreadPoolExecutor(3) as pool:
            built = pool.submit(build)
            found = list(pool.map(read, (1, 2)))
            assert (found, built.result()) == ([True, True], True)
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*threshold)


def test_indexes_have_gaps_are_sorted_as_numbers_and_may_be_absurd() -> None:
    given_keys = {"m.10.x": 1, "m.9.x": 2, "m.2.x": 3, "m.x.x": 4, "m.²" + ".x": 5, "m." + "9" * 5_000 + ".x": 6}
    assert [entry["x"] for entry in grouped(given_keys.items(), "m")] == [3, 2, 1]


@pytest.mark.parametrize("value", [True, -1, "3", None, float("nan"), float("inf"), 10**400, 2**60, [1]])
def test_an_invalid_count_is_unknown(value: object) -> None:
    assert as_count(value) is None


@pytest.mark.parametrize("depth", [63, 200, 900, 5_000])
@pytest.mark.parametrize("key", ["input.value", "gen_ai.input.messages", "honeyhive_inputs.a", "llm.tools"])
def test_data_of_any_depth_is_read(key: str, depth: int) -> None:
    whole_span = {"gen_ai.operation.name": "chat", key: '{"a":' * depth + "1" + "}" * depth}
    assert content(whole_span, ()) is not None
    assert describe("name", whole_span, (), 0).kind


def test_a_key_of_any_number_of_parts_is_read() -> None:
    assert content({"honeyhive_inputs" + ".a" * 5_000: 1}, ()).input
