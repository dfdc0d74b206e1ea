"""One frame per running cell: its key and session in the OpenTelemetry context, undone exactly, then one output.

Facts of a live kernel that decide the shape of this file [all measured]:
a cell with top-level await runs in a task of its own, `pre_run_cell` inside it and `post_run_cell` outside, so that the
context of its body is gone by then and must not be detached; hooks of a subshell interleave with those of the main
shell, so that frames are found by `result.info is info` and never by order; the cell that loads the extension has no
`pre_run_cell`, the one that unloads it no `post_run_cell`, a blank cell only the latter; `%%capture` and `run_cell`
fire all hooks a second time, nested.
"""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Any, Protocol

from IPython.core.error import UsageError
from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span

from hh_jupyter.delivery.sealing.stamp import Session
from hh_jupyter.notebook.guard import guarded
from hh_jupyter.notebook.parser import quoted
from hh_jupyter.notebook.session_magic import CELL_MAGIC, parse
from hh_jupyter.notebook.sessions import NotebookSessions
from hh_jupyter.tracing.context import CELL, SCOPE, SessionScope, leave, with_cell

# One running cell, as the hooks know it.


@dataclass(slots=True, eq=False)
class CellFrame:
    """One running cell.

    Attributes:
        info: IPython's ExecutionInfo of this run.
        key: what its spans carry, unique per run.
        label: the number in `In [4]`.
        outer: not run by another cell's code.
        sessions: scopes entered for this cell, the outermost first.
        runs_in: thread and asyncio task of the cell's own code.
        scoped: its session was chosen in it, and what its code attached ends with it.
        show: how its output is shown, when a magic in it said so.
    """

    info: Any
    key: str
    label: str
    outer: bool
    runs_in: tuple[int, object]
    attached: Context | None = None
    token: Token[Context] | None = None
    frame_token: Token[CellFrame | None] | None = None
    sessions: list[SessionScope] = field(default_factory=list)
    scoped: bool = False
    show: str | None = None

    @property
    def cell_id(self) -> str | None:
        """The id that a notebook front end gave the cell; None in a headless run, and before IPython 8."""
        return getattr(self.info, "cell_id", None)


def in_block(frame: CellFrame) -> bool:
    """A block that the cell's code has entered is open here, and takes the session with it when it ends."""
    context, at_start = otel.get_current(), frame.attached or Context()
    # The scope of `%%hh_session` itself is none: there the cell's own code begins.
    scope = frame.sessions[-1] if frame.sessions else at_start.get(SCOPE)
    return context.get(SCOPE) is not scope or get_current_span(context) is not get_current_span(at_start)


def running() -> tuple[int, object]:
    """The thread and asyncio task that this is called in."""
    try:
        task: object = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident(), task


class Finished(Protocol):
    """Called with the frame of an outermost cell when it has ended."""

    def __call__(self, frame: CellFrame, *, raised: bool, interrupted: bool) -> None: ...


_frame: ContextVar[CellFrame | None] = ContextVar("hh_cell_frame", default=None)


class Cells:
    """The hooks, and `enter`, which the rewritten `%%hh_session` line calls.

    Args:
        shell: the InteractiveShell.
        sessions: the notebook's session state.
        before: called before each outermost cell; applies settings that changed.
        begun: called with the frame of each outermost cell, before its body.
        finished: called after each outermost cell that counts in the history.
    """

    def __init__(
        self,
        shell: Any,
        sessions: NotebookSessions,
        before: Callable[[], None],
        begun: Callable[[CellFrame], None],
        finished: Finished,
    ) -> None:
        self._shell = shell
        self._sessions = sessions
        self._before = before
        self._begun = begun
        self._finished = finished
        self._frames: list[CellFrame] = []
        # A forked child has the shell and its hooks, and what it displays reaches the notebook.
        self._pid = os.getpid()
        self._ahead: int | None = None

    @guarded
    def pre_run_cell(self, info: Any) -> None:
        """Give the cell its frame."""
        if os.getpid() == self._pid:
            self._open(info)

    @guarded
    def post_run_cell(self, result: Any) -> None:
        """Undo the cell's frame and show what was traced in it. `result` is None after a hard cancellation."""
        frame = self._frame_of(getattr(result, "info", None))
        if os.getpid() != self._pid or frame is None:
            return
        self._close(frame)
        if self._shows(frame):
            error = result.error_in_exec or result.error_before_exec
            # An interrupted await arrives as CancelledError.
            interrupted = isinstance(error, KeyboardInterrupt | asyncio.CancelledError)
            self._finished(frame, raised=error is not None, interrupted=interrupted)

    def open_running(self) -> None:
        """Frame the cell that is loading the extension; it had no `pre_run_cell`."""
        running = self._shell.displayhook.exec_result
        if running is not None and running.info is not None:
            if running.info.store_history and running.execution_count:
                self._ahead = self._shell.execution_count - running.execution_count
            self._open(running.info)

    @guarded
    def close_running(self) -> None:
        """Close the frame of the cell that is unloading the extension; it will have no `post_run_cell`."""
        frame = _frame.get()
        if frame in self._frames:
            self._close(frame)
            if self._shows(frame):
                self._finished(frame, raised=False, interrupted=False)

    def enter(self, line: str, *, magic: str = CELL_MAGIC, blank: bool = False) -> None:
        """Make the rest of the running cell one session.

        Args:
            line: the options of `%%hh_session`.
            magic: the form that was typed.
            blank: there is no code below it.

        Raises:
            UsageError: one line that says what is wrong.
        """
        options = parse(line, self.evaluate, magic=magic)
        if blank:
            name = quoted(options.name or "refund-triage")
            text = f"{magic} needs code below it. To set the session for the cells that follow: %hh_session {name}"
            raise UsageError(text)
        frame = _frame.get()
        session = self._sessions.open(options, cell=self.label, magic=magic)
        scope = SessionScope(self._sessions.tracer, session)
        scope.enter()
        if frame is not None:
            frame.sessions.append(scope)
            frame.show = options.show or frame.show

    def set_notebook_session(self, session: Session | None) -> None:
        """Make this the session from here on, in the running cell and all that follow; None for the tracer's own."""
        self._sessions.set_notebook_session(session)
        frame = _frame.get()
        if frame is None:
            return
        while frame.sessions:
            frame.sessions.pop().exit()
        frame.scoped = True
        self._attach_session(frame)

    def adopt(self, session: Session) -> None:
        """`create_session()` was called: in a cell's own code it makes the session of the following cells as well.

        In other tasks and threads, also those that inherited the cell's context, it does not, nor in a block that ends
        a session with itself: a span's, a traced function's, that of `with_session`.
        """
        frame = _frame.get()
        if frame is None or frame not in self._frames or frame.runs_in != running() or in_block(frame):
            return
        frame.scoped = True
        self._sessions.remember(session)
        self._sessions.set_notebook_session(session)

    def evaluate(self, expression: str) -> Any:
        """The value of a Python expression in the user's namespace."""
        return eval(expression, self._shell.user_global_ns, self._shell.user_ns)  # noqa: S307  the user's own code

    @property
    def label(self) -> str:
        """Number of the running cell."""
        frame = _frame.get()
        return frame.label if frame is not None else str(self._shell.execution_count)

    @property
    def cell_id(self) -> str | None:
        """The id that a notebook front end gave the running cell; None elsewhere, and in a headless run."""
        frame = _frame.get()
        return frame.cell_id if frame is not None else None

    def running(self) -> CellFrame | None:
        """The cell whose code calls, the outermost of several; None outside of cells."""
        frame = _frame.get()
        if frame is None:
            return None
        return next((one for one in self._frames if one.outer and one.key == frame.key), None)

    def _open(self, info: Any) -> None:
        around = _frame.get()
        if around is not None and around not in self._frames:
            self._undo(around)  # Its end failed: nothing of it may reach this cell.
            around = None
        if around is not None:
            frame = CellFrame(info, around.key, around.label, False, running())
        else:
            self._before()
            label = str(self._number(info))
            frame = CellFrame(info, f"{label}-{secrets.token_hex(4)}", label, True, running())
        self._frames.append(frame)
        frame.frame_token = _frame.set(frame)
        frame.attached = with_cell(otel.get_current(), frame.key)
        frame.token = otel.attach(frame.attached)
        if frame.outer:
            self._attach_session(frame)
            self._begun(frame)

    def _shows(self, frame: CellFrame) -> bool:
        """An output may follow: the cell counts in the history, or is what `ipython -c` runs, which does not."""
        in_terminal = getattr(self._shell, "kernel", None) is None
        return frame.outer and (frame.info.store_history or in_terminal)

    def _number(self, info: Any) -> int:
        """The cell's number. IPython 9 has counted up before `pre_run_cell`, older ones have not [measured]."""
        if not info.store_history:
            return int(self._shell.execution_count)
        if self._ahead is None:
            # The cell's own input is not yet in the history, whose first entry is empty.
            self._ahead = self._shell.execution_count - len(self._shell.history_manager.input_hist_raw)
        return int(self._shell.execution_count - self._ahead)

    def _attach_session(self, frame: CellFrame) -> None:
        if self._sessions.notebook_session is not None:
            scope = SessionScope(self._sessions.tracer, self._sessions.notebook_session)
            scope.enter()
            frame.sessions.append(scope)

    def _close(self, frame: CellFrame) -> None:
        self._frames.remove(frame)  # First: a frame that stayed would make all following cells nested ones.
        try:
            self._undo(frame)
        except KeyboardInterrupt:
            self._undo(frame)  # Half of it would leave the next cells in this one's session.
            raise

    def _undo(self, frame: CellFrame) -> None:
        """Go back to the context of before the frame; again, if that was interrupted."""
        if _frame.get() is not frame or frame.token is None or frame.frame_token is None:
            return  # An async cell: the context of its task is gone, and nothing of it is left to undo.
        scoped = frame.scoped or bool(frame.sessions)
        left = otel.get_current()
        leave(frame.token)  # Back to before the cell, whatever sessions it entered.
        leave(frame.frame_token)
        if not scoped and left is not frame.attached:
            # What the user's own code attached in a cell without a session stays attached, as it would without us.
            otel.attach(otel.set_value(CELL, None, left))

    def _frame_of(self, info: Any) -> CellFrame | None:
        return next((frame for frame in self._frames if info is not None and frame.info is info), None)


# Thread starts and executor submits carry the OpenTelemetry context, so that their spans land in the right cell.
#
# A thread begins with an empty context [measured, Python 3.11]. OpenTelemetry's own threading instrumentor does this
# too but costs 68 ms to import; this is the part of it that is needed, and it is undone at unload.


class ThreadContexts:
    """The two wrappers: installed once, inert after `remove` even where somebody wrapped them in turn."""

    def __init__(self) -> None:
        self._active = False
        self._start: Callable[..., None] = threading.Thread.start
        self._submit: Callable[..., Future[Any]] = ThreadPoolExecutor.submit

    def install(self) -> None:
        """Wrap `Thread.start` and `ThreadPoolExecutor.submit`."""
        self._active = True
        start, submit = self._start, self._submit

        @functools.wraps(start)
        def start_with_context(thread: threading.Thread) -> None:
            if self._active:
                _carry(thread, otel.get_current())
            start(thread)

        @functools.wraps(submit)
        def submit_with_context(
            executor: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
        ) -> Future[Any]:
            if not self._active:
                return submit(executor, fn, *args, **kwargs)
            # An empty context is carried as well: the worker thread still has that of the call which started it.
            return submit(executor, _call, otel.get_current(), fn, args, kwargs)

        self._ours = (start_with_context, submit_with_context)
        threading.Thread.start, ThreadPoolExecutor.submit = self._ours  # type: ignore[method-assign, assignment]

    def remove(self) -> None:
        """Put the originals back where nobody else has wrapped ours."""
        self._active = False
        if threading.Thread.start is self._ours[0]:
            threading.Thread.start = self._start  # type: ignore[method-assign]
        if ThreadPoolExecutor.submit is self._ours[1]:
            ThreadPoolExecutor.submit = self._submit  # type: ignore[method-assign]


def _carry(thread: threading.Thread, context: Context) -> None:
    """Make this thread run in `context`. On the instance, since subclasses override `run` without calling ours."""
    try:
        # A started thread is left alone: `start` is about to say that it cannot start twice.
        if not context or thread.ident is not None:
            return
        run = thread.run

        def run_with_context() -> None:
            del thread.run  # breaks the cycle thread -> closure -> thread
            _call(context, run, (), {})

        thread.run = run_with_context  # type: ignore[method-assign]
    except Exception:  # boundary: a subclass may do anything here, and it is `start` that shall say what is wrong
        return


def _call(context: Context, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    token = otel.attach(context)
    try:
        return fn(*args, **kwargs)
    finally:
        otel.detach(token)
