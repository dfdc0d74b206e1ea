"""Tokens of providers are found wherever they stand, and what only looks like one stays."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hh_jupyter.redaction import Redactor
from hh_jupyter.values import MAX_TEXT, clean
from tests.token_examples import BEFORE, FORMS, NEAR_MISSES, example

PLAIN = Redactor(environ={})
ROOT = Path(__file__).parents[1]
GITHUB = example("GitHub")
SURROUNDINGS: dict[str, Callable[[str], str]] = {
    "prose": lambda token: f"My key is {token}, please keep it.",
    "alone": lambda token: token,
    "begin": lambda token: f"{token} is it",
    "end": lambda token: f"it is {token}",
    "markdown": lambda token: f"Use `{token}`:\n\n```\n{token}\n```",
    "code": lambda token: f"client = Client('{token}')",
    "JSON": lambda token: json.dumps({"note": f"one line\n{token}\nanother\t{token}"}),
    "JSON in JSON": lambda token: json.dumps({"body": json.dumps({"note": f"one line\r\n{token}\r\nanother"})}),
    "escaped": lambda token: repr(f"one line\n{token}\n"),
    "query": lambda token: f"https://api.example.org/v1?q=%20{token}&page=2",
    "colors": lambda token: f"\x1b[32m{token}\x1b[0m",
    "no spaces": lambda token: f"我的密钥是{token}请保密",
    "log": lambda token: f"2024-11-05 12:00:00 INFO key={token}; retries=2",
}


@pytest.mark.parametrize("provider", FORMS)
def test_a_token_of_each_provider_is_replaced_wherever_it_stands_and_nothing_else_is(provider: str) -> None:
    before, rule = BEFORE.get(provider, ""), "jwt" if provider == "JWT" else "api_key"
    for name, around in SURROUNDINGS.items():
        for seed in range(1, 6):
            token = example(provider, seed)
            text = around(before + token)
            found, number = PLAIN.text(text)
            assert found == text.replace(token, f"[redacted: {rule}]"), name
            assert number == text.count(token)
            assert PLAIN.attributes({"a": "some words", "output.value": text})[0]["output.value"] == found


@pytest.mark.parametrize("text", NEAR_MISSES)
def test_names_ids_hashes_and_models_that_look_like_tokens_stay(text: str) -> None:
    for around in (
        text,
        f"see {text} there",
        f"{text}...",
        json.dumps({"name": f"\n{text}\n"}),
        f"https://x.org/?q={text}",
    ):
        assert PLAIN.text(around) == (around, 0)


def documents() -> list[Path]:
    found = [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    return [
        *found,
        *ROOT.glob("hh_jupyter/**/*.py"),
        *ROOT.glob("hh_jupyter/**/*.js"),
        *ROOT.glob("notebooks/*.ipynb"),
        *ROOT.glob("notebooks/*.md"),
    ]


def test_nothing_in_prose_code_and_notebooks_is_taken_for_a_secret() -> None:
    """All of this project's own, but for the quoted values of its examples, and the tables of key names."""
    quoted = re.compile(r"(?:api_key|password)=\W|user:password@")
    texts = {
        path: path.read_text("utf-8") for path in documents() if path.name not in ("secret_rules.py", "redaction.py")
    }
    assert len(texts) > 100
    changed = [
        (path.name, before, after)
        for path, text in texts.items()
        for before, after in zip(text.splitlines(), PLAIN.text(text)[0].splitlines(), strict=True)
        if before != after and not quoted.search(before)
    ]
    assert changed == []


@pytest.mark.parametrize("end", ["", "...", "\u2026", "... (1,234,567 characters)"])
@pytest.mark.parametrize(
    ("start", "half"),
    [
        ("sk-proj-", "a1B2c3D4"),
        ("sk-ant-", "api03-a1B2c3"),
        ("ghp_", "a1B2c3D4"),
        ("github_pat_", "11ABCDEFG0"),
        ("glpat-", "a1B2-c3D4"),
        ("hf_", "aBcDeFgHiJkL"),
        ("xoxb-", "123456789012-12345"),
        ("AIza", "SyA1b2C3d4"),
        ("lsv2_", "pt_0a1b2c3d"),
        ("eyJ", "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIx"),
    ],
)
def test_half_a_token_where_text_was_cut_is_replaced(start: str, half: str, end: str) -> None:
    found, number = PLAIN.text(f"use {start}{half}{end}")
    rule = "jwt" if start == "eyJ" else "api_key"
    assert (found, number) == (f"use [redacted: {rule}]{end}", 1)
    assert PLAIN.attributes({"a": f"use {start}{half}{end}", "b": "more"})[1] == 1


def test_a_token_at_the_place_where_a_long_value_is_cut_is_replaced_and_the_note_of_the_cut_stays() -> None:
    for shown in (14, 20, 30):
        text = clean("x" * (MAX_TEXT - shown - 1) + f" {GITHUB} and more")
        found, number = PLAIN.text(text)
        assert number == 1
        assert found.endswith(f"xx [redacted: api_key]... ({MAX_TEXT - shown + len(GITHUB) + 9:,} characters)")


def test_half_of_a_secret_named_by_its_key_or_known_is_replaced_where_text_was_cut() -> None:
    redactor = Redactor(environ={"MY_TOKEN": "zebra-42-quux-99-abcdef"}, secrets=["the-key-in-use-1234567890"])
    note = "... (1,000,000 characters)"
    for text, secret, rule in (
        ('{"user": "bob", "password": "correct horse', "correct horse", "password"),
        (
            json.dumps({"body": json.dumps({"user": "bob", "password": "correct horse"})})[:-6],
            "correct hor",
            "password",
        ),
        ("it is zebra-42-quux-9", "zebra-42-quux-9", "environment"),
        ("it is the-key-in-use-123", "the-key-in-use-123", "secret"),
        ("postgresql://me:hunter2", "hunter2", "url_credentials"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "MIIE", "private_key"),
    ):
        for cut in ("", note):
            found, number = redactor.text(text + cut)
            assert secret not in found
            assert (number, f"[redacted: {rule}]" in found, found.endswith(cut)) == (1, True, True)


def test_a_token_that_begins_within_a_word_or_is_too_short_is_none() -> None:
    for text in (f"x{GITHUB}", GITHUB[:12] + " and more", "AKIA" + "A1" * 7 + " and more", "xAKIA" + "A1" * 8):
        assert PLAIN.text(text) == (text, 0)


@pytest.mark.parametrize(
    "part",
    ["sk-", "sk-a1b2-", "sk-a1B2c3 ", "-", "_", ".", "SG." + "a" * 25, "-eyJaaaaaaaa", "eyJaaaaaaaaa.", "dp.st.", "SK",
     "AC", "pat", "-us", "0123456789abcdef", ":AA1", "Q~", "hf_aB", "ghp_a1B2...", "A1b2", "xoxb-1", "%2F", "\\n",
     "-----BEGIN ", "---- BEGIN PRIVATE KEY", "curl -u ", "curl --user a:", "postgres://", "mongodb://:", "://a:", "@",
     "password:", "password: ", "api_key=", "--api-key ", "; password=", "<password>", "'token', ", "a=", "?sig=",
     "\"password\": \"", "\\\"password\\\": \\\"", "cookie:a", "bearer "],
)  # fmt: skip
@pytest.mark.timeout(60)
def test_long_text_made_to_be_slow_takes_linear_time(part: str) -> None:
    """Each takes a third of a second; what tries again from every place takes minutes."""
    text = f"secret {part * (300_000 // len(part))}! token: @ sig= bearer postgres curl eyJ"
    began = time.thread_time()
    PLAIN.text(text)
    assert time.thread_time() - began < 30
