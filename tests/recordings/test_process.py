"""The settings `replay` and `recordings_dir` in a script."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_llm import FakeLLM

pytestmark = pytest.mark.usefixtures("clients_dropped")

SCRIPT = """
import sys
from hh_jupyter import HoneyHiveTracer
import httpx, openai
patched = lambda: hasattr(httpx.Client._transport_for_url, '_hh_jupyter_patch')
client = openai.OpenAI(max_retries=0)
ask = lambda: client.chat.completions.create(model='gpt-4o', messages=[{'role': 'user', 'content': 'Hello'}]).id
SETUP
print(ask(), patched())
tracer.shutdown()
print(patched())
"""
INIT = "tracer = HoneyHiveTracer.init()"


@pytest.fixture
def fake() -> Iterator[FakeLLM]:
    with FakeLLM() as server:
        yield server


def run(folder: Path, fake: FakeLLM, setup: str = INIT, **env: str) -> str:
    """What the script prints."""
    script = folder / "app" / "triage.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(SCRIPT.replace("SETUP", setup))
    base = {
        "OPENAI_BASE_URL": f"{fake.url}/v1",
        "OPENAI_API_KEY": "sk-fake",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    ran = subprocess.run([sys.executable, script], cwd=folder, env={**base, **env}, capture_output=True, text=True)
    return ran.stdout + ran.stderr


@pytest.mark.slow
def test_a_variable_lets_a_script_run_offline_and_nothing_acts_after_the_shutdown(
    tmp_path: Path, fake: FakeLLM
) -> None:
    online = run(tmp_path, fake, HH_REPLAY="auto")
    assert online.split()[1:3] == ["True", "False"]
    assert (tmp_path / "app" / "recordings" / "triage.jsonl").exists()
    fake.stop()
    assert run(tmp_path, fake, HH_REPLAY="only") == online


@pytest.mark.slow
def test_an_argument_of_init_overrides_the_variable_and_names_the_folder(tmp_path: Path, fake: FakeLLM) -> None:
    setup = f"tracer = HoneyHiveTracer.init(replay='auto', recordings_dir={str(tmp_path / 'kept')!r})"
    first, second = (run(tmp_path, fake, setup, HH_REPLAY="off") for _ in range(2))
    assert first == second
    assert len(fake.log) == 1
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["triage.jsonl"]


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_variable_that_forbids_to_send_overrides_the_argument_of_init(
    tmp_path: Path, fake: FakeLLM, mode: str
) -> None:
    assert "NotFoundError" in run(tmp_path, fake, f"tracer = HoneyHiveTracer.init(replay={mode!r})", HH_REPLAY="only")
    assert fake.log == []


def test_without_the_setting_nothing_is_imported_or_patched(tmp_path: Path, fake: FakeLLM) -> None:
    setup = f"{INIT}; assert not any('recordings' in name for name in sys.modules)"
    assert run(tmp_path, fake, setup).split()[1:3] == ["False", "False"]
    assert not (tmp_path / "app" / "recordings").exists()


def test_a_typo_in_the_variable_sends_nothing(tmp_path: Path, fake: FakeLLM) -> None:
    said = run(tmp_path, fake, HH_REPLAY="onyl")
    assert "HH_REPLAY must be one of off, auto, only, record; got 'onyl'. To be safe, replay is only." in said
    assert "NotFoundError" in said
    assert fake.log == []


def test_a_later_tracer_may_forbid_to_send(tmp_path: Path, fake: FakeLLM) -> None:
    setup = f"{INIT}; HoneyHiveTracer(replay='only')"
    assert "NotFoundError" in run(tmp_path, fake, setup, HH_REPLAY="auto")
    assert fake.log == []


@pytest.mark.slow
def test_several_tracers_share_the_recording_of_the_first(tmp_path: Path, fake: FakeLLM) -> None:
    setup = f"{INIT}; other = HoneyHiveTracer(session_name='other'); print(ask()); other.shutdown()"
    first, second = (run(tmp_path, fake, setup, HH_REPLAY="auto") for _ in range(2))
    assert first == second
    assert len(fake.log) == 2
