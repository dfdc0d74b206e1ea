"""README.md and the pages say what the code does: tables, links, commands, names, messages; their examples run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

import hh_jupyter
from hh_jupyter.testing import Backend
from tests.pages import DOCUMENTS, PAGES, ROOT, anchors, blocks, page, without_code
from tests.readme_tables import LIBRARIES_NOTEBOOK, TABLES, tables_in, with_tables

documents = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)

LANGUAGES = {"python", "ipython3", "sh", "text", "json"}
"""What a page may show: the first three are run (python also in `guide`, ipython3 and sh in `kernel`)."""


# What documents name


@documents
def test_the_tables_are_those_in_the_code(path: Path) -> None:
    text = path.read_text("utf-8")
    assert with_tables(text) == text, "run: make readme"


def test_every_table_is_in_a_page() -> None:
    in_notebook = "".join(cell.source for cell in nbformat.read(LIBRARIES_NOTEBOOK, as_version=4).cells)
    texts = [in_notebook, *(path.read_text("utf-8") for path in PAGES)]
    assert set.union(*map(tables_in, texts)) == set(TABLES)


@documents
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text("utf-8"))):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if "://" not in link and not (target.exists() and (not anchor or anchor in anchors(target.read_text("utf-8")))):
            dead.append(link)
    assert dead == []


@documents
def test_every_make_target_that_is_named_exists(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", path.read_text("utf-8"), re.MULTILINE))
    assert [target for target in sorted(named) if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


@documents
def test_every_name_that_is_imported_is_public(path: Path) -> None:
    imports = re.findall(r"^from hh_jupyter import ([\w, ]+)", path.read_text("utf-8"), re.MULTILINE)
    names = {name.strip() for line in imports for name in line.split(",")}
    assert names <= set(hh_jupyter.__all__)


def test_nothing_of_the_machine_it_was_written_on_is_named() -> None:
    for path in (*DOCUMENTS, ROOT / "CHANGELOG.md", *Path(ROOT / "notebooks").glob("*.ipynb")):
        assert not re.search(r"/(home|root|work|tmp|Users)/", path.read_text(encoding="utf-8")), path.name


# Messages

VARIABLE = "…"


def message_templates() -> Iterator[str]:
    """Every text in the code, with `…` for what is filled in."""
    for path in (ROOT / "hh_jupyter").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if node in docstrings:
                continue
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(one.value) if isinstance(one, ast.Constant) else VARIABLE for one in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[.\d]*[sdr]|\{\}", VARIABLE, node.value)


@pytest.mark.slow
def test_every_message_that_troubleshooting_quotes_is_in_the_code() -> None:
    quoted = re.findall(r"^> `(.+)`$", page("troubleshooting.md"), re.MULTILINE)
    assert len(quoted) > 40
    templates = list(message_templates())

    def known(message: str) -> bool:
        fixed = ".*".join(re.escape(piece.strip()) for piece in message.split(VARIABLE))
        return any(re.search(fixed, template) for template in templates)

    assert [message for message in quoted if not known(message)] == []


# Examples


@documents
def test_the_python_examples_compile(path: Path) -> None:
    for number, block in enumerate(blocks(path.read_text("utf-8"))):
        if block.language == "python":
            compile(block.code, f"{path.name} block {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@documents
def test_every_block_of_a_page_is_run_or_says_why_not(path: Path) -> None:
    found = list(blocks(path.read_text("utf-8")))
    assert [one.language for one in found if one.language not in LANGUAGES] == []
    assert [one.code for one in found if one.language in ("text", "json") and not one.not_run] == []


def example(name: str, before: str) -> str:
    """The first Python example of a page after a text."""
    return next(one.code for one in blocks(page(name).partition(before)[2]) if one.language == "python")


def test_the_experiment_has_the_results_that_the_page_describes(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(example("experiments.md", "# Experiments in detail"), names)
    result = names["result"]
    assert [metric.aggregate for metric in result.metrics.details] == [0.5, pytest.approx(17 / 3)]
    assert (len(result.passed), result.datapoints[1].datapoint_id, result.errors) == (2, "my-own-id", ())
    assert "3 rows  1 wrong  local only" in capsys.readouterr().out


AGENT = """
import hh_jupyter

@hh_jupyter.trace(event_type="tool")
def look_up_order(): pass

@hh_jupyter.trace(event_type="tool")
def refund(): return "A refund is on its way."

def support_agent(ticket):
    look_up_order()
    return refund()
"""


@pytest.mark.slow
def test_the_tests_that_the_page_on_testing_shows_pass(tmp_path: Path) -> None:
    codes = [one.code for one in blocks(page("testing.md"))]
    (plugin,) = [code for code in codes if "pytest_plugins" in code]
    (tmp_path / "conftest.py").write_text(plugin)
    (tmp_path / "test_page.py").write_text("\n\n".join([AGENT, *(code for code in codes if code != plugin)]))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"{AGENT}\nsupport_agent(7)")])
    nbformat.write(notebook, tmp_path / "triage.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_the_ways_to_enrich_arrive_without_a_warning(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    with hh_jupyter.HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url) as tracer:
        event_id, session_id = str(uuid.uuid4()), str(uuid.uuid4())
        names = {**vars(hh_jupyter), "tracer": tracer, "event_id": event_id, "session_id": session_id}
        with tracer.start_span("call"):
            exec(example("services.md", "### Add values to spans and sessions"), names)
        assert tracer.force_flush()
    (span,) = backend.spans("call")
    found = {name.removeprefix("honeyhive_"): value for name, value in span["attributes"].items()}
    assert {name: found[name] for name in ("metadata.model", "metadata.tries", "metrics.score", "feedback.ok")} == {
        "metadata.model": "small",
        "metadata.tries": 2,
        "metrics.score": 0.9,
        "feedback.ok": True,
    }
    updates = [call.body for call in backend.requests if call.method == "PUT"]
    ids = sorted([event_id, str(tracer.session_id), session_id, session_id])  # Updates of several events have no order.
    assert sorted(update["event_id"] for update in updates) == ids
    assert updates.count({"event_id": session_id, "metadata": {"ticket": 7}}) == 2
    assert not caplog.messages
