"""A view as the page gets it: a JSON header and one binary column per fact, which `static/trace.js` decodes.

10,000 spans take less than 500 kB as columns and 880 kB as JSON. Names, kinds and models are sent once each.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from hh_jupyter.display.format import NAME_LENGTH, clean, minus, span_name
from hh_jupyter.display.view import (
    COMMAND_LENGTH,
    CellView,
    error_lines,
    error_tag,
    replayed_note,
    row_mark,
    summarize_view,
)
from hh_jupyter.records.tree import SpanNode

UNKNOWN_TOKENS = 0xFFFFFFFF
ERROR_ROLES = ("", "uncaught", "caught", "propagated", "cancelled")
"""Bits 0, 1 and 5 of the column `state`. Bit 2: the span is running; bit 3: the whole span is on the critical path; bit
4: its own time is on the critical path; bit 6: the parent failed with the span's error; bit 7: the span describes the
same model call as a span above."""

Columns = list[tuple[str, str, "array[Any]"]]
"""Name, type (f8, f4, u8, u4, u2, u1: kind and bytes), items."""


class StringTable:
    """Repeated strings: each is sent once and referred to by its index."""

    def __init__(self) -> None:
        self._indexes: dict[str, int] = {}

    def index(self, text: str) -> int:
        """Return the index of the string in `texts`, adding it if it is new."""
        return self._indexes.setdefault(text, len(self._indexes))

    @property
    def texts(self) -> list[str]:
        """The strings in the order of their indexes."""
        return list(self._indexes)


def view_version(view: CellView) -> str:
    """Return a version that changes whenever columns or details may: with it the page drops the details it has."""
    tree = view.tree
    running = sum(node.record.end_ns is None for node in tree.nodes)
    return f"{len(tree.nodes)}-{running}-{tree.end_ns}-{view.revision}{'r' if view.running else ''}"


def encode_header(view: CellView) -> dict[str, Any]:
    """Return the data of the summary bar and the notice, with the texts of the other displays."""
    summary = summarize_view(view)
    url = view.session_url if view.session_url and view.session_url.startswith("https://") else None
    return {
        "version": view_version(view),
        "label": view.label,
        "file": clean(view.file, COMMAND_LENGTH) if view.file is not None else None,
        "open": view.open,
        "errors_only": view.errors_only,
        **asdict(summary),
        "raised": _raised_outside(view),
        "delivery_state": _delivery_state(view),
        "session": {"id": view.session_id, "name": view.session_name, "url": url} if view.session_id else None,
        "delta": _delta(view),
        "diff": view.shows_diff,
        "notice": asdict(view.notice) if view.notice else None,
        "can_send": view.notice is not None and view.notice.sends and view.export.destination is not None,
    }


def _delta(view: CellView) -> dict[str, str] | None:
    """Return what changed since the run before, with what a tooltip says; None if nothing did."""
    if view.delta is None:
        return None
    parts = {name: minus(getattr(view.delta, name)) for name in ("failed", "time", "tokens", "cost", "calls")}
    return {**parts, "title": f"Against {view.delta.against}: open the diff (d)"}


def _raised_outside(view: CellView) -> str:
    """Return the error to show first, with its causes, if it began outside of spans: no row shows it. Else empty."""
    if view.tree.failure is None or view.tree.failure.node is not None:
        return ""
    return ", caused by ".join(
        f"{error.what}{f' in {error.name}' if error.name else ''}{f' ({error.location})' if error.location else ''}"
        for error in error_lines(view)
    )


def encode_rows(view: CellView) -> tuple[dict[str, Any], list[bytes]]:
    """Encode the spans, depth first. Returns the description of the columns and the bytes of each column.

    Times are in milliseconds after the tree's start.
    """
    start_ns, nodes = view.tree.start_ns, view.tree.nodes
    names, kinds, models = StringTable(), StringTable(), StringTable()
    facts = [node.record.facts for node in nodes]
    columns: Columns = [
        ("id", "u8", array("Q", (node.record.span_id for node in nodes))),
        ("start", "f8", array("d", (_millis(node.start_ns - start_ns) for node in nodes))),
        ("duration", "f4", array("f", (_millis(node.end_ns - node.start_ns) for node in nodes))),
        ("depth", "u2", array("H", (min(node.depth, 0xFFFF) for node in nodes))),
        _index_column("name", [names.index(span_name(n.record.name)) for n in nodes]),
        _index_column("kind", [kinds.index(fact.kind) for fact in facts]),
        _index_column("model", [models.index(clean(fact.model or "", NAME_LENGTH)) for fact in facts]),
        ("tokens", "u4", array("I", (_tokens(node) for node in nodes))),
        ("first", "f4", array("f", (-1.0 if f.first_token_ns is None else _millis(f.first_token_ns) for f in facts))),
        ("state", "u1", array("B", (_state(node) for node in nodes))),
        # Left out: the own time of leaves, which is their whole duration, and critical parts that `state` encodes.
        *_intervals("own", start_ns, (node.own if node.children else () for node in nodes)),
        *_intervals("critical", start_ns, (() if _state_has_critical(node) else node.critical for node in nodes)),
    ]
    described = {
        "columns": [(name, kind) for name, kind, _ in columns],
        "names": names.texts,
        "kinds": kinds.texts,
        "models": models.texts,
        "tags": {str(index): tag for index, node in enumerate(nodes) if (tag := error_tag(node))},
        "marks": {str(index): shown for index, node in enumerate(nodes) if (shown := row_mark(node))},
        "rated": {str(index): mark for index, node in enumerate(nodes) if (mark := _rating(node))},
        "replays": {str(index): note for index, node in enumerate(nodes) if (note := replayed_note(node))},
    }
    return described, [little_endian(items) for _, _, items in columns]


def _rating(node: SpanNode) -> str:
    """Return how the row marks that there is feedback: up, down, or note; empty without any."""
    if not node.record.facts.feedback:
        return ""
    ok = dict(node.record.facts.feedback).get("ok")
    return "up" if ok is True else "down" if ok is False else "note"


def _index_column(name: str, indexes: list[int]) -> tuple[str, str, array[Any]]:
    """Return indexes of strings in the narrowest type that can hold them."""
    if max(indexes, default=0) < 0x100:
        return name, "u1", array("B", indexes)
    return (name, "u2", array("H", indexes)) if max(indexes) < 0x10000 else (name, "u4", array("I", indexes))


def _all_critical(node: SpanNode) -> bool:
    return node.critical == ((node.start_ns, node.end_ns),)


def _own_critical(node: SpanNode) -> bool:
    """Usually true for spans whose children run one after the other."""
    return bool(node.children) and node.critical == node.own


def _state_has_critical(node: SpanNode) -> bool:
    """Whether a bit of `state` gives the span's part of the critical path."""
    return _all_critical(node) or _own_critical(node)


def _intervals(name: str, start_ns: int, per_span: Iterable[tuple[tuple[int, int], ...]]) -> Columns:
    flat = [(index, start, end) for index, intervals in enumerate(per_span) for start, end in intervals]
    return [
        (f"{name}_span", "u4", array("I", (index for index, _, _ in flat))),
        (f"{name}_start", "f4", array("f", (_millis(start - start_ns) for _, start, _ in flat))),
        (f"{name}_end", "f4", array("f", (_millis(end - start_ns) for _, _, end in flat))),
    ]


def little_endian(items: array[Any]) -> bytes:
    """Return the bytes of the items, in the order in which the page reads them."""
    if sys.byteorder == "big":
        items.byteswap()
    return items.tobytes()


def _millis(nanoseconds: int) -> float:
    return nanoseconds / 1e6


def _tokens(node: SpanNode) -> int:
    return UNKNOWN_TOKENS if node.tokens is None else max(0, min(node.tokens, UNKNOWN_TOKENS - 1))


def _state(node: SpanNode) -> int:
    critical = _all_critical(node) << 3 | _own_critical(node) << 4
    role = ERROR_ROLES.index(node.error)
    running, more = node.record.end_ns is None, (role >> 2) << 5 | node.passed << 6 | node.repeats << 7
    return role & 3 | running << 2 | critical | more


def _delivery_state(view: CellView) -> str:
    """Return how the delivery state is styled: sent, sending, failed, or local for spans not sent from here."""
    export = view.export
    if export.destination is None or export.left_to_others:
        return "local"
    if export.sent >= export.made:
        return "sent"
    return "failed" if export.failing or export.rejected or export.dropped else "sending"
