"""Loads the extension into a shell, and unloads it: every registration has its undo."""

from __future__ import annotations

import ast
import asyncio
import sys
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

from IPython.core import async_helpers

from hh_jupyter.display.live_report import shown_reports
from hh_jupyter.display.updatable_output import set_output_factory
from hh_jupyter.experiments.loops import set_cells_loop
from hh_jupyter.export.model import Session
from hh_jupyter.notebook import session_magic
from hh_jupyter.notebook.cells import CellFrame, Cells, ThreadContexts
from hh_jupyter.notebook.completion import Completer
from hh_jupyter.notebook.config import KernelSettings, kernel_state, make_config
from hh_jupyter.notebook.frontend import UpdatableOutputs
from hh_jupyter.notebook.guard import guarded
from hh_jupyter.notebook.instrument import Instrumentors, UntracedHint
from hh_jupyter.notebook.listen import Listener
from hh_jupyter.notebook.magics import Commands, HHMagics
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.places import front_end_of
from hh_jupyter.notebook.sessions import NotebookSessions, notebook_folder, notebook_name
from hh_jupyter.notebook.status import load_line
from hh_jupyter.settings import display_settings, set_display_settings
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.context import set_default_tracer, set_host
from hh_jupyter.tracing.decorators import trace_reloaded_methods
from hh_jupyter.tracing.processor import GlobalProviderPatch
from hh_jupyter.tracing.span_store import raise_limits_for_notebook, set_selector, set_session_titles, span_log
from hh_jupyter.tracing.tracer import HoneyHiveTracer

if TYPE_CHECKING:
    from hh_jupyter.notebook.again import Again
    from hh_jupyter.notebook.replay import CellRun, Replay


class AfterReload(ast.NodeTransformer):
    """Changes no cell. IPython calls it after all hooks that run before a cell, and autoreload is one of them."""

    def visit(self, node: ast.AST) -> ast.AST:
        """Trace what autoreload has left untraced."""
        guarded(trace_reloaded_methods)()
        return node


class Extension:
    """Everything that one load has registered with one shell.

    Each registration pushes its undo on a stack. Unloading, and a load that fails half way, run the stack in reverse.
    """

    def __init__(self, shell: Any, *, set_global: bool = True) -> None:
        self._shell = shell
        self._set_global = set_global
        self._undo = ExitStack()
        self._state = kernel_state(shell)
        self._named = False
        self._folder = notebook_folder(shell)

    def enter(self, line: str, **options: Any) -> None:
        """Called by a rewritten `%%hh_session` line; see `Cells.enter`."""
        self._cells.enter(line, **options)

    def titles(self) -> dict[str, str]:
        """The titles of the sessions made in this kernel, by id."""
        return dict(self._sessions.titles)

    def load(self, *, quiet: bool = False) -> None:
        """Register everything, without waiting for the network."""
        with ExitStack() as undo:
            self._register(undo)
            self._undo = undo.pop_all()
        if not quiet:
            self._print_load_line()
        self._cells.open_loading_cell()
        if display_settings().auto_instrument:
            report = self._instrumentors.switch_on()
            if not quiet:
                print(report)

    def load_again(self) -> None:
        """Handle `%load_ext` after a startup file has loaded the extension: make its provider global."""
        self._tracer.provider_binding.become_global()
        self._print_load_line()

    def unload(self) -> None:
        """Undo every registration, send pending spans and end all threads."""
        self._cells.close_unloading_cell()
        self._undo.close()

    def _print_load_line(self) -> None:
        tracer = self._tracer
        print(
            load_line(
                tracer.settings, tracer.destination, tracer.session_name, exported_elsewhere=tracer.exported_elsewhere
            )
        )

    def _register(self, undo: ExitStack) -> None:
        shell = self._shell
        raise_limits_for_notebook()
        self._settings = self._register_config(undo)
        self._front_end = front_end_of(shell)
        undo.callback(self._front_end.close)
        outputs = self._register_tracer(undo)
        self._outputs = outputs
        self._cells = Cells(
            shell,
            self._sessions,
            guarded(self._before_cell),
            guarded(outputs.begin),
            self._on_cell_end,
            self._begin_replay,
        )
        undo.callback(self._close_replay)
        outputs.busy = self._cells.busy
        outputs.hub_source.again = lambda: self._again
        self._tracer.on_session_created = guarded(self._cells.on_session_created)
        set_output_factory(UpdatableOutputs(self._cells, self._front_end).open)
        undo.callback(set_output_factory, None)
        shown_reports.on_show = guarded(self._on_report)
        undo.callback(shown_reports.clear)
        if getattr(shell, "kernel", None) is None:
            # IPython 7 has no `get_asyncio_loop`.
            set_cells_loop(getattr(async_helpers, "get_asyncio_loop", asyncio.get_event_loop))
            undo.callback(set_cells_loop, None)
        undo.callback(setattr, self._tracer, "on_session_created", None)
        set_session_titles(self.titles)
        undo.callback(set_session_titles, None)
        set_host(self._configure_from_init)
        undo.callback(set_host, None)
        setattr(shell, session_magic.SHELL_ATTRIBUTE, self)
        undo.callback(delattr, shell, session_magic.SHELL_ATTRIBUTE)
        threads = ThreadContexts(guarded(self._cells.on_thread_error))
        for wrapper in (threads, GlobalProviderPatch(self._tracer.provider_binding.join_new_global_providers)):
            wrapper.install()
            undo.callback(wrapper.remove)
        self._register_magics(outputs, undo)
        shell.input_transformers_cleanup.append(session_magic.rewrite)
        undo.callback(shell.input_transformers_cleanup.remove, session_magic.rewrite)
        shell.ast_transformers.append(reload := AfterReload())
        undo.callback(shell.ast_transformers.remove, reload)
        # Unregistering needs the same bound methods.
        cells = self._cells
        for hook in (cells.pre_run_cell, cells.post_execute, cells.post_run_cell):
            event = hook.__name__
            shell.events.register(event, hook)
            undo.callback(shell.events.unregister, event, hook)

    def _register_tracer(self, undo: ExitStack) -> Outputs:
        # A tracer that the user's code made before is used, and is not shut down at unload.
        existing = current_tracer()
        if existing is not None:
            existing.end_replay()  # From here on, cells have recordings.
        if existing is None:
            undo.callback(set_display_settings, None)
        tracer = self._tracer = self._settings.tracer = existing or self._make_tracer()
        undo.callback(self._settings.save_state)
        self._sessions = NotebookSessions(tracer, notebook_name(self._shell), self._state.made)
        undo.callback(self._sessions.close)
        undo.callback(self._sessions.set_notebook_session, None)
        outputs = Outputs(self._sessions, span_log(), self._front_end)
        undo.callback(outputs.close)  # Undone after the last flush, so that the outputs show its result.
        if existing is None:
            set_default_tracer(tracer)
            undo.callback(set_default_tracer, None)
            undo.callback(tracer.shutdown)
        else:
            undo.callback(tracer.force_flush, int(tracer.settings.exit_flush_seconds * 1000))
        return outputs

    def _register_config(self, undo: ExitStack) -> KernelSettings:
        config = make_config(self._shell, self._state.traits)
        self._shell.configurables.append(config)
        undo.callback(self._shell.configurables.remove, config)
        return KernelSettings(config, self._state)

    def _register_magics(self, outputs: Outputs, undo: ExitStack) -> None:
        instrumentors = self._instrumentors = Instrumentors(self._tracer)
        undo.callback(instrumentors.switch_off)
        self._untraced = UntracedHint(instrumentors.is_traced, self._shell.transform_cell, self._shell.user_ns)
        settings = self._settings
        listener = Listener(self._tracer, span_log())
        undo.callback(listener.close)
        commands = Commands(
            self._shell,
            self._sessions,
            outputs,
            self._cells,
            instrumentors,
            self._state.login,
            listener,
            settings.set_trait,
            settings.log_in,
            lambda: self._replay,
        )
        self.show_command = commands.show_command
        set_selector(commands.show_command.select_to_compare)
        undo.callback(set_selector, None)
        magics = HHMagics(self._shell, self._cells, self._sessions, commands)
        self._shell.register_magics(magics)
        manager = self._shell.magics_manager
        # IPython cannot unregister magics.
        for kind, names in HHMagics.NAMES.items():
            for name in names:
                undo.callback(manager.magics[kind].pop, name, None)
        undo.callback(manager.registry.pop, HHMagics.__name__, None)
        undo.callback(self._shell.configurables.remove, magics)
        Completer(self._shell, commands.suggestions).register(undo)
        undo.callback(_restore_layouts, self._shell)

    def _make_tracer(self) -> HoneyHiveTracer:
        name = notebook_name(self._shell)
        # Registered with the first span: an idle kernel leaves no empty session in the backend.
        return HoneyHiveTracer.from_settings(
            self._settings.initial(),
            name=name,
            join=True,
            set_global=self._set_global,
            register="first_span",
        )

    def _on_cell_end(self, frame: CellFrame, *, error: BaseException | None, interrupted: bool) -> None:
        """Show the spans of a cell, or the hint that it used an untraced library."""
        self._outputs.finish(frame, error=error, interrupted=interrupted)
        if display_settings().display == "off" or self._tracer.settings.disable_tracing:
            return
        if span_log().records(cell=frame.key) or self._front_end.place_below() is None:
            return  # The hint would erase what the cell shows.
        hint = self._untraced.for_cell(frame.info.raw_cell or "")
        if hint is not None:
            print(hint)

    def _on_report(self) -> None:
        """A result was displayed: the page shows it through the hub."""
        self._outputs.open_hub(interactive=self._cells.cell_id is not None)

    @cached_property
    def _replay(self) -> Replay:
        """The recordings of this kernel; most notebooks have none."""
        from hh_jupyter.notebook.replay import Replay

        return Replay(self._sessions, self._folder, self._state.recordings)

    @cached_property
    def _again(self) -> Again:
        """Makes model calls again; most notebooks do not use it."""
        from hh_jupyter.notebook.again import Again

        return Again(self._shell, self._sessions, span_log(), self._cells.busy, self._begin_replay)

    def _begin_replay(self, session: Session | None = None, mode: str | None = None) -> CellRun | None:
        if (mode or self._tracer.settings.replay) == "off" and "_replay" not in vars(self):
            return None
        if session is None:
            self._replay.apply()  # The setting may have changed since the last cell.
        return self._replay.begin(session, mode)

    def _configure_from_init(self, arguments: dict[str, Any]) -> HoneyHiveTracer | None:
        before = self._tracer.settings.replay
        found = self._settings.configure_from_init(arguments)
        if self._tracer.settings.replay != before:
            self._replay.apply()
        return found

    def _close_replay(self) -> None:
        if "_replay" in vars(self):
            self._replay.close()

    def _before_cell(self) -> None:
        """Apply what may have changed since the last cell: settings, the global provider, the notebook's name."""
        self._settings.apply_changes()
        self._tracer.provider_binding.join_new_global_providers()
        if not self._named:
            self._named = True
            self._folder = notebook_folder(self._shell)
            name = notebook_name(self._shell)
            # VS Code sets the notebook's name after the kernel has started, before the first cell.
            if name != self._sessions.notebook and not self._tracer.export_state().has_spans:
                self._sessions.name_notebook(name)


def _restore_layouts(shell: Any) -> None:
    module = sys.modules.get("hh_jupyter.notebook.span_view")  # Importing it would import the widget libraries.
    if module is not None:
        module.restore_layouts(shell)


def load(shell: Any, *, quiet: bool = False, set_global: bool = True) -> None:
    """Load the extension into this shell, once.

    Args:
        shell: the InteractiveShell.
        quiet: print nothing.
        set_global: set OpenTelemetry's global provider if there is none.
    """
    extension = getattr(shell, session_magic.SHELL_ATTRIBUTE, None)
    if extension is None:
        Extension(shell, set_global=set_global).load(quiet=quiet)
    elif not quiet:
        extension.load_again()


def unload(shell: Any) -> None:
    """Unload the extension from this shell, if it is loaded."""
    extension = getattr(shell, session_magic.SHELL_ATTRIBUTE, None)
    if isinstance(extension, Extension):
        extension.unload()
