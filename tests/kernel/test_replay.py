"""Model calls of cells are answered from a recording: which file, which mode, what is shown, what stays afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fake_llm import FakeLLM
from tests.kernel.driver import Cell, Kernel, kernel_with

PRELUDE = """
%hh instrument
import asyncio, httpx, openai
client, aclient = openai.OpenAI(max_retries=0), openai.AsyncOpenAI(max_retries=0)
def question(text): return {'model': 'gpt-4o', 'messages': [{'role': 'user', 'content': text}]}
def ask(text): return client.chat.completions.create(**question(text)).id
async def aask(text): return (await aclient.chat.completions.create(**question(text))).id
patched = lambda: hasattr(httpx.Client._transport_for_url, '_hh_jupyter_patch')
"""


class Notebook(NamedTuple):
    """A kernel whose `ask` goes to the fake server, and its folder."""

    kernel: Kernel
    fake: FakeLLM
    folder: Path

    def run(self, code: str) -> Cell:
        cell = self.kernel.run(code)
        assert cell.reply == "ok", cell
        return cell

    def asked(self, code: str) -> int:
        """How many requests arrive while this cell runs."""
        before = len(self.fake.log)
        self.run(code)
        return len(self.fake.log) - before

    def recorded(self, name: str) -> list[str]:
        """The questions in a file."""
        lines = (self.folder / "recordings" / f"{name}.jsonl").read_text().splitlines()
        return [json.loads(line)["request"]["body"]["messages"][0]["content"] for line in lines]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    folder = tmp_path_factory.mktemp("notebook")
    with FakeLLM() as fake, kernel_with(folder, OPENAI_BASE_URL=f"{fake.url}/v1", OPENAI_API_KEY="sk-fake") as kernel:
        notebook = Notebook(kernel, fake, folder)
        notebook.run(PRELUDE)
        yield notebook


@pytest.fixture
def notebook(shared: Notebook) -> Iterator[Notebook]:
    """The notebook that the tests share, without a mode and with hooks removed; each test asks its own questions."""
    yield shared
    shared.run("%hh replay off")
    assert shared.kernel.value("patched()") is False


def test_a_kernel_without_recordings_imports_nothing_of_them(fresh: Kernel) -> None:
    fresh.run("%%hh_session plain\nspan('one')")
    found = "[name for name in __import__('sys').modules if 'recordings' in name or name.endswith('notebook.replay')]"
    assert fresh.value(found) == []


def test_the_second_run_of_a_cell_sends_nothing_and_says_what_it_saved(notebook: Notebook) -> None:
    cell = "%%hh_session refund-triage --replay auto\nprint(ask('Hello'))"
    first, second = notebook.run(cell), notebook.run(cell)
    assert notebook.recorded("refund-triage") == ["Hello"]
    assert first.stdout == second.stdout
    assert "replayed" not in first.output.text
    for shown in (second.output.text, second.output.html):
        assert "replayed, saved ~$" in shown
        assert "tokens" in shown
    assert notebook.asked(cell) == 0


def test_a_partly_replayed_cell_shows_how_many_calls_were(notebook: Notebook) -> None:
    notebook.run("%%hh_session partly --replay auto\nask('one')")
    cell = notebook.run("%%hh_session partly --replay auto\nask('one'); ask('two')")
    assert re.search(r"~\$[\d.]+ .*1 of 2 replayed, saved ~\$", cell.output.text)


def test_awaits_threads_and_tasks_of_a_cell_are_replayed(notebook: Notebook) -> None:
    cell = """%%hh_session all-ways --replay auto
import threading
from concurrent.futures import ThreadPoolExecutor
got = list(await asyncio.gather(*(aask(f'async {n}') for n in range(5))))
with ThreadPoolExecutor(3) as pool: got += list(pool.map(ask, ['thread 1', 'thread 2', 'thread 3']))
print(sorted(got))
"""
    assert notebook.asked(cell) == 8
    first = notebook.run("print(sorted(got))").stdout
    assert notebook.asked(cell) == 0
    assert notebook.run("print(sorted(got))").stdout == first


def test_equal_requests_are_counted_in_each_run_of_a_cell(notebook: Notebook) -> None:
    cell = "%%hh_session twice --replay auto\nprint(ask('same'), ask('same'))"
    first, second = notebook.run(cell).stdout, notebook.run(cell).stdout
    assert len(set(first.split())) == 2
    assert second == first


def test_without_a_mode_a_cell_records_nothing_and_nothing_is_patched(notebook: Notebook) -> None:
    assert notebook.asked("%%hh_session plain\nask('plain'); print(patched())") == 1
    assert notebook.run("print(patched())").stdout == "False\n"
    assert not (notebook.folder / "recordings" / "plain.jsonl").exists()


def test_the_mode_for_all_cells_uses_the_notebooks_file_and_the_files_of_named_sessions(notebook: Notebook) -> None:
    said = notebook.run("%hh replay auto").stdout
    assert said == (
        "hh: replay auto: model calls are answered from recordings/notebook.jsonl; what it does not hold is sent and "
        "recorded there.\n"
    )
    assert notebook.asked("ask('cell one')") == 1
    assert notebook.asked("ask('cell one'); ask('cell two')") == 1
    assert notebook.asked("%%hh_session\nask('unnamed session')") == 1
    assert notebook.asked("%%hh_session\nask('unnamed session')") == 0
    assert notebook.asked("%%hh_session own-file\nask('named session')") == 1
    assert notebook.asked("%%hh_session own-file\nask('named session')") == 0
    assert notebook.recorded("notebook") == ["cell one", "cell two", "unnamed session"]
    assert notebook.recorded("own-file") == ["named session"]
    assert notebook.run("%hh replay off").stdout == "hh: replay off: model calls are sent and not recorded.\n"
    assert notebook.asked("ask('cell one')") == 1


@pytest.mark.parametrize("way", ["hh.evaluate(", "await hh.aevaluate(await_", "hh.evaluate(await_"])
def test_a_run_of_evaluate_is_replayed_on_threads_and_on_the_loop(notebook: Notebook, way: str) -> None:
    functions = (
        "row_ask = lambda row: ask(row['inputs'])\nasync def await_row_ask(row): return await aask(row['inputs'])\n"
    )
    run = f"result = {way}row_ask, dataset=[{{'inputs': f'{way[:14]} {{n}}'}} for n in range(4)], print_results=False)"
    cell = f"{functions}%hh replay auto\n{run}\nprint(result.success, result.cost)"
    assert notebook.asked(cell) == 4
    assert notebook.asked(cell) == 0
    with_limit = run.replace("print_results", "max_calls=1, print_results")
    assert notebook.run(f"{with_limit}\nprint(result.success, bool(result.cost))").stdout == "True False\n"


def test_the_mode_changes_in_the_middle_of_a_cell(notebook: Notebook) -> None:
    assert notebook.asked("%hh replay auto\nask('middle')") == 1
    assert notebook.asked("ask('middle')\n%hh replay off\nask('middle')") == 1
    assert notebook.asked("%hh replay only\nask('middle')") == 0
    assert notebook.asked("%hh replay record\nask('middle')") == 1


def test_the_mode_of_init_applies_at_once(notebook: Notebook) -> None:
    init = "hh.HoneyHiveTracer.init(replay='only')\ntry: ask('of init')\nexcept openai.NotFoundError: print('refused')"
    assert notebook.run(init).stdout == "refused\n"
    notebook.run("hh.HoneyHiveTracer.init(replay='off')")
    assert notebook.asked("ask('of init')") == 1


def test_an_unnamed_session_with_a_mode_of_its_own_uses_the_notebooks_file(notebook: Notebook) -> None:
    cell = notebook.kernel.run("%%hh_session --replay only\nask('of an unnamed session')")
    assert "not recorded in notebook.jsonl." in cell.output.text
    assert "To send and record: %%hh_session --replay auto" in cell.output.text


def test_the_cells_own_mode_overrides_the_mode_for_all_cells(notebook: Notebook) -> None:
    notebook.run("%%hh_session mine --replay auto\nask('mine')")
    notebook.run("%hh replay only")
    assert notebook.asked("%%hh_session mine --replay off\nask('mine')") == 1
    assert notebook.asked("%%hh_session mine --replay record\nask('mine')") == 1
    assert notebook.asked("%%hh_session mine\nask('mine')") == 0
    notebook.run("%hh replay off")
    assert notebook.asked("%%hh_session mine --replay only\nask('mine')") == 0
    assert notebook.asked("%%hh_session mine\nask('mine')") == 1


def test_a_request_that_is_not_recorded_is_refused_and_the_output_says_what_differs(notebook: Notebook) -> None:
    notebook.run("%%hh_session strict --replay auto\nask('Which policy do you rely on?')")
    before = len(notebook.fake.log)
    cell = notebook.kernel.run("%%hh_session strict --replay only\nask('Which policy do you rely on by number?')")
    assert (cell.ename, len(notebook.fake.log)) == ("NotFoundError", before)
    for shown in (cell.output.text, cell.output.html):
        assert "1 not recorded" in shown
        assert "1 error" not in shown
        assert "not recorded in strict.jsonl." in shown
        assert "messages[0].content" in shown
        assert "by number" in shown
        assert "%%hh_session strict --replay auto" in shown


def test_the_notice_of_a_mode_for_all_cells_names_the_command_that_records(notebook: Notebook) -> None:
    notebook.run("%hh replay only")
    cell = notebook.kernel.run("for text in ('never 1', 'never 2'):\n    try: ask(text)\n    except Exception: pass")
    assert cell.reply == "ok"
    assert "2 not recorded" in cell.output.text
    assert "1 more request not recorded. To send and record: %hh replay auto" in cell.output.text
    again = notebook.run(f"%hh show {cell.count}")
    assert "2 not recorded" in again.output.text


def test_a_thread_that_outlives_its_cell_sends_nothing_in_mode_only(notebook: Notebook) -> None:
    late = """
import threading
go, got = threading.Event(), []
def later():
    go.wait()
    try: got.append(ask('later'))
    except Exception as error: got.append(type(error).__name__)
%hh replay only
thread = threading.Thread(target=later)
thread.start()
"""
    notebook.run(late)
    assert notebook.asked("1 + 1") == 0
    assert notebook.asked("go.set(); thread.join(); print(got)") == 0
    assert notebook.kernel.value("got") == ["NotFoundError"]


def test_the_recordings_are_listed_with_their_hits(notebook: Notebook) -> None:
    notebook.run("%%hh_session listed --replay auto\nask('listed 1'); ask('listed 2')")
    notebook.run("%%hh_session listed --replay auto\nask('listed 1')")
    path = notebook.folder / "recordings" / "of another notebook.jsonl"
    path.write_text((notebook.folder / "recordings" / "listed.jsonl").read_text() + "damaged\n")
    lines = notebook.run("%hh replay").stdout.splitlines()
    assert lines[0] == "hh: replay off: model calls are sent and not recorded."
    assert lines[1].split() == ["file", "exchanges", "size", "age", "hits"]
    rows = {line.split(".jsonl")[0].strip(): re.split(r"  +", line.strip()) for line in lines[2:]}
    assert rows["recordings/listed"][1::3] == ["2", "1"]
    assert rows["recordings/of another notebook"][0].endswith(".jsonl (1 damaged line)")
    assert rows["recordings/of another notebook"][1::3] == ["2", "-"]


def test_a_pattern_that_becomes_a_secret_later_is_not_written_from_then_on(notebook: Notebook) -> None:
    notebook.run("%%hh_session hidden --replay auto\nask('ticket 1')")
    notebook.run("%config HHJupyter.redact_patterns = [r'zebra-\\d+']")
    notebook.run("%%hh_session hidden --replay auto\nask('my zebra-4711')")
    notebook.run("%config HHJupyter.redact_patterns = []")
    assert "zebra-4711" not in (notebook.folder / "recordings" / "hidden.jsonl").read_text()
    assert notebook.asked("%%hh_session hidden --replay only\nask('my zebra-4711')") == 0


def test_prune_asks_and_deletes_what_was_not_used_since_the_kernel_started(notebook: Notebook) -> None:
    notebook.run("%%hh_session pruned --replay auto\nask('kept')")
    path = notebook.folder / "recordings" / "pruned.jsonl"
    old = path.read_text().replace("kept", "edited since").replace('"digest": "', '"digest": "0')
    path.write_text(old + path.read_text())
    notebook.run("%%hh_session pruned --replay auto\nask('kept')")
    refused = notebook.kernel.run("%hh replay --prune")
    assert "not used since this kernel started: 1 of 2 exchanges in recordings/pruned.jsonl" in refused.stderr
    assert "Add --yes to go on." in refused.stderr
    no = notebook.kernel.run("%hh replay --prune", answer="n")
    assert "[y/N]" in no.asked[0]["prompt"]
    assert "nothing was changed" in no.stderr
    assert notebook.recorded("pruned") == ["edited since", "kept"]
    assert notebook.run("%hh replay --prune --yes").stdout == "hh: deleted 1 exchange of recordings/pruned.jsonl.\n"
    assert notebook.recorded("pruned") == ["kept"]
    assert "nothing to delete" in notebook.run("%hh replay --prune").stdout


def test_modes_and_the_names_of_recordings_are_completed(notebook: Notebook) -> None:
    notebook.run("%%hh_session 'complete me' --replay auto\nask('complete')")
    complete = notebook.kernel.complete
    offered = set(complete("%hh replay o")) - {"%hh replay or"}  # IPython 7 offers Python's words beside ours.
    assert offered == {"%hh replay only", "%hh replay off"}
    assert complete("%%hh_session x --replay r") == ["%%hh_session x --replay record"]
    (notebook.folder / "recordings" / "compiled.jsonl").write_text("")
    assert "%%hh_session compiled" in complete("%%hh_session comp")
    if notebook.kernel.versions[0] >= 8:  # IPython 7 drops what does not begin with the typed text.
        assert "%%hh_session 'complete me'" in complete("%%hh_session comp")
    assert complete("%%hh_session --join compi") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%hh replay onyl", "%hh replay: unknown mode onyl. Did you mean only?"),
        ("%hh replay auto --prune", "%hh replay: --prune cannot be combined with a mode."),
        ("%hh replay --yes", "%hh replay: --yes is an answer to the question of --prune."),
        ("%%hh_session x --replay recrd\n1", "%%hh_session: unknown --replay recrd. Did you mean record?"),
        ("%hh_session x --replay auto", "%hh_session: --replay is an option of %%hh_session, for one cell."),
    ],
)
def test_a_mistake_is_one_line(line: str, message: str, notebook: Notebook) -> None:
    cell = notebook.kernel.run(line)
    assert message in cell.stderr + "".join(value for _, value in cell.errors)
    assert len(cell.stderr.strip().splitlines()) <= 1


def test_after_unloading_nothing_is_replayed_or_patched(notebook: Notebook) -> None:
    notebook.run("%hh replay auto")
    assert notebook.asked("ask('unloaded')") == 1
    assert notebook.asked("%unload_ext hh_jupyter\nask('unloaded'); assert not patched()") == 1
    assert notebook.asked("ask('unloaded'); assert not patched()") == 1
    notebook.run("%load_ext hh_jupyter\n%hh instrument")
    assert "nothing to delete" in notebook.run("%hh replay --prune").stdout
    assert notebook.asked("ask('unloaded')") == 0
