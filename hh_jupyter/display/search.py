"""Find a text in spans: in their names, messages, inputs, outputs and attributes, whatever form the text is stored in.

A search has two steps. `SearchText.may_be_in` looks at the bytes of an encoded request, which takes a hundredth of the
time of decoding it, and is wrong in one direction only: what it rules out holds no hit. `SearchText.hits` reads a span
and decides.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from hh_jupyter.conventions import content
from hh_jupyter.conventions.facts import Message, SpanContent, parsed
from hh_jupyter.display import media
from hh_jupyter.display.format import clean
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
