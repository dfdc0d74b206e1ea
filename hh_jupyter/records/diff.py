"""What changed between two runs: spans that changed, were added, removed or moved, and the texts that differ."""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import partial
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

from hh_jupyter.conventions import content
from hh_jupyter.conventions.facts import Message, SpanContent, from_json
from hh_jupyter.records import prices
from hh_jupyter.records.alignment import ROOT, Alignment, Digests, Side
from hh_jupyter.records.calls import SpanKey, key_of
from hh_jupyter.records.nodes import SpanNode
from hh_jupyter.records.record import CALL_KINDS, SpanDetails, SpanRecord
from hh_jupyter.records.totals import Totals, summarize
from hh_jupyter.records.tree import SpanTree

Section = Literal["Parameters", "Messages", "Tools", "Input", "Answer", "Output", "Documents", "Error"]
Mark = Literal["same", "changed", "added", "removed", "moved"]
LoadDetails = Callable[[Sequence[SpanRecord]], Mapping[SpanKey, SpanDetails]]
"""Returns the details of records, without those that are no longer kept."""

# The content of a span, as parts that are compared one by one.

REQUEST: Final = frozenset({"Parameters", "Messages", "Tools", "Input"})

_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{6,}")
"""The address in the text of an object, which differs in every run and means nothing."""


class Part(NamedTuple):
    """One text of a span's request or answer.

    Attributes:
        name: of a parameter, a tool or an argument; the role of a message.
    """

    section: Section
    name: str
    text: str


def parts_of(record: SpanRecord, known: SpanContent) -> tuple[Part, ...]:
    """Return what is compared of a span. Ids and times are left out: they differ in every run.

    Args:
        record: the span.
        known: its content.
    """
    facts = record.facts
    model = facts.model_requested or facts.model
    parts = [Part("Parameters", "model", model)] if model else []
    parts += [Part("Parameters", str(name), _text(value)) for name, value in sorted(known.params.items(), key=str)]
    parts += [Part("Messages", message.role, _message(message)) for message in known.input_messages]
    parts += [Part("Tools", str(tool.get("name") or "tool"), _text(tool)) for tool in known.tools_offered]
    if not known.input_messages and known.input is not None:
        parts += _by_key("Input", "input", known.input)
    parts += [Part("Answer", message.role, _message(message)) for message in known.output_messages]
    if not known.output_messages and known.output is not None:
        parts += _by_key("Output", "output", known.output)
    parts += [
        Part("Documents", f"document {number}", _text(document)) for number, document in enumerate(known.documents, 1)
    ]
    if record.error is not None:
        parts.append(Part("Error", "error", _text(f"{record.error.type}: {record.error.message}")))
    return tuple(parts)


MAX_KEYS: Final = 50


def _by_key(section: Section, name: str, value: Any) -> list[Part]:
    """The arguments of a function one by one, and so the keys of other JSON."""
    if isinstance(value, Mapping) and 0 < len(value) <= MAX_KEYS:
        return [
            Part(section, str(key), _text(one)) for key, one in sorted(value.items(), key=lambda item: str(item[0]))
        ]
    return [Part(section, name, _text(value))]


def _message(message: Message) -> str:
    texts = [_text(message.text, parse=message.role in ("tool", "function"))] if message.text else []
    texts += [f"{call.name}({'' if call.arguments is None else _text(call.arguments)})" for call in message.tool_calls]
    texts += [_text(part) for part in message.parts]
    return "\n".join(texts)


def _text(value: Any, *, parse: bool = False) -> str:
    """A value as text: JSON in canonical order, so that only what it says is compared."""
    if isinstance(value, str):
        data = _parsed(value) if parse and value.lstrip()[:1] in ("{", "[") else None
        if data is None:
            return _ADDRESS.sub("0x…", value) if "0x" in value else value
        value = data
    line = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    text = line if len(line) <= 80 else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str, indent=2)
    return _ADDRESS.sub("0x…", text) if "0x" in text else text


def _parsed(text: str) -> Any:
    try:
        return from_json(text)
    except ValueError:
        return None


_WORDS: Final = 200
_WORD: Final = re.compile(r"\w+")
_SCANNED: Final = 4_000  # characters


def _digests(parts: Sequence[Part]) -> Digests:
    request = [part for part in parts if part.section in REQUEST]
    answer = [part for part in parts if part.section not in REQUEST]
    return Digests(
        hash(tuple(request)) or 1 if request else 0,
        hash(tuple(answer)) or 1 if answer else 0,
        partial(_words, request),
    )


def _words(request: Iterable[Part]) -> frozenset[str]:
    found = (word.group() for part in request for word in _WORD.finditer(part.text[:_SCANNED]))
    return frozenset(islice(found, _WORDS))


# Words of a text.

MAX_WORDS: Final = 4_000
"""Texts with more words are compared by lines first, and by words inside the lines that changed."""

MAX_WORK: Final = 1_000_000
"""Pairs of equal words, or lines, in two texts; with more, what differs is taken as a whole."""


class Piece(NamedTuple):
    """A piece of two texts: the same in both, or what one has in the place of the other; at least one is not empty."""

    old: str
    new: str

    @property
    def same(self) -> bool:
        """Whether both texts have it, apart from white space."""
        return self.old == self.new or self.old.split() == self.new.split()


def word_pieces(old: str, new: str) -> list[Piece]:
    """Return two texts as pieces; all `old` together are the old text, and all `new` the new one.

    Words are split at white space. A lone equal word between two changes belongs to them: phrases, not crumbs.
    """
    words = _split(old), _split(new)
    if max(map(len, words)) <= MAX_WORDS:
        return _joined(_pieces(*words))
    by_line = _pieces(old.splitlines(keepends=True), new.splitlines(keepends=True))
    found: list[Piece] = []
    for piece in by_line:
        pair = _split(piece.old), _split(piece.new)
        fits = not piece.same and all(pair) and max(map(len, pair)) <= MAX_WORDS
        found += _pieces(*pair) if fits else [piece]
    return _joined(found)


def count_words(text: str) -> int:
    """Return how many words a text has."""
    return len(text.split())


def _split(text: str) -> list[str]:
    """Words with the white space behind each."""
    return re.findall(r"\s*\S+\s*|\s+", text) if text[:1].isspace() else re.findall(r"\S+\s*", text)


def _pieces(old: Sequence[str], new: Sequence[str]) -> list[Piece]:
    """Compare two sequences of texts."""
    bare = [text.strip() for text in old], [text.strip() for text in new]
    return [
        Piece("".join(old[start:end]), "".join(new[new_start:new_end]))
        for start, end, new_start, new_end in _gaps_and_matches(*bare)
    ]


Range = tuple[int, int, int, int]
"""Start and end in the old sequence, then in the new one."""


def _gaps_and_matches(old: Sequence[Hashable], new: Sequence[Hashable]) -> list[Range]:
    """Align two sequences: the ranges that are equal, and those between."""
    first, last, shorter = 0, 0, min(len(old), len(new))
    while first < shorter and old[first] == new[first]:
        first += 1
    while last < shorter - first and old[-1 - last] == new[-1 - last]:
        last += 1
    ends = len(old) - last, len(new) - last
    before, after = old[first : ends[0]], new[first : ends[1]]
    counts = Counter(before)
    if sum(counts[one] * number for one, number in Counter(after).items()) > MAX_WORK:
        between = [(0, len(before), 0, len(after))]
    else:
        between = [found[1:] for found in SequenceMatcher(None, before, after, autojunk=False).get_opcodes()]
    ranges = [(0, first, 0, first), *(_shifted(one, first) for one in between), (ends[0], len(old), ends[1], len(new))]
    return [one for one in ranges if one[0] < one[1] or one[2] < one[3]]


def _shifted(one: Range, by: int) -> Range:
    return one[0] + by, one[1] + by, one[2] + by, one[3] + by


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Join changes with lone equal words between them, and neighbours of one sort."""
    joined: list[Piece] = []
    was_same = False
    for number, piece in enumerate(pieces):
        between = 0 < number < len(pieces) - 1 and not pieces[number - 1].same and not pieces[number + 1].same
        same = piece.same and not (between and count_words(piece.new) <= 1)
        if joined and was_same == same:
            joined[-1] = Piece(joined[-1].old + piece.old, joined[-1].new + piece.new)
        else:
            joined.append(piece)
        was_same = same
    return joined


# What changed of one span.


@dataclass(frozen=True, slots=True)
class TextChange:
    """A text of a span in both runs; empty in the run that does not have it.

    Attributes:
        section: Parameters, Messages, Tools, Input, Answer, Output, Documents or Error.
        name: of a parameter or a tool; the role of a message.
    """

    section: Section
    name: str
    old: str
    new: str

    @property
    def same(self) -> bool:
        """Whether the text is the same in both runs."""
        return self.old == self.new

    @property
    def pieces(self) -> list[Piece]:
        """The words that are the same and that differ."""
        return word_pieces(self.old, self.new)


def text_changes(old: Sequence[Part], new: Sequence[Part]) -> tuple[TextChange, ...]:
    """Compare the parts of a span in two runs, section by section.

    Parameters, tools and arguments are paired by name. Messages are aligned: equal ones first, then those between
    by order.
    """
    by_section: dict[Section, tuple[list[Part], list[Part]]] = {section: ([], []) for section in _SECTIONS}
    for side, parts in enumerate((old, new)):
        for part in parts:
            by_section[part.section][side].append(part)
    return tuple(change for section, both in by_section.items() for change in _compared(section, *both))


_SECTIONS: Final[tuple[Section, ...]] = (
    "Parameters",
    "Messages",
    "Tools",
    "Input",
    "Answer",
    "Output",
    "Documents",
    "Error",
)


_BY_NAME: Final = frozenset({"Parameters", "Tools", "Input", "Output"})


def _compared(section: Section, old: Sequence[Part], new: Sequence[Part]) -> Iterator[TextChange]:
    if section in _BY_NAME:
        before, after = ({part.name: part.text for part in parts} for parts in (old, new))
        for name in dict.fromkeys([*before, *after]):
            yield TextChange(section, name, before.get(name, ""), after.get(name, ""))
        return
    for start, end, new_start, new_end in _gaps_and_matches(old, new):
        left, came = deque(old[start:end]), deque(new[new_start:new_end])
        while left or came:
            one = left.popleft() if left else None
            # Messages of different roles are not versions of one.
            other = came.popleft() if came and (one is None or came[0].name == one.name) else None
            name = (other or one or Part(section, "", "")).name
            yield TextChange(section, name, one.text if one else "", other.text if other else "")


@dataclass(frozen=True, slots=True)
class SpanChange:
    """A span of one run or of both.

    Attributes:
        mark: changed, added, removed, moved or same. A span that was moved and changed counts as changed.
        old, new: the span's nodes in the trees; None in the run that does not have it.
        depth: 0 for a root.
        what: what changed, in words. Example: ("system", "temperature", "answer").
        request_differs, answer_differs: whether its request, or its answer, is another one.
        compared: whether the content of both spans is known.
    """

    mark: Mark
    old: SpanNode | None
    new: SpanNode | None
    depth: int
    what: tuple[str, ...] = ()
    request_differs: bool = False
    answer_differs: bool = False
    compared: bool = True
    _parts: tuple[Sequence[Part], Sequence[Part]] = field(default=((), ()), repr=False)

    @property
    def node(self) -> SpanNode:
        """The node of the new run, else of the old one."""
        node = self.new or self.old
        assert node is not None
        return node

    @property
    def name(self) -> str:
        """The span's name."""
        return self.node.record.name

    @property
    def texts(self) -> tuple[TextChange, ...]:
        """Parameters, messages, tools, answer, input and output in both runs, the same ones too."""
        return text_changes(*self._parts)


class TreeDiff:
    """The difference of two runs.

    Args:
        old, new: the trees.
        load: returns the details of spans.

    Attributes:
        rows: every span of both runs, in the order of the new tree; removed ones at their old place.
        totals: of the old and the new run.
    """

    def __init__(self, old: SpanTree, new: SpanTree, load: LoadDetails) -> None:
        self.old, self.new = old, new
        self._parts = [_parts(tree, load) for tree in (old, new)]
        sides = [
            Side(tree, [_digests(one) if one is not None else Digests() for one in parts])
            for tree, parts in zip((old, new), self._parts, strict=True)
        ]
        self._alignment = Alignment(*sides)
        self.rows = tuple(self._rows())
        self.totals: tuple[Totals, Totals] = tuple(  # type: ignore[assignment]
            summarize(node.record for node in tree.nodes) for tree in (old, new)
        )

    @property
    def changed(self) -> list[SpanChange]:
        """Spans that are in both runs and differ."""
        return self._marked("changed")

    @property
    def added(self) -> list[SpanChange]:
        """Spans that only the new run has."""
        return self._marked("added")

    @property
    def removed(self) -> list[SpanChange]:
        """Spans that only the old run has."""
        return self._marked("removed")

    @property
    def moved(self) -> list[SpanChange]:
        """Spans that are the same in both runs but at another place."""
        return self._marked("moved")

    @property
    def different(self) -> list[SpanChange]:
        """All spans but those that are the same."""
        return [row for row in self.rows if row.mark != "same"]

    @property
    def newly_failed(self) -> list[SpanChange]:
        """Spans of the new run in which an error began, and that did not fail in the old run."""
        return [
            row
            for row in self.rows
            if row.new is not None
            and row.new.error == "uncaught"
            and not (row.old is not None and row.old.record.status == "error")
        ]

    def calls(self, mark: Mark) -> list[SpanChange]:
        """The model calls with this mark. A changed one has another request or answer; spans of one call count once."""
        return [
            row
            for row in self._marked(mark)
            if row.node.record.facts.kind in CALL_KINDS
            and not row.node.repeats
            and (mark != "changed" or row.request_differs or row.answer_differs)
        ]

    @property
    def not_compared(self) -> int:
        """Number of spans in both runs whose content is no longer kept."""
        return sum(not row.compared for row in self.rows)

    def _marked(self, mark: Mark) -> list[SpanChange]:
        return [row for row in self.rows if row.mark == mark]

    def _rows(self) -> Iterator[SpanChange]:
        stack = [(*pair, 0) for pair in reversed(self._merged(ROOT, ROOT))]
        while stack:
            old, new, depth = stack.pop()
            yield self._change(old, new, depth)
            stack.extend((*pair, depth + 1) for pair in reversed(self._merged(old, new)))

    def _merged(self, old: int | None, new: int | None) -> list[tuple[int | None, int | None]]:
        """The children of a row: those of the new run, and the removed ones behind their old neighbour."""
        before, after = self._alignment.old, self._alignment.new
        kept = [] if new is None else [(after.partner[child], child) for child in after.children(new)]
        place = {partner: index for index, (partner, _) in enumerate(kept, 1)}
        removed: dict[int, list[tuple[int | None, int | None]]] = {}
        behind = 0
        for child in [] if old is None else before.children(old):
            if before.partner[child] is None:
                removed.setdefault(behind, []).append((child, None))
            else:
                behind = place.get(child, behind)
        merged = removed.get(0, [])
        for index, pair in enumerate(kept, 1):
            merged += [pair, *removed.get(index, ())]
        return merged

    def _change(self, old: int | None, new: int | None, depth: int) -> SpanChange:
        before = self.old.nodes[old] if old is not None else None
        after = self.new.nodes[new] if new is not None else None
        parts = self._parts[0][old] if old is not None else (), self._parts[1][new] if new is not None else ()
        known = parts[0] or (), parts[1] or ()
        if before is None or after is None:
            return SpanChange("added" if before is None else "removed", before, after, depth, _parts=known)
        assert old is not None
        assert new is not None
        compared = parts[0] is not None and parts[1] is not None
        of_old, of_new = self._alignment.old.digests[old], self._alignment.new.digests[new]
        request, answer = compared and of_old.request != of_new.request, compared and of_old.answer != of_new.answer
        words = list(_changed_words(text_changes(*known))) if request or answer else []
        if before.record.name != after.record.name:
            words.insert(0, f"was {before.record.name}")
        if before.record.status != after.record.status:
            words = [word for word in words if word != "error"]
            words.append(_STATUS_WORDS.get(after.record.status, after.record.status))
        changed = bool(words)
        if new in self._alignment.moved:
            words.append(self._moved_words(old, new))
        mark: Mark = "changed" if changed else "moved" if words else "same"
        return SpanChange(mark, before, after, depth, tuple(words), request, answer, compared, known)

    def _moved_words(self, old: int, new: int) -> str:
        above_old, above_new = self._alignment.old.parent[old], self._alignment.new.parent[new]
        same = (ROOT if above_old == ROOT else self._alignment.old.partner[above_old]) == above_new
        if same:
            return f"moved, was {_ordinal(self._alignment.old.children(above_old).index(old) + 1)}"
        return "moved" if above_old == ROOT else f"moved, was in {self.old.nodes[above_old].record.name}"


_STATUS_WORDS: Final = {"ok": "no longer failed", "error": "failed"}
_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def _ordinal(number: int) -> str:
    return _ORDINALS[number - 1] if number <= len(_ORDINALS) else f"number {number:,}"


def _changed_words(changes: Iterable[TextChange]) -> dict[str, None]:
    """The words for what changed, each once: `system`, `temperature`, `tools`, `answer`."""
    words: dict[str, None] = {}
    for change in changes:
        if not change.same:
            word = change.name if change.section in ("Parameters", "Messages", "Input") else change.section.lower()
            words[word] = None
    return words


def _parts(tree: SpanTree, load: LoadDetails) -> list[tuple[Part, ...] | None]:
    """The parts of each node; None for one whose details are no longer kept."""
    details = load([node.record for node in tree.nodes])
    found: list[tuple[Part, ...] | None] = []
    for node in tree.nodes:
        one = details.get(key_of(node.record))
        found.append(None if one is None else parts_of(node.record, content(one.attributes, one.events)))
    return found


def cost_of(record: SpanRecord) -> float | None:
    """US dollars of a span, recorded or estimated; None if unknown."""
    return prices.cost_of(record.facts)[0]
