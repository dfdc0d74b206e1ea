"""`python -m hh_jupyter show` and `find`: people read the traces on this machine in a terminal, as agents do."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hh_jupyter.cli.answers import More

PROGRAM: Final = "python -m hh_jupyter"
SELECTION: Final = (
    "a name (its latest session), an id or its beginning, or last; ~1 behind it is the one before, /4 cell 4"
)


def add_commands(commands: Any) -> None:
    """Add `show` and `find` to the commands of `python -m hh_jupyter`."""
    text = "show the traces on this machine, also of running notebooks: the sessions, or one of them as a tree"
    show = commands.add_parser("show", help=text, description=f"{text[0].upper()}{text[1:]}.")
    show.add_argument("session", nargs="?", default="", help=f"{SELECTION}. Default: list the sessions")
    which = show.add_mutually_exclusive_group()
    which.add_argument("--span", default="", metavar="ID", help="the content of a span, by its id or its name")
    which.add_argument("--totals", action="store_true", help="what the spans add up to")
    which.add_argument(
        "--compare", nargs="?", const=_BEFORE, metavar="OLD", help="what changed since OLD, by default the run before"
    )
    which.add_argument(
        "--run", dest="experiment", nargs="?", const="last", metavar="RUN", help="the worst rows of an experiment run"
    )
    show.add_argument("--name", default="", metavar="TEXT", help="list only sessions whose name has this text")
    show.add_argument("--errors", action="store_true", help="only spans with an error and those above them")
    show.add_argument("--texts", action="store_true", help="with --compare or --run: also the texts")
    show.add_argument("--attributes", action="store_true", help="with --span: also everything else that was recorded")
    show.add_argument("--max-chars", type=int, metavar="N", help="with --span: most characters of all texts together")
    show.add_argument("--limit", type=int, metavar="N", help="most rows")
    show.set_defaults(run_command=_show, run=_run)
    text = "find spans in the traces on this machine, also of running notebooks, the latest first"
    find = commands.add_parser("find", help=text, description=f"{text[0].upper()}{text[1:]}.")
    find.add_argument("text", nargs="?", default="", help="a text in names, messages, inputs, outputs, attributes")
    find.add_argument("--session", default="", help=f"only there: {SELECTION}")
    find.add_argument("--kind", default="", help="only this kind: llm, tool, agent, ...")
    find.add_argument("--errors", action="store_true", help="only spans in which an error began")
    find.add_argument("--slow", action="store_true", help="those with the most time of their own first")
    find.add_argument("--expensive", action="store_true", help="the most expensive model calls first")
    find.add_argument("--limit", type=int, metavar="N", help="most rows")
    find.set_defaults(run_command=_find, run=_run)


_BEFORE: Final = ""


def _show(given: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Return the name of the answer that `show` asks for, and its arguments."""
    session = given.session or "last"
    if given.span:
        return "show_span", {
            "span": given.span, "session": given.session, "attributes": given.attributes, "max_chars": given.max_chars
        }  # fmt: skip
    if given.totals:
        return "show_totals", {"session": session}
    if given.compare is not None:
        return "compare_traces", {"new": session, "old": given.compare, "texts": given.texts, "limit": given.limit}
    if given.experiment is not None:
        return "worst_experiment_rows", {"run": given.experiment, "texts": given.texts, "limit": given.limit}
    if given.session or given.errors:
        return "show_trace", {"session": session, "errors": given.errors, "limit": given.limit}
    return "list_trace_sessions", {"name": given.name, "limit": given.limit}


def _find(given: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    names = ("text", "session", "kind", "errors", "slow", "expensive", "limit")
    return "find_spans", {name: getattr(given, name) for name in names}


def _run(given: argparse.Namespace) -> int:
    """Print the answer to a command. Returns the exit status."""
    from hh_jupyter.cli.answers import answer  # Late: other commands must start fast.
    from hh_jupyter.records.selection import SelectionError

    name, arguments = given.run_command(given)
    options = ("name", "errors", "texts", "attributes", "max_chars", "limit")
    if unused := [one for one in options if getattr(given, one, None) and one not in arguments]:
        option = unused[0].replace("_", "-")
        print(f"{PROGRAM}: --{option} does not go with the other arguments. See --help.", file=sys.stderr)
        return 2
    try:
        found = answer(name, {key: value for key, value in arguments.items() if value is not None})
    except SelectionError as error:
        print(f"{PROGRAM}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    hints = [f"{more.what}: {_command(more)}" if more.ask else more.what for more in found.more]
    text = "\n".join([found.data, *(["", *hints] if hints else [])])
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
    except BrokenPipeError:  # The reader, such as `head`, has read enough. Nothing may be flushed again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


_COMMANDS: Final[Mapping[str, str]] = {
    "list_trace_sessions": "show",
    "show_totals": "show {session} --totals",
    "show_trace": "show {session}",
    "show_span": "show --span {span}",
    "compare_traces": "show {new} --compare {old}",
    "worst_experiment_rows": "show --run {run}",
    "find_spans": "find",
}
"""The command for each answer; further arguments become options."""


def _command(more: More) -> str:
    words = {name: shlex.quote(str(value)) for name, value in more.arguments.items()}
    form = _COMMANDS[more.ask]
    text = words.pop("text", "")
    parts = [PROGRAM, form.format(**words)]
    for name, value in more.arguments.items():
        if name in words and f"{{{name}}}" not in form:
            option = f"--{name.replace('_', '-')}"
            parts.append(option if value is True else f"{option} {words[name]}")
    return " ".join([*parts, *(["--"] if text.startswith("-") else []), *([text] if text else [])])
