"""A notebook runs without a network in mode only, with the outputs that it had."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from notebooks.demo import joined
from tests.fake_llm import FakeLLM
from tests.kernel.driver import PYTHON, kernel_environment

pytestmark = pytest.mark.slow

SETUP = """\
%load_ext hh_jupyter
%hh instrument
import asyncio, openai
client, aclient = openai.OpenAI(max_retries=0), openai.AsyncOpenAI(max_retries=0)
def q(text): return {'model': 'gpt-4o', 'messages': [{'role': 'user', 'content': text}]}
"""
ONE = "print(client.chat.completions.create(**q('one')).choices[0].message.content)"
GATHERED = """\
%%hh_session refund-triage
[r.id for r in await asyncio.gather(*(aclient.chat.completions.create(**q(text)) for text in 'ab'))]
"""
STREAMED = """\
for chunk in client.chat.completions.create(**q('stream it'), stream=True):
    print(chunk.choices[0].delta, end='')
"""
INSISTING = """\
%%hh_session insisting --replay auto
import os
from contextlib import suppress
def new(text):  # A request that is another one in each mode.
    with suppress(openai.NotFoundError):
        client.chat.completions.create(**q(f"{text}, {os.environ['HH_REPLAY']}"))
new('in a cell with a mode of its own')
"""
SWITCHING = """\
import hh_jupyter
from IPython.utils.capture import capture_output
with hh_jupyter.recording('more.jsonl', mode='record'):
    new('in a block')
with capture_output() as printed:
    get_ipython().run_line_magic('hh', 'replay auto')
new('after the switch')
"""
CELLS = (SETUP, ONE, GATHERED, STREAMED, INSISTING, SWITCHING)


def user_outputs(path: Path) -> list[Any]:
    """What the cells print and return, without our outputs."""
    found = [cell.outputs for cell in nbformat.read(path, as_version=4).cells]
    return [
        {name: output[name] for name in ("text", "data") if name in output}
        for outputs in found
        for output in joined(outputs)
        if not output.get("metadata", {}).get("hh_jupyter")
    ]


def test_jupyter_execute_runs_a_notebook_offline_with_the_same_outputs(tmp_path: Path) -> None:
    spec = {"argv": [PYTHON, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "Python 3"}
    kernels = tmp_path / "jupyter" / "kernels" / "python3"
    kernels.mkdir(parents=True)
    (kernels / "kernel.json").write_text(json.dumps({**spec, "language": "python"}))
    folder = tmp_path / "work"
    folder.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "triage.ipynb")

    def execute(url: str, mode: str) -> list[Any]:
        env = {"JUPYTER_PATH": str(tmp_path / "jupyter"), "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "sk-fake"}
        subprocess.run(
            [sys.executable, "-m", "jupyter", "execute", "--inplace", "work/triage.ipynb"],
            cwd=tmp_path,
            env=kernel_environment(tmp_path, {**env, "HH_REPLAY": mode}),
            capture_output=True,
            check=True,
        )
        return user_outputs(folder / "triage.ipynb")

    with FakeLLM() as fake:
        online = execute(fake.url, "auto")
        assert len(fake.log) == 7
        assert execute(fake.url, "only") == online
        assert len(fake.log) == 7
    names = {path.name for path in (folder / "recordings").iterdir()}
    assert names == {"triage.jsonl", "refund-triage.jsonl", "insisting.jsonl"}
    assert execute(fake.url, "only") == online  # There is no server.
    assert "replayed, saved ~$" in (folder / "triage.ipynb").read_text()
