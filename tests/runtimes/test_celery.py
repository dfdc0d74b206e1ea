"""Celery's forked workers end with `os._exit`; their spans are sent before."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from hh_jupyter.testing import Backend

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("celery")

pytestmark = pytest.mark.slow

TASKS = """
import os
from celery import Celery
from hh_jupyter import HoneyHiveTracer

folder = os.environ["QUEUE"]
options = {"data_folder_in": folder, "data_folder_out": folder}
app = Celery("tasks", broker="filesystem://", broker_transport_options=options)
tracer = HoneyHiveTracer.init(skip_backend_session_creation=True, flush_interval=60)

@app.task(name="answer")
def answer(question):
    with tracer.with_session(question), tracer.start_span("work", attributes={"question": question}):
        return question
"""


@pytest.mark.parametrize("options", [(), ("--max-tasks-per-child", "2")], ids=["to the end", "two tasks each"])
def test_workers_send_all_spans_before_they_exit(backend: Backend, tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "queue").mkdir()
    env = {**os.environ, "HH_API_KEY": "test-key-0001", "HH_API_URL": backend.url, "QUEUE": str(tmp_path / "queue")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(tmp_path), str(Path(__file__).parents[2]))))
    command = ["celery", "-A", "tasks", "worker", "--concurrency", "2", "--loglevel", "ERROR", *options]
    pipes: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-m", *command], cwd=tmp_path, env=env, **pipes) as worker:
        try:
            send = "import tasks\nfor number in range(6): tasks.answer.delay(f'q{number}')"
            subprocess.run([sys.executable, "-c", send], cwd=tmp_path, env=env, check=True, **pipes)
            assert backend.wait_for(lambda found: len(found.sessions()) == 6, 60)
        finally:
            worker.terminate()
            worker.wait(60)
    names = {session["session_id"]: session["session_name"] for session in backend.sessions()}
    found = [
        (span["attributes"]["question"], names[span["attributes"]["honeyhive.session_id"]]) for span in backend.spans()
    ]
    assert sorted(found) == [(f"q{number}", f"q{number}") for number in range(6)]
