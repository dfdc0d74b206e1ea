"""Validation of settings: one rule per type of value, for arguments and for text from the environment."""

from __future__ import annotations

import json
import math
import re
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

TRUE_WORDS = frozenset({"true", "1", "yes", "on"})
FALSE_WORDS = frozenset({"false", "0", "no", "off", ""})
INGESTION_KEY = re.compile(r"hh_ingst_[A-Za-z0-9]{24}_[A-Za-z0-9_-]{64}")


class SettingRule(NamedTuple):
    """A rule for the value of a setting.

    Attributes:
        expected: the rule as the end of the sentence "source must be ...".
        check: returns a Python value in normalized form; raises TypeError or ValueError if the rule forbids it.
        decode: turns text from the environment into a value for `check`, or raises ValueError.
    """

    expected: str
    check: Callable[[Any], Any]
    decode: Callable[[str], Any] = str

    def parse(self, text: str) -> Any:
        """Return the value of text from the environment in normalized form; raises as `check`."""
        return self.check(self.decode(text))


def _typed(*types: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        found = type(value)  # `isinstance` would ask the value, which may raise.
        if not issubclass(found, types) or (issubclass(found, bool) and bool not in types):
            raise TypeError
        return value

    return check


def _callable(value: Any) -> Any:
    if not callable(value):
        raise TypeError
    return value


def _stripped(value: Any) -> str | None:
    return _typed(str)(value).strip() or None


def _id(value: Any) -> str | None:
    """The id as text; a `uuid.UUID` is accepted too."""
    return _stripped(str(value) if isinstance(value, uuid.UUID) else value)


def _key(value: Any) -> str | None:
    """Text that is valid in an HTTP header."""
    key = _stripped(value)
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ValueError
    return key


def _ingestion_key(value: Any) -> str | None:
    key = _stripped(value)
    if key is not None and not INGESTION_KEY.fullmatch(key):
        raise ValueError
    return key


def _url(value: Any) -> str | None:
    text = _stripped(value)
    return None if text is None else _address(text, "http", "https")


def _address(text: str, *schemes: str) -> str:
    parts = urlsplit(text)
    good = parts.scheme in schemes and parts.hostname and parts.port != 0  # Reading an invalid port raises ValueError.
    if not good or any(c.isspace() for c in text):
        raise ValueError
    return text.rstrip("/")


def _proxy(value: Any) -> str | None:
    """A proxy URL; `host:port` means `http://host:port`."""
    text = _stripped(value)
    if text is None:
        return None
    return _address(text if "://" in text else f"http://{text}", "http", "https", "socks5", "socks5h")


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise TypeError
    if not all(name and (name + text).isascii() and (name + text).isprintable() for name, text in value.items()):
        raise ValueError
    return dict(value)


def _link(value: Any) -> str | None:
    text = _url(value)
    if text is not None and (not text.startswith("https://") or "{session_id}" not in text):
        raise ValueError
    return text


def _boolean_word(text: str) -> bool:
    word = text.strip().lower()
    if word not in TRUE_WORDS | FALSE_WORDS:
        raise ValueError
    return word in TRUE_WORDS


def _span_filters(value: Any) -> Mapping[str, tuple[str, ...]]:
    """`{"include": [{"type": "prefix", "value": "agent"}], "exclude": [...]}` -> prefixes by side."""
    value = _dumped(value)
    if not isinstance(value, Mapping):
        raise TypeError
    prefixes: dict[str, tuple[str, ...]] = {}
    for side, entries in value.items():
        if entries is None:  # An unset field of a model.
            continue
        if side not in ("include", "exclude") or isinstance(entries, str) or not isinstance(entries, Sequence):
            raise ValueError
        prefixes[side] = tuple(_prefix(entry) for entry in entries)
    return prefixes


def _dumped(value: Any) -> Any:
    """The dict of a pydantic model, as in the official client's config objects; any other value unchanged."""
    return value.model_dump() if callable(getattr(value, "model_dump", None)) else value


def _prefix(entry: Any) -> str:
    if isinstance(entry, str):  # Already normalized: settings may be derived from settings.
        return entry
    entry = _dumped(entry)
    if not isinstance(entry, Mapping) or entry.get("type") != "prefix" or not isinstance(entry.get("value"), str):
        raise ValueError
    return str(entry["value"])


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        raise TypeError
    return tuple(value)


def _patterns(value: Any) -> tuple[str, ...]:
    patterns = _texts(value)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error:
            raise ValueError from None
    return patterns


def _pattern_list(text: str) -> Any:
    """A JSON list or one regular expression; text that begins like a JSON list of strings is not an expression."""
    try:
        found = json.loads(text)
    except ValueError:
        if re.match(r"\[\s*[\"']", text):  # It would be valid as a character set, but was meant as JSON.
            raise
        return [text]
    if isinstance(found, list | dict):
        return found
    return [found if isinstance(found, str) else text]


def _name_list(text: str) -> Any:
    """A JSON list, or names that are separated by commas."""
    if text.lstrip().startswith("["):
        return json.loads(text)
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _at_least(low: float, *types: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if _typed(*types)(value) < low:
            raise ValueError
        return value

    return check


def one_of(*words: str) -> SettingRule:
    """One of these words, in any case."""

    def check(value: Any) -> str:
        word = str(_typed(str)(value)).strip().lower()
        if word not in words:
            raise ValueError
        return word

    return SettingRule(f"one of {', '.join(words)}", check)


def whole(low: int, unit: str) -> SettingRule:
    """A whole number of `unit`, at least `low`."""
    return SettingRule(f"a whole number of {unit}, at least {low}", _at_least(low, int), int)


def _dollars(value: Any) -> Any:
    if not 0 < _typed(int, float)(value) < math.inf:  # Also rejects NaN.
        raise ValueError
    return value


def _amount(text: str) -> float:
    return float(text.removeprefix("$"))


def seconds(low: float = 0) -> SettingRule:
    """A number of seconds, at least `low`."""
    number = _at_least(low, int, float)

    def check(value: Any) -> Any:
        if not number(value) <= threading.TIMEOUT_MAX:  # Also rejects NaN.
            raise ValueError
        return value

    return SettingRule(f"a number of seconds, at least {low:g}", check, float)


TEXT = SettingRule("text", _typed(str))
ID = SettingRule("text", _id)
KEY = SettingRule("text of printable ASCII characters", _key)
PROXY = SettingRule("a proxy as host:port or http://user:password@host:port", _proxy)
HEADERS = SettingRule(
    "a dict of header names and texts in ASCII (in the environment: a JSON object)", _headers, json.loads
)
INGESTION = SettingRule(
    "an ingestion key: hh_ingst_, 24 letters or digits, _, 64 of letters, digits, _ and -", _ingestion_key
)
LINK = SettingRule("an https:// URL with {session_id} in it", _link)
URL = SettingRule("a URL that starts with http:// or https://", _url)
SWITCH = SettingRule(
    "True or False (in the environment: true, 1, yes, on, false, 0, no, off)", _typed(bool), _boolean_word
)
OBJECT = SettingRule("a dict (in the environment: a JSON object)", _typed(dict), json.loads)
FILTERS = SettingRule(
    'like {"include": [{"type": "prefix", "value": "agent"}], "exclude": [...]}', _span_filters, json.loads
)
NAMES = SettingRule(
    "a list of texts (in the environment: separated by commas, or a JSON list of them)", _texts, _name_list
)
PATTERNS = SettingRule(
    "a list of regular expressions (in the environment: one, or a JSON list of them)", _patterns, _pattern_list
)
CALLABLE = SettingRule("a function of a key and a value", _callable)
DOLLARS = SettingRule("a number of US dollars above 0", _dollars, _amount)
ANYTHING = SettingRule("anything", lambda value: value)
