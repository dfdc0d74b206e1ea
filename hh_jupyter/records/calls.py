"""Which spans are one call: instrumentors nest, repeat and double each other, and every call is to be counted once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, TypeVar

from hh_jupyter.conventions.facts import SpanFacts, Usage
from hh_jupyter.records.failures import http_status
from hh_jupyter.records.parents import Parents, SpanKey, key_of
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.twins import by_place, twins

Number = TypeVar("Number", int, float)

_TRANSPARENT: Final = {
    "llm": frozenset({"http", "other"}),
    # What embeds runs nothing else: a step in it is a step of the same call, as in OpenLLMetry's spans of LlamaIndex.
    "embedding": frozenset({"http", "other", "chain"}),
}
"""Kinds of spans that may lie between two spans of one call, by the call's kind."""

_COMPARED: Final = 8  # some local servers answer with few distinct ids; comparing all of them would be quadratic
_CLIENTS: Final = frozenset({"com.anthropic.sdk.python"})
"""Scopes of clients that trace themselves: what they count is what the server sent."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model, and the spans that tell of it.

    Attributes:
        spans: the outermost first.
    """

    spans: tuple[SpanRecord, ...]

    @property
    def failed(self) -> bool:
        """Whether the outermost span is in error; errors below it were retried."""
        return self.spans[0].status == "error"

    def merged(self) -> SpanFacts:
        """The outermost span's facts, gaps filled from the others; never a sum of two spans."""
        each = [span.facts for span in self.spans]
        if len(each) == 1:
            return each[0]
        answered = next((f.model for f in each if f.model and f.model != f.model_requested), None)
        exact = sorted(self.spans, key=lambda span: span.scope not in _CLIENTS)
        return replace(
            each[0],
            model=answered or next((f.model for f in each if f.model), None),
            model_requested=next((f.model_requested for f in each if f.model_requested), None),
            provider=next((f.provider for f in each if f.provider), None),
            usage=_merged_usage([span.facts.usage for span in exact if span.facts.usage is not None]),
            cost=_first_known([f.cost for f in each]),
            tools_asked=max((f.tools_asked for f in each), key=len),
            streamed=any(f.streamed for f in each),
            http_status=next((f.http_status for f in each if f.http_status), None),
        )


def find_calls(records: Iterable[SpanRecord], parents: Parents, kind: str) -> list[Call]:
    """The calls among spans of one kind.

    Args:
        records: in any order, none twice.
        parents: of these and of everything between them.
        kind: "llm" or "embedding".
    """
    members = sorted((r for r in records if r.facts.kind == kind), key=by_place)
    groups = _Groups(members)
    _join_same_response(members, groups)
    for outer, inner in twins(members, _tells_the_same):
        if not (outer.facts.response_id and inner.facts.response_id):
            groups.join(outer, inner)
    wrappers = _join_nested(members, parents, groups)
    found: dict[SpanKey, list[SpanRecord]] = defaultdict(list)
    for record in members:
        if key_of(record) not in wrappers:
            found[groups.root(record)].append(record)
    return [Call(tuple(spans)) for spans in found.values()]


def _tells_the_same(record: SpanRecord) -> Hashable:
    """What two spans of one call have in common where there is no response id: the error, or the tokens."""
    if record.status == "error":
        error = record.error
        said = http_status(record) or (None if error is None else (error.type, error.message))
        return None if said is None else ("failed", said, record.facts.model_requested or record.facts.model)
    usage = record.facts.usage
    return None if usage is None else (usage.prompt, usage.completion, record.facts.model)


class _Groups:
    """Disjoint sets of spans."""

    def __init__(self, members: Sequence[SpanRecord]) -> None:
        self._up = {key_of(record): key_of(record) for record in members}
        self._sizes = dict.fromkeys(self._up, 1)

    def root(self, record: SpanRecord) -> SpanKey:
        key = key_of(record)
        while self._up[key] != key:
            self._up[key] = self._up[self._up[key]]
            key = self._up[key]
        return key

    def join(self, one: SpanRecord, other: SpanRecord) -> None:
        kept, joined = self.root(one), self.root(other)
        if kept != joined:
            self._up[joined] = kept
            self._sizes[kept] += self._sizes[joined]

    def size(self, record: SpanRecord) -> int:
        return self._sizes[self.root(record)]


def _join_same_response(members: Sequence[SpanRecord], groups: _Groups) -> None:
    """Equal response ids are one call, in whatever trace: doubled spans are not always parent and child."""
    by_id: dict[str, list[SpanRecord]] = defaultdict(list)
    for record in members:
        if record.facts.response_id:
            by_id[record.facts.response_id].append(record)
    for same in by_id.values():
        for place, record in enumerate(same):
            for earlier in same[max(0, place - _COMPARED) : place]:
                if _overlap(earlier, record) or _usage_agrees(earlier, record):
                    groups.join(earlier, record)


def _join_nested(members: Sequence[SpanRecord], parents: Parents, groups: _Groups) -> set[SpanKey]:
    """Join spans with those they enclose; returns the ones that enclose several calls and are none themselves.

    Nothing but HTTP and unknown spans may lie between: a tool or an agent makes another call of it.
    """
    transparent = _TRANSPARENT[members[0].facts.kind] if members else frozenset()
    above = parents.nearest(lambda record: record.facts.kind in transparent)
    inside: dict[SpanKey, list[SpanRecord]] = defaultdict(list)
    for record in members:
        outer = above(record)
        if outer is not None and outer.facts.kind == record.facts.kind:
            inside[key_of(outer)].append(record)
    wrappers: set[SpanKey] = set()
    for outer in reversed(members):  # what starts later cannot enclose what started earlier
        inner = inside.get(key_of(outer))
        if not inner:
            continue
        own = groups.root(outer)
        answered = {groups.root(r) for r in inner if r.status != "error"} - {own}
        alone = outer.facts.usage is not None and all(record.facts.usage is None for record in inner)
        if alone or len(answered) + any(groups.root(record) == own for record in inner) <= 1:
            for record in inner:
                groups.join(outer, record)
        elif groups.size(outer) == 1:
            wrappers.add(key_of(outer))
    return wrappers


def _overlap(one: SpanRecord, other: SpanRecord) -> bool:
    ends = [record.end_ns if record.end_ns is not None else record.start_ns for record in (one, other)]
    return max(one.start_ns, other.start_ns) <= min(ends)


def _usage_agrees(one: SpanRecord, other: SpanRecord) -> bool:
    """Whether two spans may count the same tokens; ids of some local servers come again for another call."""
    a, b = one.facts.usage, other.facts.usage
    return a is None or b is None or (a.prompt, a.completion) == (b.prompt, b.completion)


def _merged_usage(each: Sequence[Usage]) -> Usage | None:
    if not each:
        return None
    merged = {f.name: _first_known([getattr(usage, f.name) for usage in each]) for f in fields(Usage)}
    # Some leave cached tokens out of the prompt: the larger one has them.
    merged["prompt"] = max((u.prompt for u in each if u.prompt is not None), default=None)
    return Usage(**merged)


def _first_known(values: Sequence[Number | None]) -> Number | None:
    """The first positive number; 0 only if nobody says more, since some write 0 for unknown."""
    known = [value for value in values if value is not None]
    return next((value for value in known if value > 0), known[0] if known else None)
