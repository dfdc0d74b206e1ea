"""One frame per running cell: attaches the cell's key and session to the OpenTelemetry context, and detaches them.

A frame is also opened for a part of a cell that has a session of its own: a silent run, or the body of a magic.

How a live kernel calls the hooks (tests/kernel/test_cells.py and test_session_semantics.py run all of it):
- A cell with top-level await runs in a task of its own. `pre_run_cell` is called inside the task and `post_run_cell`
  outside; by then the context of the body is gone and must not be detached.
- Hooks of a subshell interleave with those of the main shell: frames are found by `result.info is info`, not by order.
- The cell that loads the extension has no `pre_run_cell`, the cell that unloads it has no `post_run_cell`, and a blank
  cell has only `post_run_cell`.
- `%%capture` and `run_cell` call all hooks a second time, nested.
- A silent run has neither: the cells of `%run x.ipynb`, a startup file in IPython's syntax, a request with silent=True.
  It has `post_execute`, which does not say which run has ended.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final, Protocol

from IPython.core.error import UsageError
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span

from hh_jupyter.export.model import Session
from hh_jupyter.notebook.guard import guarded
from hh_jupyter.notebook.parser import CELL_MAGIC, quoted
from hh_jupyter.notebook.session_magic import parse
from hh_jupyter.notebook.sessions import NotebookSessions
from hh_jupyter.records.selection import run_key
from hh_jupyter.tracing.context import CELL, SCOPE, SessionScope, current_cell, detach, with_cell


@dataclass(slots=True, eq=False)
class CellFrame:
    """One running cell, or a part of one with a session of its own.

    Attributes:
        info: IPython's ExecutionInfo of this run, or of the run that the part belongs to; None in a plain script.
        key: recorded with the cell's spans; unique per run. Empty for a part that runs outside cells.
        label: the number in `In [4]`.
        outer: the cell is not run by another cell's code.
        runs_in: the thread and asyncio task of the cell's own code.
        attached: the context that was attached for the cell.
        token, frame_token: detach that context, and reset the current frame.
        sessions: the session scopes entered for the cell, the outermost first.
        scoped: the cell set the session; contexts that its code attached are detached at its end.
        show: the display mode that a magic in the cell chose.
        replays: the recordings that hold in the cell, the outermost first.
        ended: the frame was closed.
        thread_errors: exceptions that ended threads which the cell started.
        nested_error: the last one that ended a cell run by this cell's code, as `%%capture` does. IPython has shown its
            traceback, although no exception leaves this cell.
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
    replays: list[Any] = field(default_factory=list)
    ended: bool = False
    thread_errors: list[BaseException] = field(default_factory=list)
    nested_error: BaseException | None = None

    @property
    def cell_id(self) -> str | None:
        """The cell's id in the notebook; None in a headless run and before_cell IPython 8."""
        return getattr(self.info, "cell_id", None)


def in_block(frame: CellFrame) -> bool:
    """Whether the cell's code is inside a block, such as a span, whose end restores the session."""
    context, at_start = otel.get_current(), frame.attached or Context()
    # The scope of `%%hh_session` does not count as a block: the cell's code starts inside it.
    scope = frame.sessions[-1] if frame.sessions else at_start.get(SCOPE)
    return context.get(SCOPE) is not scope or get_current_span(context) is not get_current_span(at_start)


def thread_and_task() -> tuple[int, object]:
    """The current thread and asyncio task."""
    try:
        task: object = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident(), task


def running_results() -> Iterator[Any]:
    """IPython's ExecutionResults of the runs whose code is calling, the innermost first.

    IPython only knows the innermost one, and forgets it when a nested run ends; the stack has all of them.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == InteractiveShell.run_cell_async.__name__:
            result = frame.f_locals.get("result")
            if isinstance(result, ExecutionResult):
                yield result
        frame = frame.f_back


def running_info() -> Any:
    """IPython's ExecutionInfo of the innermost run; None in a plain script."""
    result = next(running_results(), None)
    return result.info if result is not None else None


def _is_cancelled(task: object) -> bool:
    """Whether a task was cancelled itself, as the task of an interrupted cell is, rather than one that it awaited."""
    return isinstance(task, asyncio.Task) and task.cancelling() > 0


class BeginReplay(Protocol):
    """Lets a recording hold in the current context, and returns what has an `end()`; None without one.

    Takes the session of a cell that has one of its own, and the mode that it chose.
    """

    def __call__(self, session: Session | None = None, mode: str | None = None) -> Any: ...


class OnCellEnd(Protocol):
    """Called with the frame of an outermost cell after it has ended, and the exception that left it."""

    def __call__(self, frame: CellFrame, *, error: BaseException | None, interrupted: bool) -> None: ...


MAX_THREAD_ERRORS: Final = 20

_frame: ContextVar[CellFrame | None] = ContextVar("hh_cell_frame", default=None)


class Cells:
    """IPython's cell hooks, and the frames of the running cells.

    Args:
        shell: the InteractiveShell.
        sessions: the notebook's session state.
        before_cell: called before each outermost cell; applies changed settings.
        on_cell_start: called with the frame of each outermost cell, before its body.
        on_cell_end: called after each outermost cell that is stored in the history.
        begin_replay: called for each outermost cell, and for each part with a session of its own.
    """

    def __init__(
        self,
        shell: Any,
        sessions: NotebookSessions,
        before_cell: Callable[[], None],
        on_cell_start: Callable[[CellFrame], None],
        on_cell_end: OnCellEnd,
        begin_replay: BeginReplay,
    ) -> None:
        self._shell = shell
        self._sessions = sessions
        self._before_cell = before_cell
        self._on_cell_start = on_cell_start
        self._on_cell_end = on_cell_end
        self._begin_replay = begin_replay
        self._frames: list[CellFrame] = []
        # A forked child inherits the shell and its hooks, and its displays would reach the notebook.
        self._pid = os.getpid()

    @guarded
    def pre_run_cell(self, info: Any) -> None:
        """Open the cell's frame."""
        if os.getpid() == self._pid:
            self._open(info)

    @guarded
    def post_run_cell(self, result: Any) -> None:
        """Close the cell's frame and show its spans. `result` is None if the kernel cancelled the cell."""
        frame = self._frame_of(getattr(result, "info", None))
        if os.getpid() != self._pid or frame is None:
            return
        self._close(frame)
        error = result.error_in_exec or result.error_before_exec or frame.nested_error
        outer = self._outer(frame.key)
        if outer is not None and error is not None:
            outer.nested_error = error
        if self._shows(frame):
            frame.nested_error = None  # The frame may be kept, its traceback not.
            interrupted = isinstance(error, KeyboardInterrupt) or (
                isinstance(error, asyncio.CancelledError) and _is_cancelled(frame.runs_in[1])
            )
            self._on_cell_end(frame, error=error, interrupted=interrupted)

    @guarded
    def post_execute(self) -> None:
        """Close the frame of a silent run that has ended."""
        frame = _frame.get()
        if frame is not None and not frame.ended:
            self._innermost()

    def open_loading_cell(self) -> None:
        """Open a frame for the cell that loads the extension; it had no `pre_run_cell`.

        It is the outermost one: the loading run may be nested in it, as in `%run setup.ipynb`.
        """
        cells = [result for result in running_results() if not result.info.silent]
        if cells:
            self._open(cells[-1].info)

    @guarded
    def close_unloading_cell(self) -> None:
        """Close the frames of the cell that is unloading the extension; it will have no `post_run_cell`."""
        while (frame := _frame.get()) is not None and not frame.ended:
            self._close(frame)
            if self._shows(frame):
                self._on_cell_end(frame, error=None, interrupted=False)

    @contextmanager
    def body(self) -> Iterator[None]:
        """Run the code of this block as a part of the cell; a session that it enters ends with the block."""
        frame = self._open_part()
        try:
            yield
        finally:
            if not frame.ended:  # The body may unload the extension.
                self._close(frame)

    def enter(self, line: str, *, magic: str = CELL_MAGIC, blank: bool = False) -> None:
        """Run the rest of the current cell in a session. The rewritten `%%hh_session` line calls this.

        Args:
            line: the options of `%%hh_session`.
            magic: the form that was typed.
            blank: there is no code below the magic.

        Raises:
            UsageError: the line is invalid, or there is no code below it.
        """
        options = parse(line, self.evaluate, magic=magic)
        if blank:
            name = quoted(options.name or "refund-triage")
            text = f"{magic} needs code below it. To set the session of the following cells: %hh_session {name}"
            raise UsageError(text)
        session = self._sessions.open(options, cell=self.label, magic=magic)
        frame = self._innermost()
        info = running_info()
        if info is not None and info.silent and (frame is None or frame.info is not info):
            frame = self._open_part()
        replayed = self._begin_replay(session, options.replay)
        scope = SessionScope(self._sessions.tracer, session)
        scope.enter()
        if frame is not None:
            frame.sessions.append(scope)
            frame.replays += filter(None, [replayed])
            frame.show = options.show or frame.show

    def set_notebook_session(self, session: Session | None) -> None:
        """Use this session in the rest of the running cell and all following ones; None for the tracer's own."""
        self._sessions.set_notebook_session(session)
        frame = _frame.get()
        if frame is not None:
            self._replace_session(frame)

    def on_session_created(self, session: Session) -> None:
        """Use a session made by `create_session()` for the following cells, if the cell's own code called it.

        It is ignored in other tasks and threads, even those that inherited the cell's context, and in blocks that
        restore the session at their end: spans, traced functions and `with_session`.
        """
        frame = _frame.get()
        if frame is None or frame.ended or frame.runs_in != thread_and_task() or in_block(frame):
            return
        frame.scoped = True
        self._sessions.remember(session)
        self._sessions.set_notebook_session(session)

    def on_thread_error(self, key: object, error: BaseException) -> None:
        """Keep an exception that ended a thread of a running cell. May be called on any thread.

        Args:
            key: of the cell.
            error: the exception.
        """
        frame = self._outer(key)
        if frame is not None and len(frame.thread_errors) < MAX_THREAD_ERRORS:
            frame.thread_errors.append(error)

    def evaluate(self, expression: str) -> Any:
        """Evaluate a Python expression in the user's namespace."""
        return eval(expression, self._shell.user_global_ns, self._shell.user_ns)  # noqa: S307  the user's own code

    @property
    def label(self) -> str:
        """The number of the running cell."""
        frame = _frame.get()
        return frame.label if frame is not None else str(self._shell.execution_count)

    @property
    def cell_id(self) -> str | None:
        """The running cell's id in the notebook; None outside a cell and in a headless run."""
        frame = _frame.get()
        return frame.cell_id if frame is not None else None

    def busy(self) -> bool:
        """Whether a cell runs. May be called on any thread."""
        return bool(self._frames)

    def running(self) -> CellFrame | None:
        """The outermost cell whose code is calling; None outside a cell."""
        frame = _frame.get()
        return self._outer(frame.key) if frame is not None else None

    def _open(self, info: Any) -> None:
        """Open the frame of a cell: an outermost one, or one that another cell's code runs."""
        parent = self._innermost()
        if parent is not None:
            frame = CellFrame(info, parent.key, parent.label, False, thread_and_task())
        else:
            self._before_cell()
            label = str(self._number(info))
            key = run_key(label, getattr(info, "cell_id", None))
            frame = CellFrame(info, key, label, True, thread_and_task())
        self._frames.append(frame)
        if frame.outer:
            frame.replays += filter(None, [self._begin_replay()])
        self._attach(frame)
        if frame.outer:
            self._attach_session(frame)
            self._on_cell_start(frame)

    def _open_part(self) -> CellFrame:
        """Open a frame for a silent run or the body of a magic."""
        parent = self._innermost()
        key, label = (parent.key, parent.label) if parent is not None else ("", self.label)
        frame = CellFrame(running_info(), key, label, False, thread_and_task())
        self._attach(frame)
        return frame

    def _attach(self, frame: CellFrame) -> None:
        frame.frame_token = _frame.set(frame)
        current = otel.get_current()
        frame.attached = with_cell(current, frame.key) if frame.key else current
        frame.token = otel.attach(frame.attached)

    def _innermost(self) -> CellFrame | None:
        """The innermost open frame of this context. Closes those whose run has ended without an event of its own."""
        while (frame := _frame.get()) is not None and (frame.ended or self._was_left(frame)):
            self._close(frame)
            if _frame.get() is frame:
                return None  # Of another context, where it cannot be undone.
        return frame

    def _was_left(self, frame: CellFrame) -> bool:
        """Whether the frame is that of a silent run that has ended."""
        if frame.info is None or not frame.info.silent or frame.runs_in != thread_and_task():
            return False
        return all(result.info is not frame.info for result in running_results())

    def _shows(self, frame: CellFrame) -> bool:
        """Whether the cell may have an output: it is stored in the history, or is run by `ipython -c`."""
        in_terminal = getattr(self._shell, "kernel", None) is None
        return frame.outer and (frame.info.store_history or in_terminal)

    def _number(self, info: Any) -> int:
        """The cell's number. IPython 9 increments the shell's counter before `pre_run_cell`, older versions later."""
        numbers = (result.execution_count for result in running_results() if result.info is info)
        return int(next(numbers, None) or self._shell.execution_count)

    def _replace_session(self, frame: CellFrame) -> None:
        """Use the notebook's session in the rest of the cell."""
        while frame.sessions:
            frame.sessions.pop().exit()
        frame.scoped = True
        self._attach_session(frame)

    def _attach_session(self, frame: CellFrame) -> None:
        if self._sessions.notebook_session is not None:
            scope = SessionScope(self._sessions.tracer, self._sessions.notebook_session)
            scope.enter()
            frame.sessions.append(scope)

    def _close(self, frame: CellFrame) -> None:
        frame.ended = True  # First: with a frame left open, all following cells would count as nested.
        if frame in self._frames:
            self._frames.remove(frame)
        try:
            self._undo(frame)
        except KeyboardInterrupt:
            self._undo(frame)  # Half an undo would leave the next cells in this session.
            raise
        finally:
            for replayed in reversed(frame.replays):
                replayed.end()

    def _undo(self, frame: CellFrame) -> None:
        """Restore the context from before the frame. Idempotent: an interrupted call is repeated."""
        if _frame.get() is not frame or frame.token is None or frame.frame_token is None:
            return  # An async cell: its task's context is gone.
        scoped = frame.scoped or bool(frame.sessions)
        at_end = otel.get_current()
        detach(frame.token)  # Restores the context from before the cell, including its sessions.
        detach(frame.frame_token)
        outer = _frame.get()
        if frame.scoped and not frame.outer and outer is not None and not outer.ended:
            self._replace_session(outer)
        if not scoped and at_end is not frame.attached:
            # Contexts that the user's code attached stay attached, as they would without this package.
            otel.attach(otel.set_value(CELL, current_cell(), at_end))

    def _outer(self, key: object) -> CellFrame | None:
        """The frame of the outermost cell with this key; None if it does not run. May be called on any thread."""
        return next((frame for frame in tuple(self._frames) if frame.outer and frame.key == key), None)

    def _frame_of(self, info: Any) -> CellFrame | None:
        return next((frame for frame in self._frames if info is not None and frame.info is info), None)


# Context propagation to threads. A new thread has an empty context; its spans would belong to no cell. OpenTelemetry's
# threading instrumentor does the same but takes 68 ms to import.


class ThreadContexts:
    """Wrappers of `Thread.start` and `ThreadPoolExecutor.submit` that pass on the OpenTelemetry context.

    After `remove` they do nothing, even if other code has wrapped them in turn.

    Args:
        on_error: called with the key of the cell and the exception when an exception ends a thread.
    """

    def __init__(self, on_error: Callable[[object, BaseException], None]) -> None:
        self._active = False
        self._on_error = on_error
        self._start: Callable[..., None] = threading.Thread.start
        self._submit: Callable[..., Future[Any]] = ThreadPoolExecutor.submit

    def install(self) -> None:
        """Install the wrappers."""
        self._active = True
        start, submit = self._start, self._submit

        @functools.wraps(start)
        def start_with_context(thread: threading.Thread) -> None:
            if self._active:
                _run_in_context(thread, otel.get_current(), self._on_error)
            try:
                start(thread)
            except RuntimeError:  # It may be started again when there is room for another thread.
                if thread.ident is None:
                    vars(thread).pop("run", None)
                raise

        @functools.wraps(submit)
        def submit_with_context(
            executor: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
        ) -> Future[Any]:
            if not self._active:
                return submit(executor, fn, *args, **kwargs)
            # An empty context is passed as well: the worker thread still has the context of the call that started it.
            return submit(executor, _call_in_context, otel.get_current(), fn, args, kwargs)

        self._ours = (start_with_context, submit_with_context)
        threading.Thread.start, ThreadPoolExecutor.submit = self._ours  # type: ignore[method-assign, assignment]

    def remove(self) -> None:
        """Restore the originals, unless other code has wrapped the wrappers."""
        self._active = False
        if threading.Thread.start is self._ours[0]:
            threading.Thread.start = self._start  # type: ignore[method-assign]
        if ThreadPoolExecutor.submit is self._ours[1]:
            ThreadPoolExecutor.submit = self._submit  # type: ignore[method-assign]


def _run_in_context(
    thread: threading.Thread, context: Context, on_error: Callable[[object, BaseException], None]
) -> None:
    """Make this thread run in `context`. This wraps the instance's `run`, because subclasses override the method."""
    try:
        # `start` raises an error for a thread that has been started; leave that to it.
        if not context or thread.ident is not None:
            return
        run = thread.run

        def run_with_context() -> None:
            del thread.run  # breaks the cycle thread -> closure -> thread
            try:
                _call_in_context(context, run, (), {})
            except BaseException as error:
                on_error(context.get(CELL), error)
                raise

        thread.run = run_with_context  # type: ignore[method-assign]
    except Exception:  # boundary: a subclass may raise anything; `start` reports the problem
        return


def _call_in_context(context: Context, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    token = otel.attach(context)
    try:
        return fn(*args, **kwargs)
    finally:
        otel.detach(token)
