"""`%%hh_session`, `%hh_session` and `#| hh_session:`: parse the options, and rewrite the cell forms to one statement.

A cell magic that runs the body itself cannot `await`, reports errors twice and lets Run All continue after an error.
Here one statement replaces the magic's line, and IPython compiles the cell as usual: top-level `await`, the value of
the last expression, line numbers and all other magics work. The kernel transforms a cell several times; the rewriting
therefore has no side effects, only the statement has.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final

from IPython.core.error import UsageError

from hh_jupyter.notebook.guard import guarded_value
from hh_jupyter.notebook.parser import (
    CELL_MAGIC,
    COMMENT,
    HELP_FLAGS,
    LINE_MAGIC,
    Evaluate,
    MagicParser,
    session_parser,
    split,
)
from hh_jupyter.settings import TABLE

# Options of the three forms.


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """The options of a session magic.

    Attributes:
        name: None for an unnamed session.
        join: the session to continue: an id, a unique prefix of one, a name, a title or "last".
        session_id: the id of the new session.
        show: how this cell's output is shown; None for the setting `display`.
        max_cost: US dollars that its model calls may cost; None for the setting.
        max_calls: number of its model calls; None for the setting.
        replay: how recordings are used in this cell; None for the setting `replay`.
        end: return to the notebook's session (line form only).
    """

    name: str | None = None
    join: str | None = None
    session_id: str | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    user_properties: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    show: str | None = None
    max_cost: float | None = None
    max_calls: int | None = None
    replay: str | None = None
    end: bool = False


_NUMBERED: Final = re.compile(r" #\d+$")
"""The end of a title, such as `refund-triage #3`, that was typed without quotes."""


def parse(line: str, evaluate: Evaluate, *, magic: str = CELL_MAGIC) -> SessionOptions:
    """Parse the line of a session magic.

    Args:
        line: what follows the magic's name.
        evaluate: evaluates a Python expression in the user's namespace.
        magic: the form that was typed, for messages.

    Raises:
        UsageError: the line is invalid.
    """
    parser = session_parser(magic, evaluate)
    words = split(line, magic)
    if HELP_FLAGS.intersection(words):
        parser.fail("%%hh_session? shows the help.")
    if "--end" in words and magic != LINE_MAGIC:
        parser.fail("--end is not needed, the session ends with the cell. It is an option of %hh_session.")
    found = vars(parser.parse(words))
    if found["replay"] and magic == LINE_MAGIC:
        parser.fail("--replay is an option of %%hh_session, for one cell. For all cells: %hh replay")
    name = found["name"]
    # Compared without `in`: a value may be any object.
    given = {option for option, value in found.items() if value is not None and value is not False}
    if name and _NUMBERED.search(name) and name.rpartition(" ")[2] in words:
        parser.fail(f'a session named "{name}" already exists; use --join "{name}" to continue it.')
    if "end" in given and len(given) > 1:
        parser.fail("--end cannot be combined with a name or other options.")
    if "join" in given and given & {"name", "id"}:
        other = "a name" if "name" in given else "--id"
        parser.fail(f"--join cannot be combined with {other}; it continues an existing session.")
    return SessionOptions(
        name=name,
        join=found["join"],
        session_id=found["id"],
        inputs=dict(found["input"] or ()),
        metadata=dict(found["metadata"] or ()),
        user_properties=dict(found["user"] or ()),
        source=found["source"],
        show=found["show"],
        max_cost=_limit(parser, "max_cost", found["max_cost"]),
        max_calls=_limit(parser, "max_calls", found["max_calls"]),
        replay=found["replay"],
        end=found.get("end", False),
    )


def _limit(parser: MagicParser, name: str, text: str | None) -> Any:
    """The value of `--max-cost` or `--max-calls`."""
    rule = TABLE[name].rule
    try:
        return None if text is None else rule.parse(text.strip())
    except ValueError:
        from hh_jupyter.redaction import shown  # Late: its rules take time to compile.

        parser.fail(f"--{name.replace('_', '-')} must be {rule.expected}; got {shown(name, text)}.")


# Rewriting of a cell.

MAGIC_LINE: Final = re.compile(r"%%hh_session(?=\s|$)[ \t]*(.*)")
"""The magic's line; `%%hh_session?` is for IPython's help."""

COMMENT_LINE: Final = re.compile(r"#[ \t]*\|[ \t]*hh_session[ \t]*:[ \t]*(.*)")
"""The comment; some formatters put a space after the #."""

CELL_OPTION: Final = re.compile(r"#[ \t]*\|")
"""Quarto and nbdev have options in such comments, too; ours may stand anywhere among them."""

HELP_LINE: Final = re.compile(r"%hh[ \t]+(\w+)[ \t]*\?{1,2}\s*$")
"""`%hh show?`; IPython's own help would look for an object named `show`."""

SHELL_ATTRIBUTE: Final = "_hh"
"""The shell's attribute that holds the loaded extension; the statement calls its `enter`."""


@guarded_value
def rewrite(lines: list[str]) -> list[str]:
    """Replace the session line of a cell by a call of `enter`, and translate a cell magic below it.

    Args:
        lines: the cell's lines with their line ends, as IPython passes them to a cleanup transformer.
    """
    first = _first_code(lines)
    if first is None or lines[first][0] not in "%#":
        return lines
    if match := HELP_LINE.match(lines[first]):
        alone = _first_code(lines[first + 1 :]) is None
        return [*lines[:first], f"get_ipython().run_line_magic('hh', '{match[1]} --help')\n"] if alone else lines
    found = _session_line(lines, first)
    if found is None:
        return lines
    index, magic, options = found
    body = lines[index + 1 :]
    blank = _is_blank(body)
    if blank and magic == COMMENT:
        return lines  # Only comments.
    if _in_other_magic():
        call = f"get_ipython().run_cell_magic('hh_session', {options!r}, {''.join(body)!r})\n"
        return [*lines[:index], call]
    arguments = [repr(options)]
    if magic != CELL_MAGIC:
        arguments.append(f"magic={magic!r}")
    if blank:
        arguments.append("blank=True")
    # Tracebacks show the rewritten line; the comment tells what it was.
    statement = f"get_ipython().{SHELL_ATTRIBUTE}.enter({', '.join(arguments)})  # {magic} {options}".rstrip() + "\n"
    return [*lines[:index], statement, *_stacked(body)]


# The terminal asks whether the input is complete after each line. The rewritten line alone would be a complete cell and
# run before its body is typed. IPython skips transformers with this flag for that question.
rewrite.has_side_effects = True  # type: ignore[attr-defined]


def _in_other_magic() -> bool:
    """Whether another cell magic, such as `%%time`, has its body transformed and then executes it by itself.

    The end of such a body is no event, so the session could not end with it.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_name not in _RUNS_A_CELL:
        if frame.f_code.co_name == "run_cell_magic":
            return True
        frame = frame.f_back
    return False


_RUNS_A_CELL: Final = frozenset({"run_cell", "run_cell_async", "do_execute"})


def _session_line(lines: list[str], first: int) -> tuple[int, str, str] | None:
    """Index, form and options of the session line; None without one."""
    if match := MAGIC_LINE.match(lines[first]):
        return first, CELL_MAGIC, match[1].rstrip()
    for index in range(first, len(lines)):
        if match := COMMENT_LINE.match(lines[index]):
            return index, COMMENT, match[1].rstrip()
        if not CELL_OPTION.match(lines[index]):
            return None
    return None


def _stacked(body: list[str]) -> list[str]:
    """Translate a cell magic below the session line: IPython only recognizes one in the first line."""
    index = _first_code(body)
    if index is None:
        return body
    if _session_line(body, index) is not None:
        return body[:index] + rewrite(body[index:])
    if not body[index].startswith("%%"):
        return body
    name, _, line = body[index][2:].rstrip().partition(" ")
    call = f"get_ipython().run_cell_magic({name!r}, {line.strip()!r}, {''.join(body[index + 1 :])!r})\n"
    return [*body[:index], call]


def _first_code(lines: list[str]) -> int | None:
    return next((number for number, line in enumerate(lines) if line.strip()), None)


def _is_blank(lines: list[str]) -> bool:
    return all(not line.strip() or line.lstrip().startswith("#") for line in lines)


# The body of `run_cell_magic("hh_session", ...)`, which the scripts of `nbconvert --to script` call.


def run_body(shell: Any, body: str, number: str) -> Any:
    """Run the body as IPython runs a cell, and return the value of its last expression.

    `shell.run_cell` would print an exception here, where the caller cannot catch it.

    Args:
        shell: the InteractiveShell.
        body: the code below the magic.
        number: the number of the running cell, for tracebacks.

    Raises:
        UsageError: the body awaits, and an event loop is running already.
        BaseException: whatever the body raises.
    """
    __tracebackhide__ = True  # IPython leaves this frame out of the user's traceback.
    source = shell.transform_cell(body)
    compiler = shell.compile
    name = compiler.cache(source, int(number))
    tree = shell.transform_ast(compiler.ast_parse(source, filename=name))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with compiler.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if shell.autoawait else 0):
        codes = [compiler(tree, name, "exec")]
        if last is not None:
            codes.append(compiler(ast.Expression(last.value), name, "eval"))
    awaits = any(code.co_flags & inspect.CO_COROUTINE for code in codes)
    if awaits and asyncio._get_running_loop() is not None:
        raise UsageError(
            f"{CELL_MAGIC}: run_cell_magic cannot run a body with await here, since an event loop is running. Put"
            f" {CELL_MAGIC} into the first line of the cell, or use: with hh_jupyter.get_tracer().with_session(...)"
        )
    value = None
    for code in codes:
        value = eval(code, shell.user_global_ns, shell.user_ns)  # noqa: S307  the user's own code
        if code.co_flags & inspect.CO_COROUTINE:
            value = shell.loop_runner(value)
    return value
