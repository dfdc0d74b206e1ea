"""A test kit for traced code: capture its spans, run a notebook as a test, or send to a stand-in for the backend::

    with capture_spans() as spans:
        support.answer("What is OTLP?")
    assert [span.name for span in spans] == ["support.search", "support.answer"]

`run_notebook("triage.ipynb")` runs a notebook offline, from recordings, and returns its spans. The pytest fixtures
`hh_spans` and `hh_recording` are in `hh_jupyter.testing.fixtures`.

`sequential_ids()` and `stepping_clock()` make ids and times the same in every run; enter them before `capture_spans()`.
`Backend()` is a real HTTP server on 127.0.0.1, for tests of what is sent and of what happens when sending fails.

Nothing here replaces a function of the code under test, and nothing else in this package imports it.
"""

from __future__ import annotations

from hh_jupyter.errors import NotebookError
from hh_jupyter.testing.backend_server import Backend
from hh_jupyter.testing.captured_spans import CapturedSpan, CapturedSpans, capture_spans, sequential_ids, stepping_clock
from hh_jupyter.testing.notebooks import run_notebook
from hh_jupyter.testing.responses import Behaviour, ReceivedRequest

__all__ = [
    "Backend",
    "Behaviour",
    "CapturedSpan",
    "CapturedSpans",
    "NotebookError",
    "ReceivedRequest",
    "capture_spans",
    "run_notebook",
    "sequential_ids",
    "stepping_clock",
]
