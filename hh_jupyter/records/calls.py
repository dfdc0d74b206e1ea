"""Model calls among spans: several spans may describe one call, which is counted once.

Spans describe one call if they have the same response id, if one encloses the other in the tree with only technical
spans between, or, without ids to compare, if two instrumentors record the same model at the same time.
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
from hh_jupyter.records.record import CALL_KINDS, SpanRecord

# Identity and parents of spans.

Key = TypeVar("Key", bound=Hashable)
SpanKey = tuple[int, int]
"""Trace id and span id; span ids alone may repeat between traces."""


def key_of(record: SpanRecord) -> SpanKey:
    """The identity of a span."""
    return record.trace_id, record.span_id


def by_identity(records: Iterable[SpanRecord]) -> dict[SpanKey, SpanRecord]:
    """Each span once: of records with the same ids the last one that has ended, else the last one."""
    found: dict[SpanKey, SpanRecord] = {}
    for record in records:
        key = record.trace_id, record.span_id
        if record.end_ns is not None or key not in found or found[key].end_ns is None:
            found[key] = record
    return found


class Parents:
    """The parents of spans. A cycle of parents, which only invalid data has, is cut at its earliest span.

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
        for key in cycle_cuts(self._parent, lambda key: (by_key[key].start_ns, key)):
            del self._parent[key]

    def of(self, record: SpanRecord) -> SpanRecord | None:
        """The parent; None for a root and for a span whose parent is missing."""
        above = self._parent.get((record.trace_id, record.span_id))
        return None if above is None else self._by_key[above]

    def nearest(self, through: Callable[[SpanRecord], bool]) -> Callable[[SpanRecord], SpanRecord | None]:
        """A function that returns the nearest ancestor of a span for which `through` is false.

        Results are cached: all calls together follow each link once.
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


def cycle_cuts(parent: Mapping[Key, Key], order: Callable[[Key], Any]) -> list[Key]:
    """One key of each cycle: the first one by `order`.

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


# Duplicate spans: two instrumentors record one operation, without a parent or an id in common.

_MAX_COMPARED_DUPLICATES: Final = 16
"""Number of concurrent candidates that are compared with a span; comparing all would take quadratic time."""


def start_order(record: SpanRecord) -> tuple[int, int, int, int]:
    """A sort key: by start, enclosing spans first. The result does not depend on the order of the records."""
    return record.start_ns, -record.duration_ns, record.trace_id, record.span_id


def duplicate_spans(
    members: Sequence[SpanRecord],
    keys: Callable[[SpanRecord], Iterable[object]],
    agree: Callable[[SpanRecord, SpanRecord], bool],
) -> Iterator[tuple[SpanRecord, SpanRecord]]:
    """Yield pairs (outer, inner) of spans of different scopes that describe one operation.

    If several spans enclose the inner one, the one that ends first is its outer span, which leaves the others free for
    spans that only they enclose. If none encloses it, an overlapping span may be its outer span.

    Args:
        members: sorted by `start_order`.
        keys: keys of a span; a pair shares at least one. A span without keys has no duplicate.
        agree: whether an outer and an inner span may be a pair. It is called after each yielded pair again, so that the
            caller can prevent a span from being paired twice.
    """
    if len({record.scope for record in members}) < 2:
        return
    keyed = [(record, tuple(keys(record))) for record in members]
    shared = _spans_by_shared_key(keyed)
    candidates_of: dict[int, list[_OpenSpans]] = {}
    for record, found_keys in keyed:
        candidates = [shared[key] for key in found_keys if key in shared]
        if not candidates:
            continue
        found: SpanRecord | None = None
        for spans in candidates:
            outer = spans.around(record, agree)
            if outer is not None and (found is None or _fits_better(outer, found, record)):
                found = outer
        if found is not None:
            yield found, record
            for spans in candidates_of[id(found)]:
                spans.pair(found)
        for spans in candidates:
            spans.add(record, paired=found is not None)
        candidates_of[id(record)] = candidates


def _spans_by_shared_key(keyed: Iterable[tuple[SpanRecord, tuple[object, ...]]]) -> dict[object, _OpenSpans]:
    """An empty `_OpenSpans` for each key that spans of several scopes share."""
    scopes: dict[object, set[str]] = {}
    for record, keys in keyed:
        for key in keys:
            if key in scopes:
                scopes[key].add(record.scope)
            else:
                scopes[key] = {record.scope}
    return {key: _OpenSpans(len(those)) for key, those in scopes.items() if len(those) > 1}


class _OpenSpans:
    """The started spans with one key, by scope.

    Args:
        scopes: number of scopes with such spans. With two, a pair is complete: no third span can join it.
    """

    def __init__(self, scopes: int) -> None:
        self._only_pairs = scopes == 2
        self._running: dict[str, _ScopeSpans] = {}

    def add(self, record: SpanRecord, *, paired: bool) -> None:
        if not (paired and self._only_pairs):
            running = self._running.get(record.scope)
            if running is None:
                running = self._running[record.scope] = _ScopeSpans()
            running.add(record)

    def pair(self, record: SpanRecord) -> None:
        if self._only_pairs and record.scope in self._running:
            self._running[record.scope].remove(record)

    def around(self, inner: SpanRecord, agree: Callable[[SpanRecord, SpanRecord], bool]) -> SpanRecord | None:
        """The best matching span of another scope."""
        best: SpanRecord | None = None
        for scope, others in self._running.items():
            outer = others.around(inner, agree) if scope != inner.scope else None
            if outer is not None and (best is None or _fits_better(outer, best, inner)):
                best = outer
        return best


class _ScopeSpans:
    """The started spans of one scope, ordered by end."""

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._spans: list[SpanRecord] = []

    def add(self, record: SpanRecord) -> None:
        end = _end(record)
        index = bisect_right(self._ends, end)
        self._ends.insert(index, end)
        self._spans.insert(index, record)

    def remove(self, record: SpanRecord) -> None:
        end = _end(record)
        for index in range(bisect_left(self._ends, end), bisect_right(self._ends, end)):
            if self._spans[index] is record:
                del self._ends[index], self._spans[index]
                return

    def around(self, inner: SpanRecord, agree: Callable[[SpanRecord, SpanRecord], bool]) -> SpanRecord | None:
        """The span that encloses the inner one most tightly, else an overlapping one; only a few are compared."""
        ends, start = self._ends, inner.start_ns
        if ends and ends[0] < start:
            finished = bisect_left(ends, start)  # Later spans start even later and cannot overlap with these.
            del ends[:finished], self._spans[:finished]
        if not ends:
            return None
        first = bisect_left(ends, _end(inner))
        for index in range(first, min(first + _MAX_COMPARED_DUPLICATES, len(ends))):
            outer = self._spans[index]
            if (ends[index] > start or outer.start_ns == start) and agree(outer, inner):
                return outer
        for index in range(first - 1, max(-1, first - 1 - _MAX_COMPARED_DUPLICATES), -1):
            outer = self._spans[index]
            if (ends[index] > start or outer.start_ns == start) and agree(outer, inner):
                return outer
        return None


def _end(record: SpanRecord) -> float:
    """The end of a span, at least its first token: LlamaIndex ends the span of a stream before the stream is read."""
    if record.end_ns is None:
        return math.inf
    first_token = record.facts.first_token_ns
    return record.end_ns if first_token is None else max(record.end_ns, record.start_ns + first_token)


def _fits_better(one: SpanRecord, other: SpanRecord, inner: SpanRecord) -> bool:
    """Whether `one` is a better outer span than `other`: it contains the inner span, or contains it more tightly."""
    contains = [_end(inner) <= _end(record) for record in (one, other)]
    if contains[0] != contains[1]:
        return contains[0]
    return _end(one) < _end(other) if contains[0] else _end(one) > _end(other)


def ends_within(inner: SpanRecord, outer: SpanRecord) -> bool:
    """Whether the inner span, which does not start earlier, ends no later than the outer one, which may still run."""
    return outer.end_ns is None or (inner.end_ns is not None and inner.end_ns <= outer.end_ns)


# Calls: the spans of one request, and their merged facts.

Number = TypeVar("Number", int, float)

_TRANSPARENT: Final = {
    "llm": frozenset({"http", "other"}),
    # A step inside an embedding span is part of the same call, as in OpenLLMetry's spans of LlamaIndex.
    "embedding": frozenset({"http", "other", "chain"}),
}
"""Kind of call -> kinds of spans that may be between two spans of one call."""

_MAX_COMPARED_IDS: Final = 8  # Some local servers reuse ids; comparing all spans with one id would take quadratic time.
_CLIENTS: Final = frozenset({"com.anthropic.sdk.python"})
"""Scopes of clients with built-in tracing, which record the counts of the server."""

_VERSION = re.compile(r"(?:[-@](?:20\d\d-\d\d-\d\d|20\d{6}|latest|00\d))?(?:-v\d+(?::\d+)?)?$")
_DATED = re.compile(r"[-@](?:20\d\d-\d\d-\d\d|20\d{6})")
_REGION = re.compile(r"^(?:us|eu|apac|global)\.(?=[a-z]+\.)")


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One request to a model, and the spans that describe it.

    Attributes:
        spans: the outermost first.
    """

    spans: tuple[SpanRecord, ...]

    @property
    def failed(self) -> bool:
        """Whether the outermost span failed; if only spans below it failed, the request was retried.

        If the outermost span records neither a response nor an error, the other spans decide.
        """
        if not _has_no_outcome(self.spans[0]):
            return self.spans[0].failed
        finished = [span for span in self.spans if not _has_no_outcome(span)]
        return bool(finished) and all(span.failed for span in finished)

    def merged(self) -> SpanFacts:
        """The outermost span's facts, with gaps filled from the other spans; counts are never added up."""
        each = [span.facts for span in self.spans]
        if len(each) == 1:
            return each[0]
        requested = {f.model_requested for f in each}
        with_model = [f for f in each if f.model]
        exact = sorted(self.spans, key=lambda span: (span.scope not in _CLIENTS, _is_incomplete(span.facts.usage)))
        return replace(
            each[0],
            model=max(with_model, key=lambda f: _exactness(f, requested)).model if with_model else None,
            model_requested=next((f.model_requested for f in each if f.model_requested), None),
            provider=next((f.provider for f in each if f.provider), None),
            usage=_merged_usage([span.facts.usage for span in exact if span.facts.usage is not None]),
            cost=_first_known([f.cost for f in each]),
            tools_asked=max((f.tools_asked for f in each), key=len),
            streamed=any(f.streamed for f in each),
            http_status=next((f.http_status for f in each if f.http_status), None),
            replayed=any(f.replayed for f in each),
            replayed_ms=next((f.replayed_ms for f in each if f.replayed_ms is not None), None),
            service_tier=next((f.service_tier for f in each if f.service_tier), None),
        )


def find_calls(records: Iterable[SpanRecord], parents: Parents, kind: str) -> list[ModelCall]:
    """The calls among spans of one kind, without those answered from a cache, which made no request.

    Args:
        records: in any order, each once.
        parents: of these spans and of all spans between them.
        kind: one of `CALL_KINDS`.
    """
    members = sorted((r for r in records if r.facts.kind == kind), key=start_order)
    groups = _Groups(members)
    _join_same_response(members, groups)
    _join_duplicate_spans(members, groups)
    _join_stream_ends(members, groups)
    wrappers = _join_nested(members, parents, groups)
    found: dict[SpanKey, list[SpanRecord]] = defaultdict(list)
    for record in members:
        if key_of(record) not in wrappers:
            found[groups.root(record)].append(record)
    return [ModelCall(tuple(spans)) for spans in found.values() if not any(span.facts.from_cache for span in spans)]


def calls_of_several_tracers(by_key: Mapping[SpanKey, SpanRecord]) -> list[ModelCall]:
    """The calls that several spans describe, if there are spans of several tracers.

    Args:
        by_key: each span once.
    """
    members = [record for record in by_key.values() if record.facts.kind in CALL_KINDS]
    if len({record.scope for record in members}) < 2:
        return []
    parents = Parents(by_key)
    calls = [call for kind in CALL_KINDS for call in find_calls(members, parents, kind)]
    return [call for call in calls if len(call.spans) > 1]


def repeated_spans(records: Iterable[SpanRecord]) -> set[SpanKey]:
    """Spans whose tokens are already counted by another span of the same call and trace; sums omit them."""
    counted = [record for record in records if record.facts.usage is not None and record.facts.kind in CALL_KINDS]
    scope_of: dict[int, str] = {}
    mixed = {
        record.trace_id for record in counted if scope_of.setdefault(record.trace_id, record.scope) != record.scope
    }
    repeated: set[SpanKey] = set()
    for kind in CALL_KINDS if mixed else ():
        _add_repeated([r for r in counted if r.trace_id in mixed and r.facts.kind == kind], repeated)
    return repeated


def _add_repeated(counted: list[SpanRecord], repeated: set[SpanKey]) -> None:
    counted.sort(key=start_order)
    groups = _Groups(counted)
    _join_same_response(counted, groups)
    _join_duplicate_spans(counted, groups)
    first: set[SpanKey] = set()
    for record in counted:
        root = groups.root(record)
        if root in first:
            repeated.add(key_of(record))
        first.add(root)


class _Groups:
    """Disjoint sets of spans, and the instrumentation scopes in each set."""

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


def _is_incomplete(usage: Usage | None) -> bool:
    return usage is not None and usage.unexplained


def _exactness(facts: SpanFacts, requested: set[str | None]) -> tuple[bool, bool, bool]:
    """Sort key for the model that most likely answered: not the requested name, dated, from the response itself."""
    model = facts.model or ""
    return model not in requested, _DATED.search(model) is not None, facts.response_id is not None


def _join_same_response(members: Sequence[SpanRecord], groups: _Groups) -> None:
    """Join spans with equal response ids, also of different traces: duplicates are not always parent and child."""
    by_id: dict[str, list[SpanRecord]] = defaultdict(list)
    for record in members:
        if record.facts.response_id and not record.facts.from_cache:
            by_id[record.facts.response_id].append(record)
    for same in by_id.values():
        for index, record in enumerate(same):
            for earlier in reversed(same[max(0, index - _MAX_COMPARED_IDS) : index]):
                # A replayed call has the response id of its original, and of its other replays at the same time.
                if earlier.facts.replayed or record.facts.replayed:
                    joins = _overlap(earlier, record) and not groups.share_a_scope(earlier, record)
                else:
                    joins = _same_usage(earlier.facts.usage, record.facts.usage) or _overlap(earlier, record)
                if joins:
                    groups.join(earlier, record)
                    break


def _join_duplicate_spans(members: Sequence[SpanRecord], groups: _Groups) -> None:
    """Join spans of two instrumentors that describe one request, if at most one of them has the response id.

    Each span is in at most one pair. Pairs with equal token counts come first, which keeps concurrent calls apart.
    """
    scopes = len({record.scope for record in members})
    if scopes < 2:
        return
    for keys in (_usage_keys, _model_names):
        alone = [record for record in members if groups.scopes(record) < scopes]
        for outer, inner in duplicate_spans(alone, keys, lambda outer, inner: _may_be_same_call(outer, inner, groups)):
            groups.join(outer, inner)


def _may_be_same_call(outer: SpanRecord, inner: SpanRecord, groups: _Groups) -> bool:
    if outer.facts.response_id and inner.facts.response_id:
        return False
    if outer.status != inner.status and (_has_no_outcome(outer) or _has_no_outcome(inner)):
        agree = outer.failed or inner.failed
    elif outer.failed or inner.failed:
        statuses = {outer.http_status, inner.http_status} - {None}
        agree = outer.failed == inner.failed and len(statuses) < 2
    else:
        agree = _same_usage(outer.facts.usage, inner.facts.usage)
    return agree and not groups.share_a_scope(outer, inner)


def _has_no_outcome(record: SpanRecord) -> bool:
    """Whether a span has neither a response nor an error, as some spans of failed requests."""
    facts = record.facts
    answered = facts.usage is not None or facts.response_id is not None or bool(facts.tools_asked)
    return record.status == "ok" and not answered and not facts.streamed


def _usage_keys(record: SpanRecord) -> Iterable[object]:
    """Keys shared by spans of one call: its model, with its tokens or its error."""
    usage, error = record.facts.usage, record.error
    numbers: object = None if usage is None else (usage.prompt, usage.completion)
    if record.failed:
        numbers = record.http_status or (None if error is None else (error.type, error.message))
    return () if numbers is None else [(numbers, stem) for stem in _model_names(record) or ("",)]


def _model_names(record: SpanRecord) -> tuple[str, ...]:
    return _stems(record.facts.model_requested, record.facts.model)


@lru_cache(maxsize=1024)
def _stems(requested: str | None, answered: str | None) -> tuple[str, ...]:
    """Names of the requested and of the answering model, without versions."""
    return tuple({_stem(name) for name in (requested, answered) if name})


def _stem(model: str) -> str:
    """The model's name without route, region, vendor and version: "gpt-4o" for "openai/gpt-4o-2024-08-06"."""
    name = _REGION.sub("", model.rpartition("/")[2].lower())
    return _VERSION.sub("", name.removeprefix("anthropic."))


def _join_stream_ends(members: Sequence[SpanRecord], groups: _Groups) -> None:
    """Join a stream's span with the log that records its usage at the end, as in Logfire."""
    open_streams: dict[tuple[str, str | None], list[SpanRecord]] = defaultdict(list)
    for record in members:
        facts = record.facts
        key = record.scope, facts.model_requested
        ends = facts.streamed and record.duration_ns == 0 and record.end_ns is not None
        if ends and open_streams[key]:
            groups.join(open_streams[key].pop(0), record)
        elif facts.usage is None and not record.failed:
            open_streams[key].append(record)


def _join_nested(members: Sequence[SpanRecord], parents: Parents, groups: _Groups) -> set[SpanKey]:
    """Join spans with those they enclose. Returns the spans that enclose several calls and are not calls themselves.

    Only HTTP and unknown spans may be between: below a tool or an agent, it is another call.
    """
    transparent = _TRANSPARENT[members[0].facts.kind] if members else frozenset()
    above = parents.nearest(lambda record: record.facts.kind in transparent)
    inside: dict[SpanKey, list[SpanRecord]] = defaultdict(list)
    for record in members:
        outer = above(record)
        if outer is not None and outer.facts.kind == record.facts.kind:
            inside[key_of(outer)].append(record)
    wrappers: set[SpanKey] = set()
    for outer in reversed(members):  # A span cannot enclose one that started earlier.
        inner = inside.get(key_of(outer))
        if not inner:
            continue
        own = groups.root(outer)
        answered = {groups.root(r) for r in inner if not r.failed} - {own}
        alone = outer.facts.usage is not None and all(record.facts.usage is None for record in inner)
        if alone or len(answered) + any(groups.root(record) == own for record in inner) <= 1:
            for record in inner:
                groups.join(outer, record)
        elif groups.size(outer) == 1:
            wrappers.add(key_of(outer))
    return wrappers


def _overlap(one: SpanRecord, other: SpanRecord) -> bool:
    """Whether two spans overlap in time; the second one does not start earlier."""
    return other.start_ns <= (one.start_ns if one.end_ns is None else one.end_ns)


def _same_usage(one: Usage | None, other: Usage | None) -> bool:
    """Whether two spans may count the same tokens: the numbers that both have are equal.

    Some instrumentors omit cached tokens from the prompt and reasoning tokens from the completion; the total has all of
    them. OpenLLMetry counts one extra token at the end of a stream.
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
    # Some instrumentors omit cached tokens from the prompt: the larger number includes them.
    merged["prompt"] = max((u.prompt for u in each if u.prompt is not None), default=None)
    if merged["prompt"] is not None or merged["completion"] is not None:
        # A total is needed only if it exceeds the sum of the parts.
        merged["total"] = max((u.total for u in each if u.unexplained and u.total is not None), default=None)
    return Usage(**merged)


def _first_known(values: Sequence[Number | None]) -> Number | None:
    """The first positive number, else 0 or None: some instrumentors write 0 for unknown."""
    known = [value for value in values if value is not None]
    return next((value for value in known if value > 0), known[0] if known else None)
