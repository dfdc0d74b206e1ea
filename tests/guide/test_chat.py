"""A conversation of several turns: the first starts the session, and later ones join it in any process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest

from hh_jupyter.testing import Backend
from tests.guide.conftest import Run, source_of
from tests.guide.received import QUESTION, SESSION, registered, sessions_by_question

TURN = source_of("chat") + "import sys\nprint(turn(*sys.argv[1:])[1])\n"


@pytest.mark.slow
def test_turns_in_separate_processes_are_in_the_session_of_the_first(backend: Backend, run: Run) -> None:
    conversation = run(TURN, "first").stdout.strip()
    for question in ("second", "third"):
        assert run(TURN, question, conversation).stdout.strip() == conversation
    assert [span["attributes"][QUESTION] for span in backend.spans()] == ["first", "second", "third"]
    assert {span["attributes"][SESSION] for span in backend.spans()} == {conversation}
    assert registered(backend, "chat") == [conversation], "later turns register nothing"


def test_conversations_on_the_same_threads_are_kept_apart(
    backend: Backend, program: Callable[[str], ModuleType]
) -> None:
    chat = program("chat")
    with ThreadPoolExecutor(3) as pool:
        first = list(pool.map(lambda number: chat.turn(f"c{number} t0")[1], range(8)))
        for turn in (1, 2):
            again = pool.map(lambda number: chat.turn(f"c{number} t{turn}", first[number])[1], range(8))  # noqa: B023
            assert list(again) == first
    assert chat.tracer.flush()
    assert len(set(first)) == 8
    assert sessions_by_question(backend) == {f"c{c} t{t}": {first[c]} for c in range(8) for t in range(3)}


def test_an_id_that_is_not_a_uuid_is_the_same_session_in_every_process(backend: Backend, run: Run) -> None:
    ids = {run(TURN, question, "ticket 4711").stdout.strip() for question in ("one", "two")}
    assert len(ids) == 1
    assert {span["attributes"][SESSION] for span in backend.spans()} == ids


def test_a_tracer_created_with_the_id_continues_the_session(backend: Backend, run: Run) -> None:
    """The other way to join a session: the whole process is one turn."""
    conversation = run(TURN, "first").stdout.strip()
    whole = source_of("chat").replace("init(", f'init(session_id="{conversation}", ')
    done = run(whole + 'answer("second")\n')
    assert done.stderr == ""
    assert sessions_by_question(backend)["second"] == {conversation}
