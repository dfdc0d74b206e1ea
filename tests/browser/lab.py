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
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import nbformat
from playwright.sync_api import Browser, Page

from hh_jupyter.testing.backend_server import reserved_address

PROJECT = Path(__file__).parents[2]
NOTEBOOK = "traced.ipynb"
IDLE = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
CELLS = "window.jupyterapp.shell.currentWidget.content.widgets"
FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "XDG_DATA_HOME")

SECONDS_TO_LEAVE = 15
"""The server's kernels are gone by then. It may wait for ever for an idle thread of anyio's."""


@contextmanager
def lab_server(folder: Path) -> Iterator[str]:
    """Serve `folder`, with settings and caches of its own, and without a token: loopback only. Gives the address."""
    reserved = reserved_address()
    port = reserved.getsockname()[1]
    env = dict(os.environ, PYTHONPATH=str(PROJECT), **{name: str(folder / f".{name.lower()}") for name in FOLDERS})
    command = (sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
               "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}",
               "--expose-app-in-browser", "--JupyterNotebookApp.expose_app_in_browser=True",
               "--LabApp.news_url=")  # fmt: skip
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
            try:
                server.wait(SECONDS_TO_LEAVE)
            except subprocess.TimeoutExpired:
                server.kill()


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


@dataclass(frozen=True)
class Jupyter:
    """A server that several tests share, each with notebooks of its own."""

    url: str
    folder: Path

    def write(self, name: str, sources: Sequence[str]) -> Path:
        """A notebook of code cells."""
        return write_notebook(self.folder, sources, name)


def write_notebook(folder: Path, sources: Sequence[str], name: str = NOTEBOOK) -> Path:
    """A notebook of code cells."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = folder / name
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


class Lab:
    """A notebook open in a page.

    Args:
        app: "lab", or "notebooks" for Notebook 7.
        height: of the window in pixels. Cells out of sight are not in the page: a tall window holds all of them.
        script: runs in the page before any of its own.
    """

    def __init__(
        self,
        browser: Browser,
        url: str,
        notebook: str = NOTEBOOK,
        *,
        app: str = "lab",
        height: int = 2400,
        script: str = "",
    ) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1400, "height": height})
        self.app = app
        self.page.add_init_script(script)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{url}/lab/tree/{notebook}?reset" if app == "lab" else f"{url}/{app}/{notebook}")
        self.wait_for_kernel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()

    def wait_for_kernel(self) -> None:
        """Until the notebook is open and its kernel idle."""
        self.page.wait_for_selector(".jp-CodeCell", timeout=60_000)
        self.page.wait_for_function(IDLE, timeout=60_000)

    def command(self, name: str) -> None:
        """Start a command; its promise is not awaited, since some only end when a dialog does."""
        self.page.evaluate("name => { window.jupyterapp.commands.execute(name); return 1; }", name)

    def run_all(self, count: int | None = None, *, timeout: float = 60_000) -> None:
        """Run every cell, or the first so many, also past errors, and wait for each.

        Args:
            timeout: milliseconds for each cell.
        """
        for index in range(self.page.evaluate(f"{CELLS}.length") if count is None else count):
            self.run(index, timeout=timeout)

    def run(self, index: int, *, timeout: float = 60_000) -> None:
        """Run one cell and wait for it. After a restart its number may be the same as before, so that is taken away."""
        self.page.evaluate(f"i => {{ {CELLS}[i].model.executionCount = null; }}", index)
        self.start(index)
        self.page.wait_for_function(
            f"i => /\\[\\d+\\]/.test({CELLS}[i].promptNode.textContent)", arg=index, timeout=timeout
        )

    def start(self, index: int) -> None:
        """Run one cell and do not wait."""
        self.page.evaluate("i => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = i; }", index)
        self.command("notebook:run-cell")

    def restart(self) -> None:
        """Restart the kernel, without the dialog."""
        self.page.evaluate(
            "() => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); return 1; }"
        )

    def open_beside(self, notebook: str) -> None:
        """Open another notebook in the right half of the window; it is the current one from now on."""
        self.page.evaluate(
            """path => { window.jupyterapp.commands.execute('docmanager:open',
                { path, factory: 'Notebook', options: { mode: 'split-right' } }); return 1; }""",
            notebook,
        )
        self.page.wait_for_function(
            "path => window.jupyterapp.shell.currentWidget?.context?.path === path", arg=notebook, timeout=60_000
        )
        self.page.wait_for_function(IDLE, timeout=60_000)

    def scroll_to(self, index: int) -> None:
        """Bring a cell into sight."""
        self.page.evaluate(
            "i => { window.jupyterapp.shell.currentWidget.content.scrollToItem(i, 'center'); return 1; }", index
        )

    def sources(self) -> list[tuple[str, str]]:
        """Type and text of every cell."""
        code = f"{CELLS}.map(cell => [cell.model.type, cell.model.sharedModel.getSource()])"
        return [(kind, text) for kind, text in self.page.evaluate(code)]

    def save(self) -> None:
        """Save the notebook and wait until it is."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")
