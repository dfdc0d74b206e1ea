"""The sessions of this notebook: which one is in force, which were made, how they are called."""

from __future__ import annotations

import itertools
import os
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Final

from IPython.core.error import UsageError

from hh_jupyter.delivery.sealing.stamp import Session
from hh_jupyter.errors import SettingError
from hh_jupyter.notebook.options import SessionOptions
from hh_jupyter.tracing.tracer import HoneyHiveTracer

SHORTEST_PREFIX: Final = 4
RUNNERS: Final = frozenset({"jupyter-execute", "jupyter-nbconvert", "nbconvert", "nbclient", "execute"})
"""How those call themselves in a command line, with and without `jupyter` or `python -m` before it."""


@dataclass(slots=True)
class Made:
    """The sessions that were made in this kernel, whatever was loaded then.

    Attributes:
        titles: by id, in order. Titles of repeated names are numbered: "refund-triage #3".
        by_id: the same sessions.
        runs: how often each name was used.
        start_up: names of tracers' own sessions, by id.
    """

    titles: dict[str, str] = field(default_factory=dict)
    by_id: dict[str, Session] = field(default_factory=dict)
    runs: Counter[str] = field(default_factory=Counter)
    start_up: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Sessions:
    """State of the session magics, a plain object: context variables do not survive cells reliably.

    Attributes:
        notebook: what it is called; the name of sessions that get no other.
        sticky: the session of the following cells, set by `%hh_session NAME` or `create_session()` in a cell; None for
            the tracer's own.
        known: what was made, also before this load.
    """

    tracer: HoneyHiveTracer
    notebook: str
    known: Made = field(default_factory=Made)
    sticky: Session | None = None

    @property
    def made(self) -> dict[str, str]:
        """Title of each session by id, in order."""
        return self.known.titles

    def leave(self) -> None:
        """This load ends: the tracer's own session is known by name afterwards."""
        own = self.tracer.session
        if own.id:
            self.known.start_up[own.id] = own.name

    def open(self, options: SessionOptions, *, cell: str, magic: str) -> Session:
        """The session that the options ask for: a new one, or with `join` one that exists.

        Args:
            options: of the magic.
            cell: number of the cell, kept in the session's metadata.
            magic: the form that was typed, for the messages.

        Raises:
            UsageError: no such session to join, or an id that is none.
        """
        if options.join is not None:
            return self._join(options, magic)
        name = options.name or f"{self.notebook}-{cell}"
        self.known.runs[name] += 1
        run = self.known.runs[name]
        try:
            session = self.tracer.new_session(
                name,
                session_id=options.session_id,
                inputs=options.inputs or None,
                metadata={**options.metadata, "cell": cell, "run": run},
                user_properties=options.user_properties or None,
                source=options.source,
                register="first_span",
            )
        except SettingError as error:
            raise UsageError(f"{magic}: {error}") from None
        self.remember(session, name if run == 1 else f"{name} #{run}")
        return session

    def stick(self, session: Session | None) -> None:
        """Make this the session of the following cells, and of what runs outside any; None for the tracer's own."""
        self.sticky = session
        self.tracer.sessions.set_elsewhere(session)

    def name_notebook(self, name: str) -> None:
        """Call the notebook this from now on, before its first span: some front ends tell the name late."""
        self.notebook = name
        self.tracer.sessions.start_own(name, "first_span")

    def remember(self, session: Session, title: str | None = None) -> None:
        """Make a session known to `--join` and to the displays; the latest is what "last" means."""
        title = title or self.made.pop(session.id, None) or session.name
        self.known.by_id.pop(session.id, None)  # to the end: the latest is "last"
        self.made[session.id], self.known.by_id[session.id] = title, session

    def title(self, session_id: str | None) -> str | None:
        """How displays call a session; None for one that is not known here."""
        if session_id is not None and session_id == self.tracer.session_id:
            return self.tracer.session_name
        known = self.made.get(session_id or "") or self.tracer.sessions.name_of(session_id or "")
        return known or self.known.start_up.get(session_id or "")

    def name(self, session_id: str) -> str | None:
        """Its name, which several may share; None for one that is not known here."""
        made = self.known.by_id.get(session_id)
        return made.name if made is not None else self.title(session_id)

    def _join(self, options: SessionOptions, magic: str) -> Session:
        assert options.join is not None
        found = self._find(options.join)
        if found is None:
            raise UsageError(f"{magic}: no session {options.join}. {self._known()}")
        if options.inputs or options.metadata or options.user_properties:
            self.tracer.enrich_session(
                session_id=found.id,
                inputs=options.inputs or None,
                metadata=options.metadata or None,
                user_properties=options.user_properties or None,
            )
        self.remember(found)
        return found

    def _find(self, text: str) -> Session | None:
        """By "last", title, name (its latest), or unique id prefix; a whole UUID may be a session made elsewhere."""
        if text == "last":
            return next(reversed(self.known.by_id.values()), None)
        for session_id, title in reversed(self.made.items()):
            if text in (title, self.known.by_id[session_id].name):
                return self.known.by_id[session_id]
        prefixed = [session for session_id, session in self.known.by_id.items() if session_id.startswith(text.lower())]
        if len(prefixed) == 1 and len(text) >= SHORTEST_PREFIX:
            return prefixed[0]
        try:
            joined = str(uuid.UUID(text))
        except ValueError:
            return None
        return self.tracer.new_session(self._name_elsewhere(joined), session_id=joined, register="never")

    def _name_elsewhere(self, session_id: str) -> str | None:
        """Of a session that no magic made: the code did, or a kernel that is gone."""
        spool = self.tracer.spool
        stored = spool.sessions() if spool is not None else ()
        left = next((session.name for session in stored if session.session_id == session_id), None)
        return self.tracer.sessions.name_of(session_id) or left

    def _known(self) -> str:
        if not self.made:
            return "No session was made here yet; a whole id joins one made elsewhere."
        return f"Sessions: {', '.join([*self.made.values()][-8:])}."


def notebook_name(shell: Any) -> str:
    """The notebook's file name without its ending, as far as the front end or the runner tells it.

    VS Code sets a variable in the user's namespace, Jupyter Server JPY_SESSION_NAME to the notebook's path; a script
    that `ipython` runs is known to its application.
    """
    path = shell.user_ns.get("__vsc_ipynb_file__") or _runners_notebook() or os.environ.get("JPY_SESSION_NAME") or ""
    if str(path).endswith(".ipynb"):
        return PurePath(str(path)).stem
    if getattr(shell, "kernel", None) is not None:
        return "notebook"
    return PurePath(str(getattr(shell.parent, "file_to_run", ""))).stem or "ipython"


def _runners_notebook() -> str | None:
    """The notebook in the command line of papermill, nbconvert or `jupyter execute`, which tell the kernel nothing.

    The variable of Jupyter Server is of no use there: a runner started from a notebook hands on that notebook's.
    """
    line = _parents_words()
    names = {PurePath(word).stem for word in line}
    words = [word for before, word in itertools.pairwise(line) if before != "--output" and not word.startswith("-")]
    notebooks = [word for word in words if word.endswith(".ipynb")]
    if "papermill" in names and notebooks:
        return notebooks[0]  # The second one is what it writes.
    return notebooks[0] if len(notebooks) == 1 and not names.isdisjoint(RUNNERS) else None


def _parents_words() -> list[str]:
    """The command line of the process that started this one, as words; empty where it cannot be read."""
    try:
        return Path(f"/proc/{os.getppid()}/cmdline").read_text(errors="replace").rstrip("\0").split("\0")
    except OSError:
        pass  # Not Linux. ipykernel brings psutil, but does not always import it.
    try:
        import psutil  # type: ignore[import-untyped]

        found: list[str] = psutil.Process(os.getppid()).cmdline()
    except (ImportError, OSError, psutil.Error):
        return []
    return found
