"""Each notebook of the manual runs from start to end in a real kernel, without a key, and shows what its text says."""

from __future__ import annotations

from typing import Any

import pytest

from notebooks.demo import execute_alone, notebooks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHOWN = {
    "01_quickstart": {"session": "6 spans", "caught-error": "1 caught", "uncaught-error": "1 error"},
    "02_sessions": {"list": "refund-triage #2", "show": "2 traces", "line": "evening-shift"},
    "03_libraries": {"call": "2 traces", "hint": "openai is not traced", "otel": "1,280 tokens"},
    "04_agents": {"run": "2 LLM calls", "retry": "1 caught", "error": "broken_weather: KeyError", "api": "too long"},
    "05_recordings": {
        "second": "replayed, saved",
        "changed": "1 of 2 replayed",
        "only": "is not recorded",
        "room": "of $0.50",
        "stopped": "stopped at ticket 2",
    },
    "06_comparing": {
        "diff": "2 changed, 1 the same",
        "edit": "client.chat.completions.create(",
        "find": "6 hits in 5 of 6 spans",
        "terminal": "python -m hh_jupyter show --span",
    },
    "07_experiments": {"experiments-13": "20 newly right", "to-dataset": "1 row ", "bad-answers": "1 row "},
    "08_settings": {"preview": "my order A-1001", "secrets-shown": "[redacted: password]", "more-shown": "[redacted"},
}
"""Notebook -> id of a cell -> what its outputs say."""


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_it_runs_from_start_to_end_and_shows_what_its_text_says(path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a key that no notebook may use")
    cells = {cell.id: cell for cell in execute_alone(path).cells}
    missing = {id_: text for id_, text in SHOWN[path.stem].items() if text not in said(cells[id_])}
    assert missing == {}


def said(cell: Any) -> str:
    """Everything that the outputs of a cell say."""
    data = [output.get("data", {}) for output in cell.outputs]
    texts = [*(one.get("text/plain", "") for one in data), *(one.get("text/html", "") for one in data)]
    return "\n".join([*texts, *(output.get("text", "") for output in cell.outputs)])
