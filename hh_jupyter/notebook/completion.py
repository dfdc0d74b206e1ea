"""Tab behind `%hh` and the session magics: commands, options, and the values that they take."""

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
    LISTED_WORDS,
    SESSION_OPTIONS,
    Kind,
    Option,
    joined,
    quoted,
    split_unfinished,
)
from hh_jupyter.notebook.sessions import SHORT_ID, NotebookSessions, SessionStore
from hh_jupyter.notebook.show import FILE_SUFFIXES

logger = logging.getLogger(__name__)

Candidates = Callable[[Kind], Iterable[str]]
"""The words that a kind has now."""

_LINE: Final = re.compile(
    r"\s*%hh(?P<form>_session)?[ \t]+|(?P<cell>%%hh_session[ \t]+|#[ \t]*\|[ \t]*hh_session[ \t]*:)"
)
_HOOK_KEYS: Final = ("%hh", "%hh_session", "%%hh_session")
_KIND: Final = "param"
"""What front ends draw beside an offer."""


class Offers(NamedTuple):
    """What Tab offers.

    Attributes:
        fragment: what was typed of the word and is replaced.
        texts: whole words to put in its place.
    """

    fragment: str
    texts: list[str]


def offers(line: str, candidates: Candidates) -> Offers | None:
    """What may stand at the end of a line; None if it is none of ours.

    Args:
        line: up to the cursor.
        candidates: tells the words that a kind has now.
    """
    match = _LINE.match(line)
    if match is None:
        return None
    words, fragment = split_unfinished(line[match.end() :])
    if match["form"] or match["cell"]:
        options = [option for option in SESSION_OPTIONS if not (option.line_form and match["cell"])]
        texts: Iterable[str] = _words(words, fragment, options, (), candidates)
    elif not words:
        texts = _matching(fragment, candidates(Kind.COMMAND))
    else:
        texts = _of_command(words, fragment, candidates)
    return Offers(fragment, list(dict.fromkeys(texts)))


def _of_command(words: Sequence[str], fragment: str, candidates: Candidates) -> Iterable[str]:
    command = BY_NAME.get(words[0])
    if command is None:
        return ()
    options = (*command.options, Option("--help", "what it does"))
    placed = _plain(joined(words[1:]), options)
    kinds: tuple[Kind, ...] = (command.kind,) if command.kind and (command.many or not placed) else ()
    if command.kind is Kind.FILE_THEN_SESSION:
        kinds = (Kind.SESSION,) if placed else ()  # Files are IPython's to offer.
    return _words(words[1:], fragment, options, kinds, candidates, taken=placed)


def _plain(words: Sequence[str], options: Iterable[Option]) -> list[str]:
    """The words that belong to no option."""
    valued = {option.flag for option in options if option.value}
    before = ("", *words)
    return [word for word, flag in zip(words, before, strict=False) if not word.startswith("-") and flag not in valued]


def _words(
    words: Sequence[str],
    fragment: str,
    options: Iterable[Option],
    kinds: Iterable[Kind],
    candidates: Candidates,
    taken: Sequence[str] = (),
) -> Iterator[str]:
    """Values of the option that was begun, else words of these kinds and the options that are left."""
    by_flag = {option.flag: option for option in options}
    begun, equals, value = fragment.partition("=")
    if equals and begun in by_flag:
        yield from (f"{begun}={text}" for text in _matching(value, candidates(by_flag[begun].kind)))
        return
    before = by_flag.get(words[-1]) if words else None
    if before is not None and before.value:
        yield from _matching(fragment, candidates(before.kind))
        return
    if not fragment.startswith("-"):
        for kind in kinds:
            yield from (text for text in _matching(fragment, candidates(kind)) if text not in taken)
            if kind is Kind.CELL_SESSION_OR_FILE:
                yield from map(quoted, _files(fragment.lstrip("'\"")))
    if not fragment or fragment.startswith("-"):
        given = {word.partition("=")[0] for word in words}
        left = (flag for flag, option in by_flag.items() if flag not in given or "K=V" in option.value)
        yield from (flag for flag in left if flag.startswith(fragment))


def _matching(fragment: str, known: Iterable[str]) -> Iterator[str]:
    begun = fragment.lstrip("'\"").lower()
    return (quoted(word) for word in known if word.lower().startswith(begun))


def _files(begun: str) -> Iterator[str]:
    """Span files and folders whose path begins with this text; hidden ones only if it names the dot."""
    folder, name = os.path.split(begun)
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:  # noqa: PTH111
            found = sorted((entry.name, entry.is_dir()) for entry in entries if entry.name.startswith(name))
    except (OSError, ValueError):
        return
    for entry, is_folder in found:
        if entry.startswith(".") and not name.startswith("."):
            continue
        if is_folder and begun:
            yield f"{begun.removesuffix(name)}{entry}/"
        elif not is_folder and entry.lower().endswith(FILE_SUFFIXES):
            yield f"{begun.removesuffix(name)}{entry}"


class Completer:
    """Puts the offers into IPython's completion.

    Args:
        shell: the InteractiveShell.
        candidates: tells the words that a kind has now.
    """

    def __init__(self, shell: Any, candidates: Candidates) -> None:
        self._shell = shell
        self._candidates = candidates

    def register(self, undo: ExitStack) -> None:
        """Offer from now on, until `undo` is closed."""
        try:
            from IPython.core.completer import context_matcher
        except ImportError:  # IPython before 8.6
            self._register_hook(undo)
            return

        @context_matcher()  # It marks a function, which a bound method is not.
        def match(context: Any) -> dict[str, Any]:
            return self._match(context)

        matchers = self._shell.Completer.custom_matchers
        matchers.append(match)
        undo.callback(matchers.remove, match)

    def _match(self, context: Any) -> dict[str, Any]:
        from IPython.core.completer import SimpleCompletion

        found = self._offers(context.text_until_cursor)
        if found is None or not found.texts:
            return {"completions": []}
        completions = [SimpleCompletion(text, type=_KIND) for text in found.texts]
        return {"completions": completions, "suppress": True, "matched_fragment": found.fragment}

    def _register_hook(self, undo: ExitStack) -> None:
        """The older way, whose offers stand among those of others: of a word, it completes what follows a quote."""
        known = self._shell.strdispatchers["complete_command"]
        for key in _HOOK_KEYS:
            self._shell.set_hook("complete_command", self._hook, str_key=key)
            undo.callback(known.strs.pop, key, None)

    def _hook(self, _: Any, event: Any) -> list[str]:
        found = self._offers(event.text_until_cursor)
        if found is None or not found.fragment.endswith(event.symbol):
            return []
        begun = found.fragment.removesuffix(event.symbol)
        return [text.removeprefix(begun) for text in found.texts if text.startswith(begun)]

    def _offers(self, line: str) -> Offers | None:
        try:
            return offers(line, self._candidates)
        except Exception:  # boundary: Tab must not show a traceback
            logger.debug("no offers for %r", line, exc_info=True)
            return None


# The words that Tab can offer now: sessions, cells, libraries.

EXPANDED: Final = frozenset("{}$\n")
"""Marks in a title that would not be read as they stand."""


class WordsOfKind:
    """Tells the words that a kind has now, the likeliest first.

    Args:
        sessions, store, outputs, instrumentors: what they come from.
    """

    def __init__(
        self, sessions: NotebookSessions, store: SessionStore, outputs: Outputs, instrumentors: Instrumentors
    ) -> None:
        self._sessions, self._store = sessions, store
        self._outputs, self._instrumentors = outputs, instrumentors

    def __call__(self, kind: Kind) -> Iterable[str]:
        """Words of this kind."""
        if kind is Kind.JOINED:
            return ("last", *_named(reversed(self._sessions.titles.items())))
        if kind is Kind.SESSION:
            return (*self._titles(), "all")
        if kind is Kind.CELL_SESSION_OR_FILE:
            return ("last", *reversed(self._outputs.cells.labels()), *self._titles(), "all", "background")
        if kind is Kind.LIBRARY:
            return self._instrumentors.known()
        return LISTED_WORDS.get(kind, ())

    def _titles(self) -> Iterator[str]:
        return _named((session.id, session.title) for session in reversed(self._store.all()))


def _named(sessions: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Each session's title if it is the only one that has it and can be typed, else the beginning of its id."""
    seen: set[str] = set()
    for session_id, title in sessions:
        unclear = title in seen or title in ("-", "") or EXPANDED & set(title)
        yield session_id[:SHORT_ID] if unclear else title
        seen.add(title)
