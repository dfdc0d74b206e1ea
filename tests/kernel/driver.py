"""A real kernel, cell by cell: what each cell answered, printed, displayed and changed later."""

from __future__ import annotations

import os
import queue
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.conftest import OUR_VARIABLES

TIMEOUT = 60.0
PAGE_SECONDS = 0.5
"""From the moment when a page gets the hub to its first message."""

PRELUDE = """
import asyncio, threading, time
import hh_jupyter as hh
from hh_jupyter.tracing.span_store import span_log

def span(name):
    with hh.get_tracer().start_span(name):
        return name

def rows():
    hh.get_tracer().wait_processed()
    return [(row.name, row.session_id, row.cell and row.cell.partition("-")[0]) for row in span_log().records()]
"""
"""What the cells of the tests use: `span(name)` makes a span, `rows()` tells name, session and cell of each."""
PROJECT = Path(__file__).parents[2]
PYTHON = os.environ.get("KERNEL_PYTHON", sys.executable)
"""What kernels and terminals run in; `make matrix` sets it to environments with other versions of IPython."""


@dataclass(slots=True)
class Output:
    """A display of one cell, with all that was shown in its place since."""

    display_id: str | None
    versions: list[dict[str, str]]
    metadata: dict[str, Any]

    @property
    def text(self) -> str:
        """What it says now."""
        return self.versions[-1]["text/plain"]

    @property
    def html(self) -> str:
        return self.versions[-1]["text/html"]


class MissingOutputError(AssertionError):
    """A cell displays nothing, or nothing yet."""


@dataclass(slots=True)
class Cell:
    """One executed cell.

    Attributes:
        reply: "ok" or "error".
        ename: of the error in the reply.
        results: text of the last expression.
        results_data: its data by mime type.
        errors: error outputs as (name, message).
        kinds: what arrived, in order: stream, display, result, error.
        asked: its questions, with `prompt` and `password`.
        page: what it shows in the pager, as `?` does.
        messages: what arrived, as it is.
        answer: the reply, as it is.
    """

    code: str
    seconds: float = 0.0
    reply: str = ""
    ename: str = ""
    count: int | None = None
    stdout: str = ""
    stderr: str = ""
    results: list[str] = field(default_factory=list)
    results_data: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    page: str = ""
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> Output:
        """Its one display.

        Raises:
            MissingOutputError: there is none yet, or not any more.
        """
        if not self.outputs:
            raise MissingOutputError(self)
        assert len(self.outputs) == 1, self
        return self.outputs[0]


class Row(NamedTuple):
    """A span of a kernel's log: its name, session id and the number of its cell."""

    name: str
    session: str
    cell: str | None


class Kernel:
    """A kernel with the project importable."""

    def __init__(
        self, cwd: Path, env: Mapping[str, str] | None = None, *, arguments: Iterable[str] = (), python: str = PYTHON
    ) -> None:
        # Sockets in the file system: a TCP port is chosen before the kernel binds it, and may be gone by then. Their
        # paths must be short, so they have a folder of their own.
        self._sockets = TemporaryDirectory(prefix="hh-")
        self._manager = KernelManager(kernel_name="python3", transport="ipc", ip=f"{self._sockets.name}/kernel")
        spec = self._manager.kernel_spec
        assert spec is not None
        spec.argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}", *arguments]
        self._manager.start_kernel(env=kernel_environment(cwd, env), cwd=str(cwd))
        self._connect()
        self._cells: dict[str, Cell] = {}
        self._displays: dict[str, Output] = {}
        self.unknown_updates: list[str] = []
        self.comms = 0
        self.hub_messages: list[dict[str, Any]] = []
        """Messages of the hub to the page, including replies."""
        self._hub, self._hub_opened = "", 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(now=True)

    def stop(self, *, now: bool = False) -> None:
        """End the kernel: politely, as a front end does, or at once."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=now)
        self._sockets.cleanup()

    @property
    def versions(self) -> tuple[int, int]:
        """Major versions of its IPython and ipykernel."""
        found = self.value("[__import__(name).version_info[0] for name in ('IPython', 'ipykernel')]")
        return found[0], found[1]

    def restart(self) -> None:
        """Restart it, as a front end's button does."""
        self._client.stop_channels()
        self._manager.restart_kernel(now=False)
        self._connect()

    def _connect(self) -> None:
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=TIMEOUT)

    def run(
        self,
        code: str,
        *,
        cell_id: str | None = None,
        interrupt_at: str | None = None,
        answer: str | None = None,
        **execute: Any,
    ) -> Cell:
        """Execute a cell and wait until the kernel is idle.

        Args:
            code: of the cell.
            cell_id: as a notebook front end sends it.
            interrupt_at: interrupt the kernel when the cell has printed this.
            answer: what is typed when the cell asks for input; None: nobody can be asked.
            execute: more arguments of `KernelClient.execute`.
        """
        started = time.monotonic()
        message_id = self._execute(code, cell_id, **{"allow_stdin": answer is not None, **execute})
        cell = self._cells[message_id] = Cell(code)
        while not self._receive(started + TIMEOUT, idle=message_id):
            if interrupt_at is not None and interrupt_at in cell.stdout:
                interrupt_at = None
                self._manager.interrupt_kernel()
            if answer is not None and self._client.stdin_channel.msg_ready():
                cell.asked.append(self._client.get_stdin_msg(timeout=TIMEOUT)["content"])
                self._client.input(answer)
        cell.seconds = time.monotonic() - started
        reply = cell.answer = self._reply_to(message_id)
        cell.reply, cell.ename, cell.count = reply["status"], reply.get("ename", ""), reply.get("execution_count")
        pages = (one for one in reply.get("payload", ()) if one["source"] == "page")
        cell.page = "".join(one["data"]["text/plain"] for one in pages)
        return cell

    def _reply_to(self, message_id: str) -> dict[str, Any]:
        """The content of the reply to a request; replies to others are passed over."""
        reply = self._client.get_shell_msg(timeout=TIMEOUT)
        while reply["parent_header"].get("msg_id") != message_id:
            reply = self._client.get_shell_msg(timeout=TIMEOUT)
        return dict(reply["content"])

    def run_with_subshell(self, code: str, meanwhile: str) -> tuple[Cell, Cell]:
        """Execute a cell, and another one meanwhile in a subshell of its own (ipykernel 7); both must end."""
        subshell = self.make_subshell()
        ids = [self._execute(code, None), self._execute(meanwhile, None, subshell=subshell)]
        cells = Cell(code), Cell(meanwhile)
        self._cells.update(zip(ids, cells, strict=True))
        replies: dict[str, dict[str, Any]] = {}
        deadline = time.monotonic() + TIMEOUT
        while len(replies) < 2:
            self._receive(deadline)
            if self._client.shell_channel.msg_ready():
                reply = self._client.get_shell_msg(timeout=TIMEOUT)
                replies[reply["parent_header"]["msg_id"]] = reply["content"]
        for message_id, cell in zip(ids, cells, strict=True):
            cell.reply, cell.count = replies[message_id]["status"], replies[message_id].get("execution_count")
        return cells

    def ask(self, message: Mapping[str, Any], *, subshell: str | None = None) -> None:
        """Send a message of the page to the hub, as JupyterLab does: over a subshell that is the widget's own.

        A page takes a moment to load the front end. The thread in the kernel that opens the hub registers it meanwhile.
        """
        time.sleep(max(0.0, self._hub_opened + PAGE_SECONDS - time.monotonic()))
        data = {"method": "custom", "content": dict(message)}
        sent = self._client.session.msg("comm_msg", {"comm_id": self._hub, "data": data})
        if subshell is not None:
            sent["header"]["subshell_id"] = subshell
        self._client.shell_channel.send(sent)

    def interrupt(self) -> None:
        """Interrupt the kernel, as a front end's button does."""
        self._manager.interrupt_kernel()

    def make_subshell(self) -> str:
        """A subshell's id (ipykernel 7)."""
        self._client.control_channel.send(self._client.session.msg("create_subshell_request"))
        return str(self._client.get_control_msg(timeout=TIMEOUT)["content"]["subshell_id"])

    def start(self, code: str, *, cell_id: str | None = None) -> Cell:
        """Execute a cell without waiting for its end."""
        cell = self._cells[self._execute(code, cell_id)] = Cell(code)
        return cell

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Take in messages until the condition holds. It may ask for outputs that are still to come."""

        def holds() -> bool:
            try:
                return condition()
            except MissingOutputError:
                return False

        deadline = time.monotonic() + TIMEOUT
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}\n{self._state()}")
            self._receive(deadline)

    def _state(self) -> str:
        """What is displayed, and what the kernel says about itself: for the message of a test that waited in vain."""
        shown = [output.text for cell in self._cells.values() for output in cell.outputs]
        return "\n".join([*shown, self.run("%hh").stdout])

    def value(self, expression: str) -> Any:
        """A plain value of the kernel's namespace, evaluated without any cell event."""
        message_id = self._execute("", None, silent=True, store_history=False, user_expressions={"value": expression})
        deadline = time.monotonic() + TIMEOUT
        while not self._receive(deadline, idle=message_id):  # Outputs may be updated meanwhile.
            pass
        result = self._reply_to(message_id)["user_expressions"]["value"]
        assert result["status"] == "ok", result
        return eval(result["data"]["text/plain"], {})  # the repr of a plain value

    def complete(self, code: str) -> list[str]:
        """The whole lines that Tab makes at the end of the code."""
        reply = self._client.complete(code, reply=True, timeout=TIMEOUT)["content"]
        return [code[: reply["cursor_start"]] + match + code[reply["cursor_end"] :] for match in reply["matches"]]

    def _execute(self, code: str, cell_id: str | None, subshell: str | None = None, **execute: Any) -> str:
        session = self._client.session
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        } | execute
        message = session.msg("execute_request", content, metadata={"cellId": cell_id} if cell_id else {})
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self._client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def _receive(self, deadline: float, idle: str = "") -> bool:
        """Take in one message; True when it says that request `idle` is done."""
        assert time.monotonic() < deadline, "the kernel did not answer"
        try:
            message = self._client.get_iopub_msg(timeout=0.05)
        except queue.Empty:
            return False
        kind, content = message["msg_type"], message["content"]
        parent = message["parent_header"].get("msg_id", "")
        if kind == "status":
            return bool(parent == idle and content["execution_state"] == "idle")
        self.comms += {"comm_open": 1, "comm_close": -1}.get(kind, 0)
        if kind == "comm_open" and "_esm" in content["data"].get("state", {}):
            self._hub, self._hub_opened = content["comm_id"], time.monotonic()
        if kind == "comm_msg" and content["data"].get("method") == "custom":
            self.hub_messages.append(content["data"]["content"])
        if parent in self._cells:
            self._cells[parent].messages.append((kind, content))
        if kind == "update_display_data":
            self._change(content)
        elif parent in self._cells:
            self._add(self._cells[parent], kind, content)
        return False

    def _change(self, content: dict[str, Any]) -> None:
        display_id = content["transient"]["display_id"]
        if display_id in self._displays:
            self._displays[display_id].versions.append(content["data"])
        else:
            self.unknown_updates.append(display_id)

    def _add(self, cell: Cell, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream":
            setattr(cell, content["name"], getattr(cell, content["name"]) + content["text"])
        elif kind == "display_data":
            display_id = content.get("transient", {}).get("display_id")
            output = Output(display_id, [content["data"]], content["metadata"])
            cell.outputs.append(output)
            if display_id:
                self._displays[display_id] = output
        elif kind == "execute_result":
            cell.results.append(content["data"]["text/plain"])
            cell.results_data.append(content["data"])
        elif kind == "error":
            cell.errors.append((content["ename"], content["evalue"]))
            cell.tracebacks.append(_COLOUR.sub("", "\n".join(content["traceback"])))
        if kind in _KINDS:
            cell.kinds.append(_KINDS[kind])


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # IPython 7 and 8 know nothing of NO_COLOR.
_KINDS = {"stream": "stream", "display_data": "display", "execute_result": "result", "error": "error"}


def row_of(kernel: Kernel, name: str) -> Row:
    """The one span of this name."""
    (found,) = [Row(*row) for row in kernel.value("rows()") if row[0] == name]
    return found


def kernel_environment(cwd: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment for a kernel with directories of its own."""
    path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}
    return {
        **kept,
        "PYTHONPATH": path,
        "IPYTHONDIR": str(cwd / "ipython"),
        "XDG_DATA_HOME": str(cwd / "data"),
        "XDG_CONFIG_HOME": str(cwd / "config"),
        "NO_PROXY": "127.0.0.1,localhost",
        # Plain text in tracebacks and in what terminal tools print.
        "NO_COLOR": "1",
        **(more or {}),
    }


@contextmanager
def kernel_with(cwd: Path, **env: str) -> Iterator[Kernel]:
    """A kernel with the extension loaded in its first cell."""
    with Kernel(cwd, env) as kernel:
        loading = kernel.run(f"%load_ext hh_jupyter\n{PRELUDE}")
        assert loading.reply == "ok", loading
        yield kernel
