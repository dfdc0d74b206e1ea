"""Runs the notebooks of the manual in real kernels: the quickstart for `make demo`, all of them for `make notebooks`.

A small fake model on this machine answers (`fake_model.py`). With OPENAI_API_KEY set, the quickstart of `make demo`
talks to OpenAI instead.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

if TYPE_CHECKING:
    from nbformat import NotebookNode

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
QUICKSTART = FOLDER / "01_quickstart.ipynb"
CELL_SECONDS = 120
SETTINGS = ("HH_", "HONEYHIVE_", "OTEL_", "OPENAI_", "OPENINFERENCE_", "JUPYTER_", "FAKE_")
"""Beginnings of environment variables that would change what the stored notebooks show."""
VARIES = re.compile(
    r"(?:\d[\d.]* → )?(?:<|&lt;)?\d[\d,]*(?:\.\d+)?\s?(?:ms|s|µs|min|kB|MB)\b"  # Durations and sizes.
    r"|\d+(?:\.\d+)?(?:e-\d+)?%|(?<=[ ━╸╺])[━╸╺ ]*[━╸╺]+"  # Bars.
    r"|127\.0\.0\.1:\d+|(?<![\w#])(?=[0-9a-f]*\d)[0-9a-f]{8,}(?![\w])|\b[0-9a-f]{4,12}(?:-[0-9a-f]{4,12})+\b"  # Ids.
    r"|\d{4}-\d\d-\d\d|\d\d:\d\d(?::\d\d)?(?:\.\d+)?"  # Dates and times.
)
"""What differs from one execution of a notebook to the next."""


def main() -> None:
    """Execute, write, say where, and open it if that makes sense."""
    parser = argparse.ArgumentParser(description="Run the quickstart notebook in a real kernel.")
    parser.add_argument("--output", type=Path, default=ROOT / "demo-output", help="folder for the results")
    parser.add_argument("--no-lab", action="store_true", help="never open JupyterLab")
    parser.add_argument(
        "--store", nargs="*", type=Path, metavar="NOTEBOOK",
        help="execute these notebooks, or all of the manual, and store the outputs in them",
    )  # fmt: skip
    options = parser.parse_args()
    if options.store is not None:
        for path in options.store or notebooks():
            print(path.name, "changed" if store(path) else "as before", flush=True)
        return
    notebook = demo()
    written = write(notebook, options.output)
    print("\n".join(summaries(notebook)))
    print("\nThe executed notebook:", *written, sep="\n  ")
    if not options.no_lab and has_screen():
        print("\nOpening it in JupyterLab; Ctrl-C ends.", flush=True)
        subprocess.run([sys.executable, "-m", "jupyter", "lab", str(written[0])], check=False)


def notebooks() -> list[Path]:
    """The notebooks of the manual, in their order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


def demo() -> NotebookNode:
    """The quickstart with the outputs of this run."""
    env = {"HH_SPOOL": "off", **os.environ}  # The demo leaves nothing behind but its output.
    if env.get("OPENAI_API_KEY"):
        env["FAKE_MODEL"] = "off"
    else:
        print("No OPENAI_API_KEY: a small fake model on this machine answers.", flush=True)
    return execute(QUICKSTART, FOLDER, env)


def execute_alone(path: Path) -> NotebookNode:
    """The notebook with its outputs, executed with no settings, keys and earlier sessions, in an empty folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed that is not tagged `raises-exception`.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
        places = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "IPYTHONDIR"), folder)
        return execute(path, Path(folder), own | places)


def execute(path: Path, folder: Path, env: Mapping[str, str]) -> NotebookNode:
    """The notebook with its outputs, executed in a folder and an environment.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed that is not tagged `raises-exception`.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    quiet = ["--log-level=ERROR"]  # What a kernel warns about its transport is not about the demo.
    place = {"metadata": {"path": str(folder)}}
    env = {**env, "PYTHONPATH": str(FOLDER), "JPY_SESSION_NAME": str(folder / path.name)}
    client = NotebookClient(notebook, timeout=CELL_SECONDS, resources=place, extra_arguments=quiet)
    client.execute(env=env)
    return notebook


def store(path: Path) -> bool:
    """Execute a notebook and store it with its outputs; returns whether it has changed.

    An output that differs from the stored one in times, bars and ids only stays as it is.
    """
    before = nbformat.read(path, as_version=4)
    notebook = execute_alone(path)
    known = {cell.id: cell for cell in before.cells}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # When it ran.
        old = known[cell.id]
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
            if comparable(cell.outputs) == comparable(old.outputs):
                cell.outputs = old.outputs
    notebook.metadata = before.metadata
    nbformat.write(notebook, path)
    return bool(notebook != before)


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs, with the parts of a printed text put together: a kernel sends them as they come."""
    result: list[NotebookNode] = []
    for output in outputs:
        if result and output.output_type == "stream" and output.get("name") == result[-1].get("name"):
            result[-1].text += output.text
        else:
            result.append(output)
    return result


def comparable(outputs: list[NotebookNode]) -> str:
    """The outputs without what differs from one execution to the next."""
    text = json.dumps([{**output, "metadata": {}} for output in outputs], ensure_ascii=False).replace(r"\n", "\n")
    return re.sub(r"Δ\s+([+−-]#\s+)?", "Δ ", VARIES.sub("#", text))  # Some runs are slower enough than the one before.


def write(notebook: NotebookNode, folder: Path) -> tuple[Path, Path]:
    """Write notebook and page into the folder; returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    executed, page = folder / QUICKSTART.name, folder / f"{QUICKSTART.stem}.html"
    nbformat.write(notebook, executed)
    exporter = HTMLExporter(mathjax_url="", require_js_url="")  # Unused, and would be fetched from a network.
    page.write_text(exporter.from_notebook_node(notebook)[0], encoding="utf-8")
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
