"""A page in one HTML file: small, redacted, with as much content as fits, and read back as it was saved."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from hh_jupyter import SpanList
from hh_jupyter.conventions.facts import SpanContent
from hh_jupyter.display import hub
from hh_jupyter.errors import SpanFileError
from hh_jupyter.export import otlp
from hh_jupyter.redaction import Redactor
from hh_jupyter.report_file import _without_content  # What is content is a rule of its own.
from tests.browser.sample_cells import SESSION, hostile, pictures, support_agent
from tests.browser.saved_pages import RESOURCE, SCOPE, bodies, saved

SECRET = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4.1-mini",
    "gen_ai.usage.input_tokens": 812,
    "gen_ai.usage.output_tokens": 57,
}


def calls(number: int, content: int = 0, failed: int | None = None) -> Iterator[bytes]:
    """Traces of ten spans, nine of them model calls, with random ids and times, and so many characters of content."""
    rnd = random.Random(7)
    for first in range(0, number, 10):
        trace, root, spans = rnd.getrandbits(128), None, []
        for index in range(first, min(first + 10, number)):
            start = 1_760_000_000_000_000_000 + index * 10**9 + rnd.randrange(10**9)
            attributes: dict[str, Any] = {"honeyhive.session_id": SESSION, **(CHAT if root else {})}
            if content:
                parts = [{"type": "text", "content": rnd.randbytes(content // 2).hex()}]
                attributes["gen_ai.input.messages"] = json.dumps([{"role": "user", "parts": parts}])
            context = SpanContext(trace, rnd.getrandbits(64), False, TraceFlags(1))
            status = Status(StatusCode.ERROR, "boom") if index == failed else Status()
            times = start, start + rnd.randrange(10**9)
            one = otlp.FinalSpan(
                "chat", context, root, RESOURCE, SCOPE, attributes, (), (), SpanKind.CLIENT, status, *times, 0
            )
            root = root or context
            spans.append(one)
        yield otlp.encode(spans)


def read(data: bytes, folder: Path) -> SpanList:
    path = folder / "report.html"
    path.write_bytes(data)
    return SpanList.from_otlp(path)


def lines(page: bytes) -> str:
    """The spans in the page as text."""
    (packed,) = re.findall(rb'<script type="application/gzip" id="hh-spans">([^<]*)</script>', page)
    return gzip.decompress(base64.b64decode(packed)).decode()


def contents(found: SpanList) -> list[SpanContent | None]:
    return [found.content(one) for one in found]


@pytest.mark.parametrize("cell", [support_agent(2), support_agent(4, fails=True), pictures(10), hostile(9)])
def test_a_page_is_read_back_with_the_same_spans_totals_and_content(cell: Any, tmp_path: Path) -> None:
    given = list(bodies(cell))
    plain = tmp_path / "spans.jsonl"
    plain.write_bytes(b"\n".join(map(otlp.to_json, given)))
    expected, found = SpanList.from_otlp(plain), read(saved(given).data, tmp_path)
    assert len(found) == len(cell.records)
    assert found.totals == expected.totals
    assert found.to_dicts() == expected.to_dicts()
    assert contents(found) == contents(expected)


@pytest.mark.parametrize(("number", "most"), [(1_000, 90_000), pytest.param(10_000, 910_000, marks=pytest.mark.slow)])
def test_spans_without_content_take_few_bytes_each(number: int, most: int, tmp_path: Path) -> None:
    """Beside the front end."""
    page = saved(calls(number))
    assert len(page.data) - len(hub.file_script() + hub.front_end_style()) <= most
    assert page.note == ""
    assert len(read(page.data, tmp_path)) == number


@pytest.mark.slow
def test_content_above_five_megabytes_is_left_out_and_counted(tmp_path: Path) -> None:
    page = saved(calls(40, content=400_000, failed=39))
    assert 4_500_000 < len(page.data) < 5_500_000
    found = read(page.data, tmp_path)
    left = [one for one in found if not (found.content(one) or SpanContent()).input_messages]
    assert 15 < len(left) < 35
    assert page.note == f"The content of {len(left)} spans was left out: a report holds up to 5 MB of it."
    assert page.note.encode() in page.data
    assert found[39] not in left, "failed spans come first"
    assert found.totals.prompt_tokens == 36 * 812, "facts stay"
    assert {one.dropped for one in left} == {1}
    details = [span["details"] for span in spans(page.data) if "hint" in span["details"]]
    assert len(details) == len(left)


def spans(page: bytes) -> list[dict[str, Any]]:
    parts = [part for line in lines(page).splitlines() for part in json.loads(line)["resourceSpans"]]
    return [span for part in parts for scope in part["scopeSpans"] for span in scope["spans"]]


def test_many_short_values_are_content_too() -> None:
    cell = support_agent(2)
    span_id, found = next(iter(cell.details.items()))
    attributes = {f"extra.{number}": "x" * 150 for number in range(300)}
    cell.details[span_id] = replace(found, attributes=attributes)
    first = next(span for span in spans(saved(bodies(cell)).data) if span["spanId"] == span_id)
    assert "attributes" in first["details"], "of a span with content the page gets them as the kernel shows them"
    facts = _without_content({name: value for name, value in first.items() if name != "details"})
    assert len(json.dumps(facts)) < 4_000
    assert facts["droppedAttributesCount"] > 250


def test_nothing_that_the_redactor_hides_is_in_the_page() -> None:
    cell = support_agent(4, fails=True)
    for span_id, found in cell.details.items():
        cell.details[span_id] = replace(found, attributes={**found.attributes, "note": f"use {SECRET}", SECRET: "x"})
    page = saved(bodies(cell), redactor=Redactor(environ={}, secrets=["cracked lid"])).data
    assert SECRET not in lines(page) + page.decode()
    assert "cracked lid" not in lines(page) + page.decode()
    assert "redacted" in lines(page)


def test_the_page_has_no_handlers_and_only_the_script_of_the_policy_runs() -> None:
    page = saved(bodies(hostile(9))).data.decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    *data, script = re.findall(r"<script\b[^>]*>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("; ")[:2] == ["default-src 'none'", f"script-src 'sha256-{digest}'"]
    assert len(data) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9+/=]+", one) for one in data)
    assert page.count("</script>") == 3
    assert "://" not in re.sub(r"http://www.w3.org/2000/svg", "", script), "nothing is fetched"


def test_the_same_spans_make_the_same_file() -> None:
    given = list(bodies(support_agent(2)))
    assert saved(given).data == saved(given, given).data


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<!doctype html><p>hello", "this HTML page holds no spans; expected one that %hh save wrote"),
        ("\n<html></html>", "this HTML page holds no spans; expected one that %hh save wrote"),
        ('<script id="hh-spans">abc</script>', "the spans in this HTML page are damaged"),
        ('<script id="hh-spans">H4sIAAAA</script>', "the compressed data is damaged or cut"),
        ('<script id="hh-spans">aGVsbG8=</script>', "the compressed data is damaged or cut"),
    ],
)
def test_the_error_for_another_page_says_what_is_expected(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(text)
    with pytest.raises(SpanFileError, match=re.escape(problem)):
        SpanList.from_otlp(path)


def test_a_page_that_a_browser_saved_again_is_read(tmp_path: Path) -> None:
    """Browsers may change the order of attributes and wrap long lines."""
    page = saved(bodies(support_agent(2))).data
    again = page.replace(b'type="application/gzip" id="hh-spans">', b'id="hh-spans" type="application/gzip">\n')
    assert again != page
    assert len(read(again, tmp_path)) == len(support_agent(2).records)
