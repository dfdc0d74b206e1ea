"""Sessions on disk can be listed, read and deleted, only by their user, and without the key."""

from __future__ import annotations

import os
import re
import signal
import stat
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from tests.export.processes import (
    KEY,
    SALT,
    Program,
    delivered,
    files_in,
    leave_behind,
    next_tracer,
    nothing_unsent_in,
    run,
    session_of,
)

PRIVATE = "a private prompt "


def spool_of(tracer: HoneyHiveTracer) -> Any:
    """Return the tracer's spool."""
    assert tracer.spool is not None
    return tracer.spool


def spans_in(tracer: HoneyHiveTracer) -> dict[str, tuple[str | None, int, bool]]:
    """Return name, number of spans and whether they stay local, for each session with spans, by session id."""
    return {
        row.session_id: (row.name, row.spans, row.destination == "local")
        for row in spool_of(tracer).sessions()
        if row.spans
    }


def work(tracer: HoneyHiveTracer, *names: str, **attributes: str) -> None:
    """Make spans and wait until they are on disk."""
    before = sum(row.spans for row in spool_of(tracer).sessions())
    for name in names:
        with tracer.start_span(name, attributes=attributes):
            pass
    deadline = time.monotonic() + 10
    while sum(row.spans for row in spool_of(tracer).sessions()) < before + len(names):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def url() -> Any:
    """Address of a backend that refuses connections."""
    with Backend(refuse=True) as backend:
        yield backend.url


def test_sessions_of_this_process_and_of_ended_ones_are_listed(url: str, tmp_path: Path) -> None:
    leave_behind(tmp_path, url, ["one", "two"], key=None)
    begin = time.time()
    with next_tracer(url, tmp_path, session_name="chat") as tracer:
        work(tracer, "a", "b", "c")
        assert spans_in(tracer) == {
            session_of("one"): ("session of one", 1, True),
            session_of("two"): ("session of two", 1, True),
            tracer.session_id: ("chat", 3, False),
        }
        rows = [row for row in spool_of(tracer).sessions() if row.spans]
        assert [row.session_id for row in rows] == [session_of("one"), session_of("two"), tracer.session_id]
        assert [row.here for row in rows] == [False, False, True]
        assert begin - 60 < rows[0].first <= rows[0].last < begin < rows[2].first <= rows[2].last < time.time() + 1


def test_a_session_that_is_local_and_unsent_has_a_row_for_each(url: str, tmp_path: Path) -> None:
    session_id = session_of("both")
    with next_tracer(url, tmp_path, None, session_name="triage", session_id=session_id) as tracer:
        work(tracer, "a", "b")
    with next_tracer(url, tmp_path, session_name="triage", session_id=session_id) as tracer:
        work(tracer, "c", "d", "e")
        rows = [row for row in spool_of(tracer).sessions() if row.session_id == session_id and row.spans]
    assert [(row.name, row.spans, row.destination == "local") for row in rows] == [
        ("triage", 2, True),
        ("triage", 3, False),
    ]


def test_the_spans_of_a_session_can_be_read(url: str, tmp_path: Path) -> None:
    session_id = session_of("both")
    with next_tracer(url, tmp_path, None, session_id=session_id) as tracer:
        work(tracer, "of the first")
    leave_behind(tmp_path, url, ["of another session"], key=None)
    with next_tracer(url, tmp_path, session_id=session_id) as tracer:
        work(tracer, "of the second")
        tracer.enrich_session(metadata={"no": "span"})
        names = re.findall(rb"of the first|of the second|of another", b"".join(spool_of(tracer).bodies(session_id)))
        assert names == [b"of the first", b"of the second"]
        assert spool_of(tracer).bodies("unknown") == []


def test_clearing_sessions_leaves_the_others(url: str, tmp_path: Path) -> None:
    leave_behind(tmp_path, url, ["one", "two"], key=None)
    leave_behind(tmp_path, url, ["three"])
    with next_tracer(url, tmp_path) as tracer:
        work(tracer, "a", "b")
        assert spool_of(tracer).clear([session_of("one"), session_of("three")]) == 2
        assert spans_in(tracer).keys() == {session_of("two"), tracer.session_id}
        assert spool_of(tracer).clear([tracer.session_id]) == 2
        assert spool_of(tracer).clear() == 1
        assert spool_of(tracer).sessions() == []


def clear_private_text(url: str, folder: Path, key: str | None) -> None:
    """Make a span with private text in one session and clear that session."""
    with next_tracer(url, folder, key) as tracer:
        work(tracer, "private", text=PRIVATE * 1000)
        assert any(PRIVATE.encode() in path.read_bytes() for path in folder.glob("spool-*"))
        private = tracer.session_id
        tracer.create_session("another")
        work(tracer, *"abc", text="public")
        assert spool_of(tracer).clear([private]) == 1


@pytest.mark.parametrize("key", [KEY, None])
def test_cleared_text_is_no_longer_in_a_database_file(url: str, tmp_path: Path, key: str | None) -> None:
    clear_private_text(url, tmp_path, key)
    (path,) = files_in(tmp_path)
    assert PRIVATE.encode() not in path.read_bytes()
    assert b"public" in path.read_bytes()


def test_cleared_text_is_in_no_file_at_all(url: str, tmp_path: Path) -> None:
    clear_private_text(url, tmp_path, KEY)
    assert not any(PRIVATE.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_only_this_user_can_read_the_files(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "spool"
    before = os.umask(0)
    try:
        with next_tracer(url, folder) as tracer:
            work(tracer, "a")
            modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
            names = [path.name for path in folder.iterdir()]
    finally:
        os.umask(before)
    assert modes == {0o600}
    assert SALT in names
    assert len(names) > 2, "the database, what SQLite keeps beside it, and the salt"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_others_can_read_is_made_private(url: str, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o755)
    with next_tracer(url, tmp_path / "spool") as tracer:
        work(tracer, "a")
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def test_a_folder_that_is_used_for_other_things_keeps_its_mode(url: str, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o755)
    (tmp_path / "spool" / "my notes").touch()
    with next_tracer(url, tmp_path / "spool") as tracer:
        work(tracer, "a")
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "spool").glob("spool-*")}
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o755
    assert modes == {0o600}


def test_no_key_and_no_password_is_in_any_file(url: str, tmp_path: Path) -> None:
    address = url.replace("http://", "http://user:pass-word@")
    program = "tracer = tracer_for()\nwork(tracer, range(100))\nwait_until(lambda: on_disk(tracer) == 100)\ndie()"
    run(program, address, tmp_path, ended=-signal.SIGKILL)
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert url.removeprefix("http://").encode() in everything
    assert KEY.encode() not in everything
    assert b"pass-word" not in everything


def destination_in(folder: Path, url: str, key: str) -> str:
    """Return how the destination is called in the folder."""
    with next_tracer(url, folder, key) as tracer:
        work(tracer, "a")
        names = {row.destination for row in spool_of(tracer).sessions() if row.session_id == tracer.session_id}
        spool_of(tracer).clear()
    (name,) = names
    return str(name)


def test_a_destination_is_named_after_its_address_and_distinguishes_keys(url: str, tmp_path: Path) -> None:
    one = destination_in(tmp_path / "one", url, "key 1")
    assert one.startswith(url)
    assert destination_in(tmp_path / "one", f"{url}/", "key 1") == one
    assert destination_in(tmp_path / "one", url, "key 2") != one
    assert destination_in(tmp_path / "other", url, "key 1") != one, "a name does not tell who uses the same key"


@pytest.mark.parametrize("content", [b"", b"half a salt"])
def test_a_damaged_salt_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SALT).write_bytes(content)
    with Backend(refuse=True) as backend:
        with next_tracer(backend.url, tmp_path) as tracer:
            work(tracer, "a")
            assert spool_of(tracer).problem is None
        assert len((tmp_path / SALT).read_bytes()) == 32
        backend.listen()
        assert delivered(backend, tmp_path, lambda arrived: arrived["a"]) == {"a": 1}


AT_ONCE = """
tell("ready")
listen()
tracer = tracer_for()
work(tracer, [sys.argv[3]])
wait_until(lambda: on_disk(tracer) == 1)
tell("on disk")
listen()
die()
"""


@pytest.mark.slow
def test_processes_that_start_at_once_agree_on_the_destination(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with Backend(refuse=True) as backend, ExitStack() as stack:
        programs = [stack.enter_context(Program(AT_ONCE, backend.url, folder, str(n))) for n in range(4)]
        for program in programs:
            program.hear()
        for program in programs:
            program.say()
        assert [program.hear() for program in programs] == ["on disk"] * 4  # No file is adopted before all are there.
        for program in programs:
            program.say()
        assert [program.wait()[0] for program in programs] == [-signal.SIGKILL] * 4
        assert files_in(folder)  # The last ones may have adopted the files of those that died before them.
        backend.listen()
        assert delivered(backend, folder, lambda arrived: len(arrived) == 4) == Counter("0123")
        assert nothing_unsent_in(folder, backend)
