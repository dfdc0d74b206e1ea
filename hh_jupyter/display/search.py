"""Find a text in spans: in their names, messages, inputs, outputs and attributes, whatever form the text is stored in.

A search has two steps. `SearchText.may_be_in` looks at the bytes of an encoded request, which takes a hundredth of the
time of decoding it, and is wrong in one direction only: what it rules out holds no hit. `SearchText.hits` reads a span
and decides.
"""

from __future__ import annotations

import math
import re
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from hh_jupyter.conventions import content
from hh_jupyter.conventions.facts import Message, SpanContent, parsed
from hh_jupyter.display import media
from hh_jupyter.display.format import clean
from hh_jupyter.records.calls import key_of
from hh_jupyter.records.record import SpanDetails, SpanRecord

BEFORE: Final = 40
AFTER: Final = 60
MATCH: Final = 80
WHERE: Final = 40
"""Characters of the context before and after a match, of the match, and of the name of its place."""

MAX_DEPTH: Final = 40
_OPENING: Final = tuple("{[(")

Place = tuple[str, Any]
"""What a part of a span is called, such as "user" or "input", and its value."""

_Hit = tuple[str, str, re.Match[str]]
"""Place, text and match of a hit."""


@dataclass(frozen=True, slots=True)
class Hits:
    """The hits in one span.

    Attributes:
        record: the span.
        count: number of hits.
        where: the part of the span that has the first hit. Example: "user", "input city".
        before, match, after: one line around the first hit, without control characters.
    """

    record: SpanRecord
    count: int
    where: str
    before: str
    match: str
    after: str


class SearchText:
    """A text to find: plain text, in any case; white space matches any white space.

    Args:
        text: at least one character that is no white space.
    """

    def __init__(self, text: str) -> None:
        words = text.split()
        if not words:
            raise ValueError("expected a text to search for")
        self._words = words
        self._pattern = re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE)
        self._ascii = max(words, key=len).lower() if text.isascii() else ""
        # Numbers are not stored as text.
        self._is_number = re.fullmatch(r"[-+.\deE]*\d[-+.\deE]*", words[0]) is not None and len(words) == 1

    # Encoded requests

    def may_be_in(self, body: bytes) -> bool:
        """Return False only if none of the spans in an encoded request has a hit."""
        lowered = body.lower()
        held = lowered.__contains__  # Twice as fast as a generator: each span is looked at.
        has_all = all(map(held, self._plain)) and all(any(map(held, codes)) for codes in self._others)
        if has_all and self._in_order(lowered):
            return True
        if self._is_number and any(map(self.found_in, _numbers(body))):
            return True
        return any(form.search(body) for form in _UNUSUAL) or any(map(body.__contains__, self._like_ascii))

    def _in_order(self, lowered: bytes) -> bool:
        """Whether the words may be beside each other, if all are of plain characters."""
        return self._sequence is None or self._sequence.search(lowered) is not None

    @cached_property
    def _sequence(self) -> re.Pattern[bytes] | None:
        if len(self._words) < 2 or not all(map(_PLAIN.fullmatch, self._words)):
            return None
        return re.compile(_GAP.join(re.escape(word.lower().encode()) for word in self._words))

    @cached_property
    def _like_ascii(self) -> list[bytes]:
        """Characters outside ASCII that are equal to one of the letters but for their case."""
        letters = "".join(self._words).lower()
        return [char.encode() for char, letter in _LIKE_ASCII.items() if letter in letters]

    @cached_property
    def _plain(self) -> list[bytes]:
        """The plain parts of the words, in lower case: a request with a hit holds all of them. Long ones come first."""
        parts = {part.lower() for word in self._words for part in _PLAIN.findall(word)}
        return [part.encode() for part in sorted(parts, key=len, reverse=True)]

    @cached_property
    def _others(self) -> list[list[bytes]]:
        """All encodings of each other character, in lower case: a request with a hit holds one of them."""
        others = {char for word in self._words for char in word if not char.isascii() and char not in _LIKE_ASCII}
        forms = _forms_by_case({char.casefold() for char in others})
        return [
            [code for form in forms.get(char.casefold(), {char}) for code in _encodings(form)]
            for char in sorted(others)
        ]

    # Spans

    def found_in(self, text: str) -> bool:
        """Whether a text has a hit."""
        if self._ascii and text.isascii() and self._ascii not in text.lower():  # Faster than the pattern.
            return False
        return self._pattern.search(text) is not None

    def hits(self, record: SpanRecord, details: SpanDetails | None) -> Hits | None:
        """Return the hits in a span; None if there are none.

        Args:
            record: the span.
            details: its attributes and events; None if they are no longer kept.
        """
        found = self._find(record, details)
        if not found:
            return None
        where, text, match = found[0]
        return Hits(record, len(found), clean(where, WHERE), *_line(text, match))

    def count_in(self, record: SpanRecord, details: SpanDetails | None) -> int:
        """Return the number of hits in a span; see `hits`."""
        return len(self._find(record, details))

    def _find(self, record: SpanRecord, details: SpanDetails | None) -> list[_Hit]:
        """Return the hits in a span. Content is shown from the attributes: they count only if it has no hit."""
        found = [hit for where, value in _record_places(record) for hit in self._in_value(where, value, 0)]
        if details is None:
            return found
        shown = content(details.attributes, details.events)
        found += [hit for where, value in _content_places(shown) for hit in self._in_value(where, value, 0)]
        return found or [hit for where, value in _attribute_places(details) for hit in self._in_value(where, value, 0)]

    def _in_value(self, where: str, value: Any, depth: int) -> Iterator[_Hit]:
        """Yield place, text and match of each hit in a value."""
        if isinstance(value, str):
            if self.found_in(value):
                text = media.without_base64(value)
                yield from ((where, text, match) for match in self._pattern.finditer(text))
            elif value.lstrip()[:1] in _OPENING and depth < MAX_DEPTH:
                yield from self._in_json(where, value, depth)
        elif isinstance(value, Mapping) and depth < MAX_DEPTH:
            for key, item in value.items():
                yield from self._in_value(where, str(key), depth + 1)
                yield from self._in_value(f"{where} {key}".lstrip(), item, depth + 1)
        elif isinstance(value, Sequence) and not isinstance(value, bytes) and depth < MAX_DEPTH:
            for item in value:
                yield from self._in_value(where, item, depth + 1)
        elif self._is_number and isinstance(value, int | float) and not isinstance(value, bool):
            yield from ((where, str(value), match) for match in self._pattern.finditer(str(value)))

    def _in_json(self, where: str, text: str, depth: int) -> Iterator[_Hit]:
        """Search the values of a text that is JSON: it may escape what the user sees."""
        if not self.may_be_in(text.encode("utf-8", "surrogatepass")):
            return
        value = parsed(text.strip())
        if not isinstance(value, str):
            yield from self._in_value(where, value, depth + 1)


def _line(text: str, match: re.Match[str]) -> tuple[str, str, str]:
    """Return the line around a match: what is before it, the match, what is after it."""
    start, end = match.span()
    before, after = text[max(0, start - 4 * BEFORE) : start], text[end : end + 4 * AFTER]
    shown, rest = clean(before, 4 * BEFORE), clean(after, AFTER)
    cut = len(shown) > BEFORE or start > 4 * BEFORE
    shown = f"…{shown[-BEFORE:].lstrip()}" if cut else shown
    gap, rest_gap = (" " if before[-1:].isspace() and shown else ""), (" " if after[:1].isspace() and rest else "")
    return shown + gap, clean(match[0], MATCH), rest_gap + rest


# The parts of a span.


def _record_places(record: SpanRecord) -> Iterator[Place]:
    yield "name", record.name
    if record.error is not None:
        yield "error", f"{record.error.type}: {record.error.message}"


def _content_places(shown: SpanContent) -> Iterator[Place]:
    """Yield what displays show above the attributes, in their order."""
    for message in (*shown.input_messages, *shown.output_messages):
        yield from _message_places(message)
    if not (shown.input_messages or shown.output_messages):
        yield "input", shown.input
    if not shown.output_messages:
        yield "output", shown.output
    yield "documents", shown.documents
    yield "metrics", shown.metrics
    yield "feedback", shown.feedback
    yield "metadata", shown.metadata
    yield "", shown.params
    yield "tools", shown.tools_offered


def _message_places(message: Message) -> Iterator[Place]:
    yield message.role, message.text
    for call in message.tool_calls:
        yield f"{message.role} call", call.name
        yield f"call {call.name}", call.arguments
    yield message.role, message.parts


def _attribute_places(details: SpanDetails) -> Iterator[Place]:
    """Yield everything that was exported."""
    for key, value in details.attributes.items():
        yield "attribute", key
        yield key, value
    for event in details.events:
        yield "event", event.name
        yield event.name, event.attributes
    for link in details.links:
        yield "link", link.get("attributes")
    yield "status", details.status_message


# All spans of a view at once.

Key = tuple[int, int]
"""Trace and span id."""

Candidates = Mapping[Key, Callable[[], SpanDetails]]
"""Spans that may have a hit, by key, and how to read one."""

Select = Callable[[Sequence[SpanRecord], Callable[[bytes], bool]], Candidates]


class HitCounter:
    """Counts the hits of a text in all spans of a view, for the search field of the live view.

    A look at the encoded spans rules out most of them; the others are read one after the other, which takes longer the
    more there are. What was counted is kept until another text is searched. Thread-safe.

    Args:
        select: returns the spans of some records that may have a hit, by a look at their bytes.
    """

    def __init__(self, select: Select) -> None:
        self._select = select
        self._lock = threading.Lock()
        self._text = ""
        self._known: dict[Key, tuple[SpanRecord, int | Callable[[], SpanDetails]]] = {}

    def counts(self, records: Sequence[SpanRecord], text: str, seconds: float = math.inf) -> tuple[dict[int, int], int]:
        """Return the number of hits by span id, of the spans that have some, and how many spans are still to be read.

        Those that are still to be read are among the spans, with 0 hits.

        Args:
            records: all spans of the view.
            text: plain text, in any case.
            seconds: stop to read after this time, so that other requests are answered; the next call goes on.
        """
        if not text.split():
            return {}, 0
        until, wanted = time.monotonic() + seconds, SearchText(text)
        with self._lock:
            if text != self._text:
                self._text, self._known = text, {}
            known = self._known = self._looked_at(records, wanted)
            waiting = [(record, found) for record, found in known.values() if not isinstance(found, int)]
            for read, (record, details) in enumerate(waiting):
                if read >= READ_AT_LEAST and time.monotonic() > until:
                    break
                known[key_of(record)] = record, wanted.count_in(record, details())
            numbers = {
                record.span_id: found if isinstance(found, int) else 0 for record, found in known.values() if found
            }
            return numbers, sum(not isinstance(found, int) for _, found in known.values())

    def _looked_at(
        self, records: Sequence[SpanRecord], wanted: SearchText
    ) -> dict[Key, tuple[SpanRecord, int | Callable[[], SpanDetails]]]:
        """Return the number of hits of each record, or what reads it; of those that are new or have changed anew."""
        new = [record for record in records if self._known.get(key_of(record), (None,))[0] is not record]
        found = self._select(new, wanted.may_be_in) if new else {}
        looked = {
            key: (record, found[key] if key in found else wanted.count_in(record, None))
            for record in new
            for key in (key_of(record),)
        }
        current = {**self._known, **looked}
        return {key: current[key] for key in map(key_of, records)}


READ_AT_LEAST: Final = 20
"""Spans that each call reads, so that it goes on."""

REPLY_SECONDS: Final = 0.12
"""For one reply. A page that waits for 2 seconds without a message takes the kernel for dead."""


def search_reply(counter: HitCounter, records: Sequence[SpanRecord], text: str) -> dict[str, Any]:
    """Return the answer to a page: `hits` by span id in hexadecimal, and how many spans are `left` to be read."""
    hits, left = counter.counts(records, text, REPLY_SECONDS)
    return {"hits": {f"{span_id:016x}": number for span_id, number in hits.items()}, "left": left}


# How characters may be encoded in the bytes of a request: as UTF-8, or escaped in JSON or in a Python literal.

_PLAIN_CHARACTER: Final = r"[A-Za-z0-9_.,:;()=@#!?*%-]"
_PLAIN: Final = re.compile(f"{_PLAIN_CHARACTER}+")
"""Characters that encoders of JSON do not escape. Some escape quotes, slashes and what has a meaning in HTML."""

_LIKE_ASCII: Final = {"\u0130": "i", "\u0131": "i", "\u017f": "s", "\u212a": "k"}
"""Characters that are ASCII letters in another case, for `re.IGNORECASE`."""

_GAP: Final = rb"(?:[\s\x1c-\x1f\x80-\xff]|\\+(?:[nrtfv\n]|x[0-9a-f]{2}|u[0-9a-f]{4}|[0-7]{1,3}))+"
"""What may be between two words."""


def _encodings(char: str) -> list[bytes]:
    """Return all ways to write a character outside ASCII, in lower case; without backslashes, which may be many."""
    code = ord(char)
    units = char.encode("utf-16-be", "surrogatepass").hex()
    escapes = [f"u{units[:4]}", f"u{code:08x}", *([f"x{code:02x}"] if code < 0x100 else [])]
    return [char.encode("utf-8", "surrogatepass"), *(escape.encode() for escape in escapes)]


def _unusual_forms() -> tuple[re.Pattern[bytes], ...]:
    """Return patterns for what hides plain characters: escapes of them, and Python literals of several pieces.

    Each pattern begins with one character, which makes the search fast.
    """
    plain = "|".join(f"{code:02x}" for code in range(0x80) if _PLAIN.fullmatch(chr(code)))
    code = f"(?i:00(?:{plain})|{'|'.join(f'{ord(char):04x}' for char in _LIKE_ASCII)})"
    octal, line = "0?[4-7][0-7]|1[0-7]{2}", rf"\n(?<={_PLAIN_CHARACTER}\\\n){_PLAIN_CHARACTER}"
    escapes = rf"\\(?:u{code}|U0000{code}|x(?i:{plain})|N\{{|{octal}|{line})"
    pieces = [rf"""{quote}(?:["'](?<=\w..)\w|[\s\\](?<=\w.[\s\\])[nrt\s\\]*["']\w)""" for quote in "\"'"]
    return tuple(re.compile(form.encode()) for form in (escapes, *pieces))


_UNUSUAL: Final = _unusual_forms()


_INTEGER: Final = re.compile(rb"[\x02-\x0b]\x18(?=([\x80-\xff]{0,9}[\x00-\x7f]))")
_FLOAT: Final = re.compile(rb"\x09\x21(?=(.{8}))", re.DOTALL)
"""Length, tag and number of an `AnyValue`, and what looks like one."""


def _numbers(body: bytes) -> Iterator[str]:
    """Yield the numbers in an encoded request, as `str` writes them, and perhaps others."""
    for match in _INTEGER.finditer(body):
        number = sum((byte & 0x7F) << 7 * at for at, byte in enumerate(match[1]))
        yield str(number - 2**64 if number >= 2**63 else number)
    for match in _FLOAT.finditer(body):
        yield str(struct.unpack("<d", match[1])[0])


def _forms_by_case(folded: set[str]) -> dict[str, set[str]]:
    """Return the characters outside ASCII that are equal to one of these but for their case, by that one."""
    forms: dict[str, set[str]] = {char: set() for char in folded if char.swapcase() != char or len(char) > 1}
    for code in range(0x80, _LAST_CASED) if forms else ():
        if (key := chr(code).casefold()) in forms:
            forms[key].add(chr(code))
    return forms


_LAST_CASED: Final = 0x1F000
"""Code points from here on have no case."""
