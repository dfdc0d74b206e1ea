"""Replaces secrets in values, once per span, before anything is sent, stored or shown.

The replacement names the rule: "[redacted: api_key]". Redacting twice changes nothing. The module has two parts: the
`Redactor`, which applies the rules of `secret_rules`; and `redact_with`, the user's own function. A span costs a few
microseconds: the rule for a key is cached, known clean text is not searched again, and all text of a span is searched
together for the triggers of the rules. A key that is itself a secret, as in `{"sk-proj-...": 3}`, is renamed.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from hh_jupyter.secret_rules import (
    REDACTED,
    RULES,
    SecretRule,
    custom_key_rules,
    environment_secrets,
    key_parts,
    key_rule,
    literal_rule,
    normalized_key,
    redact_by_key,
)
from hh_jupyter.token_forms import TOKENS, any_in, grouped

_SHORTEST: Final = 8  # Characters; no built-in value rule matches less.
_NAMESPACE: Final = "honeyhive_"
_USER_VALUES: Final = ("honeyhive_inputs", "honeyhive_outputs", "honeyhive_metadata", "honeyhive_user_properties")
"""Beginnings of the attributes whose numbers are the user's; other numbers are tokens, times and settings."""

_CLEAN_LENGTH: Final = 64
_CACHE_SIZE: Final = 4096
_SHARED: Final = ("@", "key", "token", "pass", "sig", "auth", "cookie", "private", "acc")  # In many triggers.
_SEQUENCES: Final = (tuple, list)
_NUMBERS: Final = (int, float)
_FILE_LENGTH: Final = 8_192
"""Characters of base64 from which on it counts as an image or another file; secrets are shorter."""

_FILE: Final = re.compile(rf"(?:(?<=[\"',])|\A)[A-Za-z0-9+/_-]{{{_FILE_LENGTH},}}+")
"""Base64 after a quote or the comma of a `data:` URI; not after a space, which a PEM key in one line has."""

_PORTION: Final = 256 * 1024
"""Characters of short texts that are searched at once: no other thread runs meanwhile."""

_PART_OF_FILE: Final = re.compile(r"[A-Za-z0-9+/_-]{64}")
_CUT_NOTE: Final = re.compile(r"\.\.\. \([0-9,]{1,20} characters\)\Z")
_BY_FORM: Final = "form"  # In place of a trigger, if there is a token.
_FILE_NUMBER: Final = re.compile("hhFile([0-9]{1,9})x{64}")
_LONGEST_READ: Final = 2_000  # Characters of a long value that are redacted to show its beginning.


_Text = tuple[str, Any, str]
"""The key of a value, the value, and all of its text."""


class _SecretKey(NamedTuple):
    """A key that contains a secret: the rule for its value, and its name without the secret."""

    rule: str
    shown: str


class Redactor:
    """Replaces secrets in attributes and text. Thread-safe; create one per configuration and reuse it.

    Args:
        enabled: False replaces only `secrets`.
        keys: additional names of keys whose texts and numbers are secret; case, `-` and `_` do not matter.
        patterns: regular expressions of additional secrets in texts, and in numbers of inputs, outputs and metadata.
        environ: environment with secret-named variables, read once; `os.environ` by default.
        secrets: additional values to hide everywhere, such as the API key in use.
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        keys: Sequence[str] = (),
        patterns: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        self._custom_keys = {normalized_key(key): key for key in keys} if enabled else {}
        self._custom_rules = frozenset(self._custom_keys.values())
        self._checks_numbers = bool(patterns) and enabled
        self._checks_keys = enabled
        rules = [*RULES, *custom_key_rules(keys)] if enabled else []
        known = {"secret": [value for value in secrets if value]}
        if enabled:
            known["environment"] = environment_secrets(os.environ if environ is None else environ)
            rules += [SecretRule("pattern", ("",), re.compile(pattern)) for pattern in patterns]
        literal = [literal_rule(name, values) for name, values in known.items() if values]
        rules[:0] = literal
        self._known = tuple(literal)
        self.enabled = bool(rules)
        self._shortest = 1 if patterns and enabled else _SHORTEST
        self._rules = tuple((frozenset(rule.triggers or (_BY_FORM,)), rule) for rule in rules)
        self._trigger_groups = grouped((trigger for rule in rules for trigger in rule.triggers), _SHARED)
        self._key_rules: dict[str, str | _SecretKey] = {}
        self._clean: set[str] = set()

    def attributes(self, attrs: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """A new dict without secrets, and the number of changed keys and values."""
        result = dict(attrs)
        if not self.enabled:
            return result, 0
        changed, names = self._redact(result)
        return (_renamed(result, names), changed + len(names)) if names else (result, changed)

    def _redact(self, result: dict[str, Any]) -> tuple[int, dict[str, str]]:
        """Redact the values in place; returns the number of changed values and new names for keys with secrets."""
        changed, key_rules, clean = 0, self._key_rules, self._clean
        names: dict[str, str] = {}
        texts: list[_Text] = []
        for key, value in result.items():
            rule = key_rules.get(key)
            if rule is None:
                rule = self._remember_key(key)
            if rule and not isinstance(rule, str):
                rule, names[key] = rule
            if rule and (redacted := self._by_key(rule, value)) is not value:
                result[key] = redacted
                changed += 1
            elif self._checks_numbers and key.startswith(_USER_VALUES) and (found := self._number(value)) is not value:
                result[key] = found
                changed += 1
            elif type(value) is str:
                if len(value) >= _FILE_LENGTH:
                    result[key], number = self.text(value)
                    changed += number > 0
                elif len(value) >= self._shortest and value not in clean:
                    texts.append((key, value, value))
            elif type(value) in _SEQUENCES and any(type(part) is str for part in value):
                texts.append((key, value, "\n".join(map(str, value))))
        return changed + sum(self._by_value(result, some) for some in _portions(texts)), names

    def _by_key(self, rule: str, value: Any) -> Any:
        return redact_by_key(rule, value, numbers=rule in self._custom_rules)

    def _number(self, value: Any) -> Any:
        """A number, or a sequence of numbers, without secrets; the value itself if it is something else or has none."""
        if type(value) in _SEQUENCES and value and type(value[0]) in _NUMBERS:
            parts = [self._number(part) for part in value]
            return value if all(map(operator.is_, parts, value)) else type(value)(map(str, parts))
        if type(value) not in _NUMBERS:
            return value
        text, found = self.text(str(value))
        return text if found else value

    def document(self, value: Any) -> Any:
        """Nested plain data without secrets; keys are checked at every level."""
        if isinstance(value, Mapping):
            return self._object(value) if self.enabled else value
        if isinstance(value, list):
            return [self.document(item) for item in value]
        return self.text(value)[0] if isinstance(value, str) else value

    def _object(self, value: Mapping[str, Any]) -> dict[str, Any]:
        flat = {key: item for key, item in value.items() if not isinstance(item, dict | list)}
        _, names = self._redact(flat)
        found = {}
        for key, item in value.items():
            if key in flat:
                found[key] = flat[key]
                continue
            rule = self._remember_key(key)
            if not isinstance(rule, str):
                rule, names[key] = rule
            found[key] = self.document(self._by_key(rule, item) if rule else item)
        return _renamed(found, names) if names else found

    def text(self, text: str) -> tuple[str, int]:
        """The text without secrets, and the number of replaced secrets."""
        if not self.enabled or len(text) < self._shortest or text in self._clean:
            return text, 0
        if len(text) >= _FILE_LENGTH and _may_hold_files(text):
            return self._around_files(text)
        return self._text(text)

    def _around_files(self, text: str) -> tuple[str, int]:
        """Redact text that contains images or other files in base64; inside these, only known values are replaced.

        Large base64 contains the beginning of a key by chance, and applying all rules to 5 MB takes almost a second.
        """
        changed, lower = 0, text.lower()
        for rule in self._known:
            if any(map(lower.__contains__, rule.triggers)):
                replace = _Replacement(rule.name, self._key_rule, 0)
                text = rule.sub(replace, text)
                changed += replace.count
        files: list[str] = []

        def placeholder(match: re.Match[str]) -> str:
            files.append(match[0])
            # Longer than the minimum length of any secret, so that a secret of a file's length is still found.
            return f"hhFile{len(files) - 1}{'x' * 64}"

        rest = _FILE.sub(placeholder, text) if not _FILE_NUMBER.search(text) else text
        rest, number = self._text(rest)
        return (_FILE_NUMBER.sub(lambda match: files[int(match[1])], rest) if files else rest), changed + number

    def _text(self, text: str) -> tuple[str, int]:
        found = self._triggers_in(text)
        if not found:
            self._remember_clean((text,))
            return text, 0
        # Rules have to see where the text was cut.
        end = note.start() if text.endswith(" characters)") and (note := _CUT_NOTE.search(text)) else len(text)
        kept, number = self._replace(text[:end], found)
        return kept + text[end:], number

    def _by_value(self, result: dict[str, Any], texts: list[_Text]) -> int:
        """Redact `texts` in `result`; all of them are searched at once, but the parts of a long list one by one."""
        if len(texts[0][2]) <= _PORTION and not self._may_hold_secret("\n".join([text for _, _, text in texts])):
            self._remember_clean(text for _, value, text in texts if value is text)
            return 0
        changed = 0
        for key, value, _ in texts:
            redacted, found = self._value(value)
            if found:
                result[key] = redacted
                changed += 1
        return changed

    def _may_hold_secret(self, text: str) -> bool:
        return any_in(text.lower(), self._trigger_groups) or (self._checks_keys and TOKENS.search(text) is not None)

    def _triggers_in(self, text: str) -> frozenset[str]:
        lower = text.lower()
        groups = (triggers for part, triggers in self._trigger_groups if part in lower)
        found = frozenset(trigger for triggers in groups for trigger in triggers if trigger in lower)
        return found | {_BY_FORM} if self._checks_keys and TOKENS.search(text) else found

    def _value(self, value: Any) -> tuple[Any, int]:
        if type(value) is str:
            return self.text(value)
        parts = [self.text(part) if type(part) is str else (part, 0) for part in value]
        return type(value)(part for part, _ in parts), sum(found for _, found in parts)

    def _replace(self, text: str, found: frozenset[str], shortest: int = 0) -> tuple[str, int]:
        total = 0
        for triggers, rule in self._rules:
            if not triggers.isdisjoint(found):
                replace = _Replacement(rule.name, self._key_rule, shortest)
                text = rule.sub(replace, text)
                total += replace.count
        return text, total

    def _key_rule(self, key: str) -> str:
        if not self._checks_keys:
            return ""
        for part in key_parts(key) if self._custom_keys else ():
            if part in self._custom_keys:
                return self._custom_keys[part]
        return key_rule(key)

    def _remember_key(self, key: str) -> str | _SecretKey:
        if len(self._key_rules) >= _CACHE_SIZE:
            self._key_rules.clear()
        rule: str | _SecretKey = self._key_rule(key)
        if len(key) >= _SHORTEST and (found := self._triggers_in(key)):
            # Keep names of conventions: a user's pattern for digits would break "gen_ai.prompt.0.content".
            start = key.find(".") + 1 if key.startswith(_NAMESPACE) else 0
            text, number = self._replace(key[start:], found, _SHORTEST)
            if number:
                rule = _SecretKey(self._key_rule(key), key[:start] + text)
        self._key_rules[key] = rule
        return rule

    def _remember_clean(self, texts: Iterable[str]) -> None:
        # Ids, names and models recur on every span; a set lookup takes a tenth of a search.
        if len(self._clean) >= _CACHE_SIZE:
            self._clean.clear()
        self._clean.update(text for text in texts if len(text) <= _CLEAN_LENGTH)


_SECRET_GROUPS: Final = ("secret", "secret2", "secret3", "whole")


class _Replacement:
    """Replacement function for `re.sub`: replaces only the secret in a match, counts, and skips shorter secrets."""

    def __init__(self, name: str, key_rule: Callable[[str], str], shortest: int) -> None:
        self.name, self.key_rule, self.shortest, self.count = name, key_rule, shortest, 0

    def __call__(self, match: re.Match[str]) -> str:
        groups = match.groupdict()
        group = next((name for name in _SECRET_GROUPS if groups.get(name)), 0)
        name, secret = self.name, match[group]
        key = groups.get("key") or groups.get("env")
        if not name and key:
            name = self.key_rule(key)
            if redact_by_key(name, secret) is secret:
                return match[0]
        if secret.startswith(REDACTED) or len(secret) < self.shortest:
            return match[0]
        self.count += 1
        replaced = f"{REDACTED}{name.rstrip('?')}]"
        if group == "whole":
            replaced = f"{groups['q']}{replaced}{groups['q']}"
        start = match.start(group)
        return match[0][: start - match.start()] + replaced + match[0][start - match.start() + len(secret) :]


def _portions(texts: list[_Text]) -> Iterator[list[_Text]]:
    """Yield the texts in portions of limited length; longer ones alone."""
    start = size = 0
    for at, (_, _, text) in enumerate(texts):
        size += len(text)
        if size > _PORTION and at > start:
            yield texts[start:at]
            start, size = at, len(text)
    if texts:
        yield texts[start:]


def length_without_files(text: str) -> int:
    """The number of characters that the rules read: those outside images and other files in base64."""
    return len(_FILE.sub("", text) if _may_hold_files(text) else text)


def _may_hold_files(text: str) -> bool:
    """Whether the text may contain files; sampling finds every file of the minimum length."""
    return any(_PART_OF_FILE.match(text, at) for at in range(0, len(text), _FILE_LENGTH // 2))


def _renamed(found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The dict with some keys renamed; keys that become equal are numbered and all kept."""
    result: dict[str, Any] = {}
    for key, value in found.items():
        name = new_name = names.get(key, key)
        number = 1
        while name in result:
            number += 1
            name = f"{new_name} {number}"
        result[name] = value
    return result


def shown(name: str, value: Any, length: int = 80) -> str:
    """A value for an error message: one line of at most `length` characters, without secrets. Never raises."""
    redactor = Redactor()
    try:
        # Redact text without its quotes, which would hide its beginning from the rules.
        text = repr(_single_value(redactor.document({name: value}))) if type(value) is str else repr(value)
    except Exception:  # boundary: repr() of a user's object may do anything.
        text = "<a value without text>"
    text = " ".join(str(_single_value(redactor.document({name: text[:_LONGEST_READ]}))).split())
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _single_value(found: Mapping[str, Any]) -> Any:
    """The value of a dict with one key, which redaction may have renamed."""
    return next(iter(found.values()))


# The user's own function, `redact_with`, applied after all rules. It fails closed: a value is hidden if the function
# raises or returns something that is not a valid attribute value.

RedactWith = Callable[[str, Any], Any]

HIDDEN: Final = "[redacted: redact_with]"
_PLAIN: Final = (str, bool, int, float)


class RedactorWithFunction:
    """A `Redactor` followed by a function of the user. It has the same methods as a `Redactor`.

    Args:
        rules: applied first; the function never receives what they hide.
        function: takes a key and a value and returns the value to keep; None hides it. The key is the attribute's; in
            documents it has dots between levels, and it is "" for names and error messages.
    """

    def __init__(self, rules: Redactor, function: RedactWith) -> None:
        self._rules, self._function = rules, function

    def attributes(self, attrs: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """As `Redactor.attributes`."""
        found, changed = self._rules.attributes(attrs)
        for key, value in found.items():
            kept = self._apply(key, value)
            if kept is not value:
                found[key] = kept
                changed += value == attrs.get(key)  # Not counted twice if a rule changed it already.
        return found, changed

    def document(self, value: Any) -> Any:
        """As `Redactor.document`."""
        return self._walk("", self._rules.document(value))

    def text(self, text: str) -> tuple[str, int]:
        """As `Redactor.text`."""
        found, changed = self._rules.text(text)
        kept = str(self._apply("", found))
        return kept, changed or int(kept != found)

    def _walk(self, key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: self._walk(f"{key}.{name}" if key else str(name), item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._walk(key, item) for item in value]
        return value if value is None else self._apply(key, value)

    def _apply(self, key: str, value: Any) -> Any:
        try:
            kept = self._function(key, value)
        except Exception as error:  # boundary: the user's function may raise anything; the value stays hidden.
            return f"{HIDDEN[:-1]} failed, {type(error).__name__}]"
        if kept is value or _is_plain(kept):
            return kept
        return HIDDEN


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, list | tuple) and all(isinstance(v, _PLAIN) for v in value))
