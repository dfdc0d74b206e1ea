"""A pytest fixture that answers the model calls of a test from a file beside it.

    # conftest.py
    pytest_plugins = ["hh_jupyter.testing.fixtures"]

    # test_agent.py
    def test_a_refund_is_granted(hh_recording):
        assert "refund" in agent(TICKET)  # recordings/test_a_refund_is_granted.jsonl

The first run records, later ones send nothing. The mode is `HH_REPLAY`; without it `only` where the variable `CI` is
set, as on GitHub and GitLab, so that a forgotten recording fails there instead of spending, else `auto`.

It is no plugin by itself: pytest imports plugins at every start, and this package with them.
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
