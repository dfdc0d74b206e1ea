"""`hh_jupyter.spans(...)`: selection, and conversions of the result."""

from __future__ import annotations

import builtins
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

import hh_jupyter
from hh_jupyter import HoneyHiveTracer, spans, summarize
from hh_jupyter.query import SpanList
from hh_jupyter.records import prices
from hh_jupyter.records.record import SpanError
from hh_jupyter.tracing.span_store import detail_store, span_log
from tests.records.builders import span
from tests.spans import RECORDINGS, recorded


@pytest.fixture(scope="module")
def tracer() -> Iterator[HoneyHiveTracer]:
    """A tracer in local mode with two spans of its own and the replayed spans of a recorded agent."""
    span_log().clear()
    tracer = HoneyHiveTracer.init(test_mode=True, multi_instance=True, session_name="spans")
    with tracer.with_session("first"), tracer.start_span("Fetch page"):
        pass
    with tracer.with_session("second"), pytest.raises(RuntimeError), tracer.start_span("fetch again"):
        raise RuntimeError("no page")
    for one in recorded("openinference-langchain-agent.json"):
        tracer.provider._active_span_processor.on_end(one)  # type: ignore[attr-defined]  # As the SDK does.
    yield tracer
    tracer.shutdown()
    span_log().clear()


def names(found: SpanList) -> list[str]:
    return [record.name for record in found]


@pytest.mark.usefixtures("tracer")
def test_spans_are_found_by_name_kind_and_error() -> None:
    assert names(spans(name="FETCH")) == ["Fetch page", "fetch again"]
    assert names(spans(name="fetch", errors=True)) == ["fetch again"]
    assert len(spans(kind="llm")) == 4
    assert {record.facts.kind for record in spans(kind="tool")} == {"tool"}
    assert spans(cell=1) == spans(cell="last") == SpanList()


@pytest.mark.usefixtures("tracer")
def test_spans_on_disk_are_missed_with_a_warning_where_nothing_is_kept_on_disk() -> None:
    with pytest.warns(UserWarning, match="has not read the disk: the setting spool is off") as caught:
        assert names(spans(name="fetch", on_disk=True)) == ["Fetch page", "fetch again"]
    assert [one.filename for one in caught] == [__file__]


@pytest.mark.usefixtures("tracer")
def test_a_session_is_found_by_its_id_or_a_prefix_of_it() -> None:
    (first,) = spans(name="Fetch page")
    assert first.session_id is not None
    assert spans(session=first.session_id) == spans(session=first.session_id[:8].upper()) == SpanList([first])
    assert len(spans(session="no-such")) == 0
    assert len(spans(session=first.session_id[:3])) == 0, "too short to be the beginning of an id"


def test_a_session_is_found_by_the_name_that_the_program_gave_it(tracer: HoneyHiveTracer) -> None:
    with tracer.with_session("refund-triage"), tracer.start_span("inside the session"):
        pass
    assert names(spans(session="refund-triage")) == ["inside the session"]


@pytest.mark.usefixtures("tracer")
def test_no_magic_is_named_where_the_extension_is_not_loaded() -> None:
    found = spans(kind="llm")
    assert "%hh" not in repr(found)
    assert "%hh" not in found._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"cell": 1.5}, TypeError, r"spans\(cell=...\) expects a cell number or 'last', not 1.5"),
        ({"session": 4}, TypeError, r"spans\(session=...\) expects a string, not 4"),
        ({"kind": "model"}, ValueError, "unknown kind 'model'; expected one of llm, embedding"),
    ],
)
def test_errors_name_the_wrong_argument_and_its_value(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        spans(**arguments)


@pytest.mark.usefixtures("tracer")
def test_totals_equal_those_of_summarize_and_a_slice_is_a_span_list() -> None:
    found = spans(kind="llm")
    assert found.totals.llm_calls == summarize(found).llm_calls == 4
    assert (found.totals.cost_estimated, found.totals.prices) == (True, prices.table())
    assert re.fullmatch(r"genai-prices [\d.]+ of 20\d\d-\d\d-\d\d", found.totals.prices or "")
    assert found[:2].totals.llm_calls == 2
    assert found[0] is found[:2][0]
    assert repr(SpanList()) == "no spans"


def test_tools_and_errors_are_listed_in_the_order_in_which_they_happened() -> None:
    down = SpanError("ConnectionError", "the bank is closed")
    found = SpanList(
        [
            span(4, 1, 30, 40, "__main__.refund", kind="tool", error=down),
            span(2, 1, 1, 10, kind="tool", tool_name="search"),
            span(3, 1, 11, 20, "search", kind="tool"),
            span(5, 1, 41, 50, "handoff to billing", kind="tool"),
            span(6, 1, 51, 60, "answer", kind="llm", error=False),
            span(1, None, 0, 70, "agent", kind="agent", error=down),
        ]
    )
    assert found.tools == ["search", "search", "refund"]
    assert found.errors == ["refund: ConnectionError: the bank is closed", "answer"]
    assert SpanList().tools == SpanList().errors == []


@pytest.mark.parametrize("name", RECORDINGS)
def test_tools_and_errors_are_those_that_the_totals_count(name: str) -> None:
    found = SpanList(recorded(name))
    assert (len(found.tools), len(found.errors)) == (found.totals.tools_run, found.totals.errors)
    assert tuple(sorted({*found.tools})) == found.totals.tools_run_names


@pytest.mark.usefixtures("tracer")
def test_content_and_details_of_a_span_are_read_on_request() -> None:
    found = spans(kind="llm")
    said = found.content(found[0])
    assert said is not None
    assert [call.name for call in said.output_messages[0].tool_calls] == ["get_weather"]
    details = found.details(found[0])
    assert details is not None
    assert details.attributes["openinference.span.kind"] == "LLM"


@pytest.mark.usefixtures("tracer")
def test_a_data_frame_has_a_row_for_each_span_and_its_columns_even_when_empty() -> None:
    frame = spans(kind="llm").to_pandas()
    assert len(frame) == 4
    assert frame["prompt_tokens"].sum() == 1040
    assert str(frame["start"].dtype).startswith("datetime64")
    assert list(SpanList().to_pandas().columns) == list(frame.columns)
    assert isinstance(frame, pd.DataFrame)


@pytest.mark.usefixtures("tracer")
def test_without_pandas_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_pandas(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", no_pandas)
    with pytest.raises(ImportError, match=r"pip install 'hh_jupyter\[pandas\]'"):
        spans().to_pandas()


@pytest.mark.usefixtures("tracer")
def test_otlp_json_contains_exactly_these_spans_as_exported() -> None:
    found = spans(kind="tool")
    lines = [json.loads(line) for line in found.to_otlp_json().splitlines()]
    written = [
        span
        for line in lines
        for resource in line["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert sorted(span["spanId"] for span in written) == sorted(f"{record.span_id:016x}" for record in found)
    assert all(len(span["traceId"]) == 32 and span["startTimeUnixNano"].isdecimal() for span in written)
    assert SpanList().to_otlp_json() == ""


@pytest.mark.usefixtures("tracer")
def test_spans_that_are_no_longer_kept_are_reported() -> None:
    found = spans(kind="tool")
    bodies, store = detail_store().bodies(record.span_id for record in found), detail_store()
    ids = [record.span_id for record in spans()]
    store.clear()
    try:
        with pytest.warns(UserWarning, match=r"3 of 3 spans are no longer kept"):
            assert found.to_otlp_json() == ""
        assert found.content(found[0]) is None
    finally:
        for body in bodies:
            store.add(body, ids)


@pytest.mark.usefixtures("tracer")
def test_a_notebook_shows_text_and_html_of_the_same_spans() -> None:
    found = spans(name="fetch")
    bundle = found._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    for shown in bundle.values():
        assert "Fetch page" in shown
        assert "fetch again" in shown
    assert bundle["text/html"] == found._repr_html_()
    assert set(found._repr_mimebundle_(include={"text/html"})) == {"text/html"}
    assert set(found._repr_mimebundle_(exclude={"text/html"})) == {"text/plain"}


def test_importing_the_package_loads_no_displays_and_no_protobuf() -> None:
    code = (
        "import sys, hh_jupyter; hh_jupyter.summarize; hh_jupyter.spans; "
        "sys.exit(any(name in sys.modules for name in ('pandas', 'google.protobuf', 'IPython', 'genai_prices')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert {"spans", "summarize"} <= set(hh_jupyter.__all__)


def test_spans_are_found_by_a_text_in_their_names_and_content(tracer: HoneyHiveTracer) -> None:
    with tracer.with_session("texts"):
        with tracer.start_span("Ask about parcels"):
            tracer.enrich_span(inputs={"question": 'Where is my\n "Päckchen"?', "weight": 1200})
        with pytest.raises(RuntimeError), tracer.start_span("refund"):
            raise RuntimeError("no parcel found")
    for text in ("PARCELS", 'my "päckchen"', "1200"):
        assert names(spans(session="texts", text=text)) == ["Ask about parcels"]
    assert names(spans(session="texts", text="parcel")) == ["Ask about parcels", "refund"]
    assert names(spans(session="texts", text="parcel", errors=True)) == ["refund"]
    assert names(spans(session="texts", text="no such text")) == []
    detail_store().clear()
    assert names(spans(session="texts", text="parcel")) == ["Ask about parcels", "refund"], "by name and error"
    with pytest.raises(ValueError, match=r"spans\(text=' '\): expected a text to search for."):
        spans(text=" ")
    with pytest.raises(TypeError, match=r"spans\(text=...\) expects a string, not 4"):
        spans(text=4)  # type: ignore[arg-type]
