"""A cell's view as the page takes it: a JSON header and one binary column per fact.

Columns keep 10,000 spans under 500 kB on the socket, where JSON took 880. Names, kinds and models are sent once each.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from hh_jupyter.display.clean import clean
from hh_jupyter.display.summary import COMMAND_LENGTH, NAME_LENGTH, error_tag, span_name, summarize_view
from hh_jupyter.display.view import CellView
from hh_jupyter.records.span_node import SpanNode

UNKNOWN_TOKENS = 0xFFFFFFFF
ERROR_ROLES = ("", "uncaught", "caught", "propagated")
"""Bits 0 and 1 of the column `state`. Bit 2: the span runs; bit 3: all of it is on the critical path; bit 4: all of its
own time is."""

Columns = list[tuple[str, str, "array[Any]"]]
"""Name, type as the page names it (f8, f4, u8, u4, u2, u1: kind and bytes), items."""


class Words:
    """Texts that repeat, each sent once and named by its place."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, word: str) -> int:
        """Where the word is in `texts`."""
        return self._places.setdefault(word, len(self._places))

    @property
    def texts(self) -> list[str]:
        """The words in the order of their places."""
        return list(self._places)


def version(view: CellView) -> str:
    """Changes whenever the columns would: with the number of spans, what runs, and the end."""
    tree = view.tree
    running = sum(node.record.end_ns is None for node in tree.nodes)
    return f"{len(tree.nodes)}-{running}-{tree.end_ns}"


def header(view: CellView) -> dict[str, Any]:
    """What the summary bar, the notice and the first look need. Texts are those of the other displays."""
    summary = summarize_view(view)
    url = view.session_url if view.session_url and view.session_url.startswith("https://") else None
    deepest = view.tree.deepest_error
    return {
        "version": version(view),
        "label": view.label,
        "file": clean(view.file, COMMAND_LENGTH) if view.file is not None else None,
        "open": view.open,
        "errors_only": view.errors_only,
        **asdict(summary),
        "delivery_state": _delivery_state(view),
        "session": {"id": view.session_id, "name": view.session_name, "url": url} if view.session_id else None,
        "notice": asdict(view.notice) if view.notice else None,
        "can_send": view.notice is not None and view.notice.kind == "error" and view.export.destination is not None,
        "selected": f"{deepest.record.span_id:016x}" if deepest else None,
    }


def rows(view: CellView) -> tuple[dict[str, Any], list[bytes]]:
    """The spans, depth first: what describes the columns, and the columns' bytes.

    Times are milliseconds after the tree's start.
    """
    start_ns, nodes = view.tree.start_ns, view.tree.nodes
    names, kinds, models = Words(), Words(), Words()
    facts = [node.record.facts for node in nodes]
    columns: Columns = [
        ("id", "u8", array("Q", (node.record.span_id for node in nodes))),
        ("start", "f8", array("d", (_millis(node.start_ns - start_ns) for node in nodes))),
        ("duration", "f4", array("f", (_millis(node.end_ns - node.start_ns) for node in nodes))),
        ("depth", "u2", array("H", (min(node.depth, 0xFFFF) for node in nodes))),
        _places("name", [names.place(span_name(n.record.name)) for n in nodes]),
        _places("kind", [kinds.place(fact.kind) for fact in facts]),
        _places("model", [models.place(clean(fact.model or "", NAME_LENGTH)) for fact in facts]),
        ("tokens", "u4", array("I", (_tokens(node) for node in nodes))),
        ("first", "f4", array("f", (-1.0 if f.first_token_ns is None else _millis(f.first_token_ns) for f in facts))),
        ("state", "u1", array("B", (_state(node) for node in nodes))),
        # A leaf's own time is all of it, which needs no saying; so it mostly is with its part of the critical path.
        *_intervals("own", start_ns, (node.own if node.children else () for node in nodes)),
        *_intervals("critical", start_ns, (() if _is_told(node) else node.critical for node in nodes)),
    ]
    described = {
        "columns": [(name, kind) for name, kind, _ in columns],
        "names": names.texts,
        "kinds": kinds.texts,
        "models": models.texts,
        "tags": {str(index): tag for index, node in enumerate(nodes) if (tag := error_tag(node))},
    }
    return described, [_little_endian(items) for _, _, items in columns]


def _places(name: str, places: list[int]) -> tuple[str, str, array[Any]]:
    """Places of words in the narrowest type that holds them."""
    if max(places, default=0) < 0x100:
        return name, "u1", array("B", places)
    return (name, "u2", array("H", places)) if max(places) < 0x10000 else (name, "u4", array("I", places))


def _all_critical(node: SpanNode) -> bool:
    return node.critical == ((node.start_ns, node.end_ns),)


def _own_critical(node: SpanNode) -> bool:
    """The rule where one thing is done after the other."""
    return bool(node.children) and node.critical == node.own


def _is_told(node: SpanNode) -> bool:
    """A bit says where its part of the critical path is."""
    return _all_critical(node) or _own_critical(node)


def _intervals(name: str, start_ns: int, per_span: Iterable[tuple[tuple[int, int], ...]]) -> Columns:
    flat = [(index, start, end) for index, intervals in enumerate(per_span) for start, end in intervals]
    return [
        (f"{name}_span", "u4", array("I", (index for index, _, _ in flat))),
        (f"{name}_start", "f4", array("f", (_millis(start - start_ns) for _, start, _ in flat))),
        (f"{name}_end", "f4", array("f", (_millis(end - start_ns) for _, _, end in flat))),
    ]


def _little_endian(items: array[Any]) -> bytes:
    if sys.byteorder == "big":
        items.byteswap()
    return items.tobytes()


def _millis(nanoseconds: int) -> float:
    return nanoseconds / 1e6


def _tokens(node: SpanNode) -> int:
    return UNKNOWN_TOKENS if node.tokens is None else max(0, min(node.tokens, UNKNOWN_TOKENS - 1))


def _state(node: SpanNode) -> int:
    critical = _all_critical(node) << 3 | _own_critical(node) << 4
    return ERROR_ROLES.index(node.error) | (node.record.end_ns is None) << 2 | critical


def _delivery_state(view: CellView) -> str:
    """How the delivery word is shown: sent, sending, failed or local, which is for what is not sent from here."""
    export = view.export
    if export.destination is None or export.left_to_others:
        return "local"
    if export.sent >= export.made:
        return "sent"
    return "failed" if export.failing or export.parked or export.dropped else "sending"
