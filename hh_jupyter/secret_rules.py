"""What counts as a secret: the table of rules.

A secret is recognized by the name of its key (`honeyhive_inputs.password`) or by its form: a provider's token, a JWT,
the value of an environment variable named like a secret. Every pattern takes linear time or is bounded, because
prompts are long and may be crafted to be slow. Text may have been cut, so a secret may end where the text ends.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hh_jupyter.token_forms import BEGINS, CUT, RANDOM, TOKENS, TokenForms, compiled

_KEY_NAMES: Final = {
    "password": "password passwd passphrase passcode pwd",
    "api_key": "api_key access_key account_key subscription_key signing_key encryption_key auth_key app_key"
    " application_key master_key",
    "private_key": "private_key ssh_key",
    "authorization": "authorization auth bearer",
    "cookie": "cookie",
    "token": "access_token refresh_token id_token auth_token session_token api_token bearer_token csrf_token xsrf_token"
    " security_token",
    "credentials": "credential connection_string",
    "secret": "secret secret_key",
}
"""Rule name -> the last word or words of a secret's key, in lower case; `_` may be missing, and `s` may follow."""

_CONTAINERS: Final = {"credentials": "credentials", "cookies": "cookie", "secrets": "secret", "passwords": "password"}
_MAYBE_TOKEN: Final = re.compile(r"(?:.*_)?token")
_KEY_RULE: Final = re.compile(
    "(?:.*_)?(?:"
    + "|".join(f"(?P<{rule}>(?:{names.replace('_', '_?').replace(' ', '|')})s?)" for rule, names in _KEY_NAMES.items())
    + ")"
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LOOKS_SECRET: Final = re.compile(r"(?=\S*[0-9])(?=\S*[A-Za-z])[^\s<>|]{16,}")
_HARMLESS: Final = frozenset({"", "none", "null", "true", "false", "yes", "no", "basic", "bearer", "required"})
_WORDS: Final = re.compile(r"[A-Za-z]+(?:[-_ .][A-Za-z]+)*|[-+.,\d]+")
_PATH_OR_URL: Final = re.compile(r"[/~.]|[A-Za-z]:[\\/]|[a-z][a-z0-9+.-]*://")
_ENV_NAME: Final = re.compile(
    r"(?:^|_)(?:KEY|TOKEN|SECRET|CREDENTIALS?|AUTH|COOKIE)(?:_|$)|PASS(?:WORD|WD|PHRASE)|APIKEY"
)
_ENV_LENGTH: Final = 12
_HALF: Final = 12
_HALF_COMPARED: Final = 40  # Characters; a value that begins with these is the known one.


@dataclass(frozen=True, slots=True)
class SecretRule:
    """A rule for secret values.

    Attributes:
        name: shown in place of the secret; "" if the key in the match determines it.
        triggers: texts in lower case, at least one of which is in every match. Searching them is much cheaper than the
            pattern and comes first. The forms of tokens have none and are searched themselves.
        pattern: the group `secret`, else the whole match, is replaced; the group `key` is the key of the value.
            Text is compiled when it is first needed: all rules together would take longer than creating a tracer.
    """

    name: str
    triggers: tuple[str, ...]
    pattern: str | re.Pattern[str] | TokenForms

    def sub(self, replacement: Callable[[re.Match[str]], str], text: str) -> str:
        """The text with every match replaced."""
        pattern = compiled(self.pattern) if isinstance(self.pattern, str) else self.pattern
        return pattern.sub(replacement, text)


# A key in text is read at once and then compared from its end, which is much faster than to look for its words.
_NAMES = {"token"} | {
    name.replace("_", mark)
    for names in _KEY_NAMES.values()
    for name in names.split()
    for mark in ("", "[_-]")
    if not name.endswith("token")
}
_KEY = r"(?P<key>[\w.-]{2,80}+)(?<=[dyehrngltsDYEHRNGLTS])(?i:" + "|".join(
    f"(?<={name}{plural})" for name in sorted(_NAMES) for plural in ("", "s")) + ")"  # fmt: skip
_QUOTES = (
    # Quoted text ends at the first unescaped quote.
    (r"(?<!\\)(?P<q>[\"'])", r"(?:\\.|(?!(?P=q))[^\\])++"),
    # In JSON nested in JSON, the quotes are escaped, possibly several times.
    (r"(?<!\\)(?P<q>\\{1,15}[\"'])", r"(?!(?P=q))(?:.+?)(?<!\\)"),
)
_QUOTED, _ESCAPED = (rf"{quote}(?P<secret>{quoted})(?:(?P=q)|\Z)" for quote, quoted in _QUOTES)
_TEXT_TRIGGERS = (
    "passw", "passphrase", "passcode", "pwd", "apikey", "api_key", "api-key", "access", "account", "subscription",
    "signing", "encryption", "private", "ssh", "auth", "bearer", "cookie", "token\"", "token'", "token\\", "token=",
    "credential", "connection", "secret", "token:", "token =", "-token ", "token>", "app_key", "app-key", "appkey",
    "application", "master",
)  # fmt: skip

# A value without quotes is a secret if it has digits and letters, and is no path, address, call or attribute.
_UNQUOTED = (
    rf"(?![~.]|/(?!(?=[\w+/]{{39}}){RANDOM})|[a-z][a-z0-9+.-]{{1,20}}://|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?![\w./+=-]))"
    r"(?=\S{0,60}?[0-9])(?=\S{0,60}?[A-Za-z])(?P<secret>[^\s\"'`\\,;&<>(){}\[\]|]{8,}+)(?![(\[{])"
)

RULES: Final[tuple[SecretRule, ...]] = (
    SecretRule("private_key", ("begin ", "private-lines:"),
        r"(?s)-{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}.*?"
        r"(?:-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}|\Z)"
        r"|Private-Lines: ?[0-9]+\s.*?(?:Private-MAC: ?\w+|\Z)"),
    SecretRule("api_key", (), TOKENS),
    # The trigger is "@": URLs are common, "@" is rare.
    SecretRule("url_credentials", ("@",),
        r"://[^\s/:@\"'<>]*:(?P<secret>(?![{*]|\$[{(A-Z])[^\s/\"'<>]+)@"),
    SecretRule("url_credentials", ("@",), r"https?://(?P<secret>(?=\S{0,60}[0-9])[\w.~%+-]{20,}):?@"),
    SecretRule("url_credentials", ("sql://", "postgres", "mongodb", "redis", "amqp"),
        r"[a-z]://[^\s/:@\"'<>]*:(?P<secret>(?=[0-9]*[^\s/0-9])[^\s/\"'<>{}\[\]]{4,})\Z"),
    SecretRule("signature", ("sig=", "signature=", "security-token="),
        r"[?&;](?i:sig|x-(?:amz|goog)-signature|x-amz-security-token|signature)=(?P<secret>[^\s&#\"'\\<>]{16,})"),
    # Prose mentions bearer tokens too: a value has a digit, or is longer than any word.
    SecretRule("bearer", ("bearer",),
        rf"(?a){BEGINS}(?i:bearer)[\s:]+(?P<secret>(?=\S{{0,60}}[0-9]|\S{{24}})[\w.~+/=-]{{8,}})"),
    SecretRule("authorization", ("authorization",),
        r"(?i:authorization)\s*:\s*(?P<secret>(?i:basic|digest|token|apikey|ssws)\s+[^\s\"'\\]+)"),
    SecretRule("authorization", ("curl",),
        r"\s(?:-u ?|--user[ =])[\"']?[^\s:\"'$]{1,100}:(?P<secret>(?=[0-9]*[^\s0-9])[^\s\"'$]{2,})"),
    SecretRule("cookie", ("cookie:",), r"(?i:cookie):\s*(?P<secret>[\w-]+=[^\r\n\"'\\]+)"),
    SecretRule("jwt", ("eyj",),
        rf"(?a){BEGINS}eyJ[\w-]{{8,1000}}+(?:(?:\.[\w-]*+)?{CUT}|\.[\w-]{{8,}}(?:\.[\w-]*)+)"),
    # {"password": "x"}, also inside a JSON string; {'password': 'x'}; lists and flat objects below such a key.
    *(SecretRule("", _TEXT_TRIGGERS,
        rf"{quote}{_KEY}(?P=q)\s*:\s*(?:b?(?P=q)(?P<secret>{quoted})(?:(?P=q)|\Z)"
        rf"|(?P<whole>\[[^\[\]{{}}]+(?:\]|\Z)|\{{[^{{}}]+(?:\}}|\Z)|[0-9]{{4,}}))")
        for quote, quoted in _QUOTES),
    # connect(password='x'), OPENAI_API_KEY="x"; x-api-key: x as in headers and YAML, api_key = x as in .ini files.
    SecretRule("", _TEXT_TRIGGERS,
        rf"(?:\\[nrt]|(?<![\w.\\-]))(?=[\w.-]{{2,80}}+\s?[:=]){_KEY}\s?[:=]\s{{0,3}}"
        rf"(?:{_QUOTED}|{_ESCAPED.replace('<q>', '<q2>').replace('=q', '=q2').replace('<secret>', '<secret2>')}"
        rf"|{_UNQUOTED.replace('<secret>', '<secret3>')})"),
    # OPENAI_API_KEY=x as in .env files, ?api_key=x in URLs, --api-key x, ("x-api-key", "x"), <password>x</password>.
    SecretRule("", _TEXT_TRIGGERS,
        r"(?P<env>[A-Z](?:(?<![A-Za-z0-9_].)|(?<=\\[nrt].))[A-Z0-9_]*(?:_KEY|_TOKEN|_SECRET|PASSWORD))"
        r"=(?P<secret>[^\s&#\"'\\$<{\[(]{8,})"),
    SecretRule("", _TEXT_TRIGGERS, rf"[?&]{_KEY}=(?P<secret>[^\s&#\"'\\$<{{\[(]{{8,}})"),
    SecretRule("", _TEXT_TRIGGERS, rf"--(?<!---)(?!-){_KEY}[ =]{_UNQUOTED}"),
    SecretRule("", _TEXT_TRIGGERS,
        rf"(?P<q>[\"']){_KEY}(?P=q),\s?b?(?P=q)(?P<secret>(?i:(?:basic|token) )?{RANDOM}[^\s\"'\\]{{12,}}+)(?P=q)"),
    SecretRule("", _TEXT_TRIGGERS, rf"<{_KEY}>(?P<secret>[^\s<>]{{4,}})(?:</|\Z)"),
    # Server=x;Password=x;Encrypt=True and host=x password=x dbname=x.
    SecretRule("", _TEXT_TRIGGERS,
        rf"(?:;\s?{_KEY}|(?<=\w )(?P<env>password|passwd|pwd))="
        r"(?P<secret>[^\s;,\"'\\&<>{}()\[\]$]{3,}+)(?=;|[\"'\\]|\Z| \w+=)"),
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


REDACTED: Final = "[redacted: "
"""The beginning of what replaces a secret; the name of the rule follows."""


def key_parts(key: str) -> list[str]:
    """The normalized dotted parts of a key, without list indexes: ["a", "api_keys"] for "a.apiKeys.0"."""
    return [normalized_key(part) for part in key.split(".") if part and not part.isdigit()]


def normalized_key(key: str) -> str:
    """A key in lower case with `_` between words."""
    return _CAMEL.sub("_", key).replace("-", "_").replace(" ", "_").lower()


def redact_by_key(rule: str, value: Any, *, numbers: bool = False) -> Any:
    """The replacement of a value under a key with this rule; the value itself if it is harmless.

    Args:
        rule: name of the rule that the key has.
        value: of an attribute, or of an object in a document.
        numbers: whether numbers are secrets, too. Otherwise only numeric passwords are: under other keys, a number is
            a count or a length.
    """
    if isinstance(value, str):
        if value.lower() in _HARMLESS or value.startswith(REDACTED) or not rule:
            return value
        if rule == "token?" and not _LOOKS_SECRET.fullmatch(value):
            return value
        return f"{REDACTED}{rule.rstrip('?')}]"
    if isinstance(value, (tuple, list)):
        parts = [redact_by_key(rule, part, numbers=numbers) for part in value]
        return value if all(map(operator.is_, parts, value)) else type(value)(parts)
    if (numbers or rule == "password") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{REDACTED}{rule}]"
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
    """A rule for known values, plain and as escaped in JSON text, longest first; and for their beginnings where cut."""
    forms = sorted({form for value in values for form in (value, json.dumps(value)[1:-1])}, key=len, reverse=True)
    patterns = [*map(re.escape, forms), *(_beginning(form) for form in forms if len(form) > _HALF)]
    return SecretRule(name, tuple({form[:_HALF].lower() for form in forms}), re.compile("|".join(patterns)))


def _beginning(value: str) -> str:
    """A pattern for at least `_HALF` first characters of a value at the end of text."""
    rest = ""
    for char in reversed(value[_HALF:_HALF_COMPARED]):
        rest = f"(?:{re.escape(char)}{rest})?"
    return re.escape(value[:_HALF]) + rest + (r"[^\s\"']*" if len(value) > _HALF_COMPARED else "") + CUT


def custom_key_rules(keys: Iterable[str]) -> list[SecretRule]:
    """Rules for texts, numbers and lists of them under the user's own key names in JSON text."""
    words = [normalized_key(key).split("_") for key in keys]
    if not words:
        return []
    names = "|".join("[-_ ]?".join(map(re.escape, parts)) for parts in words)
    patterns = (
        rf"{q}(?P<key>(?i:{names}))(?P=q)\s*:\s*"
        rf"(?:(?P=q)(?P<secret>{quoted})(?P=q)|(?P<whole>\[[^\[\]{{}}]*\]|-?[0-9][0-9.eE+-]*))"
        for q, quoted in _QUOTES
    )
    triggers = tuple(max(parts, key=len) for parts in words)
    return [SecretRule("", triggers, pattern) for pattern in patterns]
