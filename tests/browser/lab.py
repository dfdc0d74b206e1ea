"""A real JupyterLab with one notebook, driven through its own commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, Page

from tests.backend import reserved_address

PROJECT = Path(__file__).parents[2]
NOTEBOOK = "traced.ipynb"
IDLE = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
CELLS = "window.jupyterapp.shell.currentWidget.content.widgets"
FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "XDG_DATA_HOME")


@contextmanager
def lab_server(folder: Path) -> Iterator[str]:
    """Serve `folder`, with settings and caches of its own, and without a token: loopback only. Gives the address."""
    reserved = reserved_address()
    port = reserved.getsockname()[1]
    env = dict(os.environ, PYTHONPATH=str(PROJECT), **{name: str(folder / f".{name.lower()}") for name in FOLDERS})
    command = (sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
               "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}",
               "--expose-app-in-browser", "--LabApp.news_url=")  # fmt: skip
    with (
        reserved,
        (folder / "lab.log").open("wb") as log,
        subprocess.Popen(command, env=env, stdout=log, stderr=log) as server,
    ):
        try:
            _await_server(server, f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGTERM)


def _await_server(server: subprocess.Popen[bytes], url: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/api/status").close()
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError("JupyterLab does not start; see lab.log")


def write_notebook(folder: Path, sources: Sequence[str]) -> Path:
    """A notebook of code cells."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = folder / NOTEBOOK
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


class Lab:
    """The notebook open in a page."""

    def __init__(self, browser: Browser, url: str) -> None:
        # Cells out of sight are not in the page: a tall window holds all of them.
        self.page: Page = browser.new_page(viewport={"width": 1400, "height": 2400})
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{url}/lab/tree/{NOTEBOOK}?reset")
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        """Until the notebook is open and its kernel idle."""
        self.page.wait_for_selector(".jp-CodeCell", timeout=60_000)
        self.page.wait_for_function(IDLE, timeout=60_000)

    def command(self, name: str) -> None:
        """Start a command; its promise is not awaited, since some only end when a dialog does."""
        self.page.evaluate("name => { window.jupyterapp.commands.execute(name); return 1; }", name)

    def run_all(self) -> None:
        """Run every cell from the first on, also past errors, and wait for the last."""
        count = self.page.evaluate(f"{CELLS}.length")
        for index in range(count):
            self.page.evaluate("i => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = i; }", index)
            self.command("notebook:run-cell")
            self.page.wait_for_function(
                f"i => !/\\[[* ]\\]/.test({CELLS}[i].promptNode.textContent)",
                arg=index,
                timeout=60_000,
            )

    def sources(self) -> list[tuple[str, str]]:
        """Type and text of every cell."""
        code = f"{CELLS}.map(cell => [cell.model.type, cell.model.sharedModel.getSource()])"
        return [(kind, text) for kind, text in self.page.evaluate(code)]

    def save(self) -> None:
        """Save the notebook and wait until it is."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")
