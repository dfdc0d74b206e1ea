"""Programs that leave traces in a spool, each in a process of its own, and a client of the server for agents."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

PRELUDE = """
import os, sys, json, time
import hh_jupyter as hh
tracer = hh.HoneyHiveTracer.init(session_name="refund-triage")

def model(name, ask, answer, tokens=1200):
    message = {"input_messages.0.message": ("user", ask), "output_messages.0.message": ("assistant", answer)}
    attributes = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o-mini", "llm.token_count.prompt": tokens}
    attributes["llm.token_count.completion"] = 100
    for key, (role, text) in message.items():
        attributes |= {f"llm.{key}.role": role, f"llm.{key}.content": text}
    with hh.get_tracer().start_span(name, attributes=attributes):
        pass
"""


def environment(spool: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "HH_SPOOL": "1", "HH_SPOOL_DIR": str(spool), **more}


def run_program(spool: Path, code: str, **env: str) -> str:
    """Run a program that traces; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        env=environment(spool, **env),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Agent:
    """Calls the tools as a coding agent does: by the official client, over standard input and output."""

    def __init__(self, portal: BlockingPortal, client: Client) -> None:
        self._portal, self._client = portal, client
        self.instructions = client.instructions

    def answer(self, name: str, /, **arguments: Any) -> tuple[bool, str]:
        """Call a tool; return whether it failed, and its text."""
        result: Any = self._portal.call(partial(self._client.call_tool, name, arguments))
        (content,) = result.content
        return bool(result.is_error), content.text

    def call(self, name: str, /, **arguments: Any) -> str:
        """Call a tool, which succeeds; return its text."""
        failed, text = self.answer(name, **arguments)
        assert not failed, text
        return text

    def tools(self) -> list[Any]:
        """What the server offers."""
        result: Any = self._portal.call(self._client.list_tools)
        return list(result.tools)


@contextmanager
def agent_of(spool: Path, **env: str) -> Iterator[Agent]:
    """An agent whose server reads this spool."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "hh_jupyter", "mcp"], env=environment(spool, **env)
    )
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Client(stdio_client(server))) as client,
    ):
        yield Agent(portal, client)
