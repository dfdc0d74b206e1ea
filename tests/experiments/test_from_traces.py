"""Traces become a dataset, and a run of it links back to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openinference.instrumentation.openai import OpenAIInstrumentor

import hh_jupyter as hh
from hh_jupyter.testing import Backend
from tests.experiments.runs import run
from tests.fake_llm import FakeLLM

pytestmark = pytest.mark.usefixtures("clients_dropped")


@pytest.fixture
def tracer() -> Iterator[Any]:
    found = hh.HoneyHiveTracer.init()
    yield found
    found.shutdown()


@hh.trace(event_name="answer")
def answer(question: str, k: int = 3) -> str:
    hh.enrich_span(feedback={"rating": -1, "ground_truth": f"not {question}"})
    return question.upper()


@hh.trace(event_name="plain")
def plain(question: str) -> dict[str, str]:
    return {"text": question}


def test_spans_become_rows_with_inputs_and_what_was_expected(tracer: Any) -> None:
    answer("where", k=5)
    (row,) = hh.spans(session=tracer.session_id, name="answer").to_dataset()
    (span,) = hh.spans(session=tracer.session_id, name="answer").to_dicts()
    assert row == {
        "id": span["span_id"],
        "inputs": {"question": "where", "k": 5},
        "ground_truth": "not where",
        "span": {name: span[name] for name in ("name", "session_id", "trace_id", "span_id")},
    }


def test_the_span_of_a_row_that_was_run_becomes_that_row() -> None:
    """With its own id, so that the row of a later run is the same one."""
    rows: list[dict[str, Any]] = [
        {"id": "t-1", "inputs": {"q": "a"}, "ground_truth": {"x": 1}, "team": "blue"},
        {"inputs": {"q": "b"}},
    ]
    result = run(None, lambda datapoint: "no", rows)
    own, other = (hh.spans(session=row.session_id).to_dataset()[0] for row in result.rows)
    assert {name: own[name] for name in rows[0]} == rows[0]
    assert own["span"]["session_id"] == result.rows[0].session_id
    assert (other["id"], other["inputs"]) == (other["span"]["span_id"], {"q": "b"})
    assert "ground_truth" not in other


def test_an_argument_named_dp_is_an_input_like_any_other(tracer: Any) -> None:
    @hh.trace(event_name="lookup")
    def lookup(dp: Any) -> None: ...

    lookup({"place": "Oslo"})
    (row,) = hh.spans(session=tracer.session_id, name="lookup").to_dataset()
    assert row["inputs"] == {"dp": {"place": "Oslo"}}


def test_the_output_is_expected_where_it_was_right(tracer: Any) -> None:
    plain("where")
    spans = hh.spans(session=tracer.session_id, name="plain")
    assert "ground_truth" not in spans.to_dataset()[0]
    assert spans.to_dataset(ground_truth="output")[0]["ground_truth"] == {"text": "where"}
    with pytest.raises(ValueError, match=r"to_dataset\(ground_truth='x'\): expected 'feedback' or 'output'\."):
        spans.to_dataset(ground_truth="x")  # type: ignore[arg-type]


def test_a_model_call_becomes_its_messages(tracer: Any) -> None:
    OpenAIInstrumentor().instrument(tracer_provider=tracer.provider)
    try:
        with FakeLLM() as fake:
            client = openai.OpenAI(base_url=f"{fake.url}/v1", api_key="k")
            messages: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
            reply = client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
    finally:
        OpenAIInstrumentor().uninstrument()
    (row,) = hh.spans(session=tracer.session_id, kind="llm").to_dataset(ground_truth="output")
    assert row["inputs"] == {"messages": messages}
    assert row["ground_truth"] == reply.choices[0].message.content


def test_a_span_without_inputs_is_left_out_with_a_warning(tracer: Any) -> None:
    with tracer.start_span("bare"):
        pass
    plain("x")
    with pytest.warns(UserWarning, match="1 of 2 spans have no inputs, or are no longer kept, and were omitted"):
        assert len(hh.spans(session=tracer.session_id).to_dataset()) == 1


def test_a_saved_dataset_is_run_by_its_path_and_links_back(tracer: Any, tmp_path: Path, backend: Backend) -> None:
    answer("where")
    rows = hh.spans(session=tracer.session_id, name="answer").to_dataset()
    assert rows.save(tmp_path / "bad.jsonl") == 1
    path: Any = tmp_path / "bad.jsonl"
    for given in (path, os.fspath(path)):
        backend.requests.clear()
        result = run(backend, lambda datapoint: datapoint["inputs"]["question"], given)
        assert [row.datapoint_id for row in result.rows] == [rows[0]["id"]]
        assert backend.sessions()[-1]["metadata"]["dataset_span"] == rows[0]["span"]


def test_a_file_that_cannot_be_read_is_named_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(hh.SettingError, match=r"evaluate: dataset: cannot read .*none\.jsonl.*: No such file"):
        run(None, lambda datapoint: 1, str(tmp_path / "none.jsonl"))
    (tmp_path / "bad.jsonl").write_text("{}\nx\n")
    with pytest.raises(hh.SettingError, match=r"evaluate: dataset: .*bad\.jsonl, line 2: expected a JSON object"):
        run(None, lambda datapoint: 1, tmp_path / "bad.jsonl")
