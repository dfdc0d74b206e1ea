"""Recordings in a notebook: which file and mode a cell has, and `%hh replay`.

A cell with `%%hh_session NAME` has the file of that name, all others share the one with the notebook's name. Every run
of a cell counts equal requests anew. While the mode for all cells is not off, code that runs between cells, such as a
thread of an earlier cell, has the notebook's file as well: with `only`, nothing is sent at any time.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from IPython.core.error import UsageError

from hh_jupyter.display.format import clean, count
from hh_jupyter.display.media import size
from hh_jupyter.display.view import Notice
from hh_jupyter.export.finalize import redactor_of
from hh_jupyter.export.model import Session
from hh_jupyter.notebook.parser import CELL_MAGIC, quoted
from hh_jupyter.notebook.sessions import NotebookSessions
from hh_jupyter.notebook.transfer import confirm
from hh_jupyter.recordings.file import Entry, RecordingFile
from hh_jupyter.recordings.hooks import Interception
from hh_jupyter.recordings.location import SUFFIX, recording_path, recordings_in
from hh_jupyter.recordings.recorder import Mode, Recorder, mode_in_force
from hh_jupyter.settings import Settings, replay_in_force

OFF: Final = "off"
_AFTER_FILE: Final = re.compile(rf"(?<={re.escape(SUFFIX)})[.:] ")
"""Where the sentence about a request that is not recorded in a file goes on with what differs."""
_DIFFERENCE_LENGTH: Final = 300

_ONLINE: Final = "HH_REPLAY=auto"
"""What records, if the environment forbids to send."""

_EFFECTS: Final = {
    "auto": "model calls are answered from {file}; what it does not hold is sent and recorded there",
    "only": "model calls are answered from {file}; nothing is sent",
    "record": "model calls are sent and recorded anew in {file}",
    OFF: "model calls are sent and not recorded",
}


@dataclass(slots=True)
class UsedFile:
    """A file that this kernel has used.

    Attributes:
        recorder: answers from the file and writes to it.
        earlier_hits: number of requests that it answered before its current run.
    """

    recorder: Recorder
    earlier_hits: int = 0

    @property
    def hits(self) -> int:
        """Number of requests that were answered from the file in this kernel."""
        return self.earlier_hits + self.recorder.counts.replayed

    def begin(self, mode: str, settings: Settings) -> None:
        """Begin a run. What is written is redacted, also if spans are not."""
        self.earlier_hits = self.hits
        self.recorder.mode = cast("Mode", mode)
        self.recorder.redactor = redactor_of(settings) if settings.redact else None
        self.recorder.begin_run()
        self.recorder.closed = False


@dataclass(slots=True, eq=False)
class CellRun:
    """A cell, or a part of it with a session of its own, and its recording.

    Attributes:
        replay: began it.
        session: of the cell, if it has one of its own.
        mode: that the cell chose; None for that of all cells.
        interception: makes it hold for the cell's code, its tasks and its threads.
        file: None if the cell has switched recordings off.
        remedy: what records the requests that were refused.
        missed: a sentence about each request that was refused, because mode `only` found no answer; set at the end.
    """

    replay: Replay
    session: Session | None
    mode: str | None
    interception: Interception
    file: UsedFile | None
    remedy: str = "%hh replay auto"
    missed: list[str] = field(default_factory=list)

    def end(self) -> None:
        """End the recording, once everything is in the file."""
        self.replay.end(self)

    def begin_again(self) -> CellRun | None:
        """Let the same recording hold in the current context, for a call of the cell that is made again."""
        return self.replay.begin(self.session, self.mode)

    @property
    def refusal(self) -> Notice | None:
        """The notice about requests that were refused; None if there are none."""
        if not self.missed:
            return None
        title, *rest = _AFTER_FILE.split(self.missed[0], 1)
        text = "".join(rest)
        more = f"{count(len(self.missed) - 1, 'more request')} not recorded." if len(self.missed) > 1 else ""
        difference = clean(f"{text[:1].upper()}{text[1:]}".rstrip("."), _DIFFERENCE_LENGTH)
        sentences = (f"{difference}." if difference else "", more, "To send and record:")
        text = " ".join(filter(None, sentences))
        return Notice(kind="error", title=f"{title.rstrip('.')}.", text=text, command=self.remedy)


class Replay:
    """The recordings of this kernel.

    Args:
        sessions: sessions of the notebook, and its tracer.
        folder: of the notebook.
        files: those that the kernel has used, also before this load.
    """

    def __init__(self, sessions: NotebookSessions, folder: Path, files: dict[Path, UsedFile]) -> None:
        self._sessions, self._tracer = sessions, sessions.tracer
        self._folder = folder
        self._files = files
        self._between: tuple[Path, Interception] | None = None

    # What holds for a cell, and between cells

    @property
    def mode(self) -> str:
        """The mode for all cells."""
        return mode_in_force(self._tracer.settings.replay)

    def apply(self) -> None:
        """Let the settings hold from now on, for the rest of the running cell too."""
        path = self._path(self._sessions.notebook)
        if self._between is not None and (self.mode == OFF or self._between[0] != path):
            self._between[1].stop()
            self._between = None
        if self.mode == OFF:
            for file in self._files.values():
                file.recorder.close()
            return
        for file in self._files.values():
            file.recorder.mode = cast("Mode", self.mode)
        if self._between is None:
            file = self._file(path)
            file.begin(self.mode, self._tracer.settings)
            interception = Interception(file.recorder, replaces=Recorder, everywhere=True)
            interception.start(here=False)
            self._between = path, interception

    def begin(self, session: Session | None = None, mode: str | None = None) -> CellRun | None:
        """Let a recording hold in the current context, until `end`; None if there is none to begin or to switch off.

        Args:
            session: of a cell that has one of its own.
            mode: that the cell chose; None for that of all cells.
        """
        in_force = mode_in_force(mode or self.mode)
        if in_force == OFF:
            if self._between is None:
                return None
            run = CellRun(self, session, mode, Interception(None, replaces=Recorder), None)
        else:
            file = self._file(self._path(self._name(session)))
            file.begin(in_force, self._tracer.settings)
            run = CellRun(self, session, mode, Interception(file.recorder, replaces=Recorder), file)
            if _is_held_offline():
                run.remedy = _ONLINE
            elif session is not None and mode is not None:
                name = "" if self._is_unnamed(session) else f" {quoted(session.name)}"
                run.remedy = f"{CELL_MAGIC}{name} --replay auto"
        run.interception.start()
        return run

    def end(self, run: CellRun) -> None:
        """End what `begin` returned."""
        run.interception.stop()
        if run.file is None:
            return
        recorder = run.file.recorder
        recorder.end_run()
        run.missed = list(recorder.counts.missed)
        if self.mode == OFF:
            recorder.closed = True
        else:
            recorder.mode = cast("Mode", self.mode)  # For threads that the cell has left.

    def close(self) -> None:
        """End everything; the files are complete afterwards.

        Where this process holds the mode `only`, nothing is sent afterwards either.
        """
        if mode_in_force(OFF) == "only":
            return
        if self._between is not None:
            self._between[1].stop()
            self._between = None
        for file in self._files.values():
            file.recorder.close()

    @property
    def _directory(self) -> Path:
        return self._path(self._sessions.notebook).parent

    def _path(self, name: str) -> Path:
        return recording_path(name, self._folder, self._tracer.settings.recordings_dir)

    def _name(self, session: Session | None) -> str:
        """The name of a cell's recording."""
        return self._sessions.notebook if session is None or self._is_unnamed(session) else session.name

    def _is_unnamed(self, session: Session) -> bool:
        """Whether a session is called after its cell, whose number changes from run to run."""
        return re.fullmatch(rf"{re.escape(self._sessions.notebook)}-\d+", session.name) is not None

    def _file(self, path: Path) -> UsedFile:
        if path not in self._files:
            self._files[path] = UsedFile(Recorder(path))
        return self._files[path]

    # `%hh replay`

    def describe_mode(self) -> str:
        """One line: the mode for all cells, and what it does."""
        path = self._path(self._sessions.notebook)
        effect = _EFFECTS[self.mode].format(file=_shown(path))
        held, origin = _is_held_offline(), self._tracer.settings.origins.get("replay", "default")
        if held:
            origin = "HH_REPLAY, for all cells"
        remedy = _ONLINE if held else "%hh replay auto"
        missing = "" if self.mode != "only" or path.exists() else f" That file does not exist yet: {remedy} records it."
        return f"hh: replay {self.mode}{f' ({origin})' if origin.startswith('HH_') else ''}: {effect}.{missing}"

    def names(self) -> list[str]:
        """The names of the recordings in the folder."""
        return [path.stem for path in recordings_in(self._directory)]

    def listing(self) -> str:
        """The mode, and a table of the recordings in the folder."""
        directory = self._directory
        paths = dict.fromkeys([*recordings_in(directory), *(path for path in self._files if path.exists())])
        if not paths:
            return f"{self.describe_mode()}\n  no recordings in {_shown(directory)}"
        rows = [("file", "exchanges", "size", "age", "hits"), *(self._row(path) for path in paths)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join((row[0].ljust(widths[0]), *(text.rjust(w) for text, w in zip(row[1:], widths[1:], strict=True))))
            for row in rows
        ]
        return "\n".join([self.describe_mode(), *(f"  {line}" for line in lines)])

    def prune(self, *, confirmed: bool) -> str:
        """Delete the exchanges that were not used since the kernel started, from the files that it has used.

        Args:
            confirmed: do not ask.

        Returns:
            One line about the result.

        Raises:
            UsageError: the answer is not yes, or the front end cannot ask.
        """
        used = [file.recorder for file in self._files.values()]
        unused = {recorder: number for recorder in used if (number := recorder.unused())}
        if not used:
            raise UsageError(
                "%hh replay: this kernel has used no recording yet, so none is known to be unused. Run all cells first."
            )
        if not unused:
            return "hh: every recorded exchange of these cells was used; nothing to delete."
        if not confirmed:
            listed = ", ".join(
                f"{number:,} of {count(_exchanges(one.path)[0], 'exchange')} in {_shown(one.path)}"
                for one, number in unused.items()
            )
            confirm("replay", f"not used since this kernel started: {listed}", "Delete them?")
        deleted = {recorder: recorder.prune() for recorder in unused}
        listed = ", ".join(f"{count(number, 'exchange')} of {_shown(one.path)}" for one, number in deleted.items())
        return f"hh: deleted {listed}."

    def _row(self, path: Path) -> tuple[str, str, str, str, str]:
        state, file = path.stat(), self._files.get(path)
        exchanges, lines = _exchanges(path)
        damaged = f" ({count(lines, 'damaged line')})" if lines else ""
        hits = f"{file.hits:,}" if file is not None else "-"
        return f"{_shown(path)}{damaged}", f"{exchanges:,}", size(state.st_size), _age(state.st_mtime), hits


def _is_held_offline() -> bool:
    return replay_in_force(OFF) == "only"


def _exchanges(path: Path) -> tuple[int, int]:
    """The numbers of exchanges and of damaged lines in a file."""
    found = RecordingFile(path)
    found.load()
    return sum(isinstance(entry, Entry) for entry in found.entries), len(found.damaged)


def _shown(path: Path) -> str:
    """The path from the working directory if it is below it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


_AGES: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def _age(modified: float) -> str:
    seconds = max(0, int(time.time() - modified))
    return next((count(seconds // length, unit) for length, unit in _AGES if seconds >= length), "just now")
