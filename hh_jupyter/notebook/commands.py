"""What the words after `%hh` do. Each command shows something and changes nothing else than it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from IPython.core.error import UsageError
from traitlets import TraitError

from hh_jupyter.notebook.cell_output import view_id_of
from hh_jupyter.notebook.cells import Cells
from hh_jupyter.notebook.instrument import Instrumentors
from hh_jupyter.notebook.login import Login, log_in
from hh_jupyter.notebook.options import did_you_mean
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.saving import save
from hh_jupyter.notebook.sending import clear, send
from hh_jupyter.notebook.session_export import export_of
from hh_jupyter.notebook.session_table import sessions_text
from hh_jupyter.notebook.sessions import Sessions
from hh_jupyter.notebook.status import disk_lines, status_text
from hh_jupyter.notebook.stored_sessions import SHORT_ID, KnownSession, SessionStore
from hh_jupyter.notebook.views import fixed_view
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.settings import TABLE
from hh_jupyter.tracing.recorded import span_log

ALL: Final = "all"
BACKGROUND: Final = "background"


class Commands:
    """The commands by name.

    Args:
        sessions, outputs, cells, instrumentors, login: what they act on.
        set_trait: sets a trait of the configuration and applies it; may raise TraitError.
        use_key: makes a key the one to send with.
    """

    def __init__(
        self,
        sessions: Sessions,
        outputs: Outputs,
        cells: Cells,
        instrumentors: Instrumentors,
        login: Login,
        set_trait: Callable[[str, Any], None],
        use_key: Callable[[str], None],
    ) -> None:
        self._sessions, self._outputs, self._cells = sessions, outputs, cells
        self._instrumentors, self._login = instrumentors, login
        self._set_trait, self._use_key = set_trait, use_key
        self._store = SessionStore(sessions, span_log())
        self._by_name: dict[str, Callable[[list[str]], None]] = {
            "status": self._status,
            "instrument": self._instrument,
            "show": self._show,
            "sessions": self._list_sessions,
            "send": self._send,
            "save": self._save,
            "clear": self._clear,
            "login": self._log_in,
            "display": self._display,
        }

    def run(self, words: list[str]) -> None:
        """Run one command.

        Args:
            words: its name and what follows; nothing means `status`.

        Raises:
            UsageError: one line that says what is wrong.
        """
        command = words[0] if words else "status"
        if command not in self._by_name:
            raise UsageError(f"%hh: unknown command {command}. {did_you_mean(command, self._by_name)}")
        self._by_name[command](with_numbers(words[1:]))

    def session_text(self) -> str:
        """The session in force, with its short id."""
        tracer, session = self._sessions.tracer, self._sessions.sticky
        session_id = session.id if session is not None else tracer.session_id
        title = self._sessions.title(session_id) or "-"
        return f"{title} {session_id[:SHORT_ID]}" if session_id else title

    def _status(self, words: list[str]) -> None:
        _none_of("status", words)
        tracer = self._sessions.tracer
        known = self._store.all()
        text = status_text(
            tracer.settings,
            tracer.export_state(),
            session=self.session_text(),
            traced=self._instrumentors.names,
            disk=disk_lines(tracer.spool, known),
        )
        print(text)

    def _instrument(self, words: list[str]) -> None:
        print(self._instrumentors.switch_on(words))

    def _show(self, words: list[str]) -> None:
        label = words[0] if words else "last"
        _none_of("show", words[1:])
        self._sessions.tracer.seal()
        if label in (ALL, BACKGROUND):
            self._show_outside_sessions(label)
            return
        try:
            self._outputs.show_again(label, self._view_id(label))
        except KeyError:
            if label == "last" or label.isdecimal():
                raise UsageError(self._no_cell(label)) from None
            self._show_session(self._store.find(label, "show"))

    def _show_session(self, session: KnownSession) -> None:
        rows = self._store.rows(session)
        if not rows:
            raise UsageError(f"%hh show: the spans of {session.shown_title} cannot be read any more.")
        self._show_rows(rows, session.short_id, lambda: self._store.export(session), session)

    def _show_outside_sessions(self, label: str) -> None:
        rows = [row for row in span_log().records() if label == ALL or row.cell is None]
        if not rows:
            raise UsageError(f"%hh show: no spans {'yet' if label == ALL else 'outside cells'}.")
        self._show_rows(rows, label, lambda: export_of(rows, self._sessions.tracer))

    def _show_rows(
        self,
        rows: Iterable[SpanRecord],
        label: str,
        export: Callable[[], ExportState],
        session: KnownSession | None = None,
    ) -> None:
        settings = self._sessions.tracer.settings
        view = fixed_view(
            tuple(rows), settings, view_id=self._view_id(label), label=label, export=export(), session=session
        )
        self._outputs.show_rows(view, export, interactive=self._cells.cell_id is not None)

    def _list_sessions(self, words: list[str]) -> None:
        _none_of("sessions", words)
        print(sessions_text(self._store.all()))

    def _send(self, words: list[str]) -> None:
        print(send(words, self._sessions.tracer, self._store))
        self._outputs.refresh()

    def _save(self, words: list[str]) -> None:
        print(save(words, self._store))

    def _clear(self, words: list[str]) -> None:
        print(clear(words, self._sessions.tracer, self._store))

    def _log_in(self, words: list[str]) -> None:
        print(log_in(words, self._login, self._sessions.tracer, self._use_key))

    def _display(self, words: list[str]) -> None:
        _none_of("display", words[1:])
        if words:
            try:
                self._set_trait("display", words[0])
            except TraitError:
                raise UsageError(f"%hh display: {words[0]} must be {TABLE['display'].rule.says}.") from None
        print(f"hh: display {self._sessions.tracer.settings.display}")

    def _no_cell(self, label: str) -> str:
        cells = ", ".join(self._outputs.labels())
        known = f"Cells with spans: {cells}." if cells else "No cell has spans yet."
        which = "any cell" if label == "last" else f"cell {label}"
        return f"%hh: no spans for {which}. {known}"

    def _view_id(self, label: str) -> str:
        """Of the output below the running cell; it shows something else, which has an output of its own."""
        return f"{view_id_of(None, self._cells.label)}-shows-{label}"


def with_numbers(words: Iterable[str]) -> list[str]:
    """The same words, with the number of a title, `refund-triage #3`, joined to what stands before it."""
    joined: list[str] = []
    for word in words:
        if joined and re.fullmatch(r"#\d+", word):
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    return joined


def _none_of(command: str, words: list[str]) -> None:
    if words:
        raise UsageError(f"%hh {command}: unexpected {words[0]!r}. %hh? for help")
