"""nbclassic starts a session without the notebook's name; the server knows its path."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from hh_jupyter.testing.backend_server import reserved_address
from tests.kernel.driver import PRELUDE, Kernel, kernel_environment

SECONDS = 60


class Server:
    """A Jupyter server with a token, as users have it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.runtime, self.url = folder / "runtime", f"http://127.0.0.1:{port}"

    def call(self, path: str, body: Any = None) -> Any:
        """Call its API; wait until it has started."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Authorization": "token a-token-of-the-test"})
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                with urllib.request.urlopen(request, timeout=SECONDS) as response:
                    return json.load(response)
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.2)

    def kernel_file(self, body: dict[str, Any]) -> str:
        """Start a session and return the connection file of its kernel."""
        kernel = self.call("/api/sessions", {"type": "notebook", "kernel": {"name": "python3"}, **body})["kernel"]["id"]
        return str(self.runtime / f"kernel-{kernel}.json")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    reserved = reserved_address()
    made = Server(tmp_path, reserved.getsockname()[1])
    folders = {name: str(tmp_path / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    env = kernel_environment(tmp_path, {"JUPYTER_RUNTIME_DIR": str(made.runtime), **folders})
    options = ("port_retries=0", f"port={reserved.getsockname()[1]}", f"root_dir={tmp_path}", "allow_root=True")
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", *(f"--ServerApp.{one}" for one in options)]
    with (
        reserved,
        (tmp_path / "server.log").open("wb") as log,
        subprocess.Popen([*command, "--IdentityProvider.token=a-token-of-the-test"], env=env, stderr=log) as process,
    ):
        try:
            yield made
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.mark.slow
def test_a_session_that_nbclassic_starts_has_the_name_of_the_notebook(server: Server, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    for number, path in enumerate(("work/refund agent.v2.ipynb", "other.ipynb")):
        # As its session.js does: the path of the notebook, and an empty name.
        client = BlockingKernelClient(connection_file=server.kernel_file({"path": path, "name": ""}))
        client.load_connection_file()
        client.start_channels()
        printed: list[str] = []
        client.execute_interactive(
            f"%load_ext hh_jupyter\n{PRELUDE}\n%hh_session",
            timeout=SECONDS,
            output_hook=lambda message, to=printed: to.append(message["content"].get("text", "")),
        )
        client.stop_channels()
        name = ("refund agent.v2", "other")[number]
        assert re.search(rf"^hh: session {re.escape(name)} [0-9a-f]{{8}}$", "".join(printed), re.MULTILINE), printed


@pytest.mark.slow
def test_without_an_answer_of_a_server_the_name_is_the_default(tmp_path: Path) -> None:
    with Kernel(tmp_path, {"JPY_SESSION_NAME": f"{tmp_path}/", "JUPYTER_RUNTIME_DIR": str(tmp_path)}) as kernel:
        assert (
            kernel.run("%load_ext hh_jupyter\n%hh_session").stdout.splitlines()[-1].startswith("hh: session notebook ")
        )
