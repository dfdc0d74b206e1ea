"""Asks the Jupyter server that started this kernel for its notebook: nbclassic does not pass the name to the kernel."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

TIMEOUT_SECONDS: Final = 0.5
"""For a server on this machine, which has just started this kernel."""


def notebook_of_server(connection_file: str) -> str | None:
    """Return the path of the notebook that this kernel was started for; None if no server on this machine knows it.

    Args:
        connection_file: the kernel's; its name contains the kernel's id.
    """
    kernel_id = re.search(r"kernel-(.+)\.json$", connection_file)
    if kernel_id is None:
        return None
    for server in _servers():
        try:
            found = _sessions(server)
            paths = [str(session["path"]) for session in found if session["kernel"]["id"] == kernel_id[1]]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # It does not answer, refuses the token, or is another version.
        if paths:
            return paths[0]
    return None


def _servers() -> Iterator[dict[str, Any]]:
    """Read how to reach the server that started this kernel; it writes this for programs of the same user."""
    from jupyter_core.paths import jupyter_runtime_dir

    for pid in dict.fromkeys((os.environ.get("JPY_PARENT_PID"), str(os.getppid()))):
        try:
            yield json.loads(Path(jupyter_runtime_dir(), f"jpserver-{pid}.json").read_text())
        except (OSError, ValueError):
            continue


def _sessions(server: dict[str, Any]) -> list[dict[str, Any]]:
    headers = {"Authorization": f"token {server.get('token', '')}"}
    request = urllib.request.Request(f"{server['url']}api/sessions", headers=headers)  # noqa: S310  the user's own server
    # The server is on this machine: not through a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
        found: list[dict[str, Any]] = json.load(response)
        return found
