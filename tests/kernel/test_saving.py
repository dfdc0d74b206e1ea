"""`%hh save`: a file of OTLP JSON lines with the spans of this kernel or of sessions, including earlier kernels."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import StartKernel
from tests.kernel.driver import Kernel


def spans(path: Path) -> list[dict[str, Any]]:
    """Return the spans of all lines; each line must be one export request."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        request = json.loads(line)
        assert list(request) == ["resourceSpans"]
        found += [s for r in request["resourceSpans"] for scope in r["scopeSpans"] for s in scope["spans"]]
    return found


@pytest.mark.slow
def test_save_writes_every_span_of_the_kernel_once(start_kernel: StartKernel, tmp_path: Path) -> None:
    """Although spans are both in memory and on disk."""
    kernel = start_kernel()
    assert "there are no spans to save." in kernel.run("%hh save spans.jsonl").stderr
    assert [path.name for path in tmp_path.iterdir() if "spans" in path.name] == []
    kernel.run("%%hh_session one\nwith hh.get_tracer().start_span('outer'): span('inner')")
    kernel.run("span('own')")
    assert kernel.run("%hh save spans.jsonl").stdout == "hh: 3 spans saved to spans.jsonl.\n"
    of_unknown_type = kernel.run("%hh save spans.pdf").stdout
    assert of_unknown_type.endswith("It holds lines of OTLP JSON; a name that ends in .html gives a page.\n")
    path = tmp_path / "spans.jsonl"
    by_name = {span["name"]: span for span in spans(path)}
    assert sorted(by_name) == ["inner", "outer", "own"]
    assert len(spans(path)) == 3
    assert by_name["inner"]["parentSpanId"] == by_name["outer"]["spanId"]
    assert [len(by_name["own"][name]) for name in ("traceId", "spanId")] == [32, 16]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.glob(".*spans*")] == []


@pytest.mark.slow
def test_spans_that_were_sent_are_saved_as_well(sending: Kernel, tmp_path: Path) -> None:
    assert sending.run("span('x'); span('y')").output.text.splitlines()[0].endswith("  sent")
    assert sending.run("%hh save spans.jsonl").stdout == "hh: 2 spans saved to spans.jsonl.\n"
    sending.run("from hh_jupyter.tracing.span_store import detail_store; detail_store().clear()\nspan('z')")
    printed = sending.run("%hh save less.jsonl").stdout
    assert printed == "hh: 3 spans saved to less.jsonl.\n", "those that are not in memory come from disk"


def test_sessions_are_saved_by_name_including_those_of_a_killed_kernel(
    start_kernel: StartKernel, tmp_path: Path
) -> None:
    first = start_kernel()
    first.run("%%hh_session left\nspan('a')")
    first.run("%%hh_session other\nspan('b')")
    first.stop(now=True)
    second = start_kernel()
    second.run("%%hh_session mine\nspan('c')")
    assert second.run("%hh save two.jsonl left mine").stdout == "hh: 2 spans saved to two.jsonl.\n"
    assert sorted(span["name"] for span in spans(tmp_path / "two.jsonl")) == ["a", "c"]
    assert second.run("%hh save all.jsonl all --others").stdout == "hh: 3 spans saved to all.jsonl.\n"
    assert second.run("%hh save mine.jsonl").stdout == "hh: 1 span saved to mine.jsonl.\n"


@pytest.mark.slow
def test_an_existing_file_is_only_replaced_with_force(local: Kernel) -> None:
    local.run("span('x')")
    local.run("import os, pathlib; os.environ['HOME'] = os.getcwd()\npathlib.Path('kept.jsonl').write_text('mine')")
    cell = local.run("%hh save ~/kept.jsonl")
    assert "kept.jsonl exists. %hh save ~/kept.jsonl --force replaces it.\n" in cell.stderr
    assert local.value("pathlib.Path('kept.jsonl').read_text()") == "mine"
    assert " saved to " in local.run("%hh save ~/kept.jsonl --force").stdout
    assert local.value("oct(os.stat('kept.jsonl').st_mode & 0o777)") == "0o600"
    assert local.value("pathlib.Path('kept.jsonl').read_text()").startswith('{"resourceSpans":')


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%hh save", "the following arguments are required: FILE. Example: %hh save spans.jsonl"),
        ("%hh save x.jsonl --forec", "unknown option --forec. Did you mean --force?"),
        ("%hh save no/such/folder.jsonl", "no/such/folder.jsonl cannot be written (No such file or directory)."),
        ("%hh save x.jsonl nothing", "no session nothing. Known: notebook."),
        (f"%hh save {'x' * 300}.html", f"{'x' * 300}.html cannot be written (File name too long)."),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_file(local: Kernel, line: str, message: str) -> None:
    local.run("span('x')")
    cell = local.run(line)
    assert cell.stderr == f"UsageError: %hh save: {message}\n"
    assert local.value("__import__('os').path.exists('x.jsonl')") is False


def test_only_regular_files_are_replaced(local: Kernel) -> None:
    local.run("span('x')")
    local.run("import os; os.mkfifo('pipe.html'); os.mkdir('folder.html')")
    for name in ("pipe.html", "folder.html"):
        cell = local.run(f"%hh save {name} --force")
        assert cell.stderr == f"UsageError: %hh save: {name} cannot be written (Not a regular file).\n"
    assert local.value("[os.path.isdir('folder.html'), os.path.isfile('pipe.html')]") == [True, False]


def test_a_page_is_for_the_user_alone_and_shown_like_any_file(start_kernel: StartKernel, tmp_path: Path) -> None:
    kernel = start_kernel()
    kernel.run("%%hh_session one\n@hh.trace\ndef ask(q): return 'Rayleigh scattering'\n_ = ask('why')")
    kernel.run("%%hh_session two\nspan('other')")
    assert kernel.run("%hh save report.html one").stdout == "hh: 1 span saved to report.html.\n"
    path = tmp_path / "report.html"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert kernel.run("%hh save report.html").stderr.endswith("%hh save report.html --force replaces it.\n")
    shown = kernel.run("%hh show report.html --detail full").output.text
    assert "Rayleigh scattering" in shown
    assert shown.splitlines()[-1] == "file report.html"
    assert "other" not in shown
    assert kernel.run("%hh save report.html --force").stdout == "hh: 2 spans saved to report.html.\n"
    assert re.findall("<h2>(.*?)</h2>", path.read_text(encoding="utf-8"))[:2] == ["one", "two"]
    assert kernel.value("len(hh.SpanList.from_otlp('report.html'))") == 2
    assert [entry.name for entry in tmp_path.glob(".*report*")] == []
