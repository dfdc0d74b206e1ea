"""Which spans are one call: instrumentors nest, repeat and double each other, and every call is to be counted once.

Three signs join spans: an equal response id; one lying in the other in the tree, with nothing but plumbing between; and
where there is no id to compare, two instrumentors that tell of the same model at the same time.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Final, TypeVar

from hh_jupyter.conventions.facts import SpanFacts, Usage
from hh_jupyter.records.parents import Parents, SpanKey, key_of
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.twins import by_place, twins

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
