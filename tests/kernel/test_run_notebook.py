"""`run_notebook`: a notebook is a regression test that sends nothing and depends on nothing of its user."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from hh_jupyter import SpanList
from hh_jupyter.testing import Backend, NotebookError, run_notebook
from tests.fake_llm import FakeLLM
from tests.pages import blocks, page

SETUP = """\
import openai
from hh_jupyter import recording, trace
%hh instrument

def ask(text):
    answer = openai.OpenAI(max_retries=0).chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": text}]
    )
    return answer.choices[0].message.content

@trace(event_type="tool")
def look_up_order(order): return {"state": "broken"}

@trace(event_type="tool")
def refund(order): return "refunded"
"""
TRIAGE = (
    f"%hh replay auto\n{SETUP}",
    "%%hh_session refund-triage --replay auto\nask(look_up_order(7)['state'])",
    "",
    "ask(refund(7))",
)


def write(path: Path, *cells: str) -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    return path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLLM]:
    with FakeLLM() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-fake")
        yield server


@pytest.mark.slow
def test_the_example_of_the_page_runs_offline(fake: FakeLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "triage.ipynb", *TRIAGE)
    before = path.read_bytes()
    recorded = run_notebook(path, replay="auto")
    assert len(fake.log) == 2
    assert sorted(file.name for file in (tmp_path / "recordings").iterdir()) == ["refund-triage.jsonl", "triage.jsonl"]

    fake.stop()
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.chdir(tmp_path)
    found: list[SpanList] = []

    def run(name: str) -> SpanList:
        found.append(run_notebook(name))
        return found[-1]

    _test_of_the_page(run)()

    (replayed,) = found
    assert replayed.totals.replayed_calls == replayed.totals.llm_calls == 2
    assert [span.name for span in replayed] == [span.name for span in recorded]
    assert len({span.session_id for span in replayed}) == 2
    assert {str(span.cell).partition("-")[0] for span in replayed} == {"2", "3"}
    content = replayed.content(replayed[-1])
    assert content is not None
    assert content.output_messages[0].text
    assert path.read_bytes() == before


def _test_of_the_page(runs: Callable[..., SpanList]) -> Callable[[], None]:
    (code,) = [block.code for block in blocks(page("testing.md")) if "run_notebook" in block.code]
    names: dict[str, Any] = {}
    exec(code, names)
    names["run_notebook"] = runs
    (test,) = [value for name, value in names.items() if name.startswith("test_")]
    return test  # type: ignore[no-any-return]


ASKS = """\
try:
    {before}ask("what is not recorded")
except openai.NotFoundError as error:
    assert "not recorded" in str(error)
else:
    raise AssertionError("it was sent")
"""


INIT = "from hh_jupyter import HoneyHiveTracer as H\ntracer = H.init(replay='auto', api_key='hh-key-in-a-cell')\n"
OWN = """\
import os, pathlib
assert "HH_API_KEY" not in os.environ
assert os.environ["OPENAI_API_KEY"] == "not-a-key"
assert pathlib.Path.cwd() == pathlib.Path({folder!r})
assert get_ipython().profile_dir.location.startswith(os.environ["IPYTHONDIR"])
"""


def test_nothing_is_sent_and_nothing_of_the_user_is_used_whatever_the_cells_ask_for(
    fake: FakeLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    with Backend() as backend:
        monkeypatch.setenv("HH_API_KEY", "hh-key-of-the-user")
        monkeypatch.setenv("HH_API_URL", backend.url)
        monkeypatch.setenv("HH_DISABLE_TRACING", "true")
        monkeypatch.setenv("HH_REPLAY", "off")
        cells = [
            f"%hh replay record\n{SETUP}",
            ASKS.format(before=""),
            f"%%hh_session --replay off\n{ASKS.format(before='')}",
            f"%%hh_session named --replay auto\n{ASKS.format(before='')}",
            ASKS.format(before="with recording('mine.jsonl', 'record'): "),
            ASKS.format(before="with recording('mine.jsonl', 'off'): "),
            f"{INIT}{ASKS.format(before='')}",
            "refund(7)\ntracer.force_flush()",
            OWN.format(folder=str(folder)),
            f"%unload_ext hh_jupyter\n{ASKS.format(before='')}",
            ASKS.format(before=""),
        ]
        spans = run_notebook(write(folder / "asks.ipynb", *cells))
        assert backend.requests == []
    assert fake.log == []
    assert spans.tools == ["refund"]
    assert spans.totals.llm_calls_failed == 6
    assert not (tmp_path / "data").exists()
    assert os.environ["HH_API_KEY"] == "hh-key-of-the-user"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("{'A-1': 7}['B-2']", r"bad\.ipynb, In \[2\]: KeyError: 'B-2'\n(.*\n)+.*Cell In\[2\], line 1"),
        ("import time; time.sleep(300)", r"bad\.ipynb, In \[2\]: the cell took longer than 2 s \(timeout=2\)"),
        ("import os; os._exit(3)", r"bad\.ipynb, In \[2\]: the kernel died"),
    ],
    ids=["exception", "timeout", "death"],
)
def test_a_cell_that_fails_is_an_error_with_its_number(cell: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "bad.ipynb", "1", "", cell, "print('never')")
    with pytest.raises(NotebookError, match=message) as failure:
        run_notebook(path, timeout=2 if "sleep" in cell else 60)
    assert failure.value.cell == 2
    assert "\x1b" not in str(failure.value)
