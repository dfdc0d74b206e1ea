"""The difference of two runs as JSON for the live view: its rows as columns, and what differs of one span on demand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from hh_jupyter.display import format as fmt
from hh_jupyter.display.columns import StringTable
from hh_jupyter.display.content import plain
from hh_jupyter.display.delta import cost_change, time_change, time_changed
from hh_jupyter.display.diff import MARKS, DiffView, old_and_new, times_of, token_change, what_changed
from hh_jupyter.display.format import NAME_LENGTH, clean, minus, span_name
from hh_jupyter.records import prices
from hh_jupyter.records.diff import SpanChange, TextChange, count_words, word_pieces
from hh_jupyter.records.nodes import SpanNode

EncodedPiece = str | list[str | bool]
"""A text that is the same in both; or the old and the new one, with True if they differ in white space only."""


def encode_diff(view: DiffView) -> dict[str, Any]:
    """Return the totals and one row for each span of either run, in the order of the new one.

    Times are in milliseconds; None in the run that does not have the span.
    """
    rows = view.diff.rows
    names, kinds, models = StringTable(), StringTable(), StringTable()
    facts = [one.node.record.facts for one in rows]
    times = [times_of(one) for one in rows]
    return {
        "facts": view.facts,
        "counts": view.counts,
        "notes": view.notes,
        "marks": "".join(MARKS[one.mark] or " " for one in rows),
        "depth": [one.depth for one in rows],
        "name": [names.index(span_name(one.name)) for one in rows],
        "kind": [kinds.index(one.kind) for one in facts],
        "model": [models.index(clean(one.model or "", NAME_LENGTH)) for one in facts],
        "old_ms": [_millis(old) for old, _ in times],
        "new_ms": [_millis(new) for _, new in times],
        "tokens": [token_change(one) for one in rows],
        "what": {index: what for index, one in enumerate(rows) if (what := what_changed(one))},
        "slower": [index for index, pair in enumerate(times) if _time_differs(*pair)],
        "names": names.texts,
        "kinds": kinds.texts,
        "models": models.texts,
    }


def encode_change(one: SpanChange) -> dict[str, Any]:
    """Return time, tokens and cost of a span in both runs, and its texts by section."""
    sections = groupby(one.texts, key=lambda text: text.section)
    return {
        "facts": _facts(one.old, one.new),
        "compared": one.compared,
        "sections": [
            {"title": title, "texts": [_encode_text(text, one) for text in texts]} for title, texts in sections
        ],
    }


def encode_pieces(old: str, new: str) -> list[EncodedPiece]:
    """Return two texts as pieces, for `words.js`: the words that are the same, and those that differ."""
    return [_encode_piece(*piece, same=piece.same) for piece in word_pieces(old, new)]


def _encode_piece(old: str, new: str, *, same: bool) -> EncodedPiece:
    if old == new:
        return old
    return [old, new, True] if same else [old, new]


def _encode_text(change: TextChange, one: SpanChange) -> dict[str, Any]:
    """A text that both runs have in the same way, or that is in a span of one run only, stands there as it is."""
    old, new = plain(change.old), plain(change.new)
    name = clean(change.name, NAME_LENGTH)
    if change.same or one.old is None or one.new is None:
        return {"name": name, "text": new or old}
    return {"name": name, "pieces": encode_pieces(old, new), "lengths": _lengths(change, same=old == new)}


def _lengths(change: TextChange, *, same: bool) -> str:
    """`28 → 30 words`."""
    old, new = count_words(change.old), count_words(change.new)
    if same:
        return "only what is not shown differs"
    if change.old.split() == change.new.split():
        return "only white space differs"
    words = [fmt.count(number, "word") for number in (old, new) if number]
    return old_and_new(*words) if len(words) == 2 else "".join(words)


_USAGE: Final = (("prompt", "in"), ("completion", "out"))


def _facts(old: SpanNode | None, new: SpanNode | None) -> list[tuple[str, str]]:
    """Each as the values of both runs, and the change: `("787 → 762 ms", "-25 ms")`."""
    nodes = [node for node in (old, new) if node is not None]
    durations = [node.end_ns - node.start_ns for node in nodes]
    change = time_change(*durations) if len(nodes) == 2 else ""
    facts = [(_both([fmt.duration(one) for one in durations]), "" if "<" in change else change)]
    for field, word in _USAGE:
        used = [getattr(usage, field) for node in nodes if (usage := node.record.facts.usage) is not None]
        facts.append((_both([f"{number:,} {word}" for number in used if number is not None]), ""))
    costs = [cost for node in nodes if (cost := prices.cost_of(node.record.facts))[0] is not None]
    shown = [fmt.usd(dollars or 0, estimated=estimated) for dollars, estimated in costs]
    facts.append((_both(shown), cost_change(*(dollars for dollars, _ in costs)) if len(costs) == 2 else ""))
    return [(text, minus(change) if "→" in text else "") for text, change in facts if text]


def _both(values: Sequence[str]) -> str:
    return old_and_new(*values) if len(values) == 2 else "".join(values)


def _millis(duration: int | None) -> float | None:
    return None if duration is None else round(duration / 1e6, 3)


def _time_differs(old: int | None, new: int | None) -> bool:
    return old is not None and new is not None and time_changed(old, new)
