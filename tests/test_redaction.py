"""Secrets go, everything else stays: by the name of a key, and by what a value looks like."""

from __future__ import annotations

import base64
import json
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hh_jupyter.redaction import Redactor, shown
from hh_jupyter.secret_rules import environment_secrets
from tests.spans import RECORDINGS, recorded

PLAIN = Redactor(environ={})
KEY = "sk-proj-" + "a1B2" * 6


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("honeyhive_inputs.password", "password"),
        ("honeyhive_inputs.config.db_password", "password"),
        ("honeyhive_inputs.apiKey", "api_key"),
        ("honeyhive_inputs.OPENAI_API_KEY", "api_key"),
        ("honeyhive_inputs.api_keys.0", "api_key"),
        ("http.request.header.x-api-key", "api_key"),
        ("http.request.header.authorization", "authorization"),
        ("http.response.header.set-cookie", "cookie"),
        ("honeyhive_inputs.cookies.sid", "cookie"),
        ("honeyhive_inputs.aws_secret_access_key", "api_key"),
        ("honeyhive_inputs.client_secret", "secret"),
        ("honeyhive_inputs.accessToken", "token"),
        ("honeyhive_inputs.credentials.user", "credentials"),
        ("honeyhive_inputs.private_key", "private_key"),
    ],
)
def test_values_of_secret_keys_are_replaced_whatever_they_are(key: str, rule: str) -> None:
    assert PLAIN.attributes({key: "plain words"}) == ({key: f"[redacted: {rule}]"}, 1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("honeyhive.session_id", "26309f73-86dc-42b2-8dfd-b38a2ecab73b"),
        ("honeyhive_inputs.secretary", "Ann"),
        ("honeyhive_inputs.password_strength", "weak"),
        ("honeyhive_inputs.author", "Ann"),
        ("honeyhive_outputs.logprobs.0.token", " Paris"),
        ("honeyhive_inputs.eos_token", "<|endoftext|>"),
        ("honeyhive_inputs.token", "internationalization"),
        ("honeyhive_inputs.api_key", ""),
        ("honeyhive_inputs.api_key", "None"),
        ("honeyhive_metrics.secrets", 3),
        ("honeyhive_inputs.password", True),
        ("llm.token_count.prompt", 24),
        ("gen_ai.request.max_tokens", 256),
    ],
)
def test_look_alike_keys_and_harmless_values_stay(key: str, value: Any) -> None:
    assert PLAIN.attributes({key: value}) == ({key: value}, 0)


def test_a_token_key_counts_if_its_value_looks_secret() -> None:
    assert PLAIN.attributes({"inputs.token": "abc123def456abc123"})[0] == {"inputs.token": "[redacted: token]"}


def test_a_number_typed_as_password_is_replaced() -> None:
    assert PLAIN.attributes({"inputs.password": 1234})[0] == {"inputs.password": "[redacted: password]"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"my key is {KEY} ok", "my key is [redacted: api_key] ok"),
        ("hh_1a2b3c4d5e6f7a8b9c0d", "[redacted: api_key]"),
        ("ghp_" + "a1" * 18, "[redacted: api_key]"),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted: api_key]"),
        ("AIza" + "Sy-1" * 9, "[redacted: api_key]"),
        ("hf_" + "aB3" * 11, "[redacted: api_key]"),
        ("Bearer abc123def456", "Bearer [redacted: bearer]"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: [redacted: authorization]"),
        ("Set-Cookie: sid=abc; Path=/\nX: 1", "Set-Cookie: [redacted: cookie]\nX: 1"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-def_1", "[redacted: jwt]"),
        ("postgresql://me:hunter2@db:5432/x", "postgresql://me:[redacted: url_credentials]@db:5432/x"),
        ("https://x.org/a?api_key=abcdefghij&b=1", "https://x.org/a?api_key=[redacted: api_key]&b=1"),
        ("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb", "a\n[redacted: private_key]\nb"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE cut off", "[redacted: private_key]"),
        ('{"password": "hunter2", "user": "bob"}', '{"password": "[redacted: password]", "user": "bob"}'),
        ("{'api_key': 'abc', 'n': 1}", "{'api_key': '[redacted: api_key]', 'n': 1}"),
        ('{"api_keys": ["a", "b"], "n": 1}', '{"api_keys": "[redacted: api_key]", "n": 1}'),
        ('{"cookies": {"sid": "abc"}}', '{"cookies": "[redacted: cookie]"}'),
        ("connect(host='x', password='hunter2')", "connect(host='x', password='[redacted: password]')"),
        ("SOME_API_KEY=abcdefgh1 run", "SOME_API_KEY=[redacted: api_key] run"),
        ("X-Api-Key: abc12345\r\nHost: x", "X-Api-Key: [redacted: api_key]\r\nHost: x"),
        ("Ocp-Apim-Subscription-Key: 0a1b2c3d", "Ocp-Apim-Subscription-Key: [redacted: api_key]"),
        ("user: bob\npassword: hunter2x\nport: 1", "user: bob\npassword: [redacted: password]\nport: 1"),
        ("aws_secret_access_key = abc/DEF12+x\n", "aws_secret_access_key = [redacted: api_key]\n"),
        (r'{"env": "A=1\nMY_API_KEY=abcdefgh\nB=2"}', r'{"env": "A=1\nMY_API_KEY=[redacted: api_key]\nB=2"}'),
        (
            r'{"dump": "Accept: *\r\nx-api-key: abc12345\r\nX: 1"}',
            r'{"dump": "Accept: *\r\nx-api-key: [redacted: api_key]\r\nX: 1"}',
        ),
        (
            r'{"dump": "Host: x\r\nCookie: a=b; c=d\r\nX: 1"}',
            r'{"dump": "Host: x\r\nCookie: [redacted: cookie]\r\nX: 1"}',
        ),
        ("run --api-key abc12345 --verbose", "run --api-key [redacted: api_key] --verbose"),
        ("config(password: 'hunter2')", "config(password: '[redacted: password]')"),
        ("<user>bob</user><password>hunter2</password>", "<user>bob</user><password>[redacted: password]</password>"),
        (
            "Server=x;User ID=me;Password=hunter;Encrypt=True",
            "Server=x;User ID=me;Password=[redacted: password];Encrypt=True",
        ),
        ("AccountName=a;AccountKey=a1B2+/==;Suffix=x", "AccountName=a;AccountKey=[redacted: api_key];Suffix=x"),
        ("host=db user=me password=hunter dbname=x", "host=db user=me password=[redacted: password] dbname=x"),
        ("[(b'authorization', b'Basic dXNlcjpwYXNzMTIz')]", "[(b'authorization', b'[redacted: authorization]')]"),
        ('["x-api-key", "aB3dE5fG7hI9jK1l"]', '["x-api-key", "[redacted: api_key]"]'),
        ("curl -u me:hunter2 https://x.org", "curl -u me:[redacted: authorization] https://x.org"),
        ("https://x.org/c?sv=1&sig=abc%2Fdefghijklm%3D&se=1", "https://x.org/c?sv=1&sig=[redacted: signature]&se=1"),
        ("https://0a1b2c3d4e5f6a7b8c9d@o1.sentry.io/4", "https://[redacted: url_credentials]@o1.sentry.io/4"),
        (
            "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nMI\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
            "[redacted: private_key]",
        ),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nMI\n-----END PGP PRIVATE KEY BLOCK-----", "[redacted: private_key]"),
    ],
)
def test_values_that_look_secret_are_replaced_and_their_surroundings_stay(text: str, wanted: str) -> None:
    assert PLAIN.text(text) == (wanted, 1)
    assert PLAIN.attributes({"input.value": text}) == ({"input.value": wanted}, 1)


@pytest.mark.parametrize(
    "text",
    [
        "use a Bearer token for authentication",
        "bearer authentication is common",
        "password must have 8 characters; secret: none",
        "cookie: a small baked good",
        "api_key=os.environ['OPENAI_API_KEY']",
        "task-1234567890123456789012",
        "scikit: sk-learn-based-something-long",
        "chatcmpl-fake000001, resp_fake000001, call_000001_0",
        "https://example.org:8080/a@b",
        "hh_jupyter_2_is_a_long_name",
        '{"max_tokens": 256, "token": " Paris", "logprob": -0.1}',
        '{"password": "", "user": "bob"}',
        '{"secrets": 3}',
        "scikit: sk-learn-2-tutorial-for-beginners",
        "def ask(api_key: Optional[str], token2: int)",
        "connect(host=host, password=password)",
        "access_key: settings.keys.primary2",
        "credentials: gs://bucket/path1",
        "api_key: ${API_KEY}",
        "password: ********",
        "postgres://{user}:{password}@{host}",
        "see http://host:port",
        "redis://localhost:6379",
        "mongodb://[::1]:27017",
        '["api_key", "password", "model2"]',
        "docker run -u 1000:1000 image; curl -u user https://x.org",
        "for (;;) secret=get()",
        "the secret = the sauce",
    ],
)
def test_prose_code_and_ids_stay(text: str) -> None:
    assert PLAIN.text(text) == (text, 0)


@pytest.mark.parametrize("name", RECORDINGS)
def test_nothing_in_real_spans_is_taken_for_a_secret(name: str) -> None:
    for span in recorded(name):
        attributes = dict(span.attributes or {})
        assert PLAIN.attributes(attributes) == (attributes, 0)


def test_keys_are_found_however_deep_json_is_nested_in_json_and_it_stays_json() -> None:
    inner = json.dumps({"api_key": 'a"b\\c', "x": 1})
    middle = json.dumps({"body": inner})
    text = json.dumps({"request": middle})
    redacted, count = PLAIN.text(text)
    assert count == 1
    assert json.loads(json.loads(json.loads(redacted)["request"])["body"]) == {"api_key": "[redacted: api_key]", "x": 1}


@given(st.dictionaries(st.sampled_from(["password", "note", "n"]), st.text(min_size=1, max_size=30), min_size=1))
def test_json_stays_json_and_other_fields_stay_as_they_are(fields: dict[str, str]) -> None:
    redacted = json.loads(PLAIN.text(json.dumps(fields))[0])
    assert redacted.keys() == fields.keys()
    for name, value in redacted.items():
        if name == "password":
            # Words that are no password, written out: the rule's own list would let anything pass.
            harmless = {"yes", "no", "null", "none", "true", "false", "basic", "bearer", "required"}
            assert value == "[redacted: password]" or value.lower() in harmless


@given(st.text(max_size=200))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once, _ = PLAIN.text(f"{text} {KEY} password='x{text}'")
    assert KEY not in once
    assert PLAIN.text(once)[0] == once


def test_lists_of_text_are_redacted_part_by_part() -> None:
    attributes = {"messages": ("fine as it is", f"use {KEY}"), "http.request.header.cookie": ("a=b",), "v": (1.0, 2.0)}
    redacted, count = PLAIN.attributes(attributes)
    assert redacted == {
        "messages": ("fine as it is", "use [redacted: api_key]"),
        "http.request.header.cookie": ("[redacted: cookie]",),
        "v": (1.0, 2.0),
    }
    assert count == 2


def test_the_given_attributes_are_never_changed() -> None:
    given_attributes = {"password": "x"}
    assert PLAIN.attributes(given_attributes)[0] is not given_attributes
    assert given_attributes == {"password": "x"}


def test_a_value_seen_before_is_judged_again_by_its_key() -> None:
    redactor = Redactor(environ={})
    for _ in range(2):
        assert redactor.attributes({"city": "Casablanca"})[1] == 0
    assert redactor.attributes({"password": "Casablanca"})[1] == 1


def test_values_of_secret_named_variables_are_hidden_wherever_they_turn_up() -> None:
    environ = {"SERVICE_TOKEN": 'zebra-42-"quux', "HOME": "/home/me/and/more"}
    redactor = Redactor(environ=environ)
    assert redactor.text('it is zebra-42-"quux.') == ("it is [redacted: environment].", 1)
    assert redactor.text(json.dumps({"a": 'zebra-42-"quux'})) == ('{"a": "[redacted: environment]"}', 1)
    assert redactor.text("in /home/me/and/more") == ("in /home/me/and/more", 0)


@pytest.mark.parametrize(
    "environ",
    [
        {"A_TOKEN": "short-1"},
        {"A_TOKEN": "development"},
        {"A_TOKEN": "some-plain-words"},
        {"A_KEY": "123456789012345"},
        {"SSH_AUTH_SOCK": "/run/user/1000/agent.1"},
        {"A_SECRET_FILE": "~/secret/file1"},
        {"A_TOKEN_URL": "https://x.org/token/1"},
        {"KEYBOARD_LAYOUT": "us-variant-104"},
    ],
)
def test_words_numbers_paths_and_addresses_in_the_environment_are_no_secrets(environ: dict[str, str]) -> None:
    assert environment_secrets(environ) == []


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", "correct7horse")
    assert Redactor().text("it is correct7horse") == ("it is [redacted: environment]", 1)


def test_own_keys_in_any_spelling_own_patterns_and_own_secrets_are_added() -> None:
    redactor = Redactor(environ={}, keys=["patient_name"], patterns=[r"ORD-\d+"], secrets=["the key in use"])
    assert redactor.attributes({"honeyhive_inputs.patientName": "Ann", "patient-name.first": "Ann"}) == (
        {"honeyhive_inputs.patientName": "[redacted: patient_name]", "patient-name.first": "[redacted: patient_name]"},
        2,
    )
    assert redactor.text('{"patient_name": "Ann"}') == ('{"patient_name": "[redacted: patient_name]"}', 1)
    assert redactor.text("see ORD-123 and ORD-4")[0] == "see [redacted: pattern] and [redacted: pattern]"
    assert redactor.text("use the key in use")[0] == "use [redacted: secret]"
    assert redactor.text("key in use") == ("key in use", 0)


def test_numbers_and_lists_under_own_keys_are_hidden_wherever_they_stand() -> None:
    redactor = Redactor(environ={}, keys=["customer_number", "iban"])
    assert redactor.attributes({"honeyhive_inputs.customer_number": 4711, "honeyhive_outputs.iban": (1, 2.5)})[0] == {
        "honeyhive_inputs.customer_number": "[redacted: customer_number]",
        "honeyhive_outputs.iban": ("[redacted: iban]", "[redacted: iban]"),
    }
    nested = {"customerNumber": 4711, "x": {"iban": [1, "DE"]}, "customer-number": "abc", "of": 1}
    hidden = "[redacted: customer_number]"
    assert redactor.document(nested)["customerNumber"] == hidden
    in_text = redactor.text(json.dumps(nested))[0]
    assert json.loads(in_text) == {
        "customerNumber": hidden, "x": {"iban": "[redacted: iban]"}, "customer-number": hidden, "of": 1
    }  # fmt: skip
    assert "4711" not in redactor.text(json.dumps({"body": json.dumps(nested)}))[0]


def test_own_patterns_also_match_numbers_but_only_those_of_the_user() -> None:
    redactor = Redactor(environ={}, patterns=[r"\d{8}"])
    assert redactor.attributes(
        {
            "honeyhive_inputs.customer": 12345678,
            "honeyhive_outputs.result": (12345678, 1),
            "honeyhive_inputs.n": 7,
            "gen_ai.usage.input_tokens": 12345678,
        }
    ) == (
        {
            "honeyhive_inputs.customer": "[redacted: pattern]",
            "honeyhive_outputs.result": ("[redacted: pattern]", "1"),
            "honeyhive_inputs.n": 7,
            "gen_ai.usage.input_tokens": 12345678,
        },
        2,
    )


def test_redaction_can_be_switched_off() -> None:
    off = Redactor(enabled=False, environ={})
    assert off.attributes({"password": KEY}) == ({"password": KEY}, 0)
    assert off.text(KEY) == (KEY, 0)


@pytest.mark.parametrize(
    "text",
    ["sk-" * 60_000, '"' * 50_000 + "secret", "\\" * 50_000 + "secret", '"password": "' * 20_000, "://a:" * 40_000,
     "A_" * 60_000 + "secret=", "eyJaaaaaaaaa" * 20_000, "-----BEGIN PRIVATE KEY" * 10_000, "bearer " * 30_000],
    ids=lambda text: text[:8],
)  # fmt: skip
@pytest.mark.timeout(20)
def test_text_made_to_be_slow_is_not(text: str) -> None:
    PLAIN.text(text)


FILE = random.Random(1).randbytes(300_000)
ENCODINGS = {"plain": base64.b64encode(FILE).decode(), "in addresses": base64.urlsafe_b64encode(FILE).decode()}
ALIKE = "AAAA_hf_" + "a1B2" * 6
"""Base64 for addresses has `-` and `_`, so that by chance a file holds what looks like a key."""


@pytest.mark.parametrize(
    "body", [*ENCODINGS.values(), ENCODINGS["in addresses"] + ALIKE], ids=[*ENCODINGS, "like a key"]
)
def test_images_and_files_in_base64_stay_as_they_are(body: str) -> None:
    address = f"data:image/png;base64,{body}"
    for text in (body, address, json.dumps({"url": address}), json.dumps({"x": json.dumps({"url": address})})):
        assert PLAIN.text(text) == (text, 0)
        assert PLAIN.attributes({"input.value": text}) == ({"input.value": text}, 0)


def test_secrets_beside_a_file_are_redacted() -> None:
    address = f"data:image/png;base64,{ENCODINGS['in addresses']}"
    text = json.dumps({"api_key": KEY, "url": address, "password": "correct horse", "note": f"use {KEY}"})
    found, number = PLAIN.text(text)
    assert number == 3
    assert json.loads(found) == {
        "api_key": "[redacted: api_key]",
        "url": address,
        "password": "[redacted: password]",
        "note": "use [redacted: api_key]",
    }


def test_a_secret_as_long_as_a_file_is_redacted() -> None:
    body = ENCODINGS["plain"]
    assert json.loads(PLAIN.text(json.dumps({"private_key": body}))[0]) == {"private_key": "[redacted: private_key]"}
    pem = f"-----BEGIN PRIVATE KEY-----{body}-----END PRIVATE KEY-----"
    assert PLAIN.text(json.dumps({"x": pem}))[0] == '{"x": "[redacted: private_key]"}'
    known = Redactor(environ={"MY_SECRET": "correct7horse"})
    assert known.text(f'"{body}correct7horse{body}"') == (f'"{body}[redacted: environment]{body}"', 1)


def test_text_that_looks_like_a_file_placeholder_is_kept() -> None:
    text = json.dumps(["hhFile0" + "x" * 64, "hhFile7" + "x" * 64, ENCODINGS["plain"]])
    assert PLAIN.text(text) == (text, 0)


def test_five_megabytes_of_base64_are_read_in_a_moment() -> None:
    body = base64.urlsafe_b64encode(random.Random(2).randbytes(4_000_000)).decode()
    started = time.thread_time()  # Of the processor, so that a busy machine changes nothing.
    PLAIN.attributes({"input.value": json.dumps({"url": f"data:image/png;base64,{body}"})})
    assert time.thread_time() - started < 0.4  # All rules would take 0.8 s where this takes 0.03 s.


def test_nested_documents_are_redacted_at_every_depth() -> None:
    """Session inputs and updates are no flat attributes; what JSON can hold stays what it was."""
    document = {
        "inputs": {"api_key": "abc123", "passwords": ["one", "two"], "deep": [{"authorization": "Basic QWxhZGRpbg=="}]},
        "text": f"use {KEY} now",
        "kept": {"tokens": 12, "ratio": 0.5, "none": None, "yes": True, "words": ["plain"]},
    }
    found = Redactor(environ={}).document(document)
    assert found["kept"] == document["kept"]
    for secret in ("abc123", "one", "QWxhZGRpbg", KEY):
        assert secret not in repr({key: value for key, value in found.items() if key != "kept"})
    assert Redactor(enabled=False, environ={}).document(document) == document


def test_a_key_that_is_a_secret_is_renamed_and_its_value_stays() -> None:
    patterns = [r"[\w.]+@[\w.]+", r"\d\d+", "honeyhive_[a-z]+"]
    redactor = Redactor(environ={"MY_SECRET": "correct7horse"}, patterns=patterns, secrets=["data"])
    found, number = redactor.attributes(
        {
            f"honeyhive_metadata.{KEY}": 1,
            "honeyhive_metadata.key correct7horse": 2,
            "a@example.com": 3,
            "plain.content.0": 4,
        }
    )
    assert (found, number) == (
        {
            "honeyhive_metadata.[redacted: api_key]": 1,
            "honeyhive_metadata.key [redacted: environment]": 2,
            "[redacted: pattern]": 3,
            "plain.content.0": 4,
        },
        3,
    )
    assert redactor.attributes(found) == (found, 0)


def test_keys_that_read_the_same_without_their_secrets_are_all_kept() -> None:
    found, _ = Redactor(environ={}).attributes({KEY: 1, f"{KEY}x": KEY, f"{KEY}.password": "abc"})
    name = "[redacted: api_key]"
    assert found == {name: 1, f"{name} 2": name, f"{name}.password": "[redacted: password]"}


def test_secret_keys_of_documents_are_renamed_at_every_depth() -> None:
    found = Redactor(environ={}).document({"metadata": {KEY: {KEY: [{KEY: 1}]}, "n": 2}, KEY: KEY})
    name = "[redacted: api_key]"
    assert found == {"metadata": {name: {name: [{name: 1}]}, "n": 2}, name: name}
    assert Redactor(enabled=False, environ={}).document({KEY: 1}) == {KEY: 1}


def test_of_many_texts_and_of_long_lists_every_one_is_redacted() -> None:
    """They are searched in portions, so that other threads run between."""
    texts = {f"text {number}": f"{'x ' * 3_000}{number}" for number in range(100)}
    secrets = {f"text {number}": f"{'x ' * 3_000}{KEY}" for number in (0, 42, 43, 99)}
    listed = [*(f"item {number}" for number in range(50_000)), KEY, 1]
    found, number = Redactor(environ={}).attributes({**texts, **secrets, "list": listed, "tuple": tuple(listed)})
    assert number == len(secrets) + 2
    assert KEY not in repr(found)
    assert {key: found[key] for key in texts if key not in secrets}.items() <= texts.items()
    assert type(found["tuple"]) is tuple
    assert found["list"] == [*listed[:-2], "[redacted: api_key]", 1]


def test_a_full_key_cache_does_not_reveal_a_secret() -> None:
    """What is known of keys is forgotten at some number of them."""
    redactor = Redactor(environ={})
    many = {f"honeyhive_metadata.number{number}": 1 for number in range(5_000)}
    found, _ = redactor.attributes({KEY: 1, **many, f"{KEY}y": 2})
    assert KEY not in repr(found)
    assert len(found) == 5_002


def test_an_error_message_is_made_even_if_the_name_of_the_argument_is_a_secret() -> None:
    assert shown(KEY, "value") == "'value'"
