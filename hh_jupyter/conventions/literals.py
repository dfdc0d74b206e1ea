"""Reads Python literals, as `repr` writes them, from hostile text.

`ast.literal_eval` builds a syntax tree. In Python 3.11, two threads that build trees can make each other fail
(SystemError: AST constructor recursion depth mismatch), and a program may build trees at any time.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Any, Final

# Escapes that Python accepts without a warning.
_OF_BYTES: Final = r"""\\(?:[abfnrtv\\'"\n]|(?![4-7][0-7][0-7])[0-7]{1,3}|x[0-9a-fA-F]{2})"""
_OF_TEXT: Final = rf"""(?:{_OF_BYTES}|\\(?:u[0-9a-fA-F]{{4}}|U[0-9a-fA-F]{{8}}|N\{{[^{{}}'"\n]+\}}))"""


def _quoted(escape: str) -> str:
    return rf"""(?:'(?:[^'\\\n\r]++|{escape})*+'|"(?:[^"\\\n\r]++|{escape})*+")"""


_ESCAPES: Final = re.compile(_OF_TEXT)
_TOKEN: Final = re.compile(
    rf"""[ \t\n\r\f]*+(?:
        (?P<text>[uU]?{_quoted(_OF_TEXT)}|[bB]{_quoted(_OF_BYTES)})
        |(?P<number>[+-]?\.?[0-9](?:[0-9A-Za-z_.]|(?<=[eE])[+-])*+)
        |(?P<word>(?:True|False|None|set\(\))(?![0-9A-Za-z_]))
        |(?P<sign>[][(){{}}:,])
        |(?P<end>\Z)
    )""",
    re.VERBOSE,
)
_NAMED: Final = {"True": True, "False": False, "None": None}

Tokens = list[tuple[str, str]]
"""Kind and text of each token, the next one last."""


def literal(text: str, max_depth: int) -> Any:
    """Return the value of a literal: text, bytes, real numbers, True, False, None, or a container of them.

    Args:
        max_depth: number of levels of brackets.

    Raises:
        ValueError: the text is something else, or is nested too deeply.
    """
    tokens = _tokens_of(text)
    try:
        return _one_or_tuple(tokens, "", max_depth)
    except TypeError as error:  # A list as a key, or text beside bytes.
        raise ValueError(str(error)) from None


def _tokens_of(text: str) -> Tokens:
    tokens: Tokens = []
    position, kind = 0, ""
    while kind != "end":
        found = _TOKEN.match(text, position)
        if found is None:
            raise ValueError(f"no literal at character {position}")
        kind, position = str(found.lastgroup), found.end()
        tokens.append((kind, found[kind]))
    tokens.reverse()
    return tokens


def _value(tokens: Tokens, depth: int) -> Any:
    kind, token = tokens.pop()
    if kind == "text":
        found = _text_of(token)
        while tokens[-1][0] == "text":
            found += _text_of(tokens.pop()[1])
        return found
    if kind == "number":
        return _number_of(token)
    if kind == "word":
        return _NAMED.get(token, set())
    if token not in _READERS or depth == 0:
        raise ValueError("no value, or nested too deeply")
    return _READERS[token](tokens, depth - 1)


def _in_brackets(tokens: Tokens, depth: int) -> list[Any]:
    return _items(tokens, "]", depth)[0]


def _in_parentheses(tokens: Tokens, depth: int) -> Any:
    return _one_or_tuple(tokens, ")", depth)


def _items(tokens: Tokens, closing: str, depth: int) -> tuple[list[Any], bool]:
    """Read values up to a closing bracket; return whether a comma follows the last one, too."""
    items, comma = [], True
    while tokens[-1][1] != closing:
        if not comma:
            raise ValueError("no comma")
        items.append(_value(tokens, depth))
        comma = _skip(tokens, ",")
    tokens.pop()
    return items, comma and bool(items)


def _one_or_tuple(tokens: Tokens, closing: str, depth: int) -> Any:
    items, comma = _items(tokens, closing, depth)
    return items[0] if len(items) == 1 and not comma else tuple(items)


def _in_braces(tokens: Tokens, depth: int) -> Any:
    keys, values, comma = [], [], True
    while tokens[-1][1] != "}":
        if not comma:
            raise ValueError("no comma")
        keys.append(_value(tokens, depth))
        if _skip(tokens, ":"):
            values.append(_value(tokens, depth))
        comma = _skip(tokens, ",")
    tokens.pop()
    return set(keys) if keys and not values else dict(zip(keys, values, strict=True))


_READERS: Final[dict[str, Callable[[Tokens, int], Any]]] = {
    "[": _in_brackets,
    "(": _in_parentheses,
    "{": _in_braces,
}


def _skip(tokens: Tokens, sign: str) -> bool:
    """Remove the next token if it is this one."""
    found = tokens[-1][1] == sign
    if found:
        tokens.pop()
    return found


def _text_of(token: str) -> Any:
    """Return the text or the bytes of a token.

    Raises:
        ValueError: an escape names no character, or bytes contain something else.
    """
    text = _ESCAPES.sub(_unescaped, token[1 if token[0] in "'\"" else 2 : -1])
    if token[0] not in "bB":
        return text
    if not token.isascii():
        raise ValueError("bytes with other characters")
    return text.encode("latin-1")


def _unescaped(escape: re.Match[str]) -> str:
    return codecs.decode(escape[0], "unicode_escape")


def _number_of(token: str) -> float:
    """Return the number of a token.

    Raises:
        ValueError: it is no number.
    """
    try:
        return int(token, 0)
    except ValueError:
        if not set(token) & set(".eE"):  # `float` would accept more digits than Python does for an integer.
            raise
        return float(token)
