"""A rejected key pauses sending and keeps everything; a new key, another address or a request releases it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from hh_jupyter import setting_rules as rules
from hh_jupyter.settings import TABLE, resolve
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES
from tests.export.troubled import KEY, exports, make_spans, mend, names, tracer_to, wait_until

MAY_RETRY = {
    *("api_key", "ingestion_api_key", "server_url", "otlp_endpoint", "otlp_headers", "otlp_protocol"),
    *("http_proxy", "https_proxy", "no_proxy", "verify_ssl", "requests_session"),
    "otlp_enabled",  # Registers the sessions at once, as none of their spans will.
}
"""The settings that the backend's answer depends on."""


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_key_keeps_the_spans_and_reports_what_to_do(status: int) -> None:
    with Backend(statuses={TRACES: [status]}) as refusing, tracer_to(refusing, api_key="k") as tracer:
        make_spans(tracer, 2)
        assert tracer.force_flush(5_000) is False
        state = tracer.export_state()
        assert (state.rejected, state.word) == (2, "Not sent")
        assert state.reason is not None
        assert f"rejected the key ({status})" in state.reason
        assert "Set a valid api_key (HH_API_KEY)" in state.reason
        assert "k" not in state.reason.replace("api_key", "").split(), "the key itself"
        assert tracer.force_flush(5_000) is False, "the key still holds them back"
        tracer.send_again()
        assert tracer.force_flush(5_000) is True
        assert len(refusing.spans()) == 2


def test_a_rejected_key_pauses_everything_including_later_spans_and_updates() -> None:
    with Backend(statuses={"/": [401]}, repeat_last_status=True) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 1)
        assert not tracer.force_flush(5_000)
        asked = len(backend.requests)
        make_spans(tracer, 2)
        tracer.enrich_session(metadata={"a": 1})
        assert tracer.wait_processed(10)
        assert not tracer.force_flush(500)
        assert len(backend.requests) == asked, "nothing else is tried with a rejected key"
        state = tracer.export_state()
        assert (state.rejected, state.waiting, state.requests_rejected, state.requests_waiting) == (3, 0, 2, 0)
        assert "rejected the key (401)" in str(state.reason)


def test_spans_kept_because_of_a_wrong_key_are_sent_with_the_right_one() -> None:
    with Backend(statuses={"/": [401]}, repeat_last_status=True) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 3)
        assert not tracer.force_flush(5_000)
        make_spans(tracer, 3)
        assert not tracer.force_flush(500)
        mend(backend)
        tracer.configure(resolve({"api_key": "another-test-key", "server_url": backend.url}))
        assert tracer.force_flush(10_000)
        assert len(backend.spans()) == 6
        state = tracer.export_state()
        assert (state.made, state.sent, state.rejected, state.requests_rejected) == (6, 6, 0, 0)
        accepted = {request.headers["authorization"] for request in backend.requests if request.accepted}
        assert accepted == {"Bearer another-test-key"}


def test_a_span_that_is_open_while_the_key_changes_is_sent_with_the_new_key() -> None:
    with Backend(statuses={"/": [401]}, repeat_last_status=True) as backend, tracer_to(backend) as tracer:
        with tracer.start_span("early"):
            pass
        assert not tracer.force_flush(5_000)
        mend(backend)
        with tracer.start_span("open"):
            tracer.configure(resolve({"api_key": "another-test-key", "server_url": backend.url}))
        assert tracer.force_flush(10_000)
        assert names(backend) == ["early", "open"]
        assert (tracer.export_state().made, tracer.export_state().sent) == (2, 2)


def test_another_destination_does_not_get_what_a_rejected_key_held_back(backend: Backend) -> None:
    with Backend(statuses={"/": [401]}, repeat_last_status=True) as refusing, tracer_to(refusing) as tracer:
        with tracer.start_span("for the first"):
            pass
        assert not tracer.force_flush(5_000)
        tracer.configure(resolve({"api_key": "another-test-key", "server_url": backend.url}))
        with tracer.start_span("for the second"):
            pass
        assert not tracer.force_flush(5_000)
        assert (names(refusing), names(backend)) == ([], ["for the second"])


def other_value(name: str, value: Any) -> Any:
    """Return a valid value of a setting that differs from this one."""
    special: dict[str, Any] = {
        "app_url": "https://app.example/{session_id}",
        "exporter": "none",
        "redact_with": lambda key, value: value,
        "requests_session": None,
        "span_name_filters": {"include": ("span",)},
    }
    if name in special:
        return special[name]
    expected = TABLE[name].rule
    if expected is rules.SWITCH:
        return not value
    if expected is rules.OBJECT:
        return {"another": 1}
    if expected in (rules.NAMES, rules.PATTERNS):
        return ("another",)
    return value + 1 if isinstance(value, int | float) else str(uuid4())


@pytest.mark.parametrize("status", [401, 404])
def test_no_setting_but_those_that_the_answer_depends_on_retries_what_was_rejected(status: int, tmp_path: Path) -> None:
    """Each is changed and changed back, one after another."""
    settings: dict[str, Any] = {"spool": True, "spool_dir": str(tmp_path / "spool")}
    with (
        Backend(statuses={"/": [status]}, repeat_last_status=True) as backend,
        tracer_to(backend, **settings) as tracer,
    ):
        make_spans(tracer, 1)
        assert not tracer.force_flush(5_000)
        asked, before = len(backend.requests), tracer.settings
        for name in {row.name for row in before.describe()} - MAY_RETRY:
            other = str(tmp_path / "other") if name == "spool_dir" else other_value(name, getattr(before, name))
            change: dict[str, Any] = {name: other}
            for changed in (replace(before, **change), before):
                tracer.configure(changed)
                tracer.force_flush(5_000)
                assert len(backend.requests) == asked, name
        assert tracer.export_state().rejected == 1


@pytest.mark.parametrize("status", [401, 404])
@pytest.mark.parametrize("change", [{"verify_ssl": False}, {"otlp_headers": {"x": "y"}}, {"no_proxy": "127.0.0.1"}])
def test_a_setting_that_the_answer_depends_on_retries_what_was_rejected(status: int, change: dict[str, Any]) -> None:
    with Backend(statuses={"/": [status]}, repeat_last_status=True) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 3)
        assert not tracer.force_flush(5_000)
        mend(backend)
        tracer.configure(replace(tracer.settings, **change))
        assert tracer.force_flush(10_000)
        assert len(backend.spans()) == 3


def test_the_same_settings_once_more_retry_nothing() -> None:
    with Backend(statuses={"/": [401]}, repeat_last_status=True) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 1)
        assert not tracer.force_flush(5_000)
        asked = len(backend.requests)
        tracer.configure(resolve({"api_key": KEY, "server_url": backend.url}))
        assert not tracer.force_flush(5_000)
        assert len(backend.requests) == asked


def test_a_pause_that_the_backend_asked_for_outlasts_a_change_of_settings() -> None:
    with Backend(statuses={TRACES: [429]}, headers={"Retry-After": "60"}) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 1)
        assert not tracer.force_flush(1_000)
        asked = len(exports(backend))
        tracer.configure(replace(tracer.settings, source="later"))
        assert not tracer.force_flush(300)
        assert len(exports(backend)) == asked


@pytest.mark.parametrize("switch", ["disable_tracing", "test_mode"])
def test_a_key_that_changed_while_nothing_was_sent_takes_over_what_the_old_one_held_back(switch: str) -> None:
    with Backend(statuses={"/": [401]}, repeat_last_status=True) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 2)
        assert not tracer.force_flush(5_000)
        given, off = tracer.settings, dict[str, Any]({switch: True})
        tracer.configure(replace(given, **off))
        tracer.configure(replace(given, **off, api_key="another-test-key"))
        mend(backend)
        tracer.configure(replace(given, api_key="another-test-key"))
        make_spans(tracer, 1)
        assert tracer.force_flush(10_000)
        assert len(backend.spans()) == 3
        state = tracer.export_state()
        assert (state.made, state.sent, state.rejected) == (3, 3, 0)


def test_a_key_that_works_again_sends_what_it_had_kept_and_what_comes() -> None:
    with Backend(statuses={"/": [401]}, repeat_last_status=True) as backend, tracer_to(backend, api_key=KEY) as tracer:
        make_spans(tracer, 1)
        assert not tracer.force_flush(5_000)
        tracer.configure(resolve({"api_key": "another-test-key", "server_url": backend.url}))
        make_spans(tracer, 1)
        assert not tracer.force_flush(5_000)
        mend(backend)
        tracer.configure(resolve({"api_key": KEY, "server_url": backend.url}))
        make_spans(tracer, 1)
        assert tracer.force_flush(10_000)
        assert len(backend.spans()) == 3


def test_rows_follow_a_key_that_was_rejected_after_it_had_been_replaced(tmp_path: Path) -> None:
    """In memory and on disk: the next process with the new key has them, too."""
    settings: dict[str, Any] = {"spool": True, "spool_dir": str(tmp_path)}
    with Backend(delay={TRACES: 0.5}, statuses={TRACES: [401]}, repeat_last_status=True) as backend:
        with tracer_to(backend, api_key=KEY, export_timeout=5.0, **settings) as tracer:
            make_spans(tracer, 1)
            tracer.force_flush(0)
            assert backend.wait_for(exports)
            tracer.configure(resolve({"api_key": "another-test-key", "server_url": backend.url, **settings}))
            assert not tracer.force_flush(5_000)
            stored = tracer.spool.sessions() if tracer.spool is not None else []
            (spans,) = [session for session in stored if session.spans]
            assert spans.unsent == 1
        mend(backend)
        with tracer_to(backend, api_key="another-test-key", **settings) as tracer:
            assert wait_until(lambda: tracer.export_state().rejected == 1)
            tracer.send_again()
            assert tracer.force_flush(10_000)
            assert len(backend.spans()) == 1
