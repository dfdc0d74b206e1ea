"""Header and columns of a view, as the page gets them."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import pytest

from hh_jupyter.display.columns import ERROR_ROLES, UNKNOWN_TOKENS, encode_header, encode_rows, view_version
from hh_jupyter.records.export_state import ExportState
from tests.browser.sample_cells import many, one_call, support_agent
from tests.display.views import view as view_of
from tests.records.builders import UNAVAILABLE, span

FORMATS = {"f8": "d", "f4": "f", "u8": "Q", "u4": "I", "u2": "H", "u1": "B"}


def read(header: dict[str, Any], buffers: list[bytes]) -> dict[str, tuple[Any, ...]]:
    read = {}
    for (name, kind), data in zip(header["columns"], buffers, strict=True):
        size = int(kind[1])
        read[name] = struct.unpack(f"<{len(data) // size}{FORMATS[kind]}", data)
    return read


def test_columns_hold_every_span_in_tree_order() -> None:
    """Names, times, depth, kinds, tokens and errors arrive as they are in the tree."""
    view = support_agent(1, fails=True).view("v", "4")
    header, buffers = encode_rows(view)
    column = read(header, buffers)
    nodes = view.tree.nodes
    assert [header["names"][place] for place in column["name"]] == [node.record.name for node in nodes]
    assert [header["kinds"][place] for place in column["kind"]] == [node.record.facts.kind for node in nodes]
    assert list(column["id"]) == [node.record.span_id for node in nodes]
    assert list(column["depth"]) == [node.depth for node in nodes]
    assert column["start"][1] == 12.0
    assert column["duration"][:2] == (2384.0, 340.0)
    assert [ERROR_ROLES[state & 3] for state in column["state"]] == [node.error for node in nodes]
    assert column["tokens"][1] == 450
    assert column["tokens"][-1] == UNKNOWN_TOKENS
    assert column["first"][1] == 188.0
    assert column["first"][0] == -1.0


def test_roles_of_cancelled_and_passed_on_errors_and_of_repeated_calls_arrive() -> None:
    """Several bits of one column."""
    cancelled = replace(span(3, 1, 5, 6, "cancelled"), status="cancelled")
    call: dict[str, Any] = {"kind": "llm", "model": "m", "tokens": (1, 2)}
    double = replace(span(5, None, 8, 9, "client", trace=2, **call), scope="client")
    rows = [
        span(1, None, 0, 9, "root", error=UNAVAILABLE),
        span(2, 1, 1, 4, "failing", error=UNAVAILABLE),
        cancelled,
        span(4, 1, 7, 9, "call", **call),
        double,
    ]
    shown = view_of(rows, view_id="v")
    header, buffers = encode_rows(shown)
    names, column = header["names"], read(header, buffers)
    found = {names[name]: state for name, state in zip(column["name"], column["state"], strict=True)}
    roles = {name: ERROR_ROLES[(state & 3) | ((state & 32) >> 3)] for name, state in found.items()}
    assert roles == {"root": "propagated", "failing": "uncaught", "cancelled": "cancelled", "call": "", "client": ""}
    assert [name for name, state in found.items() if state & 64] == ["failing"]
    assert [name for name, state in found.items() if state & 128] == ["client"]


def test_own_time_and_critical_path_equal_those_of_the_tree() -> None:
    """The page draws intervals that Python computed."""
    view = support_agent(1).view("v", "4")
    header, buffers = encode_rows(view)
    column = read(header, buffers)
    start = view.tree.start_ns
    nodes, states = view.tree.nodes, column["state"]
    for name in ("own", "critical"):
        read_back: dict[int, list[tuple[float, float]]] = {index: [] for index in range(len(nodes))}
        for index, begin, end in zip(*(column[f"{name}_{part}"] for part in ("span", "start", "end")), strict=True):
            read_back[index].append((begin, end))
        for index, node in enumerate(nodes):
            expected = [((begin - start) / 1e6, (end - start) / 1e6) for begin, end in getattr(node, name)]
            by_bit = bool(states[index] & 24) if name == "critical" else not node.children
            assert read_back[index] == ([] if by_bit else expected)
    assert [bool(state & 8) for state in states] == [node.critical == ((node.start_ns, node.end_ns),) for node in nodes]
    assert [bool(state & 16) for state in states] == [bool(n.children) and n.critical == n.own for n in nodes]
    assert any(state & 8 for state in states)
    assert any(state & 16 for state in states)


@pytest.mark.parametrize("changes", [{"revision": 1}, {"running": True}])
def test_the_version_changes_with_what_the_page_has_to_ask_for_again(changes: dict[str, Any]) -> None:
    """Late events and prices, and the end of the cell, which decides which errors were caught."""
    view = support_agent(1).view("v", "4")
    assert view_version(view) != view_version(replace(view, **changes))


def test_only_https_links_reach_the_page() -> None:
    """A template with another URL scheme gives no link."""
    view = one_call(1).view("v", "4", session_url="javascript:alert(1)")
    assert encode_header(view)["session"]["url"] is None


@pytest.mark.parametrize(
    ("export", "state"),
    [
        (ExportState(destination="x", made=3, sent=3), "sent"),
        (ExportState(destination="x", made=3, waiting=3), "sending"),
        (ExportState(destination="x", made=3, rejected=3, failing=True), "failed"),
        (ExportState(destination=None, made=3), "local"),
    ],
)
def test_delivery_state(export: ExportState, state: str) -> None:
    """Only failures are red: waiting and local are not failures."""
    assert encode_header(one_call(1).view("v", "4", export=export))["delivery_state"] == state


def test_ten_thousand_spans_fit_the_socket() -> None:
    """At most 500 kB; names and kinds are sent once."""
    view = many(1).view("v", "4")
    described, buffers = encode_rows(view)
    assert len(view.tree.nodes) == 10_001
    assert sum(map(len, buffers)) + len(json.dumps(described)) <= 500_000
