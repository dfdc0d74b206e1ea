"""What a secret is: the one table of rules that `hh_jupyter.redaction` applies.

By the name of its key (`honeyhive_inputs.password`), or by what it looks like (a provider's key, a JWT, the value of an
environment variable named like a secret). Every pattern is linear in the length of the text, or bounded: prompts are
long, and some are made to be slow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

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
"""Rule name -> how the last word or words of a secret's key read, in lower case with `_` between words."""

_CONTAINERS: Final = {"credentials": "credentials", "cookies": "cookie", "secrets": "secret", "passwords": "password"}
_MAYBE_TOKEN: Final = re.compile(r"(?:.*_)?token")
_KEY_RULE: Final = re.compile("(?:.*_)?(?:" + "|".join(f"(?P<{n}>(?:{w})s?)" for n, w in _KEY_NAMES.items()) + ")")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LOOKS_SECRET: Final = re.compile(r"(?=\S*[0-9])(?=\S*[A-Za-z])[^\s<>|]{16,}")
_HARMLESS: Final = frozenset({"", "none", "null", "true", "false", "yes", "no", "basic", "bearer", "required"})
_WORDS: Final = re.compile(r"[A-Za-z]+(?:[-_ .][A-Za-z]+)*|[-+.,\d]+")
_PLACE: Final = re.compile(r"[/~.]|[A-Za-z]:[\\/]|[a-z][a-z0-9+.-]*://")
_ENV_NAME: Final = re.compile(
    r"(?:^|_)(?:KEY|TOKEN|SECRET|CREDENTIALS?|AUTH|COOKIE)(?:_|$)|PASS(?:WORD|WD|PHRASE)|APIKEY"
)
_ENV_LENGTH: Final = 12


@dataclass(frozen=True, slots=True)
class Rule:
    """What a secret value looks like.

    Attributes:
        name: shown in its place; "" when the key that the pattern found decides.
        triggers: text in lower case, one of which is in every match: searched first, much cheaper than the pattern.
        pattern: the group `secret` is replaced, else the whole match; the group `key` names the key it belongs to.
    """

    name: str
    triggers: tuple[str, ...]
    pattern: re.Pattern[str]


_TEXT_KEY = r"[\w.-]{0,64}?(?:" + "|".join(w.replace("_", "[_-]?") for w in _KEY_NAMES.values()) + r"|token)s?"
_QUOTES = (
    # A text in quotes ends at the first quote that no backslash escapes.
    (r"(?<!\\)(?P<q>[\"'])", r"(?:\\.|(?!(?P=q))[^\\])++"),
    # Inside JSON inside JSON, the quotes themselves are escaped, more than once.
    (r"(?<!\\)(?P<q>\\{1,15}[\"'])", r"(?!(?P=q))(?:.+?)(?<!\\)"),
)
_TEXT_TRIGGERS = (
    "passw", "passphrase", "passcode", "pwd", "apikey", "api_key", "api-key", "access", "account", "subscription",
    "signing", "encryption", "private", "ssh", "auth", "bearer", "cookie", "token\"", "token'", "token\\", "token=",
    "credential", "connection", "secret",
)  # fmt: skip

RULES: Final[tuple[Rule, ...]] = (
    Rule("private_key", ("-----begin",), re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)),
    # Every second span has an address, few have this sign.
    Rule("url_credentials", ("@",), re.compile(r"://[^\s/:@\"'<>]*:(?P<secret>[^\s/\"'<>]+)@")),
    # Prose speaks of bearer tokens too: a digit, or a length that no word has, makes it a value.
    Rule("bearer", ("bearer",), re.compile(r"(?i:\bbearer)[\s:]+(?P<secret>(?=\S{0,60}[0-9]|\S{24})[\w.~+/=-]{8,})")),
    Rule("authorization", ("authorization",), re.compile(
        r"(?i:authorization)\s*:\s*(?P<secret>(?i:basic|digest|token|apikey)\s+[^\s\"'\\]+)")),
    Rule("cookie", ("cookie:",), re.compile(r"(?i:cookie):\s*(?P<secret>[\w-]+=[^\r\n\"']+)")),
    Rule("jwt", ("eyj",), re.compile(r"(?<![A-Za-z0-9])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)+")),
    Rule("api_key", (
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
    *(Rule("", _TEXT_TRIGGERS, re.compile(
        rf"{quote}(?=[\w.-]{{2,80}}+(?P=q))(?P<key>(?i:{_TEXT_KEY}))(?P=q)\s*:\s*"
        rf"(?:b?(?P=q)(?P<secret>{quoted})(?P=q)|(?P<whole>\[[^\[\]{{}}]+\]|\{{[^{{}}]+\}}|[0-9]{{4,}}))"))
        for quote, quoted in _QUOTES),
    # connect(password='x'), OPENAI_API_KEY="x".
    *(Rule("", _TEXT_TRIGGERS, re.compile(
        rf"(?<![\w.-])(?=[\w.-]{{2,80}}+\s?=)(?P<key>(?i:{_TEXT_KEY}))\s?=\s?{quote}(?P<secret>{quoted})(?P=q)"))
        for quote, quoted in _QUOTES),
    # OPENAI_API_KEY=x in the manner of .env files, ?api_key=x in addresses.
    Rule("", _TEXT_TRIGGERS, re.compile(
        rf"(?:\b(?P<env>[A-Z][A-Z0-9_]*(?:_KEY|_TOKEN|_SECRET|PASSWORD))|[?&](?P<key>(?i:{_TEXT_KEY})))"
        r"=(?P<secret>[^\s&#\"'\\$<{\[(]{8,})")),
)  # fmt: skip


def key_rule(key: str) -> str:
    """The rule that a key's name falls under, "" if none; "token?" if its value has to look like a secret too."""
    segments = key_segments(key)
    if not segments:
        return ""
    if found := _KEY_RULE.fullmatch(segments[-1]):
        return found.lastgroup or ""
    if _MAYBE_TOKEN.fullmatch(segments[-1]):
        return "token?"
    return next((_CONTAINERS[part] for part in segments if part in _CONTAINERS), "")


def key_segments(key: str) -> list[str]:
    """The dotted parts of a key in one spelling, without list indexes: "a.apiKeys.0" has "a", "api_keys"."""
    return [spelling(part) for part in key.split(".") if part and not part.isdigit()]


def spelling(key: str) -> str:
    """A key in lower case with `_` between words, however it was written."""
    return _CAMEL.sub("_", key).replace("-", "_").replace(" ", "_").lower()


def by_key(rule: str, value: Any) -> Any:
    """The value under a key of this rule: itself if it is harmless, else its replacement."""
    if isinstance(value, str):
        if value.lower() in _HARMLESS or value.startswith("[redacted: ") or not rule:
            return value
        if rule == "token?" and not _LOOKS_SECRET.fullmatch(value):
            return value
        return f"[redacted: {rule.rstrip('?')}]"
    if isinstance(value, (tuple, list)) and any(by_key(rule, part) is not part for part in value):
        return type(value)(by_key(rule, part) for part in value)
    # A number under such a key is a count or a length, except where people type numbers as secrets.
    if rule == "password" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return "[redacted: password]"
    return value


def environment_secrets(environ: Mapping[str, str]) -> list[str]:
    """Values of variables named like secrets, the longest first: 12 characters or more; no word, number, path, URL."""
    found = {
        value
        for name, value in environ.items()
        if len(value) >= _ENV_LENGTH
        and _ENV_NAME.search(name.upper())
        and not _WORDS.fullmatch(value)
        and not _PLACE.match(value)
    }
    return sorted(found, key=len, reverse=True)


def literal_rule(name: str, values: Iterable[str]) -> Rule:
    """A rule for known values, as they are and as they read inside JSON text; the longest first."""
    forms = sorted({form for value in values for form in (value, json.dumps(value)[1:-1])}, key=len, reverse=True)
    return Rule(name, tuple(form.lower() for form in forms), re.compile("|".join(map(re.escape, forms))))


def own_keys_rules(keys: Iterable[str]) -> list[Rule]:
    """Rules for text under more key names inside JSON text."""
    keys = tuple(keys)
    if not keys:
        return []
    names = "|".join(map(re.escape, keys))
    patterns = (rf"{q}(?P<key>(?i:{names}))(?P=q)\s*:\s*(?P=q)(?P<secret>{quoted})(?P=q)" for q, quoted in _QUOTES)
    return [Rule("", tuple(key.lower() for key in keys), re.compile(pattern)) for pattern in patterns]
