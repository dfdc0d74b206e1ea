"""The README says what the code does: its tables come from the code, its links and commands exist."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

import pytest

import hh_jupyter
from hh_jupyter.testing import Backend
from tests.readme_tables import README, with_tables

ROOT = README.parent
TEXT = README.read_text(encoding="utf-8")


def test_the_tables_are_those_in_the_code() -> None:
    assert with_tables(TEXT) == TEXT, "run: make readme"


def test_every_file_the_readme_links_to_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link and not link.startswith("#")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z-]+)", TEXT))
    assert named
    assert [target for target in sorted(named) if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_every_name_the_readme_imports_is_public() -> None:
    imports = re.findall(r"^from hh_jupyter import ([\w, ]+)", TEXT, re.MULTILINE)
    names = {name.strip() for line in imports for name in line.split(",")}
    assert names
    assert names <= set(hh_jupyter.__all__)


def test_the_examples_of_the_readme_compile() -> None:
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        compile(block, f"README.md block {number}", "exec")


def _block(before: str) -> str:
    """The first example after a text."""
    found = re.search(r"```python\n(.*?)```", TEXT.partition(before)[2], re.DOTALL)
    assert found, before
    return found[1]


def test_the_experiment_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(_block("\n## Experiments\n"), names)
    result = names["result"]
    assert [metric.aggregate for metric in result.metrics.details] == [0.5, pytest.approx(17 / 3)]
    assert (len(result.passed), result.datapoints[1].datapoint_id, result.errors) == (2, "my-own-id", ())
    assert "3 rows  1 wrong  local only" in capsys.readouterr().out


@pytest.mark.parametrize(
    "before", ["\n## Testing your own tracing\n", "as HoneyHive does, for tests of what is sent:\n"]
)
def test_the_tests_of_the_readme_pass(before: str) -> None:
    names: dict[str, Any] = {}
    exec(_block(before), names)
    (test,) = [function for name, function in names.items() if name.startswith("test_")]
    test()


def test_the_ways_to_enrich_in_the_readme_arrive_without_a_warning(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    with hh_jupyter.HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url) as tracer:
        event_id, session_id = str(uuid.uuid4()), str(uuid.uuid4())
        names = {**vars(hh_jupyter), "tracer": tracer, "event_id": event_id, "session_id": session_id}
        with tracer.start_span("call"):
            exec(_block("adds to its span or its session"), names)
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


def test_nothing_of_the_machine_it_was_written_on_is_named() -> None:
    for path in (README, ROOT / "CHANGELOG.md", *Path(ROOT / "notebooks").glob("*.ipynb")):
        assert not re.search(r"/(home|root|work|tmp|Users)/", path.read_text(encoding="utf-8")), path.name
