"""`%hh edit`: the code of a call, where the user can change and run it; it sends the same request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbclient import NotebookClient

from notebooks.demo import joined
from tests.fake_llm import FakeLLM
from tests.kernel.conftest import StartKernel
from tests.kernel.driver import PRELUDE, Cell, Kernel, kernel_environment

SYSTEM = "You answer questions about parcels in one sentence, politely."
SETUP = f"""%hh instrument
import anthropic, openai
SYSTEM = {SYSTEM!r}
tools = [{{"type": "function", "function": {{"name": "find", "description": "Find a parcel", "parameters":
    {{"type": "object", "properties": {{"id": {{"type": "string"}}}}}}}}}}]
def ask(model):
    messages = [{{"role": "system", "content": SYSTEM}}, {{"role": "user", "content": "Where is 7?"}}]
    return openai.OpenAI().chat.completions.create(model=model, messages=messages, tools=tools, temperature=0.2, seed=7)
"""
CALLS = {
    "chat": "ask('gpt-4o');",
    "stream": "list(openai.OpenAI().chat.completions.create(model='gpt-4o', stream=True, messages="
    "[{'role': 'user', 'content': 'Hello'}], stream_options={'include_usage': True}));",
    "responses": "openai.OpenAI().responses.create(model='gpt-4.1', instructions=SYSTEM, input='Hello', top_p=0.5);",
    "anthropic": "anthropic.Anthropic().messages.create(model='claude-sonnet-4-5', max_tokens=64, system=SYSTEM, "
    "messages=[{'role': 'user', 'content': 'Hello'}], stop_sequences=['END']);",
    "async": "await openai.AsyncOpenAI().chat.completions.create(model='gpt-4o', messages="
    "[{'role': 'user', 'content': 'Hello'}], max_tokens=20);",
}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeLLM]:
    with FakeLLM() as server:
        yield server


@pytest.fixture
def kernel(start_kernel: StartKernel, fake: FakeLLM) -> Kernel:
    env = {"OPENAI_BASE_URL": f"{fake.url}/v1", "ANTHROPIC_BASE_URL": fake.url}
    made = start_kernel(**env, OPENAI_API_KEY="sk-fake", ANTHROPIC_API_KEY="sk-ant-fake")
    made.run(SETUP)
    return made


def put(cell: Cell) -> dict[str, Any]:
    """What the front end puts into a cell."""
    (payload,) = (one for one in cell.answer["payload"] if one["source"] == "set_next_input")
    return dict(payload)


def edit(kernel: Kernel, code: str) -> Cell:
    return kernel.run(code, cell_id="cell-1", answer="")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_code_sends_the_same_request(kernel: Kernel, fake: FakeLLM) -> None:
    for name, call in CALLS.items():
        assert kernel.run(call).reply == "ok"
        path, request = fake.last_request
        code = put(edit(kernel, "%hh edit"))["text"]
        fake.last_request = "", {}
        again = kernel.run(code)
        assert (again.reply, fake.last_request) == ("ok", (path, request)), (name, code, again.errors)
        # Anthropic's client makes spans of its own, without messages.
        read = "[text for one in hh.spans(kind='llm') if (text := str(hh.spans().content(one).input_messages)) != '()']"
        *_, first, second = kernel.value(read)
        assert first == second, name


@pytest.mark.slow
def test_a_variable_of_the_users_stands_for_a_value(kernel: Kernel) -> None:
    kernel.run(CALLS["chat"])
    code = put(edit(kernel, "%hh edit"))["text"]
    assert "tools=tools," in code
    assert "'content': SYSTEM" in code
    kernel.run("client = openai.OpenAI()\nSYSTEM += ' Be brief.'")
    code = put(edit(kernel, "%hh edit"))["text"]
    assert "\nclient.chat.completions.create(" in code
    assert SYSTEM in code


@pytest.mark.slow
def test_it_replaces_the_cell_only_if_the_cell_holds_nothing_else(kernel: Kernel) -> None:
    asked = kernel.run(CALLS["chat"])
    alone = edit(kernel, f"%hh edit {asked.count}\n")
    assert put(alone)["replace"] is True
    assert alone.stdout == "hh: the code of the call is in this cell.\n"
    for code in ("x = 1\n%hh edit", "# mine\n%hh edit", "%hh edit\nx"):
        cell = edit(kernel, code)
        assert put(cell)["replace"] is False
        assert cell.stdout == "hh: the code of the call is in a new cell below.\n"


@pytest.mark.slow
def test_of_several_calls_the_last_one_is_taken_and_the_others_are_named(kernel: Kernel) -> None:
    asked = kernel.run("ask('gpt-4o'); ask('gpt-4.1'); ask('gpt-4o-mini');")
    code = put(edit(kernel, f"%hh edit {asked.count}"))["text"]
    assert "model='gpt-4o-mini'" in code
    note = code.partition("\n")[0]
    assert note.startswith(f"# The last of 3 model calls of cell {asked.count}. The others: %hh edit ")
    commands = note.partition("The others: ")[2].rstrip(".").split(", ") if "The others: " in note else []
    models = [put(edit(kernel, command))["text"].partition("model=")[2].partition(",")[0] for command in commands]
    assert models == ["'gpt-4o'", "'gpt-4.1'"]


@pytest.mark.slow
def test_an_embedding_is_taken_of_a_cell_without_other_model_calls(kernel: Kernel, fake: FakeLLM) -> None:
    embed = "openai.OpenAI().embeddings.create(model='text-embedding-3-small', input=['one', 'two']);"
    kernel.run(embed)
    sent = fake.last_request
    assert kernel.run(put(edit(kernel, "%hh edit"))["text"]).reply == "ok"
    assert {**fake.last_request[1], "encoding_format": None} == {**sent[1], "encoding_format": None}
    kernel.run(f"ask('gpt-4o')\n{embed}")
    assert "chat.completions" in put(edit(kernel, "%hh edit"))["text"]


@pytest.mark.slow
def test_a_span_is_given_by_its_name(kernel: Kernel) -> None:
    kernel.run("@hh.trace(event_type='tool')\ndef find_parcel(id, where): return id\nfind_parcel('7', where='Oslo');")
    code = put(edit(kernel, "%hh edit find_parcel"))["text"]
    assert code == "# The same call again:\nfind_parcel(\n    id='7',\n    where='Oslo',\n)"
    assert kernel.run(code).results == ["'7'"]
    kernel.run("with hh.get_tracer().start_span('triage'): ask('gpt-4o'); ask('gpt-4.1')")
    code = put(edit(kernel, "%hh edit triage"))["text"]
    assert "# The last of 2 model calls of span triage." in code
    assert "model='gpt-4.1'" in code


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%hh edit no_such", "%hh edit: no span no_such. "),
        ("%hh edit 999", "%hh edit: no spans for cell 999. "),
        ("%hh edit plain", "%hh edit: span plain is no call of a model or a tool, and has none inside."),
        ("%hh edit empty", "%hh edit: empty has no code: its messages or inputs were not recorded"),
    ],
)
def test_a_mistake_is_one_line(local: Kernel, line: str, message: str) -> None:
    local.run("with hh.get_tracer().start_span('plain', attributes={'gen_ai.operation.name': 'invoke_workflow'}): pass")
    local.run("with hh.get_tracer().start_span('empty', attributes={'openinference.span.kind': 'LLM'}): pass")
    assert message in edit(local, line).stderr


def with_nbclient(path: Path) -> Any:
    return NotebookClient(nbformat.read(path, 4), timeout=60, kernel_name="python3").execute()


def with_papermill(path: Path) -> Any:
    return papermill.execute_notebook(path, path.with_name("out.ipynb"), progress_bar=False, kernel_name="python3")


@pytest.mark.slow
@pytest.mark.parametrize("run", [with_nbclient, with_papermill])
def test_a_runner_of_notebooks_prints_the_code(
    tmp_path: Path, fake: FakeLLM, monkeypatch: pytest.MonkeyPatch, run: Callable[[Path], Any]
) -> None:
    env = kernel_environment(tmp_path, {"OPENAI_BASE_URL": f"{fake.url}/v1", "OPENAI_API_KEY": "sk-fake"})
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    cells = (f"%load_ext hh_jupyter\n{PRELUDE}", SETUP, CALLS["chat"], "%hh edit")
    path = tmp_path / "in.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    made = run(path)
    (output,) = joined(made.cells[-1].outputs)
    assert output.text.startswith("# The same request again:\n")
    assert "openai.OpenAI().chat.completions.create(" in output.text
    assert made.cells[-1].source == "%hh edit"
