"""Loading and unloading: registers everything, and undoes each registration."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from hh_jupyter.display.live import give_live_outputs
from hh_jupyter.notebook import session_magic
from hh_jupyter.notebook.cells import CellFrame, Cells, ThreadContexts
from hh_jupyter.notebook.completion import Completer
from hh_jupyter.notebook.config import KernelSettings, configured, memory_of
from hh_jupyter.notebook.frontend import LiveOutputs, screen_of
from hh_jupyter.notebook.guard import guarded
from hh_jupyter.notebook.instrument import Instrumentors, UntracedHint
from hh_jupyter.notebook.magics import Commands, HHMagics
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.sessions import Sessions, notebook_name
from hh_jupyter.notebook.status import load_line
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.context import set_default_tracer, set_host
from hh_jupyter.tracing.processor import Yielding
from hh_jupyter.tracing.recorded import keep_for_notebook, span_log, title_sessions
from hh_jupyter.tracing.tracer import HoneyHiveTracer


class Extension:
    """Everything that one load registered with one shell.

    Registrations are pushed on a stack as they are made, so that unloading, and a load that fails half way, undo
    exactly what was done, in the reverse order.
    """

    def __init__(self, shell: Any, *, set_global: bool = True) -> None:
        self._shell = shell
        self._set_global = set_global
        self._undo = ExitStack()
        self._memory = memory_of(shell)
        self._named = False

    def enter(self, line: str, **how: Any) -> None:
        """What a rewritten `%%hh_session` line calls; see `Cells.enter`."""
        self._cells.enter(line, **how)

    def titles(self) -> dict[str, str]:
        """How the sessions made here are called, by id."""
        return dict(self._sessions.made)

    def load(self, *, quiet: bool = False) -> None:
        """Register. Nothing waits for the network."""
        with ExitStack() as undo:
            self._register(undo)
            self._undo = undo.pop_all()
        if not quiet:
            self._announce()
        self._cells.open_running()
        if self._tracer.settings.auto_instrument:
            report = self._instrumentors.switch_on()
            if not quiet:
                print(report)

    def load_again(self) -> None:
        """`%load_ext` where a startup file has loaded before, which IPython does not know: as if it came first."""
        self._tracer.span_source.become_global()
        self._announce()

    def unload(self) -> None:
        """Undo every registration, deliver what waits, leave no thread."""
        self._cells.close_running()
        self._undo.close()

    def _announce(self) -> None:
        tracer = self._tracer
        print(load_line(tracer.settings, tracer.destination, tracer.session_name, shows_only=tracer.left_to_others))

    def _register(self, undo: ExitStack) -> None:
        shell = self._shell
        keep_for_notebook()
        self._settings = self._register_config(undo)
        outputs = self._register_tracer(undo)
        self._outputs = outputs
        self._cells = Cells(shell, self._sessions, guarded(self._before_cell), guarded(outputs.begin), self._finish)
        self._tracer.on_session = guarded(self._cells.adopt)
        give_live_outputs(LiveOutputs(self._cells, screen_of(shell)).open)
        undo.callback(give_live_outputs, None)
        undo.callback(setattr, self._tracer, "on_session", None)
        title_sessions(self.titles)
        undo.callback(title_sessions, None)
        set_host(self._settings.adopt)
        undo.callback(set_host, None)
        setattr(shell, session_magic.ENTRY, self)
        undo.callback(delattr, shell, session_magic.ENTRY)
        for wrapper in (ThreadContexts(), Yielding(self._tracer.span_source.join_later)):
            wrapper.install()
            undo.callback(wrapper.remove)
        self._register_magics(outputs, undo)
        shell.input_transformers_cleanup.append(session_magic.rewrite)
        undo.callback(shell.input_transformers_cleanup.remove, session_magic.rewrite)
        # The very same objects are needed to unregister.
        for event, hook in (("pre_run_cell", self._cells.pre_run_cell), ("post_run_cell", self._cells.post_run_cell)):
            shell.events.register(event, hook)
            undo.callback(shell.events.unregister, event, hook)

    def _register_tracer(self, undo: ExitStack) -> Outputs:
        # A tracer that the user's code made before is taken, and stays theirs.
        theirs = current_tracer()
        tracer = self._tracer = self._settings.tracer = theirs or self._make_tracer()
        undo.callback(self._settings.remember)
        self._sessions = Sessions(tracer, notebook_name(self._shell), self._memory.made)
        undo.callback(self._sessions.leave)
        undo.callback(self._sessions.stick, None)
        outputs = Outputs(self._sessions, span_log(), screen_of(self._shell))
        undo.callback(outputs.close)  # After the last delivery: the outputs then say what became of it.
        if theirs is None:
            set_default_tracer(tracer)
            undo.callback(set_default_tracer, None)
            undo.callback(tracer.shutdown)
        else:
            undo.callback(tracer.force_flush, int(tracer.settings.exit_flush_seconds * 1000))
        return outputs

    def _register_config(self, undo: ExitStack) -> KernelSettings:
        config = configured(self._shell, self._memory.traits)
        self._shell.configurables.append(config)
        undo.callback(self._shell.configurables.remove, config)
        return KernelSettings(config, self._memory)

    def _register_magics(self, outputs: Outputs, undo: ExitStack) -> None:
        instrumentors = self._instrumentors = Instrumentors(self._tracer)
        undo.callback(instrumentors.switch_off)
        self._untraced = UntracedHint(instrumentors.is_traced, self._shell.transform_cell, self._shell.user_ns)
        settings = self._settings
        commands = Commands(
            self._sessions,
            outputs,
            self._cells,
            instrumentors,
            self._memory.login,
            settings.set_trait,
            settings.log_in,
        )
        self.shows = commands.shows
        magics = HHMagics(self._shell, self._cells, self._sessions, commands)
        self._shell.register_magics(magics)
        manager = self._shell.magics_manager
        # IPython has no way to unregister magics and leaves them behind.
        for kind, names in HHMagics.NAMES.items():
            for name in names:
                undo.callback(manager.magics[kind].pop, name, None)
        undo.callback(manager.registry.pop, HHMagics.__name__, None)
        undo.callback(self._shell.configurables.remove, magics)
        Completer(self._shell, commands.candidates).register(undo)

    def _make_tracer(self) -> HoneyHiveTracer:
        name = notebook_name(self._shell)
        # Registered with its first span: an idle kernel leaves no empty session at the backend.
        return HoneyHiveTracer.from_settings(
            self._settings.first(),
            name=name,
            join=True,
            set_global=self._set_global,
            register="first_span",
        )

    def _finish(self, frame: CellFrame, *, raised: bool, interrupted: bool) -> None:
        """Show what was traced in a cell, or why nothing was."""
        self._outputs.finish(frame, raised=raised, interrupted=interrupted)
        settings = self._tracer.settings
        if settings.display == "off" or settings.disable_tracing or span_log().records(cell=frame.key):
            return
        hint = self._untraced.of(frame.info.raw_cell or "")
        if hint is not None:
            print(hint)

    def _before_cell(self) -> None:
        """What may have changed since the last cell: settings, the global provider, the name of the notebook."""
        self._settings.apply_changes()
        self._tracer.span_source.join_later()
        if not self._named:
            self._named = True
            name = notebook_name(self._shell)
            # Loaded while the kernel started: VS Code tells the name after that, before the first cell.
            if name != self._sessions.notebook and not self._tracer.export_state().has_spans:
                self._sessions.name_notebook(name)


def load(shell: Any, *, quiet: bool = False, set_global: bool = True) -> None:
    """Load into this shell, once.

    Args:
        quiet: say nothing.
        set_global: become OpenTelemetry's global provider where there is none.
    """
    extension = getattr(shell, session_magic.ENTRY, None)
    if extension is None:
        Extension(shell, set_global=set_global).load(quiet=quiet)
    elif not quiet:
        extension.load_again()


def unload(shell: Any) -> None:
    """Undo `load`."""
    extension = getattr(shell, session_magic.ENTRY, None)
    if isinstance(extension, Extension):
        extension.unload()
