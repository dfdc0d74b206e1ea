"""A key is in no output, log, repr, error, saved file or file on disk, wherever the user's code lets it stand."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from hh_jupyter.otlp_files.page_data import packed
from hh_jupyter.testing import Backend
from tests.kernel.conftest import StartKernel
from tests.kernel.driver import Cell, Kernel

OURS = "hh_7f3aOurOwnKeyOfNoAccount91"
THEIRS = "sk-proj-4Tq8ZkWn2Lx7Rb5Yd1Vc6Mf3"
VAULT = "correct7horse8battery"
SECRETS = (OURS, THEIRS, VAULT, "Zm9vOmJhcjEyMzQ1", "s3cr3t-of-the-url")

EVERYWHERE = f"""
import os, urllib.request
theirs, vault = "{THEIRS}", "{VAULT}"

@hh.trace
def ask(prompt, headers, url, password=None):
    metadata = {{"url": url, "headers": headers, "env": dict(os.environ)}}
    hh.enrich_span(metadata=metadata, config={{"api_key": theirs}})
    nested = [{{"authorization": "Basic Zm9vOmJhcjEyMzQ1"}}]
    return {{"answer": f"the key is {{theirs}}", "vault": vault, "nested": nested}}

@hh.trace
def fail(token):
    raise RuntimeError(f"401 for Bearer {{theirs}} at https://me:s3cr3t-of-the-url@api.example/v1?api_key={{theirs}}")

hh.enrich_session(metadata={{"note": f"{OURS} and {{theirs}}"}}, user_properties={{"password": vault}})
headers = {{"Authorization": f"Bearer {{theirs}}", "Cookie": f"session={{theirs}}"}}
ask(f"my keys: {{theirs}}, {OURS} and {{vault}}", headers,
    f"https://me:s3cr3t-of-the-url@api.example/?api_key={{theirs}}", password=vault)
with hh.get_tracer().start_span(f"call {{theirs}}") as span:
    span.add_event(f"event {{theirs}}", {{"text": theirs, "x-api-key": vault}})
try:
    fail(theirs)
except RuntimeError:
    pass
"""


def said(*cells: Cell) -> str:
    """Everything that cells showed in any form, but for the code itself."""
    shown = [[cell.stdout, cell.stderr, cell.page, cell.results, cell.errors, cell.outputs] for cell in cells]
    return repr(shown)


def assert_clean(where: str, text: str) -> None:
    found = [secret for secret in SECRETS if secret in text]
    assert not found, f"{found} in {where}: {text[:2000]}"


@pytest.fixture
def kernel(start_kernel: StartKernel, backend: Backend) -> Kernel:
    more = {"VAULT_TOKEN": VAULT, "HH_DISPLAY": "tree", "HH_SAVED_DETAIL": "full"}
    return start_kernel(HH_API_KEY=OURS, HH_API_URL=backend.url, **more)


def test_a_key_appears_only_in_the_authorization_header(kernel: Kernel, backend: Backend, tmp_path: Path) -> None:
    cell = kernel.run(EVERYWHERE, cell_id="a-notebook's")
    assert (cell.reply, cell.errors) == ("ok", []), cell
    kernel.wait_for(lambda: " sent" in cell.output.text, "the spans are not sent")
    assert "[redacted" in cell.output.html
    lines = [
        "%hh",
        "%hh status --all",
        "%hh show",
        "%hh show all",
        "%hh sessions",
        "%hh save spans.jsonl",
        "%hh save report.html",
        "%hh_session",
    ]
    reprs = "hh.get_tracer(), hh.get_tracer().settings, get_ipython()._hh, hh.get_tracer().settings.describe()"
    lines += ["%hh_session", "%config HHJupyter", reprs, "%hh?"]
    cells = [kernel.run(line) for line in lines]
    wrong = [kernel.run("%hh frobnicate"), kernel.run("hh.HoneyHiveTracer.init(api_key=object(), server_url=theirs)")]
    for one in (cell, *cells, *wrong):
        assert_clean(one.code, said(one))
    assert_clean("what the page asks for", repr(kernel.value(PAGE)))
    assert_clean("the file", (tmp_path / "spans.jsonl").read_text())
    page = (tmp_path / "report.html").read_bytes()
    assert_clean("the page", page.decode() + gzip.decompress(packed(page)).decode())
    for request in backend.requests:
        assert_clean(f"the body of {request.path}", repr(request.body))
        others = {name: value for name, value in request.headers.items() if name.lower() != "authorization"}
        assert_clean(f"the headers of {request.path}", repr(others))
    assert any(request.headers["authorization"] == f"Bearer {OURS}" for request in backend.requests)


PAGE = """[
    (view.tree, [outputs.hub_source.details(name, format(node.record.span_id, "016x")) for node in view.tree.nodes])
    for outputs in [get_ipython()._hh._outputs]
    for name in list(outputs._by_view) for view in [outputs.hub_source.view_of(name)]
].__repr__()"""


def test_a_key_is_not_on_disk_if_spans_cannot_be_sent(start_kernel: StartKernel, tmp_path: Path) -> None:
    with Backend(refuse=True) as down:
        kernel = start_kernel(
            HH_API_KEY=OURS, HH_API_URL=down.url, VAULT_TOKEN=VAULT, HH_VERBOSE="1", HH_CELL_FLUSH_SECONDS="0.2"
        )
        cells = [kernel.run(EVERYWHERE), kernel.run("%hh"), kernel.run("%hh sessions"), kernel.run("%hh send")]
        assert_clean("the outputs and the debug lines", said(*cells))
        assert "hh_jupyter" in said(*cells), "the debug lines are there to be looked at"
        kernel.stop()
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "ipython" not in path.parts]
    spooled = [path for path in files if "spool" in path.parts]
    assert spooled
    for path in files:
        assert_clean(str(path), path.read_bytes().decode("utf-8", "replace"))
    assert all(path.stat().st_mode & 0o077 == 0 for path in spooled)
