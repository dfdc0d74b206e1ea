"""A converted notebook is readable as HTML and Markdown, and span content never becomes markup."""

from __future__ import annotations

import re

import mistune
import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter

from tests.display.rendered import Page
from tests.kernel.driver import kernel_environment

TEMPTING = "# big\n\n![x](https://evil.example/x.png)\n\n<img src=x onerror=alert(1)>\n\n</pre></div>\n\n* item"
CELLS = (
    "%load_ext hh_jupyter\n%config HHJupyter.saved_detail = 'full'\nimport hh_jupyter as hh",
    '@hh.trace(event_type="chain", event_name="answer")\ndef answer(question):\n    raise ValueError("no " + question)',
    f"answer({TEMPTING!r})",
)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """The notebook, executed in a real kernel without a front end."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    folder = tmp_path_factory.mktemp("converted")
    client = NotebookClient(made, timeout=60, kernel_name="python3", allow_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in kernel_environment(folder).items():
            patch.setenv(name, value)
        client.execute(cwd=str(folder))
    return made


def outputs(page: str) -> str:
    """Return the part from the first element of the extension on."""
    return page[page.index('<div class="hh-output') :]


@pytest.mark.slow
def test_html_shows_summary_error_and_messages(notebook: nbformat.NotebookNode) -> None:
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert "hh-output" in page
    assert page.count("require.js") == 0 or "widget" not in outputs(page)
    ours = outputs(page)
    for fact in ("<b>answer</b>", "1 error", "<b>ValueError: no # big</b>", "Local only", "Error: answer"):
        assert fact in ours
    assert "&lt;img src=x onerror=alert(1)&gt;" in ours
    assert "<img src=x" not in ours


def test_markdown_export_keeps_the_html_intact(notebook: nbformat.NotebookNode) -> None:
    text, _ = MarkdownExporter().from_notebook_node(notebook)
    rendered = str(mistune.create_markdown(escape=False)(outputs(text)))
    ours = rendered[: rendered.index("</div></details>") + len("</div></details>")]
    assert not re.search(r"<(h1|img|li|em|p>)", ours.replace("<p style", ""))
    lines = "\n".join(Page(ours + "</div>" * (ours.count("<div") - ours.count("</div"))).text)
    assert "![x](https://evil.example/x.png)" in lines
    assert "▲ answer" in lines


def test_the_text_of_each_output_is_there_for_logs(notebook: nbformat.NotebookNode) -> None:
    (output,) = [out for cell in notebook.cells for out in cell.outputs if "hh_jupyter" in out.get("metadata", {})]
    assert output.data["text/plain"].startswith("▲ answer")
    assert "\x1b" not in output.data["text/plain"]
    assert "widgets" not in notebook.metadata
