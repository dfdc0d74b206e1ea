"""Tab completion for `%hh` and the session magics: commands, options and their values."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

from hh_jupyter.notebook.instrument import Instrumentors
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.parser import (
    BY_NAME,
    FIXED_VALUES,
    SESSION_OPTIONS,
    Option,
    ValueKind,
    join_titles,
    quoted,
    split_incomplete,
)
from hh_jupyter.notebook.sessions import ALL, SHORT_ID, NotebookSessions, SessionStore
from hh_jupyter.notebook.show import FILE_SUFFIXES

logger = logging.getLogger(__name__)

Suggest = Callable[[ValueKind], Iterable[str]]
"""Returns the current values of a kind."""

_LINE: Final = re.compile(
    r"\s*%hh(?P<form>_session)?[ \t]+|(?P<cell>%%hh_session[ \t]+|#[ \t]*\|[ \t]*hh_session[ \t]*:)"
)
_HOOK_KEYS: Final = ("%hh", "%hh_session", "%%hh_session")
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
        suggest: returns the current values of a kind.
    """
    match = _LINE.match(line)
    if match is None:
        return None
    words, fragment = split_incomplete(line[match.end() :])
    if match["form"] or match["cell"]:
        options = [option for option in SESSION_OPTIONS if not (option.line_form and match["cell"])]
        texts: Iterable[str] = _values_and_flags(words, fragment, options, (), suggest)
    elif not words:
        texts = _matching(fragment, suggest(ValueKind.COMMAND))
    else:
        texts = _for_command(words, fragment, suggest)
    return Completions(fragment, list(dict.fromkeys(texts)))


def _for_command(words: Sequence[str], fragment: str, suggest: Suggest) -> Iterable[str]:
    command = BY_NAME.get(words[0])
    if command is None:
        return ()
    options = (*command.options, Option("--help", "what it does"))
    arguments = _arguments(join_titles(words[1:]), options)
    kinds: tuple[ValueKind, ...] = (command.kind,) if command.kind and (command.many or not arguments) else ()
    if command.kind is ValueKind.FILE_THEN_SESSION:
        kinds = (ValueKind.SESSIONS,) if arguments else ()  # IPython completes file names.
    return _values_and_flags(words[1:], fragment, options, kinds, suggest, taken=arguments)


def _arguments(words: Sequence[str], options: Iterable[Option]) -> list[str]:
    """The words that are neither options nor their values."""
    valued = {option.flag for option in options if option.value}
    before = ("", *words)
    return [word for word, flag in zip(words, before, strict=False) if not word.startswith("-") and flag not in valued]


def _values_and_flags(
    words: Sequence[str],
    fragment: str,
    options: Iterable[Option],
    kinds: Iterable[ValueKind],
    suggest: Suggest,
    taken: Sequence[str] = (),
) -> Iterator[str]:
    """Values of the option before the cursor; without one, values of these kinds and the remaining options."""
    by_flag = {option.flag: option for option in options}
    flag, equals, value = fragment.partition("=")
    if equals and flag in by_flag:
        yield from (f"{flag}={text}" for text in _matching(value, suggest(by_flag[flag].kind)))
        return
    before = by_flag.get(words[-1]) if words else None
    if before is not None and before.value:
        yield from _matching(fragment, suggest(before.kind))
        return
    if not fragment.startswith("-"):
        for kind in kinds:
            yield from (text for text in _matching(fragment, suggest(kind)) if text not in taken)
            if kind is ValueKind.CELL_SESSION_OR_FILE:
                yield from map(quoted, _files(fragment.lstrip("'\"")))
    if not fragment or fragment.startswith("-"):
        used = {word.partition("=")[0] for word in words}
        remaining = (flag for flag, option in by_flag.items() if flag not in used or "K=V" in option.value)
        yield from (flag for flag in remaining if flag.startswith(fragment))


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
        suggest: returns the current values of a kind.
    """

    def __init__(self, shell: Any, suggest: Suggest) -> None:
        self._shell = shell
        self._suggest = suggest

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

NOT_SESSIONS: Final = frozenset({"", "-", "last", ALL, "background"})
"""Titles that do not name a session when they are typed."""

SPECIAL: Final = frozenset("{}$\n")
"""Characters that a typed title cannot contain, because they are expanded."""


class Suggestions:
    """Returns the current values of a kind, the most likely first.

    Args:
        sessions, store, outputs, instrumentors: the sources of the values.
    """

    def __init__(
        self, sessions: NotebookSessions, store: SessionStore, outputs: Outputs, instrumentors: Instrumentors
    ) -> None:
        self._sessions, self._store = sessions, store
        self._outputs, self._instrumentors = outputs, instrumentors

    def __call__(self, kind: ValueKind) -> Iterable[str]:
        """The values of this kind."""
        if kind is ValueKind.JOINED:
            return ("last", *_named(reversed(self._sessions.titles.items())))
        if kind is ValueKind.SESSION:
            return self._titles()
        if kind is ValueKind.SESSIONS:
            return (*self._titles(), ALL)
        if kind is ValueKind.CELL_SESSION_OR_FILE:
            return ("last", *reversed(self._outputs.cells.labels()), *self._titles(), ALL, "background")
        if kind is ValueKind.LIBRARY:
            return self._instrumentors.known()
        return FIXED_VALUES.get(kind, ())

    def _titles(self) -> Iterator[str]:
        return _named((session.id, session.title) for session in reversed(self._store.all()))


def _named(sessions: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Each session's title, or its short id if the title is ambiguous or cannot be typed."""
    seen: set[str] = set()
    for session_id, title in sessions:
        needs_id = title in seen or title in NOT_SESSIONS or title.isdecimal() or SPECIAL & set(title)
        yield session_id[:SHORT_ID] if needs_id else title
        seen.add(title)
