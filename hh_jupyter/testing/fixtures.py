"""Pytest fixtures: the spans of a test, and recordings that answer its model calls.

    # conftest.py
    pytest_plugins = ["hh_jupyter.testing.fixtures"]

    # test_agent.py
    def test_a_refund_is_granted(hh_recording, hh_spans):
        assert "refund" in agent(TICKET)  # recordings/test_a_refund_is_granted.jsonl
        assert hh_spans.tools == ["look_up_order", "refund"]

`hh_spans` are the spans so far, of the test and of the fixtures that come after it; no span is sent.

With `hh_recording` the first run records, and later ones send nothing. The mode is `HH_REPLAY`; without it `only` where
the variable `CI` is set, as on GitHub and GitLab, so that a forgotten recording fails there instead of spending, else
`auto`.

This module is no plugin by itself: pytest imports plugins at every start, and this package with them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import cast

import pytest

from hh_jupyter.recordings import recording
from hh_jupyter.recordings.location import recording_path
from hh_jupyter.recordings.recorder import Mode, Recorder
from hh_jupyter.setting_rules import FALSE_WORDS
from hh_jupyter.settings import resolve
from hh_jupyter.testing.captured_spans import CapturedSpans, capture_spans


@pytest.fixture
def hh_spans() -> Iterator[CapturedSpans]:
    """Capture the spans of this test, from any thread, without network or set-up.

    Yields:
        the spans that have ended so far, as a `SpanList`.
    """
    with capture_spans() as spans:
        yield spans


@pytest.fixture
def hh_recording(request: pytest.FixtureRequest) -> Iterator[Recorder | None]:
    """Answer the model calls of this test from `recordings/<test name>.jsonl` beside it.

    Yields:
        the recorder, whose `counts` say how many requests were replayed, sent and missed; None with `HH_REPLAY=off`.
    """
    settings = resolve({})
    mode = settings.replay
    if settings.origins.get("replay") == "default":
        mode = "auto" if os.environ.get("CI", "").strip().lower() in FALSE_WORDS else "only"
    name = ".".join(filter(None, (request.cls and request.cls.__qualname__, request.node.name)))
    path = recording_path(name, request.path.parent, settings.recordings_dir)
    with recording(path, cast("Mode", mode)) as recorder:
        yield recorder
