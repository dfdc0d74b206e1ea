"""IPython in a terminal: one line below a traced cell, the tree on an error or on request; never a mime bundle."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from hh_jupyter.testing import Backend
from tests.fake_llm import FakeLLM
from tests.kernel.conftest import KEY
from tests.kernel.driver import PRELUDE, PYTHON, kernel_environment

NO_TITLE = "--TerminalInteractiveShell.term_title=False"
"""IPython 7 sets the terminal's title even where its output goes to a file."""


def ipython(tmp_path: Path, *cells: str, **env: str) -> str:
    """Return what a terminal session prints when these cells are typed one after the other."""
    typed = "".join(f"%cpaste -q\n{cell}\n--\n" if "\n" in cell else f"{cell}\n" for cell in cells)
    return run(tmp_path, "--simple-prompt", "--no-banner", typed=typed, env=env).stdout


def run(
    tmp_path: Path, *words: str, typed: str = "", code: int = 0, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `ipython` with these arguments; it must end with this exit code."""
    done = subprocess.run(
        [PYTHON, "-m", "IPython", "--colors=NoColor", NO_TITLE, *words],
        input=typed,
        env=kernel_environment(tmp_path, {"PYTHONIOENCODING": "utf-8", **(env or {})}),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.slow
def test_one_line_when_all_is_well(tmp_path: Path) -> None:
    printed = ipython(tmp_path, "%load_ext hh_jupyter", PRELUDE, "span('well')")
    (line,) = [line for line in printed.splitlines() if "✓ well" in line]
    assert line.endswith("local only")
    assert "Display" not in printed
    assert "<div" not in printed


@pytest.mark.slow
def test_ascii_where_the_stream_does_not_support_unicode(tmp_path: Path) -> None:
    printed = ipython(tmp_path, "%load_ext hh_jupyter", PRELUDE, "span('plain')", PYTHONIOENCODING="ascii")
    assert "ok plain" in printed


@pytest.mark.slow
def test_the_tree_is_printed_on_request(tmp_path: Path) -> None:
    printed = ipython(tmp_path, "%load_ext hh_jupyter", PRELUDE, "span('a'), span('b')", "%hh show")
    assert printed.count("2 spans") == 2
    assert len([line for line in printed.splitlines() if " a " in line and "━" in line]) == 1


def test_session_cells_and_unloading_work_in_a_terminal(tmp_path: Path) -> None:
    printed = ipython(
        tmp_path,
        "%load_ext hh_jupyter",
        PRELUDE,
        "%%hh_session chat\nspan('in-session')\n",
        "%hh",
        "%unload_ext hh_jupyter",
    )
    assert "in-session" in printed
    assert "local mode" in printed


@pytest.mark.slow
def test_evaluate_shares_locks_with_cells_that_await(tmp_path: Path) -> None:
    printed = ipython(
        tmp_path,
        "%load_ext hh_jupyter",
        PRELUDE,
        "one_at_a_time = asyncio.Lock()\n"
        "async def ask(datapoint=None):\n"
        "    async with one_at_a_time:\n"
        "        await asyncio.sleep(0.001)\n",
        "await asyncio.gather(ask(), ask());",
        "result = hh.evaluate(ask, dataset=[{'inputs': {'n': n}} for n in range(8)], print_results=False)",
        "await asyncio.gather(ask(), ask());",
        "print(len(result.rows), 'rows', result.errors)",
    )
    assert "8 rows ()" in printed


LOADED = "hh: local mode, nothing leaves this machine. %hh login to send. %hh? for help"
WORK = "import hh_jupyter as hh\n\n@hh.trace\ndef work(): return 1\n\n"


@pytest.mark.slow
def test_ipython_c_ends_with_the_summary_line(tmp_path: Path) -> None:
    done = run(tmp_path, "-c", f"%load_ext hh_jupyter\n{WORK}work()\nprint('done')")
    first, second, line = done.stdout.splitlines()[:3]
    assert (first, second) == (LOADED, "done")
    assert line.startswith("✓ work")
    assert line.endswith("local only")
    assert done.stderr == ""


@pytest.mark.slow
def test_ipython_c_that_fails_prints_the_tree_and_keeps_its_exit_code(tmp_path: Path) -> None:
    done = run(tmp_path, "--ext", "hh_jupyter", "-c", f"{WORK}work(); 1 / 0", code=1)
    assert done.stdout.count("ZeroDivisionError") >= 1
    assert [line for line in done.stdout.splitlines() if " work " in line]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nightly.py", "nightly.ipy"])
def test_a_script_prints_only_its_own_output_and_its_spans_are_sent(
    tmp_path: Path, backend: Backend, name: str
) -> None:
    load = "%load_ext hh_jupyter" if name.endswith("ipy") else "get_ipython().run_line_magic('load_ext', 'hh_jupyter')"
    (tmp_path / name).write_text(f"{load}\n{WORK}work()\nprint('script done')\n")
    done = run(tmp_path, name, env={"HH_API_KEY": KEY, "HH_API_URL": backend.url})
    host = backend.url.removeprefix("http://")
    assert done.stdout == f"hh: sending to {host} as dev, session nightly. %hh? for help\nscript done\n"
    assert done.stderr == ""
    assert [span["name"] for span in backend.spans()] == ["__main__.work"]
    assert [session["session_name"] for session in backend.sessions()] == ["nightly"]


@pytest.mark.slow
def test_a_notebook_converted_to_a_script_has_its_sessions(tmp_path: Path) -> None:
    cells = (
        "get_ipython().run_line_magic('load_ext', 'hh_jupyter')",
        PRELUDE,
        "get_ipython().run_cell_magic('hh_session', 'refund', \"span('a')\")",
        "span('b')",
        "get_ipython().run_cell_magic('time', '', \"%%hh_session timed\\nspan('c')\")",
        "span('d')",
        "get_ipython().run_cell_magic('hh_session', 'waits', \"await asyncio.sleep(0)\\nspan('e')\")",
        "get_ipython().run_line_magic('hh_session', 'rest')",
        "span('f')",
        "titles = get_ipython()._hh.titles()",
        "print('sessions', {name: titles.get(session, 'own') for name, session, _ in rows()})",
        "get_ipython().run_cell_magic('hh_session', 'fails', '1 / 0')",
        "print('not reached')",
    )
    (tmp_path / "converted.py").write_text("\n\n\n".join(cells))
    printed = run(tmp_path, "converted.py", code=1).stdout
    (sessions,) = [line for line in printed.splitlines() if line.startswith("sessions ")]
    assert ast.literal_eval(sessions.removeprefix("sessions ")) == {
        "a": "refund",
        "b": "own",
        "c": "timed",
        "d": "own",
        "e": "waits",
        "f": "rest",
    }
    assert "ZeroDivisionError" in printed
    assert "not reached" not in printed.splitlines()


@pytest.mark.slow
def test_the_code_of_a_call_is_printed_where_the_prompt_takes_no_default(tmp_path: Path) -> None:
    find = "@hh.trace(event_type='tool')\ndef find(id): return id"
    printed = ipython(tmp_path, "%load_ext hh_jupyter", PRELUDE, find, "find('7')", "%hh edit find")
    assert "# The same call again:\nfind(\n    id='7',\n)" in printed


@pytest.mark.slow
def test_found_texts_are_printed_also_to_a_stream_without_unicode(tmp_path: Path) -> None:
    cells = ("%load_ext hh_jupyter", PRELUDE, "span('late parcel')", "%hh find PARCEL")
    assert "late «parcel»" in ipython(tmp_path, *cells)
    printed = ipython(tmp_path, *cells, PYTHONIOENCODING="ascii")
    assert "late >>parcel<<" in printed


@pytest.mark.slow
def test_calls_are_replayed_in_a_terminal_and_listed_under_its_name(tmp_path: Path) -> None:
    ask = "openai.OpenAI().chat.completions.create(model='gpt-4o', messages=[{'role': 'user', 'content': 'Hello'}]).id"
    with FakeLLM() as fake:
        printed = ipython(
            tmp_path,
            "%load_ext hh_jupyter",
            "%hh instrument",
            "import openai",
            f"%%hh_session chat --replay auto\n{ask}\n",
            f"%%hh_session chat --replay auto\n{ask}\n",
            "%hh replay auto",
            ask,
            ask,
            "%hh replay",
            OPENAI_BASE_URL=f"{fake.url}/v1",
            OPENAI_API_KEY="sk-fake",
        )
        assert len(fake.log) == 2
    assert len([line for line in printed.splitlines() if "✓" in line and "replayed, saved ~$" in line]) == 2
    assert re.search(r"recordings/chat.jsonl +1 .* 1\n", printed)
    assert re.search(r"recordings/ipython.jsonl +1 .* 1\n", printed)


@pytest.mark.slow
def test_what_changed_since_the_run_before_is_printed(tmp_path: Path) -> None:
    call = "with hh.get_tracer().start_span('ask', attributes={'honeyhive_inputs.q': %r}): pass"
    cells = [f"%%hh_session refund\n{call % question}" for question in ("one", "two")]
    printed = ipython(tmp_path, "%load_ext hh_jupyter", PRELUDE, *cells, "%hh diff --detail full")
    assert "Δ 1 span changed  local only" in printed
    assert "[-one-] {+two+}" in printed
    assert "<div" not in printed
