"""Real clients against the fake server: the second run sends nothing, and returns the same."""

from __future__ import annotations

from pathlib import Path

import pytest

import hh_jupyter
from tests.recordings.clients import CLIENTS
from tests.recordings.fake_apis import FakeAPIs

pytestmark = pytest.mark.usefixtures("clients_dropped")

HERE = ("openai_chat", "openai_async", "anthropic_messages", "google_genai", "mistral")
"""Those of the tests' own environment; `frameworks/test_recordings.py` has the others."""


@pytest.mark.filterwarnings("ignore")  # Of the clients about themselves.
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("name", HERE)
def test_a_client_gets_the_same_answers_from_a_recording_without_a_request(
    name: str, compressed: bool, tmp_path: Path
) -> None:
    path = tmp_path / "calls.jsonl"
    with FakeAPIs(compressed=compressed) as fake:
        with hh_jupyter.recording(path) as recorder:
            first = CLIENTS[name](fake.url)
        assert recorder is not None
        sent = len(fake.log)
        assert sent == recorder.counts.sent > 0
        for mode in ("auto", "only"):
            with hh_jupyter.recording(path, mode) as recorder:
                assert CLIENTS[name](fake.url) == first
            assert recorder is not None
            assert (recorder.counts.replayed, recorder.counts.sent, recorder.counts.missed) == (sent, 0, [])
        assert len(fake.log) == sent
    with hh_jupyter.recording(path, "only"):  # Offline.
        assert CLIENTS[name](fake.url) == first
