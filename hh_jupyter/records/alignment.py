"""Pairs the spans of two runs: which span of the new run is which one of the old run.

The trees are compared from the top down: only the children of paired spans are compared, and of these only spans of one
name and kind. What is left is looked for below spans that only one run has (a call was wrapped), then as an equal
subtree anywhere (it was moved), then under another name (it was renamed). Each step looks spans up by digest, so that
the whole takes O(n log n); only the comparison of similar texts is quadratic, and it has a budget.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from hh_jupyter.records.nodes import SpanNode
from hh_jupyter.records.tree import SpanTree

MAX_COMPARISONS: Final = 5_000
"""Pairs of texts that are compared in one alignment; spans beyond are paired by their order."""

ALL_PAIRS: Final = 256
"""Spans of one name with more pairs than this are only compared with those near their own place."""

WINDOW: Final = 2
SIMILAR_FROM: Final = 0.5
"""Share of words in common from which two requests are versions of one."""

ROOT: Final = -1
"""The index of what is above the roots."""


@dataclass(frozen=True, slots=True)
class Digests:
    """What is compared of a span; equal digests mean equal content. Digests of different processes do not compare.

    Attributes:
        request: of model, parameters, messages, tools and input; 0 if it has none or they are not known.
        answer: of answer, output, documents and error; 0 if it has none or they are not known.
        words: the words of the request, as far as they are compared for similarity.
    """

    request: int = 0
    answer: int = 0
    words: Callable[[], frozenset[str]] = frozenset


class Side:
    """A tree as columns, indexed in depth-first order.

    Args:
        tree: the tree.
        digests: of each of its nodes, in the same order.

    Attributes:
        partner: index of the span in the other tree; None if there is none.
    """

    def __init__(self, tree: SpanTree, digests: Sequence[Digests]) -> None:
        self.nodes, self.digests = tree.nodes, digests
        place = {id(node): index for index, node in enumerate(tree.nodes)}
        self.parent = [ROOT if node.parent is None else place[id(node.parent)] for node in tree.nodes]
        self._children: list[list[int]] = [[] for _ in tree.nodes]
        self._roots: list[int] = []
        for index, above in enumerate(self.parent):
            self.children(above).append(index)
        self.kind: list[tuple[str, str]] = [(node.record.name, node.record.facts.kind) for node in tree.nodes]
        self.subtree, self.unnamed = [0] * len(tree.nodes), [0] * len(tree.nodes)
        for index in reversed(range(len(tree.nodes))):
            below = tuple(self.subtree[child] for child in self._children[index])
            own = (tree.nodes[index].record.status, digests[index].request, digests[index].answer, below)
            self.subtree[index] = hash((self.kind[index], own))
            self.unnamed[index] = hash((self.kind[index][1], own))
        self.partner: list[int | None] = [None] * len(tree.nodes)

    def children(self, index: int) -> list[int]:
        """The children of a span, or the roots."""
        return self._roots if index == ROOT else self._children[index]

    def free(self, indexes: Iterable[int]) -> list[int]:
        """Those of the spans that have no partner yet."""
        return [index for index in indexes if self.partner[index] is None]

    def free_below(self, index: int) -> Iterator[int]:
        """The spans without a partner whose ancestors up to this span have none either, depth first."""
        stack = self.children(index)[::-1]
        while stack:
            found = stack.pop()
            if self.partner[found] is None:
                yield found
                stack.extend(reversed(self._children[found]))

    def nearest_paired(self) -> list[int]:
        """For each span its nearest ancestor that has a partner."""
        nearest: list[int] = []
        for above in self.parent:
            nearest.append(above if above == ROOT or self.partner[above] is not None else nearest[above])
        return nearest


Digest = Callable[[Side, int], Hashable]


class Alignment:
    """Pairs the spans of two trees.

    Args:
        old, new: the trees.

    Attributes:
        moved: indexes of spans of the new tree whose place among paired spans is another one than in the old tree.
    """

    def __init__(self, old: Side, new: Side) -> None:
        self.old, self.new = old, new
        self._comparisons = MAX_COMPARISONS
        self._subtrees = set(old.subtree), set(new.subtree)
        self._pair_children([(ROOT, ROOT)])
        self._pair_wrapped()
        self._pair_moved()
        self._pair_renamed()
        self.moved = self._moved()

    # The steps

    def _pair_children(self, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Pair the children of these pairs, then their children, and so on; return the new pairs."""
        waiting, found = list(pairs), []
        while waiting:
            above_old, above_new = waiting.pop()
            old, new = self.old.free(self.old.children(above_old)), self.new.free(self.new.children(above_new))
            added = self._pair_alike(old, new, lambda *_: True)
            waiting += added
            found += added
        return found

    def _pair_wrapped(self) -> None:
        """Pair what is left below one pair of spans, on whatever level: other spans were put around it, or removed."""
        waiting = [(ROOT, ROOT), *self._pairs()]
        while waiting:
            above_old, above_new = waiting.pop()
            old = list(self.old.free_below(above_old))
            new = list(self.new.free_below(above_new)) if old else []
            # Without any similarity, the spans are one call only if nothing but the wrapper is between.
            below = lambda one, other: self.old.parent[one] == above_old or self.new.parent[other] == above_new  # noqa: B023, E731
            added = self._pair_alike(old, new, below, in_order=False)
            waiting += added + self._pair_children(added)

    def _pair_moved(self) -> None:
        """Pair equal subtrees wherever they are, the outermost first."""
        before = self._by_digest(self.old, range(len(self.old.nodes)), self._distinct)
        after = self._by_digest(self.new, range(len(self.new.nodes)), self._distinct)
        for digest, group in after.items():  # In depth-first order of the first of each.
            self._pair_children(self._pair_from_last(before.get(digest, ()), group))

    def _pair_renamed(self) -> None:
        """Pair what is left below one pair of spans if it differs by its name only, or has the same spans below."""
        left = {self.old.parent[index] for index in self.old.free(range(len(self.old.nodes)))}
        for above_old, above_new in [(ROOT, ROOT), *self._pairs()]:
            if above_old not in left:
                continue
            for digest in (self._unnamed, self._shape):
                old, new = self.old.free(self.old.children(above_old)), self.new.free(self.new.children(above_new))
                self._pair_children(self._pair_equal(old, new, digest))
            old, new = self.old.free(self.old.children(above_old)), self.new.free(self.new.children(above_new))
            if len(old) == len(new) == 1 and self._kinds_below(self.old, old[0]) & self._kinds_below(self.new, new[0]):
                self._pair_children([self._pair(old[0], new[0])])

    # Pairs among some spans

    def _pair_alike(
        self, old: Sequence[int], new: Sequence[int], only_ones: Callable[[int, int], bool], *, in_order: bool = True
    ) -> list[tuple[int, int]]:
        """Pair spans of one name and kind: equal subtrees, requests, answers, then similar requests, then by order.

        Args:
            old, new: spans without a partner.
            only_ones: whether two spans are paired because both are the only ones left of their name and kind.
            in_order: pair several that are left by their order.

        Returns:
            The new pairs.
        """
        found: list[tuple[int, int]] = []
        if not old or not new:
            return found
        of_old = self._by_digest(self.old, old, lambda side, index: side.kind[index])
        for kind, after in self._by_digest(self.new, new, lambda side, index: side.kind[index]).items():
            before = of_old.get(kind, [])
            if len(before) != 1 or len(after) != 1 or not only_ones(before[0], after[0]):
                for digest in (self._subtree, self._request, self._answer):
                    found += self._pair_equal(before, after, digest)
                found += self._pair_similar(self.old.free(before), self.new.free(after))
            left_old, left_new = self.old.free(before), self.new.free(after)
            if in_order or (len(left_old) == len(left_new) == 1 and only_ones(left_old[0], left_new[0])):
                left = zip(left_old, left_new, strict=False)
                found += [self._pair(*pair) for pair in left if not self._is_elsewhere(*pair)]
        return found

    def _is_elsewhere(self, old: int, new: int) -> bool:
        """Whether one of two spans that differ is elsewhere in the other tree, as it is."""
        before, after = self._distinct(self.old, old), self._distinct(self.new, new)
        return before != after and (after in self._subtrees[0] or before in self._subtrees[1])

    def _pair_equal(self, old: Iterable[int], new: Iterable[int], digest: Digest) -> list[tuple[int, int]]:
        """Pair spans with equal digests; return the new pairs."""
        before = self._by_digest(self.old, old, digest)
        after = self._by_digest(self.new, new, digest) if before else {}
        return [pair for key, group in after.items() for pair in self._pair_from_last(before.get(key, ()), group)]

    def _pair_from_last(self, old: Sequence[int], new: Sequence[int]) -> list[tuple[int, int]]:
        """Pair spans that are equal, from the last: of several tries, the last one is the call that counted."""
        if not old:
            return []
        pairs = zip(reversed(self.old.free(old)), reversed(self.new.free(new)), strict=False)
        return [self._pair(*pair) for pair in pairs]

    def _pair_similar(self, old: Sequence[int], new: Sequence[int]) -> list[tuple[int, int]]:
        """Pair spans whose requests have most words in common, the most similar first; return the new pairs."""
        every, scored = len(old) * len(new) <= ALL_PAIRS, []
        for place, index in enumerate(new):
            near = place * len(old) // len(new)
            candidates = range(len(old)) if every else range(max(0, near - WINDOW), min(len(old), near + WINDOW + 1))
            if self._comparisons < len(candidates):
                break
            self._comparisons -= len(candidates)
            words = self.new.digests[index].words()
            for candidate in candidates if words else ():
                others = self.old.digests[old[candidate]].words()
                share = len(words & others) / len(words | others)
                if share >= SIMILAR_FROM:
                    scored.append((-share, abs(candidate - near), place, candidate))
        return [
            self._pair(old[candidate], new[place])
            for _, _, place, candidate in sorted(scored)
            if self.old.partner[old[candidate]] is None and self.new.partner[new[place]] is None
        ]

    # Digests of one span; None for a span that this digest says nothing about

    @staticmethod
    def _subtree(side: Side, index: int) -> Hashable:
        return side.subtree[index]

    @staticmethod
    def _request(side: Side, index: int) -> Hashable:
        return side.digests[index].request or None

    @staticmethod
    def _answer(side: Side, index: int) -> Hashable:
        return side.digests[index].answer or None

    @staticmethod
    def _distinct(side: Side, index: int) -> Hashable:
        """The subtree, unless it is a span without content, of which there may be many."""
        known = side.digests[index].request or side.digests[index].answer or side.children(index)
        return side.subtree[index] if known else None

    @staticmethod
    def _unnamed(side: Side, index: int) -> Hashable:
        return side.unnamed[index] if Alignment._distinct(side, index) is not None else None

    @staticmethod
    def _shape(side: Side, index: int) -> Hashable:
        """The kind of a span and the names and kinds of its children."""
        below = tuple(side.kind[child] for child in side.children(index))
        return (side.kind[index][1], below) if below else None

    @staticmethod
    def _kinds_below(side: Side, index: int) -> set[tuple[str, str, str]]:
        return {(side.kind[index][1], *side.kind[child]) for child in side.children(index)}

    # Helpers

    def _pair(self, old: int, new: int) -> tuple[int, int]:
        self.old.partner[old], self.new.partner[new] = new, old
        return old, new

    def _pairs(self) -> list[tuple[int, int]]:
        return [(old, new) for old, new in enumerate(self.old.partner) if new is not None]

    @staticmethod
    def _by_digest(side: Side, indexes: Iterable[int], digest: Digest) -> dict[Hashable, list[int]]:
        """The spans without a partner by digest, each group in order."""
        groups: dict[Hashable, list[int]] = {}
        for index in side.free(indexes):
            if (key := digest(side, index)) is not None:
                groups.setdefault(key, []).append(index)
        return groups

    def _moved(self) -> set[int]:
        """Spans below another span than before, or at another place among siblings that ran one after the other."""
        near_old, near_new = self.old.nearest_paired(), self.new.nearest_paired()
        moved = set()
        for old, new in self._pairs():
            above = near_old[old]
            if (ROOT if above == ROOT else self.old.partner[above]) != near_new[new]:
                moved.add(new)
        siblings = [self.new.children(ROOT), *(self.new.children(index) for index in range(len(self.new.nodes)))]
        for children in siblings:
            kept = [(self.new.partner[index], index) for index in children if index not in moved]
            places = [(old, new) for old, new in kept if old is not None]
            if all(before < after for (before, _), (after, _) in pairwise(places)):
                continue
            parallel_old = _parallel(self.old.nodes, sorted(old for old, _ in places))
            parallel_new = _parallel(self.new.nodes, [new for _, new in places])
            in_turn = [(old, new) for old, new in places if old not in parallel_old and new not in parallel_new]
            rising = _longest_rising([old for old, _ in in_turn])
            moved |= {new for place, (_, new) in enumerate(in_turn) if place not in rising}
        return moved


def _parallel(nodes: Sequence[SpanNode], siblings: Sequence[int]) -> set[int]:
    """Siblings that overlap others in time, whose order means nothing. They are sorted by start."""
    found: set[int] = set()
    latest: int | None = None
    for index in siblings:
        if latest is not None and nodes[index].start_ns < nodes[latest].end_ns:
            found |= {latest, index}
        if latest is None or nodes[index].end_ns > nodes[latest].end_ns:
            latest = index
    return found


def _longest_rising(values: Sequence[int]) -> set[int]:
    """The places of a longest rising subsequence."""
    tails: list[int] = []
    places: list[int] = []
    before: list[int] = []
    for place, value in enumerate(values):
        length = bisect_left(tails, value)
        before.append(places[length - 1] if length else -1)
        tails[length : length + 1], places[length : length + 1] = [value], [place]
    found: set[int] = set()
    at = places[-1] if places else -1
    while at >= 0:
        found.add(at)
        at = before[at]
    return found
