"""What the live view asks the kernel for: previews of rows, hits of a search, and to save feedback."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.conftest import StartKernel
from tests.kernel.driver import Kernel

WEATHER = """
@hh.trace(event_type="tool")
def get_weather(city, days=1):
    return {"sky": "cloudy " + "with hail"}

@hh.trace(event_type="chain")
def plan(question):
    return get_weather("Oslo", days=3)
"""
REQUEST = """
import json
from hh_jupyter.display.hub import Hub
source = get_ipython()._hh._outputs.hub_source
def reply(type, **fields):
    views = map(source.view_of, get_ipython()._hh._outputs._by_view)
    view = next(one for one in views if one.label == str({cell}))
    names = {{format(one.record.span_id, "016x"): one.record.name.rpartition(".")[2] for one in view.tree.nodes}}
    if "span" in fields:
        fields["span"] = next(span for span, name in names.items() if name == fields["span"])
    if type == "previews":
        fields["spans"] = list(names)
    value = Hub(source).reply(dict(type=type, number=1, view=view.view_id, **fields))[0]["value"]
    text = json.dumps(value)
    for span, name in names.items():
        text = text.replace(span, name)
    return text
"""


def ask(kernel: Kernel, cell: int | None, request: str) -> Any:
    kernel.run(REQUEST.format(cell=cell))
    return json.loads(kernel.value(f"reply({request})"))


@pytest.fixture
def traced(start_kernel: StartKernel) -> Kernel:
    kernel = start_kernel()
    kernel.run(WEATHER)
    return kernel


def test_rows_search_and_feedback_of_a_cell(traced: Kernel) -> None:
    cell = traced.run("_ = plan('Will it hail in Oslo tomorrow?')").count
    assert ask(traced, cell, "'previews'") == {
        "plan": '"Will it hail in Oslo tomorrow?"',
        "get_weather": "city=Oslo days=3",
    }
    assert ask(traced, cell, "'search', text='WITH  hail'") == {"hits": {"plan": 1, "get_weather": 1}, "left": 0}
    assert ask(traced, cell, "'search', text='oslo'") == {"hits": {"plan": 1, "get_weather": 1}, "left": 0}
    assert ask(traced, cell, "'feedback', span='get_weather', given={'ok': False, 'note': 'no hail'}") == ""
    assert ask(traced, cell, "'search', text='no hail'") == {"hits": {"get_weather": 1}, "left": 0}
    assert traced.value("[span.name for span in hh.spans(feedback={'ok': False})]") == ["get_weather"]
    assert ask(traced, cell, "'feedback', span='get_weather', given={'ok': None}") == ""
    assert traced.value("[span.name for span in hh.spans(feedback='ok')]") == []
    assert traced.value("[span.name for span in hh.spans(feedback='note')]") == ["get_weather"]


def test_a_saved_output_has_previews_only_if_content_is_to_be_saved(traced: Kernel) -> None:
    saved = traced.run("_ = plan('Will it hail in Oslo tomorrow?')").output
    assert "Oslo" not in str(saved.versions)
    traced.run("%config HHJupyter.saved_detail = 'preview'")
    saved = traced.run("_ = plan('Will it hail in Oslo tomorrow?')").output
    assert "city=Oslo days=3" in saved.html.partition("<details")[2].partition("</table>")[0]
    assert "city=Oslo days=3" not in saved.text


@pytest.mark.slow
def test_feedback_reaches_the_backend(sending: Kernel, backend: Backend) -> None:
    sending.run(WEATHER)
    cell = sending.run("_ = plan('Will it hail?')").count
    assert ask(sending, cell, "'feedback', span='plan', given={'ok': True}") == ""
    sending.run("hh.get_tracer().force_flush()")
    created = [request.body["event"] for request in backend.requests if request.path.endswith("/events")]
    assert [(one["event_name"], one["feedback"], one["metadata"]["span"]) for one in created] == [
        ("feedback", {"ok": True}, "plan")
    ]


RUN = """
import json, os, tempfile
os.chdir(tempfile.mkdtemp())
rows = [{"id": f"q{n}", "inputs": {"n": n}} for n in range(2)]
result = hh.evaluate(lambda datapoint: datapoint["inputs"]["n"] > 0, dataset=rows, print_results=False)
view = f"hh-session-{result.rows[1].session_id}"
(root,) = [span for span in hh.spans(session=result.rows[1].session_id) if span.parent_id is None]
from hh_jupyter.display.hub import Hub
def reply(**message):
    return Hub(get_ipython()._hh._outputs.hub_source).reply(dict(message, number=1, view=view))[0]["value"]
"""


def test_a_row_of_a_run_takes_feedback_and_joins_a_dataset(sending: Kernel, backend: Backend) -> None:
    """The feedback is that of the row's session at the backend, and its spans are found by it."""
    sending.run(RUN)
    given = "reply(type='feedback', span=f'{root.span_id:016x}', given={'ok': False, 'note': 'too high'})"
    assert sending.value(given) == ""
    found = "[span.session_id == result.rows[1].session_id for span in hh.spans(feedback={'ok': False})]"
    assert sending.value(found) == [True]
    added = str(sending.value("reply(type='dataset', file='bad.jsonl')"))
    assert added.endswith("bad.jsonl, which has 1 row now.")
    assert sending.value("[row['id'] for row in map(json.loads, open('bad.jsonl'))]") == ["q1"]
    assert "ends with .jsonl" in str(sending.value("reply(type='dataset', file='bad.txt')"))
    sending.run("hh.get_tracer().force_flush()")
    sent = [request.body for request in backend.requests if (request.method, request.path) == ("PUT", "/events")]
    feedback = [body["feedback"] for body in sent if "ok" in body.get("feedback", {})]
    assert feedback == [{"ok": False, "note": "too high"}]
