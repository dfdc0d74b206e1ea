"""Runs the quickstart notebook in a real kernel: `make demo`.

Without OPENAI_API_KEY a fake model server on the loopback interface answers. Writes the executed notebook and an HTML
page to `demo-output/`, and opens JupyterLab on it where there is a screen and a terminal.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

if TYPE_CHECKING:
    from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "01_quickstart.ipynb"
CELL_SECONDS = 120
# Some time per answer, so that the waterfall of the demo looks like one of a real model.
FAKE_LATENCY_MILLIS = 150


def main() -> None:
    """Execute, write, say where, and open it if that makes sense."""
    parser = argparse.ArgumentParser(description="Run the quickstart notebook in a real kernel.")
    parser.add_argument("--output", type=Path, default=ROOT / "demo-output", help="folder for the results")
    parser.add_argument("--no-lab", action="store_true", help="never open JupyterLab")
    options = parser.parse_args()
    with model_server():
        notebook = execute(NOTEBOOK)
        written = write(notebook, options.output)
        print("\n".join(summaries(notebook)))
        print("\nThe executed notebook:", *written, sep="\n  ")
        if not options.no_lab and has_screen():
            print("\nOpening it in JupyterLab; Ctrl-C ends.", flush=True)
            subprocess.run([sys.executable, "-m", "jupyter", "lab", str(written[0])], check=False)


@contextmanager
def model_server() -> Iterator[None]:
    """Point the OpenAI client of the kernel, a child of this process, to the fake server unless there is a key."""
    if os.environ.get("OPENAI_API_KEY"):
        yield
        return
    sys.path.insert(0, str(ROOT))
    from tests.fake_llm import FakeLLM

    with FakeLLM(latency_ms=FAKE_LATENCY_MILLIS) as fake:
        print(f"No OPENAI_API_KEY: a fake model answers at {fake.url}.", flush=True)
        os.environ.update(OPENAI_BASE_URL=f"{fake.url}/v1", OPENAI_API_KEY="sk-fake")
        yield


def execute(path: Path) -> NotebookNode:
    """The notebook with the outputs of this run.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed that is not tagged `raises-exception`.
    """
    notebook = nbformat.read(path, as_version=4)
    os.environ.setdefault("HH_SPOOL", "off")  # The demo leaves nothing behind but its output.
    quiet = ["--log-level=ERROR"]  # What a kernel warns about its transport is not about the demo.
    place = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=CELL_SECONDS, resources=place, extra_arguments=quiet).execute()
    return notebook


def write(notebook: NotebookNode, folder: Path) -> tuple[Path, Path]:
    """Write notebook and page into the folder; returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    executed, page = folder / NOTEBOOK.name, folder / f"{NOTEBOOK.stem}.html"
    nbformat.write(notebook, executed)
    page.write_text(HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
    return executed, page


def summaries(notebook: NotebookNode) -> Iterator[str]:
    """What the traced cells said: the text form of our outputs, first line each."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return (
        output["data"]["text/plain"].splitlines()[0] for output in outputs if "hh_jupyter" in output.get("metadata", {})
    )


def has_screen() -> bool:
    """Whether a person at a terminal can be shown a browser."""
    graphical = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(graphical) and sys.stdout.isatty()


if __name__ == "__main__":
    main()
