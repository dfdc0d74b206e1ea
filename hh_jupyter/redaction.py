"""Secrets out of values, once per span, before anything is sent, stored or shown.

What is left says what was taken: "[redacted: api_key]". Redacting twice changes nothing. The rules are in
`hh_jupyter.redaction_rules`; here is how they are applied at a cost of some microseconds a span: a key is judged once,
text seen before is not read again, and all text of a span is searched together for the triggers of the rules. A key
that is itself a secret, as in `{"sk-proj-...": 3}`, is renamed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from hh_jupyter.redaction_rules import (
    RULES,
    Rule,
    by_key,
    environment_secrets,
    key_rule,
    key_segments,
    literal_rule,
    own_keys_rules,
    spelling,
)

_SHORTEST: Final = 8  # no value rule of ours can match less
_NAMESPACE: Final = "honeyhive_"
_CLEAN_LENGTH: Final = 64
_CACHE_SIZE: Final = 4096
_SEQUENCES: Final = (tuple, list)
_FILE_LENGTH: Final = 8_192
"""Minimum length of base64 that is taken for an image or another file, in characters: no secret is as long."""

_FILE: Final = re.compile(rf"(?:(?<=[\"',])|\A)[A-Za-z0-9+/_-]{{{_FILE_LENGTH},}}+")
"""Base64 after a quote or the comma of a `data:` URI. Not after a space: a PEM key in one line has one there."""

_PART_OF_FILE: Final = re.compile(r"[A-Za-z0-9+/_-]{64}")
_FILE_NUMBER: Final = re.compile("hhFile([0-9]{1,9})x{64}")
_SHOWN_READ: Final = 2_000  # characters of a long value that are read to show its beginning


class _SecretKey(NamedTuple):
    """What is known of a key that holds a secret: the rule for its value, and its name without the secret."""

    rule: str
    shown: str


class Redactor:
    """Replaces secrets in attributes and text. Thread-safe; make one per configuration and keep it.

    Args:
        enabled: False returns everything as it is, but for `secrets`.
        keys: more key names whose values are secrets, in any spelling of case, `-` and `_`.
        patterns: regular expressions of more secret values.
        environ: where values of secret-named variables are taken from, once; `os.environ` by default.
        secrets: more values to be hidden wherever they turn up, such as the key in use.
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
        self._own_keys = {spelling(key): key for key in keys} if enabled else {}
        self._judges_keys = enabled
        rules = [*RULES, *own_keys_rules(keys)] if enabled else []
        known = {"secret": [value for value in secrets if value]}
        if enabled:
            known["environment"] = environment_secrets(os.environ if environ is None else environ)
            rules += [Rule("pattern", ("",), re.compile(pattern)) for pattern in patterns]
        literal = [literal_rule(name, values) for name, values in known.items() if values]
        rules[:0] = literal
        self._known = tuple(literal)
        self.enabled = bool(rules)
        self._shortest = 1 if patterns and enabled else _SHORTEST
        self._rules = tuple((frozenset(rule.triggers), rule) for rule in rules)
        self._gates = _gated({trigger for rule in rules for trigger in rule.triggers})
        self._key_rules: dict[str, str | _SecretKey] = {}
        self._clean: set[str] = set()

    def attributes(self, attrs: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """A new dict without secrets, and how many of its keys and values were changed."""
        result = dict(attrs)
        if not self.enabled:
            return result, 0
        changed, names = self._redact(result)
        return (_renamed(result, names), changed + len(names)) if names else (result, changed)

    def _redact(self, result: dict[str, Any]) -> tuple[int, dict[str, str]]:
        """Redact the values in place; returns how many there were, and the new names of keys that hold secrets."""
        changed, key_rules, clean = 0, self._key_rules, self._clean
        names: dict[str, str] = {}
        texts: list[tuple[str, Any, str]] = []
        for key, value in result.items():
            rule = key_rules.get(key)
            if rule is None:
                rule = self._remember_key(key)
            if rule and not isinstance(rule, str):
                rule, names[key] = rule
            if rule and (redacted := by_key(rule, value)) is not value:
                result[key] = redacted
                changed += 1
            elif type(value) is str:
                if len(value) >= _FILE_LENGTH:
                    result[key], number = self.text(value)
                    changed += number > 0
                elif len(value) >= self._shortest and value not in clean:
                    texts.append((key, value, value))
            elif type(value) in _SEQUENCES and any(type(part) is str for part in value):
                texts.append((key, value, "\n".join(map(str, value))))
        return changed + (self._by_value(result, texts) if texts else 0), names

    def document(self, value: Any) -> Any:
        """Nested plain data without secrets; keys are judged at every depth."""
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
            found[key] = self.document(by_key(rule, item) if rule else item)
        return _renamed(found, names) if names else found

    def text(self, text: str) -> tuple[str, int]:
        """The text without secrets, and how many were replaced."""
        if not self.enabled or len(text) < self._shortest or text in self._clean:
            return text, 0
        if len(text) >= _FILE_LENGTH and _may_hold_files(text):
            return self._around_files(text)
        return self._text(text)

    def _around_files(self, text: str) -> tuple[str, int]:
        """Redact a text that holds images or other files in base64. In these only known secret values are replaced.

        A large file contains by chance what looks like the beginning of a key, and applying all rules to 5 MB of base64
        takes most of a second.
        """
        changed, lower = 0, text.lower()
        for rule in self._known:
            if any(map(lower.__contains__, rule.triggers)):
                text, number = rule.pattern.subn(f"[redacted: {rule.name}]", text)
                changed += number
        files: list[str] = []

        def numbered(match: re.Match[str]) -> str:
            files.append(match[0])
            # Longer than the least length of any secret: one that is a file is found as before.
            return f"hhFile{len(files) - 1}{'x' * 64}"

        rest = _FILE.sub(numbered, text) if not _FILE_NUMBER.search(text) else text
        rest, number = self._text(rest)
        return (_FILE_NUMBER.sub(lambda match: files[int(match[1])], rest) if files else rest), changed + number

    def _text(self, text: str) -> tuple[str, int]:
        found = self._triggers_in(text)
        if not found:
            self._remember_clean((text,))
            return text, 0
        return self._replace(text, found)

    def _by_value(self, result: dict[str, Any], texts: list[tuple[str, Any, str]]) -> int:
        """Redact `texts`, (key, value, its text), in `result`; all of them together are searched once."""
        if not self._suspect("\n".join([text for _, _, text in texts])):
            self._remember_clean(text for _, value, text in texts if value is text)
            return 0
        changed = 0
        for key, value, _ in texts:
            redacted, found = self._value(value)
            if found:
                result[key] = redacted
                changed += 1
        return changed

    def _suspect(self, text: str) -> bool:
        lower = text.lower()
        return any(gate in lower and any(map(lower.__contains__, triggers)) for gate, triggers in self._gates)

    def _triggers_in(self, text: str) -> frozenset[str]:
        lower = text.lower()
        groups = (triggers for gate, triggers in self._gates if gate in lower)
        return frozenset(trigger for triggers in groups for trigger in triggers if trigger in lower)

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
                text = rule.pattern.sub(replace, text)
                total += replace.count
        return text, total

    def _key_rule(self, key: str) -> str:
        if not self._judges_keys:
            return ""
        for part in key_segments(key) if self._own_keys else ():
            if part in self._own_keys:
                return self._own_keys[part]
        return key_rule(key)

    def _remember_key(self, key: str) -> str | _SecretKey:
        if len(self._key_rules) >= _CACHE_SIZE:
            self._key_rules.clear()
        rule: str | _SecretKey = self._key_rule(key)
        if len(key) >= _SHORTEST and (found := self._triggers_in(key)):
            # Names of the conventions must stay: a pattern for digits would break "gen_ai.prompt.0.content".
            start = key.find(".") + 1 if key.startswith(_NAMESPACE) else 0
            text, number = self._replace(key[start:], found, _SHORTEST)
            if number:
                rule = _SecretKey(self._key_rule(key), key[:start] + text)
        self._key_rules[key] = rule
        return rule

    def _remember_clean(self, texts: Iterable[str]) -> None:
        # Ids, names and models come again with every span; a set look-up costs a tenth of a search.
        if len(self._clean) >= _CACHE_SIZE:
            self._clean.clear()
        self._clean.update(text for text in texts if len(text) <= _CLEAN_LENGTH)


class _Replacement:
    """The function given to `re.sub`: keeps what surrounds the secret, counts; passes over shorter ones."""

    def __init__(self, name: str, key_rule: Callable[[str], str], shortest: int) -> None:
        self.name, self.key_rule, self.shortest, self.count = name, key_rule, shortest, 0

    def __call__(self, match: re.Match[str]) -> str:
        groups = match.groupdict()
        name, secret = self.name, groups.get("secret") or groups.get("whole") or match[0]
        key = groups.get("key") or groups.get("env")
        if not name and key:
            name = self.key_rule(key)
            if by_key(name, secret) is secret:
                return match[0]
        if secret.startswith("[redacted: ") or len(secret) < self.shortest:
            return match[0]
        self.count += 1
        replaced = f"[redacted: {name.rstrip('?')}]"
        if groups.get("whole"):
            replaced = f"{groups['q']}{replaced}{groups['q']}"
        start = match.start("whole" if groups.get("whole") else "secret" if "secret" in groups else 0)
        return match[0][: start - match.start()] + replaced + match[0][start - match.start() + len(secret) :]


def _may_hold_files(text: str) -> bool:
    """A quick check that samples the text so that no file of the minimum length is missed."""
    return any(_PART_OF_FILE.match(text, at) for at in range(0, len(text), _FILE_LENGTH // 2))


def _gated(triggers: Iterable[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Triggers by a character that all of them hold: looking for one character is ten times as fast as for text."""
    groups: dict[str, list[str]] = {}
    for trigger in sorted(triggers):
        gate = next((char for char in "_-:\"'=\\." if char in trigger), trigger[:1])
        groups.setdefault(gate, []).append(trigger)
    return tuple((gate, tuple(group)) for gate, group in groups.items())


def _renamed(found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The same with other names for some keys; two that read the same from then on are both kept."""
    result: dict[str, Any] = {}
    for key, value in found.items():
        name = given = names.get(key, key)
        number = 1
        while name in result:
            number += 1
            name = f"{given} {number}"
        result[name] = value
    return result


def shown(name: str, value: Any, length: int = 80) -> str:
    """A value for an error message: one line of at most `length` characters, without secrets. Never raises."""
    redactor = Redactor()
    try:
        # A text is judged without its quotes, which would hide from the rules where it begins.
        text = repr(_only(redactor.document({name: value}))) if type(value) is str else repr(value)
    except Exception:  # boundary: repr() of a user's object may do anything.
        text = "<a value without text>"
    text = " ".join(str(_only(redactor.document({name: text[:_SHOWN_READ]}))).split())
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _only(found: Mapping[str, Any]) -> Any:
    """The value of a dict with one key, which may have another name by now."""
    return next(iter(found.values()))
