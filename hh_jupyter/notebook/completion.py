"""Tab completion for `%hh` and the session magics: commands, options and their values."""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice, repeat
from typing import Any, Final, NamedTuple

from hh_jupyter.display.format import span_name
from hh_jupyter.notebook.instrument import Instrumentors
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.parser import (
    CELL_MAGIC,
    LINE_MAGIC,
    HHParser,
    MagicParser,
    join_titles,
    quoted,
    session_parser,
    split_incomplete,
)
from hh_jupyter.notebook.sessions import SHORT_ID, NotebookSessions, SessionStore
from hh_jupyter.notebook.show import FILE_SUFFIXES
from hh_jupyter.records.selection import ALL, BACKGROUND, LAST
from hh_jupyter.tracing.runs import run_history
from hh_jupyter.tracing.span_store import span_log

logger = logging.getLogger(__name__)

Suggest = Callable[[str], Iterable[str]]
"""Returns the current values that a placeholder such as SESSION stands for."""

_LINE: Final = re.compile(
    r"\s*%hh(?P<form>_session)?[ \t]+|(?P<cell>%%hh_session[ \t]+|#[ \t]*\|[ \t]*hh_session[ \t]*:)"
)
_HOOK_KEYS: Final = ("%hh", "%hh_session", "%%hh_session")
_RECORDING: Final = "RECORDING"
_TYPE: Final = "param"
"""The type that front ends show beside a completion."""


class Completions(NamedTuple):
    """The completions of a line.

    Attributes:
        fragment: the typed part of the last word, which is replaced.
        texts: the words that may replace it.
    """

    fragment: str
    texts: list[str]


def complete(line: str, suggest: Suggest) -> Completions | None:
    """Complete the last word of a line; None if the line is not one of our magics.

    Args:
        line: the text up to the cursor.
        suggest: returns the current values that a placeholder stands for.
    """
    match = _LINE.match(line)
    if match is None:
        return None
    words, fragment = split_incomplete(line[match.end() :])
    commands = HHParser()
    texts: Iterable[str]
    if match["form"] or match["cell"]:
        texts = _suggested(session_parser(LINE_MAGIC if match["form"] else CELL_MAGIC), words, fragment, suggest)
    elif not words:
        texts = _matching(fragment, commands.commands)
    elif words[0] in commands.commands:
        texts = _suggested(commands.command(words[0]), words[1:], fragment, suggest)
    else:
        texts = ()
    return Completions(fragment, list(dict.fromkeys(texts)))


def _suggested(parser: MagicParser, words: Sequence[str], fragment: str, suggest: Suggest) -> Iterator[str]:
    """Values of the option before the cursor; without one, values of the next argument and the remaining options."""
    options = parser.options
    flag, equals, value = fragment.partition("=")
    if equals and flag in options:
        yield from (f"{flag}={text}" for text in _values(options[flag], value, suggest))
        return
    valued = {flag for flag, option in options.items() if option.nargs != 0}
    if words and words[-1] in valued:
        yield from _values(options[words[-1]], fragment, suggest)
        return
    if not fragment.startswith("-"):
        joined = join_titles(words)
        taken = [
            word
            for word, before in zip(joined, ("", *joined), strict=False)
            if not word.startswith("-") and before not in valued
        ]
        argument = next(islice(_each_argument(parser), len(taken), None), None)
        if argument is not None:
            yield from (text for text in _values(argument, fragment, suggest) if text not in taken)
    if not fragment or fragment.startswith("-"):
        used = {word.partition("=")[0] for word in words}
        remaining = (flag for flag, option in options.items() if flag not in used or "K=V" in str(option.metavar))
        yield from (flag for flag in remaining if flag.startswith(fragment))


def _each_argument(parser: MagicParser) -> Iterator[argparse.Action]:
    """The argument that each word is, in order."""
    for argument in parser.arguments:
        yield from repeat(argument) if argument.nargs == "*" else (argument,)


def _values(action: argparse.Action, fragment: str, suggest: Suggest) -> Iterator[str]:
    """What this argument or option may be: the words and placeholders of its metavar."""
    words = [str(word) for word in action.choices or str(action.metavar).split("|")]
    if words == ["NAME"]:
        words.append(_RECORDING)  # A new session of this name can be answered from it.
    for known in words:
        if known == "FILE":
            yield from map(quoted, _files(fragment.lstrip("'\"")))
        else:
            yield from _matching(fragment, suggest(known) if known.isupper() else (known,))


def _matching(fragment: str, known: Iterable[str]) -> Iterator[str]:
    prefix = fragment.lstrip("'\"").lower()
    return (quoted(word) for word in known if word.lower().startswith(prefix))


def _files(prefix: str) -> Iterator[str]:
    """Span files and folders whose path starts with the prefix; hidden ones only if it contains the dot."""
    folder, name = os.path.split(prefix)
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:  # noqa: PTH111
            found = sorted((entry.name, entry.is_dir()) for entry in entries if entry.name.startswith(name))
    except (OSError, ValueError):
        return
    for entry, is_folder in found:
        if entry.startswith(".") and not name.startswith("."):
            continue
        if is_folder and prefix:
            yield f"{prefix.removesuffix(name)}{entry}/"
        elif not is_folder and entry.lower().endswith(FILE_SUFFIXES):
            yield f"{prefix.removesuffix(name)}{entry}"


class Completer:
    """Registers the completions with IPython.

    Args:
        shell: the InteractiveShell.
        suggest: see `complete`.
    """

    def __init__(self, shell: Any, suggest: Suggest) -> None:
        self._shell, self._suggest = shell, suggest

    def register(self, undo: ExitStack) -> None:
        """Register the completer; closing `undo` unregisters it."""
        try:
            from IPython.core.completer import context_matcher
        except ImportError:  # IPython before 8.6
            self._register_hook(undo)
            return

        @context_matcher()  # The decorator sets attributes, which a bound method does not take.
        def match(context: Any) -> dict[str, Any]:
            return self._match(context)

        matchers = self._shell.Completer.custom_matchers
        matchers.append(match)
        undo.callback(matchers.remove, match)

    def _match(self, context: Any) -> dict[str, Any]:
        from IPython.core.completer import SimpleCompletion

        found = self._complete(context.text_until_cursor)
        if found is None or not found.texts:
            return {"completions": []}
        completions = [SimpleCompletion(text, type=_TYPE) for text in found.texts]
        return {"completions": completions, "suppress": True, "matched_fragment": found.fragment}

    def _register_hook(self, undo: ExitStack) -> None:
        """The hook of older IPythons: it adds to other completions, and its symbol is only the part after a quote."""
        known = self._shell.strdispatchers["complete_command"]
        for key in _HOOK_KEYS:
            self._shell.set_hook("complete_command", self._hook, str_key=key)
            undo.callback(known.strs.pop, key, None)

    def _hook(self, _: Any, event: Any) -> list[str]:
        found = self._complete(event.text_until_cursor)
        if found is None or not found.fragment.endswith(event.symbol):
            return []
        before = found.fragment.removesuffix(event.symbol)
        return [text.removeprefix(before) for text in found.texts if text.startswith(before)]

    def _complete(self, line: str) -> Completions | None:
        try:
            return complete(line, self._suggest)
        except Exception:  # boundary: Tab must not show a traceback
            logger.debug("completion failed for %r", line, exc_info=True)
            return None


# Values that depend on the kernel: sessions, cells, libraries.

_CANNOT_BE_TYPED: Final = re.compile(r"-|\d+$|.*[{}$\n]", re.DOTALL)
"""Titles that look like an option, a number or an expression."""

NOT_SESSIONS: Final = frozenset({"", LAST, ALL, BACKGROUND})
"""Titles that do not name a session when they are typed."""


MAX_CELLS_WITH_RUNS: Final = 20
MAX_SUGGESTED_RUNS: Final = 4
"""Cells whose earlier runs are suggested, and the runs of each."""


class Suggestions:
    """Returns the current values that a placeholder stands for, the most likely first.

    Args:
        sessions, store, outputs, instrumentors: the sources of the values.
        recordings: returns the names of the recordings.
    """

    def __init__(
        self,
        sessions: NotebookSessions,
        store: SessionStore,
        outputs: Outputs,
        instrumentors: Instrumentors,
        recordings: Callable[[], Iterable[str]],
    ) -> None:
        self._sessions, self._store = sessions, store
        self._outputs, self._instrumentors = outputs, instrumentors
        self._recordings = recordings

    def __call__(self, placeholder: str) -> Iterable[str]:
        """The values of this placeholder."""
        if placeholder == "NAME":
            return _named(reversed(self._sessions.titles.items()))
        if placeholder == _RECORDING:
            return (name for name in self._recordings() if not _CANNOT_BE_TYPED.match(name))
        if placeholder == "SESSION":
            return _named((session.id, session.title) for session in reversed(self._store.all()))
        if placeholder == "CELL":
            return self._cells()
        if placeholder == "SPAN":
            return _span_names()
        if placeholder == "LIBRARY":
            return self._instrumentors.known()
        return ()

    def _cells(self) -> Iterator[str]:
        """Numbers of cells, the latest first, each with the runs before that this kernel knows."""
        cells, history = self._outputs.cells, run_history()
        for number, label in enumerate(reversed(cells.labels())):
            yield label
            if number < MAX_CELLS_WITH_RUNS and (key := cells.run(label)) is not None:
                yield from (f"{label}~{back}" for back in range(1, min(history.runs_here(key), MAX_SUGGESTED_RUNS)))


def _span_names() -> Iterator[str]:
    """The names of the latest calls of models and tools that can be typed."""
    for record in reversed(span_log().records()):
        name = span_name(record.name)
        if record.facts.kind in ("llm", "tool") and name == record.name and not _CANNOT_BE_TYPED.match(name):
            yield name


def _named(sessions: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Each session's title, or its short id if the title is ambiguous or cannot be typed."""
    seen: set[str] = set()
    for session_id, title in sessions:
        needs_id = title in seen or title in NOT_SESSIONS or _CANNOT_BE_TYPED.match(title)
        yield session_id[:SHORT_ID] if needs_id else title
        seen.add(title)
