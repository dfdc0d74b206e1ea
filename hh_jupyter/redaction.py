"""Replaces secrets in values, once per span, before anything is sent, stored or shown.

The replacement names the rule: "[redacted: api_key]". Redacting twice changes nothing. The module has three parts: the
table of rules; the `Redactor`, which applies them; and `redact_with`, the user's own function. A span costs a few
microseconds: the rule for a key is cached, known clean text is not searched again, and all text of a span is searched
together for the triggers of the rules. A key that is itself a secret, as in `{"sk-proj-...": 3}`, is renamed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

# The table of rules.
#
# A secret is recognized by the name of its key (`honeyhive_inputs.password`) or by its form: a provider's key, a JWT,
# the value of an environment variable named like a secret. Every pattern takes linear time or is bounded, because
# prompts are long and may be crafted to be slow.

_KEY_NAMES: Final = {
    "password": r"password|passwd|passphrase|passcode|pwd",
    "api_key": r"api_?key|access_key|account_key|subscription_key|signing_key|encryption_key",
    "private_key": r"private_key|ssh_key",
    "authorization": r"authorization|auth|bearer",
    "cookie": r"cookie",
    "token": r"(?:access|refresh|id|auth|session|api|bearer|csrf|xsrf|security)_token",
    "credentials": r"credential|connection_string",
    "secret": r"secret(?:_key)?",
}
"""Rule name -> pattern for the last word or words of a secret's key, in lower case with `_` between words."""

_CONTAINERS: Final = {"credentials": "credentials", "cookies": "cookie", "secrets": "secret", "passwords": "password"}
_MAYBE_TOKEN: Final = re.compile(r"(?:.*_)?token")
_KEY_RULE: Final = re.compile("(?:.*_)?(?:" + "|".join(f"(?P<{n}>(?:{w})s?)" for n, w in _KEY_NAMES.items()) + ")")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LOOKS_SECRET: Final = re.compile(r"(?=\S*[0-9])(?=\S*[A-Za-z])[^\s<>|]{16,}")
_HARMLESS: Final = frozenset({"", "none", "null", "true", "false", "yes", "no", "basic", "bearer", "required"})
_WORDS: Final = re.compile(r"[A-Za-z]+(?:[-_ .][A-Za-z]+)*|[-+.,\d]+")
_PATH_OR_URL: Final = re.compile(r"[/~.]|[A-Za-z]:[\\/]|[a-z][a-z0-9+.-]*://")
_ENV_NAME: Final = re.compile(
    r"(?:^|_)(?:KEY|TOKEN|SECRET|CREDENTIALS?|AUTH|COOKIE)(?:_|$)|PASS(?:WORD|WD|PHRASE)|APIKEY"
)
_ENV_LENGTH: Final = 12


@dataclass(frozen=True, slots=True)
class SecretRule:
    """A rule for secret values.

    Attributes:
        name: shown in place of the secret; "" if the key in the match determines it.
        triggers: texts in lower case, at least one of which is in every match. Searching them is much cheaper than the
            pattern and comes first.
        pattern: the group `secret`, else the whole match, is replaced; the group `key` is the key of the value.
    """

    name: str
    triggers: tuple[str, ...]
    pattern: re.Pattern[str]


_TEXT_KEY = r"[\w.-]{0,64}?(?:" + "|".join(w.replace("_", "[_-]?") for w in _KEY_NAMES.values()) + r"|token)s?"
_QUOTES = (
    # Quoted text ends at the first unescaped quote.
    (r"(?<!\\)(?P<q>[\"'])", r"(?:\\.|(?!(?P=q))[^\\])++"),
    # In JSON nested in JSON, the quotes are escaped, possibly several times.
    (r"(?<!\\)(?P<q>\\{1,15}[\"'])", r"(?!(?P=q))(?:.+?)(?<!\\)"),
)
_TEXT_TRIGGERS = (
    "passw", "passphrase", "passcode", "pwd", "apikey", "api_key", "api-key", "access", "account", "subscription",
    "signing", "encryption", "private", "ssh", "auth", "bearer", "cookie", "token\"", "token'", "token\\", "token=",
    "credential", "connection", "secret",
)  # fmt: skip

RULES: Final[tuple[SecretRule, ...]] = (
    SecretRule("private_key", ("-----begin",), re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)),
    # The trigger is "@": URLs are common, "@" is rare.
    SecretRule("url_credentials", ("@",), re.compile(r"://[^\s/:@\"'<>]*:(?P<secret>[^\s/\"'<>]+)@")),
    # Prose mentions bearer tokens too: a value has a digit, or is longer than any word.
    SecretRule("bearer", ("bearer",), re.compile(
        r"(?i:\bbearer)[\s:]+(?P<secret>(?=\S{0,60}[0-9]|\S{24})[\w.~+/=-]{8,})")),
    SecretRule("authorization", ("authorization",), re.compile(
        r"(?i:authorization)\s*:\s*(?P<secret>(?i:basic|digest|token|apikey)\s+[^\s\"'\\]+)")),
    SecretRule("cookie", ("cookie:",), re.compile(r"(?i:cookie):\s*(?P<secret>[\w-]+=[^\r\n\"']+)")),
    SecretRule("jwt", ("eyj",), re.compile(r"(?<![A-Za-z0-9])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)+")),
    SecretRule("api_key", (
        "sk-", "pk-", "xai-", "pplx-", "tvly-", "nvapi-", "glpat-", "pypi-", "xox", "hh_", "ghp_", "gho_", "ghu_",
        "ghs_", "ghr_", "github_pat_", "hf_", "gsk_", "k_live_", "k_test_", "r8_", "lsv2_", "npm_", "dop_v1_", "pcsk_",
        "fw_", "aiza", "ya29.", "akia", "asia", "sg.", "dapi",
    ), re.compile(
        r"(?<![A-Za-z0-9])(?:"
        r"(?:[sp]k|xai|pplx|tvly|nvapi|glpat|pypi|xox[abeoprs])-(?=[\w-]{0,60}[0-9])[\w-]{16,}"
        r"|hh_(?!jupyter|session)(?=[\w-]{0,60}[0-9])[\w-]{16,}"
        r"|(?:gh[pousr]|github_pat|hf|gsk|[sr]k_live|[sr]k_test|r8|lsv2_[ps][tk]|npm|dop_v1|pcsk|fw)_"
        r"(?=\w{0,60}[0-9])\w{20,}"
        r"|AIza[\w-]{30,}|ya29\.[\w-]{20,}|A[KS]IA[A-Z0-9]{16}|SG\.[\w-]{16,}\.[\w-]{16,}|dapi[0-9a-f]{32}"
        r")")),
    # {"password": "x"}, also inside a JSON string; {'password': 'x'}; lists and flat objects below such a key.
    *(SecretRule("", _TEXT_TRIGGERS, re.compile(
        rf"{quote}(?=[\w.-]{{2,80}}+(?P=q))(?P<key>(?i:{_TEXT_KEY}))(?P=q)\s*:\s*"
        rf"(?:b?(?P=q)(?P<secret>{quoted})(?P=q)|(?P<whole>\[[^\[\]{{}}]+\]|\{{[^{{}}]+\}}|[0-9]{{4,}}))"))
        for quote, quoted in _QUOTES),
    # connect(password='x'), OPENAI_API_KEY="x".
    *(SecretRule("", _TEXT_TRIGGERS, re.compile(
        rf"(?<![\w.-])(?=[\w.-]{{2,80}}+\s?=)(?P<key>(?i:{_TEXT_KEY}))\s?=\s?{quote}(?P<secret>{quoted})(?P=q)"))
        for quote, quoted in _QUOTES),
    # OPENAI_API_KEY=x as in .env files, ?api_key=x in URLs.
    SecretRule("", _TEXT_TRIGGERS, re.compile(
        rf"(?:\b(?P<env>[A-Z][A-Z0-9_]*(?:_KEY|_TOKEN|_SECRET|PASSWORD))|[?&](?P<key>(?i:{_TEXT_KEY})))"
        r"=(?P<secret>[^\s&#\"'\\$<{\[(]{8,})")),
)  # fmt: skip


def key_rule(key: str) -> str:
    """The rule for a key's name; "" if there is none, "token?" if the value has to look like a secret too."""
    segments = key_parts(key)
    if not segments:
        return ""
    if found := _KEY_RULE.fullmatch(segments[-1]):
        return found.lastgroup or ""
    if _MAYBE_TOKEN.fullmatch(segments[-1]):
        return "token?"
    return next((_CONTAINERS[part] for part in segments if part in _CONTAINERS), "")


def key_parts(key: str) -> list[str]:
    """The normalized dotted parts of a key, without list indexes: ["a", "api_keys"] for "a.apiKeys.0"."""
    return [normalized_key(part) for part in key.split(".") if part and not part.isdigit()]


def normalized_key(key: str) -> str:
    """A key in lower case with `_` between words."""
    return _CAMEL.sub("_", key).replace("-", "_").replace(" ", "_").lower()


def redact_by_key(rule: str, value: Any) -> Any:
    """The replacement of a value under a key with this rule; the value itself if it is harmless."""
    if isinstance(value, str):
        if value.lower() in _HARMLESS or value.startswith("[redacted: ") or not rule:
            return value
        if rule == "token?" and not _LOOKS_SECRET.fullmatch(value):
            return value
        return f"[redacted: {rule.rstrip('?')}]"
    if isinstance(value, (tuple, list)) and any(redact_by_key(rule, part) is not part for part in value):
        return type(value)(redact_by_key(rule, part) for part in value)
    # A number under such a key is a count or a length, unless it is a numeric password.
    if rule == "password" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return "[redacted: password]"
    return value


def environment_secrets(environ: Mapping[str, str]) -> list[str]:
    """Values of variables named like secrets, longest first: 12 or more characters; no word, number, path or URL."""
    found = {
        value
        for name, value in environ.items()
        if len(value) >= _ENV_LENGTH
        and _ENV_NAME.search(name.upper())
        and not _WORDS.fullmatch(value)
        and not _PATH_OR_URL.match(value)
    }
    return sorted(found, key=len, reverse=True)


def literal_rule(name: str, values: Iterable[str]) -> SecretRule:
    """A rule for known values, plain and as escaped in JSON text, longest first."""
    forms = sorted({form for value in values for form in (value, json.dumps(value)[1:-1])}, key=len, reverse=True)
    return SecretRule(name, tuple(form.lower() for form in forms), re.compile("|".join(map(re.escape, forms))))


def custom_key_rules(keys: Iterable[str]) -> list[SecretRule]:
    """Rules for text under the user's own key names in JSON text."""
    keys = tuple(keys)
    if not keys:
        return []
    names = "|".join(map(re.escape, keys))
    patterns = (rf"{q}(?P<key>(?i:{names}))(?P=q)\s*:\s*(?P=q)(?P<secret>{quoted})(?P=q)" for q, quoted in _QUOTES)
    return [SecretRule("", tuple(key.lower() for key in keys), re.compile(pattern)) for pattern in patterns]


# Applying the rules.

_SHORTEST: Final = 8  # Characters; no built-in value rule matches less.
_NAMESPACE: Final = "honeyhive_"
_CLEAN_LENGTH: Final = 64
_CACHE_SIZE: Final = 4096
_SEQUENCES: Final = (tuple, list)
_FILE_LENGTH: Final = 8_192
"""Characters of base64 from which on it counts as an image or another file; secrets are shorter."""

_FILE: Final = re.compile(rf"(?:(?<=[\"',])|\A)[A-Za-z0-9+/_-]{{{_FILE_LENGTH},}}+")
"""Base64 after a quote or the comma of a `data:` URI; not after a space, which a PEM key in one line has."""

_PART_OF_FILE: Final = re.compile(r"[A-Za-z0-9+/_-]{64}")
_FILE_NUMBER: Final = re.compile("hhFile([0-9]{1,9})x{64}")
_LONGEST_READ: Final = 2_000  # Characters of a long value that are redacted to show its beginning.


class _SecretKey(NamedTuple):
    """A key that contains a secret: the rule for its value, and its name without the secret."""

    rule: str
    shown: str


class Redactor:
    """Replaces secrets in attributes and text. Thread-safe; create one per configuration and reuse it.

    Args:
        enabled: False replaces only `secrets`.
        keys: additional names of keys with secret values; case, `-` and `_` do not matter.
        patterns: regular expressions of additional secret values.
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
        self._rules = tuple((frozenset(rule.triggers), rule) for rule in rules)
        self._trigger_groups = _grouped_by_character({trigger for rule in rules for trigger in rule.triggers})
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
        texts: list[tuple[str, Any, str]] = []
        for key, value in result.items():
            rule = key_rules.get(key)
            if rule is None:
                rule = self._remember_key(key)
            if rule and not isinstance(rule, str):
                rule, names[key] = rule
            if rule and (redacted := redact_by_key(rule, value)) is not value:
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
            found[key] = self.document(redact_by_key(rule, item) if rule else item)
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
                text, number = rule.pattern.subn(f"[redacted: {rule.name}]", text)
                changed += number
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
        return self._replace(text, found)

    def _by_value(self, result: dict[str, Any], texts: list[tuple[str, Any, str]]) -> int:
        """Redact `texts`, tuples of (key, value, its text), in `result`; all of them are searched at once."""
        if not self._may_hold_secret("\n".join([text for _, _, text in texts])):
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
        lower = text.lower()
        return any(char in lower and any(map(lower.__contains__, triggers)) for char, triggers in self._trigger_groups)

    def _triggers_in(self, text: str) -> frozenset[str]:
        lower = text.lower()
        groups = (triggers for char, triggers in self._trigger_groups if char in lower)
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


class _Replacement:
    """Replacement function for `re.sub`: replaces only the secret in a match, counts, and skips shorter secrets."""

    def __init__(self, name: str, key_rule: Callable[[str], str], shortest: int) -> None:
        self.name, self.key_rule, self.shortest, self.count = name, key_rule, shortest, 0

    def __call__(self, match: re.Match[str]) -> str:
        groups = match.groupdict()
        name, secret = self.name, groups.get("secret") or groups.get("whole") or match[0]
        key = groups.get("key") or groups.get("env")
        if not name and key:
            name = self.key_rule(key)
            if redact_by_key(name, secret) is secret:
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
    """Whether the text may contain files; sampling finds every file of the minimum length."""
    return any(_PART_OF_FILE.match(text, at) for at in range(0, len(text), _FILE_LENGTH // 2))


def _grouped_by_character(triggers: Iterable[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Triggers grouped by a character that they contain: searching one character is ten times faster than text."""
    groups: dict[str, list[str]] = {}
    for trigger in sorted(triggers):
        character = next((char for char in "_-:\"'=\\." if char in trigger), trigger[:1])
        groups.setdefault(character, []).append(trigger)
    return tuple((character, tuple(group)) for character, group in groups.items())


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
