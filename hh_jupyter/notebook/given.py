"""A magic's line, read by the options that the table has for it: words, and values by option."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from IPython.core.error import UsageError

from hh_jupyter.notebook.magic_table import Option

_NUMBER = re.compile(r"#\d+")


@dataclass(frozen=True, slots=True)
class Given:
    """What was typed after a magic's or a command's name.

    Attributes:
        words: those that belong to no option.
        options: values by flag, in order; those of a switch are empty texts.
    """

    words: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __contains__(self, flag: object) -> bool:
        return flag in self.options

    def last(self, flag: str) -> str | None:
        """The value of an option; the last one if it was repeated."""
        values = self.options.get(flag)
        return values[-1] if values else None


def read(words: Sequence[str], options: Sequence[Option], magic: str, example: str = "") -> Given:
    """Sort words into options and others.

    Args:
        words: as `split` gives them.
        options: that there are.
        magic: as it was typed, for the messages.
        example: a whole line, shown below a message.

    Raises:
        UsageError: an unknown option, with the one that was probably meant; a value missing, or one too many.
    """
    by_flag = {option.flag: option for option in options}
    plain: list[str] = []
    given: dict[str, list[str]] = {}
    below = f"\n    {example}" if example else ""
    rest = joined(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if not word.startswith("--"):
            plain.append(word)
            continue
        option = by_flag.get(flag)
        if option is None:
            raise UsageError(f"{magic}: unknown option {flag}. {_hint(flag, options)}{below}")
        if option.value and not equals:
            if not rest or rest[0].startswith("--"):
                raise UsageError(f"{magic}: {flag} needs a value, {option.value}.{below}")
            value = rest.pop(0)
        elif equals and not option.value:
            raise UsageError(f"{magic}: {flag} takes no value.{below}")
        given.setdefault(flag, []).append(value)
    return Given(tuple(plain), {flag: tuple(values) for flag, values in given.items()})


def joined(words: Iterable[str]) -> list[str]:
    """The same words, with the number of a title, `refund-triage #3`, joined to what stands before it."""
    joined: list[str] = []
    for word in words:
        if joined and _NUMBER.fullmatch(word):
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    return joined


def _hint(flag: str, options: Sequence[Option]) -> str:
    if not options:
        return "It has no options."
    for option in options:
        if flag in option.near:
            return f"Did you mean {option.flag}?"
    # Compared without the dashes, which make all options alike.
    alike = get_close_matches(flag.lstrip("-"), [option.flag[2:] for option in options], n=1)
    return f"Did you mean --{alike[0]}?" if alike else f"Options: {', '.join(option.flag for option in options)}."
