"""A program that submits work to a process pool."""

from __future__ import annotations

from hh_jupyter.testing import Backend
from tests.guide.conftest import Run, source_of
from tests.guide.received import registered, sessions_by_question


def test_spans_of_the_pool_are_in_the_session_that_submitted_the_work(backend: Backend, run: Run) -> None:
    done = run(source_of("pool"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "['WHY?', 'HOW?']\n", "")
    (session_id,) = registered(backend, "batch 7")
    assert sessions_by_question(backend) == {"why?": {session_id}, "how?": {session_id}}
    assert len(backend.spans()) == 2
