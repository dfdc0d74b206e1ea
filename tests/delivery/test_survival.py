"""Pending items are on disk, and the next process with the same destination delivers them; others do not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.delivery.sending import outbox
from hh_jupyter.testing import Backend

PROGRAM = """
import os, signal, sys, time
from hh_jupyter import HoneyHiveTracer
url, folder, key, ending = sys.argv[1:]
tracer = HoneyHiveTracer.init(
    api_key=key or None, server_url=url, session_name="of the dead", exit_flush_seconds=0.2,
    spool=True, spool_dir=folder,
)
session_id = tracer.create_session("made by the dead")
for number in range(250):
    with tracer.start_span(f"span {number}"):
        pass
tracer.enrich_session(outputs={"done": True})
assert tracer.wait_processed()
time.sleep(0.05)
print(session_id, flush=True)
if ending == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""
KEY = "a-key-that-stands-in-no-file"


def run(url: str, folder: Path, key: str = KEY, ending: str = "kill") -> str:
    """Run a process that leaves 250 spans undelivered, and return the id of their session."""
    command = [sys.executable, "-c", PROGRAM, url, str(folder), key, ending]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == (-signal.SIGKILL if ending == "kill" else 0), done.stderr
    assert ("kept on disk for the next process" in done.stderr) == (ending == "exit" and bool(key))
    return done.stdout.strip()


def heir(url: str, folder: Path, key: str | None = KEY) -> HoneyHiveTracer:
    return HoneyHiveTracer.init(api_key=key, server_url=url, spool=True, spool_dir=str(folder), session_name="heir")


@pytest.mark.parametrize("ending", ["kill", "exit"])
def test_the_next_process_delivers_what_the_previous_one_could_not(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "made by the first"
    with Backend(refuse=True) as backend:
        session_id = run(backend.url, folder, ending=ending)
        backend.listen()
        with heir(backend.url, folder):
            assert backend.wait_for(lambda backend: len(backend.spans()) == 250)
        names = {span["name"] for span in backend.spans()}
        assert names == {f"span {number}" for number in range(250)}
        assert {span["attributes"]["honeyhive.session_id"] for span in backend.spans()} == {session_id}
        paths = [request.path for request in backend.requests]
        (update,) = [request.body for request in backend.requests if request.path == "/events"]
        assert (update["event_id"], update["outputs"]) == (session_id, {"done": True})
        started = [request.body["session"]["session_name"] for request in backend.requests if "start" in request.path]
        assert "made by the dead" in started
        assert paths.index("/opentelemetry/v1/traces") > paths.index("/session/start")
    assert [path.name for path in folder.iterdir()] == ["salt"]


@pytest.mark.parametrize("key", ["another-key-of-the-same-backend", None])
def test_records_of_another_key_stay_where_they_are(tmp_path: Path, key: str | None) -> None:
    with Backend(refuse=True) as backend:
        run(backend.url, tmp_path)
        backend.listen()
        with heir(backend.url, tmp_path, key) as tracer:
            with tracer.start_span("mine"):
                pass
            # Longer than another process needs to look for records to adopt.
            assert not backend.wait_for(lambda backend: len(backend.spans()) > 1, timeout=1.5)
            assert tracer.spool is not None
            assert [left.spans for left in tracer.spool.left_over().values()] == [250]


def test_local_records_are_sent_only_when_their_session_is_named(backend: Backend, tmp_path: Path) -> None:
    session_id = run(backend.url, tmp_path, key="")
    with heir(backend.url, tmp_path) as tracer:
        assert not backend.wait_for(lambda backend: backend.spans(), timeout=1.5)
        assert tracer.send_again() == 0
        assert tracer.send_again([session_id]) > 0
        assert tracer.force_flush()
    assert {span["attributes"]["honeyhive.session_id"] for span in backend.spans()} == {session_id}
    assert len(backend.spans()) == 250
    assert "made by the dead" in [session["session_name"] for session in backend.sessions()]


def test_no_key_is_written_to_disk(backend: Backend, tmp_path: Path) -> None:
    with Backend(refuse=True) as nowhere:
        run(nowhere.url, tmp_path)
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert len(files) >= 2
    assert not any(KEY.encode() in path.read_bytes() for path in files)
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_memory_releases_bodies_that_are_on_disk(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the memory limit nothing is lost as long as it is on disk."""
    monkeypatch.setattr(outbox, "MAX_BYTES", 50_000)
    backend.close()
    with heir(backend.url, tmp_path) as tracer:
        for number in range(200):
            with tracer.start_span(f"span {number}", attributes={"text": "x" * 2_000}):
                pass
        assert not tracer.force_flush(200)
        assert tracer.export_state().dropped == 0
        backend.listen()
        assert tracer.force_flush()
    assert len({span["span_id"] for span in backend.spans()}) == 200


def test_sent_records_are_deleted_from_disk_and_a_disabled_spool_writes_nothing(
    backend: Backend, tmp_path: Path
) -> None:
    with heir(backend.url, tmp_path / "on") as tracer:
        with tracer.start_span("sent"):
            pass
        assert tracer.force_flush()
    assert [path.name for path in (tmp_path / "on").iterdir()] == ["salt"]
    with HoneyHiveTracer.init(api_key=KEY, server_url=backend.url, spool_dir=str(tmp_path / "off")) as tracer:
        with tracer.start_span("sent"):
            pass
        assert tracer.spool is None
    assert not (tmp_path / "off").exists()


def test_an_unusable_disk_is_reported_and_does_no_harm(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with heir(backend.url, tmp_path / "file") as tracer:
        with tracer.start_span("sent"):
            pass
        assert tracer.force_flush()
        assert tracer.spool is not None
        assert "cannot be used" in str(tracer.spool.problem)
    assert [span["name"] for span in backend.spans()] == ["sent"]
