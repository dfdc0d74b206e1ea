"""Which spans are one call, and who called whom: every call is to be counted once.

Three signs join spans: an equal response id; one lying in the other in the tree, with nothing but plumbing between; and
where there is no id to compare, two instrumentors that tell of the same model at the same time.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Final, TypeVar

from hh_jupyter.conventions.facts import SpanFacts, Usage
from hh_jupyter.records.record import SpanRecord

# Who called whom among rows: parents that are there, without the circles that only bad data has.

Key = TypeVar("Key", bound=Hashable)
SpanKey = tuple[int, int]
"""Trace id and span id: what makes a span the same span; span ids alone repeat between traces."""


def key_of(record: SpanRecord) -> SpanKey:
    """Identity of a span."""
    return record.trace_id, record.span_id


def by_identity(records: Iterable[SpanRecord]) -> dict[SpanKey, SpanRecord]:
    """Each span once; of several rows with the same ids the last one that has ended, else the last one."""
    found: dict[SpanKey, SpanRecord] = {}
    for record in records:
        key = record.trace_id, record.span_id
        if record.end_ns is not None or key not in found or found[key].end_ns is None:
            found[key] = record
    return found


class Parents:
    """The parents of spans. A circle of parents is cut at its earliest span, whatever the order of the rows.

    Args:
        by_key: each span once.
    """

    def __init__(self, by_key: Mapping[SpanKey, SpanRecord]) -> None:
        self._by_key = by_key
        self._parent: dict[SpanKey, SpanKey] = {}
        for key, record in by_key.items():
            if record.parent_id is not None:
                above = record.trace_id, record.parent_id
                if above in by_key:
                    self._parent[key] = above
        for key in circle_cuts(self._parent, lambda key: (by_key[key].start_ns, key)):
            del self._parent[key]

    def of(self, record: SpanRecord) -> SpanRecord | None:
        """The parent, None for a root and for a span whose parent is not there."""
        above = self._parent.get((record.trace_id, record.span_id))
        return None if above is None else self._by_key[above]

    def nearest(self, through: Callable[[SpanRecord], bool]) -> Callable[[SpanRecord], SpanRecord | None]:
        """A function of a span: its nearest ancestor, those left out that `through` is true of.

        Each link is followed once for all calls together.
        """
        known: dict[SpanKey, SpanRecord | None] = {}

        def find(record: SpanRecord) -> SpanRecord | None:
            path: list[SpanKey] = []
            at: SpanRecord | None = record
            while at is not None:
                key = at.trace_id, at.span_id
                if key in known:
                    at = known[key]
                    break
                path.append(key)
                at = self.of(at)
                if at is not None and not through(at):
                    break
            known.update(dict.fromkeys(path, at))
            return at

        return find


def circle_cuts(parent: Mapping[Key, Key], order: Callable[[Key], Any]) -> list[Key]:
    """One key of each circle, the first one by `order`.

    Args:
        parent: at most one for each key; a key may be its own.
    """
    cuts: list[Key] = []
    walk_of: dict[Key, int] = {}
    for number, start in enumerate(parent):
        path: list[Key] = []
        at: Key | None = start
        while at is not None and at not in walk_of:
            walk_of[at] = number
            path.append(at)
            at = parent.get(at)
        if at is not None and walk_of[at] == number:
            cuts.append(min(path[path.index(at) :], key=order))
    return cuts


# Spans that two instrumentors made of one operation, linked neither as parent and child nor by an equal id.

_COMPARED_TWINS: Final = 16
"""So many of those that look the same and run at once are asked: with all of them the time would be quadratic."""


def by_place(record: SpanRecord) -> tuple[int, int, int, int]:
    """A sort key: by start, what encloses before what it encloses; the same for rows in any order."""
    return record.start_ns, -record.duration_ns, record.trace_id, record.span_id


def twins(
    members: Sequence[SpanRecord],
    keys: Callable[[SpanRecord], Iterable[object]],
    agree: Callable[[SpanRecord, SpanRecord], bool],
) -> Iterator[tuple[SpanRecord, SpanRecord]]:
    """Pairs of spans of different scopes that tell of one operation, the second one within the first in time.

    Of several that it may lie in, a span is paired with the one that ends first: so a span that fits in one place only
    finds it free. One that lies in none may still overlap with another.

    Args:
        members: sorted `by_place`.
        keys: what a pair must have one of in common; none for spans that have no twin.
        agree: whether an outer and an inner span may be a pair; asked again after each pair is handed out, so that the
            caller can keep a span from being paired twice.
    """
    if len({record.scope for record in members}) < 2:
        return
    keyed = [(record, tuple(keys(record))) for record in members]
    shared = _shared_places(keyed)
    places_of: dict[int, list[_Place]] = {}
    for record, found_keys in keyed:
        places = [shared[key] for key in found_keys if key in shared]
        if not places:
            continue
        found: SpanRecord | None = None
        for place in places:
            outer = place.around(record, agree)
            if outer is not None and (found is None or _better(outer, found, record)):
                found = outer
        if found is not None:
            yield found, record
            for place in places_of[id(found)]:
                place.pair(found)
        for place in places:
            place.add(record, paired=found is not None)
        places_of[id(record)] = places


def _shared_places(keyed: Iterable[tuple[SpanRecord, tuple[object, ...]]]) -> dict[object, _Place]:
    """A place for each key that spans of several scopes have."""
    scopes: dict[object, set[str]] = {}
    for record, keys in keyed:
        for key in keys:
            if key in scopes:
                scopes[key].add(record.scope)
            else:
                scopes[key] = {record.scope}
    return {key: _Place(len(those)) for key, those in scopes.items() if len(those) > 1}


class _Place:
    """The spans with one key that have started, by scope.

    Args:
        scopes: of how many scopes there are any. Where it is two, a pair has no room for a third span.
    """

    def __init__(self, scopes: int) -> None:
        self._closed = scopes == 2
        self._running: dict[str, _Running] = {}

    def add(self, record: SpanRecord, *, paired: bool) -> None:
        if not (paired and self._closed):
            running = self._running.get(record.scope)
            if running is None:
                running = self._running[record.scope] = _Running()
            running.add(record)

    def pair(self, record: SpanRecord) -> None:
        if self._closed and record.scope in self._running:
            self._running[record.scope].remove(record)

    def around(self, inner: SpanRecord, agree: Callable[[SpanRecord, SpanRecord], bool]) -> SpanRecord | None:
        """The span of another scope that fits best."""
        best: SpanRecord | None = None
        for scope, others in self._running.items():
            outer = others.around(inner, agree) if scope != inner.scope else None
            if outer is not None and (best is None or _better(outer, best, inner)):
                best = outer
        return best


class _Running:
    """Spans of one scope that have started, by their end."""

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._spans: list[SpanRecord] = []

    def add(self, record: SpanRecord) -> None:
        end = _end(record)
        place = bisect_right(self._ends, end)
        self._ends.insert(place, end)
        self._spans.insert(place, record)

    def remove(self, record: SpanRecord) -> None:
        end = _end(record)
        for place in range(bisect_left(self._ends, end), bisect_right(self._ends, end)):
            if self._spans[place] is record:
                del self._ends[place], self._spans[place]
                return

    def around(self, inner: SpanRecord, agree: Callable[[SpanRecord, SpanRecord], bool]) -> SpanRecord | None:
        """The span that encloses another one most closely, else one that it overlaps with; only a few are asked."""
        ends, start = self._ends, inner.start_ns
        if ends and ends[0] < start:
            over = bisect_left(ends, start)  # Nothing that comes later reaches back to these.
            del ends[:over], self._spans[:over]
        if not ends:
            return None
        first = bisect_left(ends, _end(inner))
        for place in range(first, min(first + _COMPARED_TWINS, len(ends))):
            outer = self._spans[place]
            if (ends[place] > start or outer.start_ns == start) and agree(outer, inner):
                return outer
        for place in range(first - 1, max(-1, first - 1 - _COMPARED_TWINS), -1):
            outer = self._spans[place]
            if (ends[place] > start or outer.start_ns == start) and agree(outer, inner):
                return outer
        return None


def _end(record: SpanRecord) -> float:
    """When a span was over. LlamaIndex closes that of a stream before the stream is read: the first token tells."""
    if record.end_ns is None:
        return math.inf
    first_token = record.facts.first_token_ns
    return record.end_ns if first_token is None else max(record.end_ns, record.start_ns + first_token)


def _better(one: SpanRecord, other: SpanRecord, inner: SpanRecord) -> bool:
    """Whether a span fits better round another: it contains it, and by less."""
    contains = [_end(inner) <= _end(record) for record in (one, other)]
    if contains[0] != contains[1]:
        return contains[0]
    return _end(one) < _end(other) if contains[0] else _end(one) > _end(other)


def within(inner: SpanRecord, outer: SpanRecord) -> bool:
    """Whether the inner one, which starts later or at once, ends before the outer one; that may still run."""
    return outer.end_ns is None or (inner.end_ns is not None and inner.end_ns <= outer.end_ns)


Number = TypeVar("Number", int, float)

KINDS: Final = ("llm", "embedding")
"""Kinds of spans that tell of a request to a model."""

_TRANSPARENT: Final = {
    "llm": frozenset({"http", "other"}),
    # What embeds runs nothing else: a step in it is a step of the same call, as in OpenLLMetry's spans of LlamaIndex.
    "embedding": frozenset({"http", "other", "chain"}),
}
"""Kinds of spans that may lie between two spans of one call, by the call's kind."""

_COMPARED: Final = 8  # some local servers answer with few distinct ids; comparing all of them would be quadratic
_CLIENTS: Final = frozenset({"com.anthropic.sdk.python"})
"""Scopes of clients that trace themselves: what they count is what the server sent."""

_VERSION = re.compile(r"(?:[-@](?:20\d\d-\d\d-\d\d|20\d{6}|latest|00\d))?(?:-v\d+(?::\d+)?)?$")
_DATED = re.compile(r"[-@](?:20\d\d-\d\d-\d\d|20\d{6})")
_REGION = re.compile(r"^(?:us|eu|apac|global)\.(?=[a-z]+\.)")


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model, and the spans that tell of it.

    Attributes:
        spans: the outermost first.
    """

    spans: tuple[SpanRecord, ...]

    @property
    def failed(self) -> bool:
        """Whether the outermost span is in error; errors below it were retried.

        Where it tells neither an answer nor an error, the others do.
        """
        if not _tells_no_end(self.spans[0]):
            return self.spans[0].status == "error"
        telling = [span for span in self.spans if not _tells_no_end(span)]
        return bool(telling) and all(span.status == "error" for span in telling)

    def merged(self) -> SpanFacts:
        """The outermost span's facts, gaps filled from the others; never a sum of two spans."""
        each = [span.facts for span in self.spans]
        if len(each) == 1:
            return each[0]
        requested = {f.model_requested for f in each}
        named = [f for f in each if f.model]
        exact = sorted(self.spans, key=lambda span: (span.scope not in _CLIENTS, _leaves_gaps(span.facts.usage)))
        return replace(
            each[0],
            model=max(named, key=lambda f: _exactness(f, requested)).model if named else None,
            model_requested=next((f.model_requested for f in each if f.model_requested), None),
            provider=next((f.provider for f in each if f.provider), None),
            usage=_merged_usage([span.facts.usage for span in exact if span.facts.usage is not None]),
            cost=_first_known([f.cost for f in each]),
            tools_asked=max((f.tools_asked for f in each), key=len),
            streamed=any(f.streamed for f in each),
            http_status=next((f.http_status for f in each if f.http_status), None),
            service_tier=next((f.service_tier for f in each if f.service_tier), None),
        )


def find_calls(records: Iterable[SpanRecord], parents: Parents, kind: str) -> list[Call]:
    """The calls among spans of one kind. What a cache answered is none: no request was made.

    Args:
        records: in any order, none twice.
        parents: of these and of everything between them.
        kind: one of `KINDS`.
    """
    members = sorted((r for r in records if r.facts.kind == kind), key=by_place)
    groups = _Groups(members)
    _join_same_response(members, groups)
    _join_twins(members, groups)
    _join_stream_ends(members, groups)
    wrappers = _join_nested(members, parents, groups)
    found: dict[SpanKey, list[SpanRecord]] = defaultdict(list)
    for record in members:
        if key_of(record) not in wrappers:
            found[groups.root(record)].append(record)
    return [Call(tuple(spans)) for spans in found.values() if not any(span.facts.from_cache for span in spans)]


def repeated_spans(records: Iterable[SpanRecord]) -> set[SpanKey]:
    """The spans whose tokens another span of the same call and trace counts already: a sum leaves them out."""
    counted = [record for record in records if record.facts.usage is not None and record.facts.kind in KINDS]
    scope_of: dict[int, str] = {}
    mixed = {
        record.trace_id for record in counted if scope_of.setdefault(record.trace_id, record.scope) != record.scope
    }
    repeated: set[SpanKey] = set()
    for kind in KINDS if mixed else ():
        _note_repeated([r for r in counted if r.trace_id in mixed and r.facts.kind == kind], repeated)
    return repeated


def _note_repeated(counted: list[SpanRecord], repeated: set[SpanKey]) -> None:
    counted.sort(key=by_place)
    groups = _Groups(counted)
    _join_same_response(counted, groups)
    _join_twins(counted, groups)
    first: set[SpanKey] = set()
    for record in counted:
        root = groups.root(record)
        if root in first:
            repeated.add(key_of(record))
        first.add(root)


class _Groups:
    """Disjoint sets of spans, and the instrumentation scopes that each has spans of."""

    def __init__(self, members: Sequence[SpanRecord]) -> None:
        self._up = {key_of(record): key_of(record) for record in members}
        self._sizes = dict.fromkeys(self._up, 1)
        self._scopes = {key_of(record): {record.scope} for record in members}

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
            self._scopes[kept] |= self._scopes.pop(joined)

    def size(self, record: SpanRecord) -> int:
        return self._sizes[self.root(record)]

    def scopes(self, record: SpanRecord) -> int:
        return len(self._scopes[self.root(record)])

    def share_a_scope(self, one: SpanRecord, other: SpanRecord) -> bool:
        return not self._scopes[self.root(one)].isdisjoint(self._scopes[self.root(other)])


def _leaves_gaps(usage: Usage | None) -> bool:
    return usage is not None and usage.unexplained


def _exactness(facts: SpanFacts, requested: set[str | None]) -> tuple[bool, bool, bool]:
    """How likely a span's model is the one that answered: not the name asked for, dated, from the answer itself."""
    model = facts.model or ""
    return model not in requested, _DATED.search(model) is not None, facts.response_id is not None


def _join_same_response(members: Sequence[SpanRecord], groups: _Groups) -> None:
    """Equal response ids are one call, in whatever trace: doubled spans are not always parent and child."""
    by_id: dict[str, list[SpanRecord]] = defaultdict(list)
    for record in members:
        if record.facts.response_id and not record.facts.from_cache:
            by_id[record.facts.response_id].append(record)
    for same in by_id.values():
        for place, record in enumerate(same):
            for earlier in reversed(same[max(0, place - _COMPARED) : place]):
                if _same_usage(earlier.facts.usage, record.facts.usage) or _overlap(earlier, record):
                    groups.join(earlier, record)
                    break


def _join_twins(members: Sequence[SpanRecord], groups: _Groups) -> None:
    """Join what two instrumentors tell of one request, where at most one of them knows the response id.

    Pairs are one to one. Those whose numbers agree are made first, so that calls side by side keep their own spans.
    """
    scopes = len({record.scope for record in members})
    if scopes < 2:
        return
    for alike in (_same_numbers, _model_names):
        alone = [record for record in members if groups.scopes(record) < scopes]
        for outer, inner in twins(alone, alike, lambda outer, inner: _may_be_one(outer, inner, groups)):
            groups.join(outer, inner)


def _may_be_one(outer: SpanRecord, inner: SpanRecord, groups: _Groups) -> bool:
    if outer.facts.response_id and inner.facts.response_id:
        return False
    if outer.status != inner.status and (_tells_no_end(outer) or _tells_no_end(inner)):
        agree = "error" in (outer.status, inner.status)
    elif outer.status == "error" or inner.status == "error":
        statuses = {outer.http_status, inner.http_status} - {None}
        agree = outer.status == inner.status and len(statuses) < 2
    else:
        agree = _same_usage(outer.facts.usage, inner.facts.usage)
    return agree and not groups.share_a_scope(outer, inner)


def _tells_no_end(record: SpanRecord) -> bool:
    """Whether a span has neither an answer nor an error: some leave that of a failed request so."""
    facts = record.facts
    answered = facts.usage is not None or facts.response_id is not None or bool(facts.tools_asked)
    return record.status == "ok" and not answered and not facts.streamed


def _same_numbers(record: SpanRecord) -> Iterable[object]:
    """Keys that two spans of one call have in common: its model, and its tokens or its error."""
    usage, error = record.facts.usage, record.error
    numbers: object = None if usage is None else (usage.prompt, usage.completion)
    if record.status == "error":
        numbers = record.http_status or (None if error is None else (error.type, error.message))
    return () if numbers is None else [(numbers, stem) for stem in _model_names(record) or ("",)]


def _model_names(record: SpanRecord) -> tuple[str, ...]:
    return _stems(record.facts.model_requested, record.facts.model)


@lru_cache(maxsize=1024)
def _stems(requested: str | None, answered: str | None) -> tuple[str, ...]:
    """Names of the model asked for and of the one that answered, without their versions."""
    return tuple({_stem(name) for name in (requested, answered) if name})


def _stem(model: str) -> str:
    """The model's name without route, region, vendor's prefix and version: "gpt-4o" for "openai/gpt-4o-2024-08-06"."""
    name = _REGION.sub("", model.rpartition("/")[2].lower())
    return _VERSION.sub("", name.removeprefix("anthropic."))


def _join_stream_ends(members: Sequence[SpanRecord], groups: _Groups) -> None:
    """Join a stream's span with the log that tells its usage when it is over, as Logfire writes it."""
    open_streams: dict[tuple[str, str | None], list[SpanRecord]] = defaultdict(list)
    for record in members:
        facts = record.facts
        key = record.scope, facts.model_requested
        ends = facts.streamed and record.duration_ns == 0 and record.end_ns is not None
        if ends and open_streams[key]:
            groups.join(open_streams[key].pop(0), record)
        elif facts.usage is None and record.status != "error":
            open_streams[key].append(record)


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
    """Whether two spans, of which the second starts later or at once, run at the same time."""
    return other.start_ns <= (one.start_ns if one.end_ns is None else one.end_ns)


def _same_usage(one: Usage | None, other: Usage | None) -> bool:
    """Whether two spans may count the same tokens: the numbers that both know are the same.

    Some leave cached tokens out of the prompt, and thoughts out of the completion: the total has all of them.
    OpenLLMetry counts one token too many at the end of a stream.
    """
    if one is None or other is None or (one.prompt == other.prompt and one.completion == other.completion):
        return True
    if one.total is not None and one.total == other.total:
        return True
    if one.completion and other.completion and abs(one.completion - other.completion) > 1:
        return False
    if not (one.prompt and other.prompt) or one.prompt == other.prompt:
        return True
    cached = max((usage.cached or 0) + (usage.cache_write or 0) for usage in (one, other))
    return abs(one.prompt - other.prompt) == cached


def _merged_usage(each: Sequence[Usage]) -> Usage | None:
    if not each:
        return None
    merged = {f.name: _first_known([getattr(usage, f.name) for usage in each]) for f in fields(Usage)}
    # Some leave cached tokens out of the prompt: the larger one has them.
    merged["prompt"] = max((u.prompt for u in each if u.prompt is not None), default=None)
    if merged["prompt"] is not None or merged["completion"] is not None:
        # A total that is the sum of its span's parts says no more than they do.
        merged["total"] = max((u.total for u in each if u.unexplained and u.total is not None), default=None)
    return Usage(**merged)


def _first_known(values: Sequence[Number | None]) -> Number | None:
    """The first positive number; 0 only if nobody says more, since some write 0 for unknown."""
    known = [value for value in values if value is not None]
    return next((value for value in known if value > 0), known[0] if known else None)
