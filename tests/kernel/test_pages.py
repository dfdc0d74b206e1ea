"""The examples of README.md and of the pages in notebooks/ run, in order, in a real kernel and a real shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fake_llm import FakeLLM
from tests.guide.serving import PROGRAMS
from tests.kernel.driver import PYTHON, Kernel, kernel_with
from tests.pages import DOCUMENTS, Block, blocks

SUPPORT = """
import hh_jupyter, openai
from hh_jupyter import diff, evaluate, spans
client = openai.OpenAI(max_retries=0)

@hh_jupyter.trace(event_name="write_reply")
def support_agent(ticket):
    messages = [{"role": "user", "content": f"Ticket {ticket}: where is my parcel? Please answer in one sentence."}]
    return client.chat.completions.create(model="gpt-4o-mini", messages=messages).choices[0].message.content

agent, ticket, tickets, tracer = support_agent, 7, [7, 8], hh_jupyter.get_tracer()
"""
CELL = "%%hh_session refund-triage\nreply = support_agent(ticket)"
BEFORE = {
    "notebook.md": """
import nbformat
nbformat.write(nbformat.v4.new_notebook(), "triage.ipynb")
""",
    "recordings.md": """
rows = [{"inputs": {"ticket": 7}}]
def answer(datapoint): return support_agent(**datapoint["inputs"])
""",
    "services.md": """
import uuid
from hh_jupyter import enrich_session, enrich_span
event_id, session_id = str(uuid.uuid4()), str(uuid.uuid4())
async def agent(ticket): return support_agent(ticket)
""",
    "spans.md": "%hh save trace.jsonl",
}
"""What the examples of a page use besides `SUPPORT`: one cell that runs before them."""


def examples(path: Path) -> list[Block]:
    """The examples of a page that run here: not its programs, which `guide` runs."""
    programs = [path.read_text("utf-8") for path in PROGRAMS.glob("*.py")]
    found = [
        one
        for one in blocks(path.read_text("utf-8"))
        if not one.not_run and one.language in ("python", "ipython3", "sh")
    ]
    return [one for one in found if not any(program.startswith(one.code) for program in programs)]


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),  # A kernel for each page, and a process for each command.
    pytest.mark.skipif(sys.executable != PYTHON, reason="the environments of the matrix have no pandas"),
]

RUN_BY_PYTEST = "testing.md"
SHOWN = [path for path in DOCUMENTS if path.name != RUN_BY_PYTEST and examples(path)]


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.name)
def test_the_examples_of_a_page_run(path: Path, tmp_path: Path) -> None:
    env = {"HH_SPOOL_DIR": str(tmp_path / "spool"), "OPENAI_API_KEY": "sk-fake"}
    with FakeLLM() as fake, kernel_with(tmp_path, OPENAI_BASE_URL=f"{fake.url}/v1", **env) as kernel:
        _prepare(kernel, BEFORE.get(path.name, "pass"))
        for example in examples(path):
            if example.language == "sh":
                _run_shell(example.code, tmp_path, env)
                continue
            cell = kernel.run(example.code, answer="", cell_id=_cell_id(example.code))
            assert (cell.reply, cell.stderr) == ("ok", ""), (example.code, cell.stderr, cell.tracebacks)


def _prepare(kernel: Kernel, before: str) -> None:
    """Make the cells that the pages speak of: 4 is the second run of one in the session refund-triage."""
    for code in (SUPPORT + "\n%hh instrument openai", CELL, CELL, before):
        cell = kernel.run(code, cell_id=_cell_id(code))
        assert cell.reply == "ok", (code, cell.tracebacks)
    kernel.run("hh_jupyter.flush()")


def _cell_id(code: str) -> str | None:
    """Return the id of the cell that the pages run again and again; None for a cell of its own."""
    return "triage" if code.strip() == CELL else None


def _run_shell(code: str, folder: Path, env: dict[str, str]) -> None:
    """Run the commands of an example one by one, with the Python of the tests as `python`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in code.splitlines():
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env={**os.environ, **env, "PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
