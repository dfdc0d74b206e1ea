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
        # Numbers are not stored as text.
        self._is_number = re.fullmatch(r"[-+.\deE]*\d[-+.\deE]*", words[0]) is not None and len(words) == 1

    # Encoded requests

    def may_be_in(self, body: bytes) -> bool:
        """Return False only if none of the spans in an encoded request has a hit."""
        lowered = body.lower()
        if all(any(code in lowered for code in part) for part in self._parts):
            return True
        if self._is_number and any(map(self.found_in, _numbers(body))):
            return True
        escaped = b"\\" in body
        return any((escaped or mark[:1] != b"\\") and mark in body and form.search(body) for mark, form in _UNUSUAL)

    @cached_property
    def _parts(self) -> list[list[bytes]]:
        """What a request with a hit holds, in lower case: each part in one of its encodings. Long parts come first."""
        plain = {part.lower() for word in self._words for part in _PLAIN.findall(word)}
        others = {char for word in self._words for char in word if not char.isascii() and char not in _LIKE_ASCII}
        forms = _forms_by_case({char.casefold() for char in others})
        encoded = [
            [code for form in forms.get(char.casefold(), {char}) for code in _encodings(form)]
            for char in sorted(others)
        ]
        return [*([part.encode()] for part in sorted(plain, key=len, reverse=True)), *encoded]

    # Spans

    def found_in(self, text: str) -> bool:
        """Whether a text has a hit."""
        return self._pattern.search(text) is not None

    def hits(self, record: SpanRecord, details: SpanDetails | None) -> Hits | None:
        """Return the hits in a span; None if there are none.

        Args:
            record: the span.
            details: its attributes and events; None if they are no longer kept.
        """
        places: list[Iterator[Place]] = [_record_places(record)]
        if details is not None:
            shown = content(details.attributes, details.events)
            # The content is shown from the same attributes: count each hit once.
            places = [_all(_record_places(record), _content_places(shown)), _attribute_places(details)]
        for some in places:
            found = [hit for where, value in some for hit in self._in_value(where, value, 0)]
            if found:
                where, text, match = found[0]
                return Hits(record, len(found), clean(where, WHERE), *_line(text, match))
        return None

    def _in_value(self, where: str, value: Any, depth: int) -> Iterator[tuple[str, str, re.Match[str]]]:
        """Yield place, text and match of each hit in a value."""
        if isinstance(value, str):
            if self._pattern.search(value):
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

    def _in_json(self, where: str, text: str, depth: int) -> Iterator[tuple[str, str, re.Match[str]]]:
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


def _all(*places: Iterator[Place]) -> Iterator[Place]:
    for some in places:
        yield from some


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

MAX_INDEXED: Final = 32_000_000
"""Maximum characters that an index keeps; spans that do not fit are searched by name only."""

MAX_LEAF: Final = 100_000
"""Characters of one text that displays show."""

READ_AT_ONCE: Final = 200
"""Spans whose content is read before the clock is looked at: about 20 ms."""

_APART: Final = "\0"
"""Between two texts: no hit reaches from one into the next."""

Load = Callable[[Sequence[SpanRecord]], Mapping[tuple[int, int], SpanDetails]]
Indexed = tuple[SpanRecord, str, str]
"""A record, its texts above the attributes, and those in its attributes, in lower case and with single spaces."""


class TextIndex:
    """The texts of the spans of a view, which the search field of the live view counts hits in.

    Reading the content of 10,000 spans takes a second, counting the hits in their texts a hundredth of that. The texts
    of the view that was searched last are kept; those of records that have changed are read again. Thread-safe.

    Args:
        load: returns the details of records by trace and span id, as far as they are kept.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._texts: dict[tuple[int, int], Indexed] = {}

    def counts(self, records: Sequence[SpanRecord], text: str, seconds: float = math.inf) -> tuple[dict[int, int], int]:
        """Return the number of hits by span id, of the spans that have some, and how many spans are still to be read.

        As in `SearchText.hits`, attributes count if there is no hit above them: they hold the same texts.

        Args:
            records: all spans of the view.
            text: plain text, in any case; empty to prepare the search only.
            seconds: stop to read after this time, so that other requests are answered; the next call goes on.
        """
        wanted = _folded(text)
        with self._lock:
            rows = self._read(records, time.monotonic() + seconds)
        found = {
            record.span_id: shown.count(wanted) or attributes.count(wanted)
            for record, shown, attributes in (rows if wanted else ())
            if wanted in shown or wanted in attributes
        }
        return found, len(records) - len(rows)

    def _read(self, records: Sequence[SpanRecord], until: float) -> list[Indexed]:
        known = self._texts
        missing = [record for record in records if known.get(key_of(record), (None,))[0] is not record]
        read: dict[tuple[int, int], Indexed] = {}
        for start in range(0, len(missing), READ_AT_ONCE):
            some = missing[start : start + READ_AT_ONCE]
            details = self._load(some)
            read |= {key_of(record): _indexed(record, details.get(key_of(record))) for record in some}
            if time.monotonic() > until:
                break
        current = {**known, **read}
        rows = [row for one in records if (row := current.get(key_of(one))) is not None and row[0] is one]
        kept, left = {}, MAX_INDEXED
        for row in rows:
            left -= len(row[1]) + len(row[2])
            kept[key_of(row[0])] = row if left >= 0 else (row[0], row[1].partition(_APART)[0], "")
        self._texts = kept
        return [kept[key_of(row[0])] for row in rows]


REPLY_SECONDS: Final = 0.3
"""A page that waits for longer without a message takes the kernel for dead after 2 seconds."""


def search_reply(index: TextIndex, records: Sequence[SpanRecord], text: str) -> dict[str, Any]:
    """Return the answer to a page: `hits` by span id in hexadecimal, and how many spans are `left` to be read."""
    hits, left = index.counts(records, text, REPLY_SECONDS)
    return {"hits": {f"{span_id:016x}": number for span_id, number in hits.items()}, "left": left}


def _indexed(record: SpanRecord, details: SpanDetails | None) -> Indexed:
    if details is None:
        return record, _joined(_record_places(record)), ""
    shown = content(details.attributes, details.events)
    above = _joined(_all(_record_places(record), _content_places(shown)))
    return record, above, _joined(_attribute_places(details), above)


def _joined(places: Iterator[Place], above: str = "") -> str:
    """Return the texts of places in one, without those that are also above."""
    texts = (_folded(media.without_base64(leaf)) for _, value in places for leaf in _leaves(value, 0))
    return _APART.join(text for text in texts if text not in above)


def _folded(text: str) -> str:
    return " ".join(text[:MAX_LEAF].lower().split())


def _leaves(value: Any, depth: int) -> Iterator[str]:
    """Yield the texts in a value, as displays show them: JSON with escapes is read."""
    if isinstance(value, str):
        escaped = "\\" in value and value.lstrip()[:1] in _OPENING and depth < MAX_DEPTH
        inner = parsed(value.strip()) if escaped else value
        if isinstance(inner, str):
            yield value
        else:
            yield from _leaves(inner, depth + 1)
    elif isinstance(value, Mapping) and depth < MAX_DEPTH:
        for key, item in value.items():
            yield str(key)
            yield from _leaves(item, depth + 1)
    elif isinstance(value, Sequence) and not isinstance(value, bytes) and depth < MAX_DEPTH:
        for item in value:
            yield from _leaves(item, depth + 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


# How characters may be encoded in the bytes of a request: as UTF-8, or escaped in JSON or in a Python literal.

_PLAIN_CHARACTER: Final = r"[A-Za-z0-9_.,:;()=@#!?*%-]"
_PLAIN: Final = re.compile(f"{_PLAIN_CHARACTER}+")
"""Characters that encoders of JSON do not escape. Some escape quotes, slashes and what has a meaning in HTML."""

_LIKE_ASCII: Final = "\u0130\u0131\u017f\u212a"
"""Characters that are the letters i, s and k in another case, for `re.IGNORECASE`."""


def _encodings(char: str) -> list[bytes]:
    """Return all ways to write a character outside ASCII, in lower case; without backslashes, which may be many."""
    code = ord(char)
    units = char.encode("utf-16-be", "surrogatepass").hex()
    escapes = [f"u{units[:4]}", f"u{code:08x}", *([f"x{code:02x}"] if code < 0x100 else [])]
    return [char.encode("utf-8", "surrogatepass"), *(escape.encode() for escape in escapes)]


def _unusual_forms() -> tuple[tuple[bytes, re.Pattern[bytes]], ...]:
    """Return patterns for what hides plain characters, each with what a request must hold for it.

    These are escapes, characters like plain ones, and Python literals of several pieces. A quick look for the mark
    takes a tenth of the time of a search for the pattern.
    """
    plain = "|".join(f"{code:02x}" for code in range(0x80) if _PLAIN.fullmatch(chr(code)))
    like = "|".join(f"{ord(char):04x}" for char in _LIKE_ASCII)
    code, space = f"(?i:00(?:{plain})|{like})", r"(?:\s|\\+[nrt])"
    forms = {"\\u0": rf"\\u{code}", "\\u21": rf"\\u{code}", "\\U0000": rf"\\U0000{code}"}
    forms |= {"\\x": rf"\\x(?i:{plain})", "\\N{": r"\\N\{"}
    forms["\\\n"] = rf"\\\n(?<={_PLAIN_CHARACTER}\\\n){_PLAIN_CHARACTER}"
    forms |= dict.fromkeys((f"\\{digit}" for digit in "014567"), r"\\(?:0?[4-7][0-7]|1[0-7]{2})")
    forms |= {char: char for char in _LIKE_ASCII}
    forms["'"] = rf"""'(?<=\w'){space}*\\*["']\w"""
    forms |= dict.fromkeys(('""', '" ', '"\n', '"\\', '"\r', '"\t', "\"'"), rf""""(?<=\w"){space}*\\*["']\w""")
    return tuple((mark.encode(), re.compile(pattern.encode())) for mark, pattern in forms.items())


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
