"""The user's own function is the last rule: it sees what the others leave, and nothing passes it by accident."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.errors import SettingTypeError
from hh_jupyter.redaction import Redactor, RedactorWithFunction, RedactWith
from hh_jupyter.testing import Backend

KEY = "sk-proj-A1b2C3d4E5f6G7h8I9j0"


def with_function(function: RedactWith, **rules: Any) -> RedactorWithFunction:
    return RedactorWithFunction(Redactor(environ={}, **rules), function)


class Seen:
    """Changes nothing and remembers what it was given."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, Any]] = []

    def __call__(self, key: str, value: Any) -> Any:
        self.pairs.append((key, value))
        return value


def test_the_function_receives_each_key_and_value_that_the_rules_keep() -> None:
    seen = Seen()
    redactor = with_function(seen)
    given = {"honeyhive_inputs.password": "abc", "prompt": f"use {KEY}", "n": 3, "list": ["a", "b"]}
    found, changed = redactor.attributes(given)
    assert seen.pairs == list(found.items())
    assert changed == 2
    assert KEY not in repr(seen.pairs)


def test_the_returned_value_is_kept_and_counted_once() -> None:
    redactor = with_function(lambda key, value: "Jane → J." if key == "name" else value)
    assert redactor.attributes({"name": "Jane", "age": 3}) == ({"name": "Jane → J.", "age": 3}, 1)
    assert redactor.attributes({"name": KEY}) == ({"name": "Jane → J."}, 1)
    assert redactor.document({"name": "Jane", "deep": {"name": "Jane"}}) == {
        "name": "Jane → J.",
        "deep": {"name": "Jane"},
    }
    assert with_function(lambda _key, value: str(value).upper()).text("an error") == ("AN ERROR", 1)


def test_documents_are_walked_with_dots_between_the_levels() -> None:
    seen = Seen()
    redactor = with_function(seen)
    document = {"a": {"b": [{"c": 1}, "text"]}, "none": None, "yes": True}
    assert redactor.document(document) == document
    assert [key for key, _ in seen.pairs] == ["a.b.c", "a.b", "yes"]


def _raise(_key: str, _value: Any) -> Any:
    raise ValueError(KEY)


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        (_raise, "[redacted: redact_with failed, ValueError]"),
        (lambda _key, _value: None, "[redacted: redact_with]"),
        (lambda _key, _value: object(), "[redacted: redact_with]"),
        (lambda _key, _value: [object()], "[redacted: redact_with]"),
        (lambda: "no arguments", "[redacted: redact_with failed, TypeError]"),
    ],
    ids=["raises", "none", "object", "list of objects", "wrong signature"],
)
def test_it_fails_closed(function: RedactWith, shown: str) -> None:
    redactor = with_function(function)
    assert redactor.attributes({"prompt": "private"}) == ({"prompt": shown}, 1)
    assert redactor.text("private") == (shown, 1)
    assert redactor.document({"inputs": {"q": "private", "n": 1}}) == {"inputs": {"q": shown, "n": shown}}


def test_a_span_and_its_session_pass_it_and_keep_their_ids(backend: Backend) -> None:
    session = str(uuid.uuid4())
    hidden = HoneyHiveTracer.init(
        api_key="hh_test_key_1234", server_url=backend.url, session_name="s", redact_with=lambda _key, _value: "***"
    )
    with hidden:
        hidden.create_session("private", session_id=session, inputs={"name": "private"})
        with hidden.start_span("work", attributes={"prompt": "private"}) as span:
            span.add_event("an event", {"text": "private"})
        hidden.enrich_session(metadata={"who": "private"})
        assert hidden.force_flush()
    (sent,) = backend.spans()
    assert sent["attributes"]["prompt"] == "***"
    assert sent["attributes"]["honeyhive.session_id"] == session
    bodies = [request.body for request in backend.requests if isinstance(request.body, dict)]
    assert session in [body["session"]["session_id"] for body in bodies if "session" in body]
    assert [body["event_id"] for body in bodies if "event_id" in body] == [session]
    assert "private" not in repr(bodies) + repr(sent)


def test_own_patterns_leave_the_ids_as_well(backend: Backend) -> None:
    tracer = HoneyHiveTracer.init(api_key="hh_test_key_1234", server_url=backend.url, redact_patterns=[r"[0-9a-f]{4}"])
    with tracer, tracer.with_session("s") as session:
        with tracer.start_span("work", attributes={"card": "4111"}):
            pass
        assert tracer.force_flush()
        (sent,) = backend.spans()
        assert sent["attributes"]["card"] == "[redacted: pattern]"
        assert sent["attributes"]["honeyhive.session_id"] == session


def test_with_redaction_off_the_function_is_not_called_and_only_the_api_key_is_hidden(backend: Backend) -> None:
    key = "hh_a_key_in_use_7"
    tracer = HoneyHiveTracer.init(api_key=key, server_url=backend.url, redact=False, redact_with=_raise)
    with tracer, tracer.start_span("work", attributes={"password": "abc", "prompt": f"{key}, {KEY}"}):
        pass
    (sent,) = backend.spans()
    assert sent["attributes"]["password"] == "abc"
    assert sent["attributes"]["prompt"] == f"[redacted: secret], {KEY}"


def test_a_value_that_is_not_a_function_raises() -> None:
    with pytest.raises(SettingTypeError, match="redact_with must be a function of a key and a value"):
        HoneyHiveTracer.init(redact_with="upper")
