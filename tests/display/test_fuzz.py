"""Whatever a span contains, every display stays well-formed: text lines, markup, JSON, Python."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.display import columns, html, text
from hh_jupyter.display.content import collect_content, span_details
from hh_jupyter.display.html import mime_bundle
from hh_jupyter.display.snippet import python_code
from hh_jupyter.display.view import Notice
from hh_jupyter.notebook.sessions import KnownSession, sessions_text
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.tracing.span_store import span_log
from tests.display.hostile import HOSTILE
from tests.display.rendered import ATTRIBUTES, CONTROLS, PROPERTIES, TAGS, Page
from tests.display.views import view

pieces = st.one_of(
    st.sampled_from([value[:2_000] for value in HOSTILE.values()]),
    st.text(max_size=30),
    st.sampled_from(["{", "}", '"', "\\", "'''", "\n", "\r", "[redacted: ", "&#60;", "\x9b31m", "\x1b", "\x00"]),
)
texts = st.lists(pieces, max_size=4).map("".join)
values = st.one_of(
    texts, st.integers(), st.floats(), st.booleans(), st.lists(texts, max_size=3), st.lists(st.integers(), max_size=3)
)
documents = st.recursive(
    st.one_of(texts, st.none(), st.floats(), st.integers()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
KEYS = [
    "gen_ai.request.model", "gen_ai.response.model", "gen_ai.operation.name", "gen_ai.usage.input_tokens",
    "gen_ai.prompt.0.content", "gen_ai.prompt.0.role", "gen_ai.completion.0.content", "gen_ai.input.messages",
    "openinference.span.kind", "llm.model_name", "llm.token_count.prompt", "llm.input_messages.0.message.content",
    "llm.input_messages.0.message.role", "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments",
    "input.value", "output.value", "input.mime_type", "tool.name", "honeyhive_event_type", "honeyhive_inputs._params_",
    "honeyhive_outputs.result", "honeyhive_error", "honeyhive_metrics.cost", "http.status_code", "error.type",
]  # fmt: skip
attributes = st.dictionaries(
    st.one_of(st.sampled_from(KEYS), texts), st.one_of(values, documents.map(json.dumps)), max_size=8
)
spans = st.tuples(texts, attributes, st.one_of(st.none(), texts), st.integers(0, 2))


@pytest.fixture(scope="module")
def tracer() -> Iterator[HoneyHiveTracer]:
    with HoneyHiveTracer.init(test_mode=True) as made:
        yield made


def record(tracer: HoneyHiveTracer, program: list[tuple[str, dict[str, Any], str | None, int]]) -> str:
    """Record the spans, each nested at its depth. Returns the id of their session."""
    with tracer.with_session("fuzz") as session:
        open_blocks: list[Any] = []
        for name, given_attributes, error, depth in program:
            while len(open_blocks) > depth:
                open_blocks.pop().__exit__(None, None, None)
            block = tracer.start_span(name)
            span = block.__enter__()
            open_blocks.append(block)
            for key, value in given_attributes.items():
                span.set_attribute(key, value)
            span.add_event(name, given_attributes)
            if error is not None:
                failure = type("Failure", (RuntimeError,), {})(error)
                open_blocks.pop().__exit__(type(failure), failure, None)
        while open_blocks:
            open_blocks.pop().__exit__(None, None, None)
    assert tracer.wait_processed(30)
    return session


@pytest.mark.slow
@given(program=st.lists(spans, min_size=1, max_size=5), label=texts)
@settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_display_stays_well_formed(tracer: HoneyHiveTracer, program: Any, label: str) -> None:
    session = record(tracer, program)
    rows = span_log().records(session_id=session)
    assert len(rows) == len(program)
    for detail in ("summary", "preview", "full"):
        shown = view(rows, label=label, session_name=label, session_id=session, raised=True, mode="tree")
        content, omitted = collect_content(shown.tree, detail, span_log().details)
        notice = Notice(kind="info", title=label, text=label, command=label)
        named = {"label": label, "session_name": label, "session_id": label}
        url = f"https://app.example/{label}"
        more = {
            "notice": notice,
            "detail": detail,
            "content": content,
            "content_omitted": omitted,
            "content_requested": True,
            "session_url": url,
        }
        shown = view(rows, raised=True, **named, **more)
        check_text(text.render(shown), text.render(shown, unicode=False, width=60), text.summary(shown))
        check_html(html.render(shown))
        assert mime_bundle(shown) == mime_bundle(shown)
    json.dumps(columns.encode_header(shown), allow_nan=False).encode()
    plain, _ = columns.encode_rows(shown)
    json.dumps(plain, allow_nan=False).encode()
    for row in rows:
        found = span_log().details(row)
        assert found is not None
        json.dumps(span_details(row, found), allow_nan=False).encode()
        ast.parse(python_code(shown, row, found))
    table = sessions_text([known(label, program[0][0])])
    check_text(table)
    assert len(table.splitlines()) == len(sessions_text([known("a", "b")]).splitlines())


def check_text(*rendered: str) -> None:
    for one in rendered:
        assert not CONTROLS.search(one), repr(one)
        one.encode()


def check_html(rendered: str) -> None:
    page = Page(rendered)
    assert {tag for tag, _ in page.elements} <= TAGS
    assert {name for _, found in page.elements for name in found} <= ATTRIBUTES
    assert {name for name, _ in page.styles()} <= PROPERTIES
    links = [found.get("href") or "" for _, found in page.elements if "href" in found]
    assert all(link.startswith("https://app.example/") for link in links)
    rendered.encode()


def known(title: str, name: str) -> KnownSession:
    return KnownSession(
        "3f2a91c0-5a0f-4d6b-9a3a-0a4f0b7c1d2e", title, name, 1, 0.0, True, 0, 0, ExportState(None, made=1)
    )
