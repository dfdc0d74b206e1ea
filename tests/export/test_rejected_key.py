"""A rejected key pauses sending and keeps everything; a new key, changed settings or a request release it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hh_jupyter.settings import resolve
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES
from tests.export.troubled import KEY, exports, make_spans, mend, names, tracer_to, wait_until


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_key_keeps_the_spans_and_reports_what_to_do(status: int) -> None:
    with Backend(statuses={TRACES: [status]}) as refusing, tracer_to(refusing, api_key="k") as tracer:
        make_spans(tracer, 2)
        assert tracer.force_flush(5_000) is False
        state = tracer.export_state()
        assert (state.parked, state.word) == (2, "Not sent")
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
        assert (state.parked, state.waiting, state.calls_parked, state.calls_waiting) == (3, 0, 2, 0)
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
        assert (state.made, state.sent, state.parked, state.calls_parked) == (6, 6, 0, 0)
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


def test_changed_settings_with_the_same_key_release_what_was_rejected() -> None:
    with Backend(statuses={TRACES: [403]}) as backend, tracer_to(backend, session_name="s") as tracer:
        make_spans(tracer, 3)
        assert not tracer.force_flush(5_000)
        given = {"api_key": KEY, "server_url": backend.url, "session_name": "s", "source": "later"}
        tracer.configure(resolve(given))
        assert tracer.force_flush(10_000)
        assert len(backend.spans()) == 3
        assert len(exports(backend)) == 2


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
            assert wait_until(lambda: tracer.export_state().parked == 1)
            tracer.send_again()
            assert tracer.force_flush(10_000)
            assert len(backend.spans()) == 1
