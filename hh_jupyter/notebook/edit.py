"""`%hh edit`: the code of a call, in place of the cell or in a new one below, to change it and run it again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from IPython.core.error import UsageError

from hh_jupyter.display.call_code import call_code
from hh_jupyter.display.format import clean, span_name
from hh_jupyter.display.snippet import MAX_CHARACTERS
from hh_jupyter.notebook.cells import Cells
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.parser import quoted
from hh_jupyter.records.record import CALL_KINDS, SpanRecord
from hh_jupyter.records.selection import LAST, MAX_LISTED, SHORTEST_PREFIX, did_you_mean, no_cell
from hh_jupyter.records.tree import SpanTree
from hh_jupyter.tracing.span_store import span_log

NAME_LENGTH: Final = 60
SHORT_SPAN_ID: Final = 8

_ONLY_THIS: Final = re.compile(r"%?hh[ \t]+edit\b[^\n]*")
"""A cell that holds nothing else, with or without the percent sign."""

Call = Sequence[SpanRecord]
"""The spans that describe one call, the outermost first."""


class EditCommand:
    """`%hh edit`.

    Args:
        shell: the InteractiveShell.
        outputs: knows the cells that have spans.
        cells: knows the running cell.
    """

    def __init__(self, shell: Any, outputs: Outputs, cells: Cells) -> None:
        self._shell, self._outputs, self._cells = shell, outputs, cells

    def edit(self, word: str) -> str:
        """Put the code of a call where the user can change and run it; return what to print.

        Args:
            word: number of a cell, "last", or the name, the id or the beginning of the id of a span: a call, or a span
                with model calls inside. Of several, the last one is meant.

        Raises:
            UsageError: there is no such call, or its messages were not recorded or are no longer kept.
        """
        calls, note = self._calls(word)
        code = next(filter(None, map(self._code, reversed(calls))), None)
        if code is None:
            name = clean(span_name(calls[0].name), NAME_LENGTH)
            raise UsageError(
                f"%hh edit: {name} has no code: its messages or inputs were not recorded, or are no longer kept."
            )
        if len(code) > MAX_CHARACTERS:
            raise UsageError(f"%hh edit: the code has {len(code):,} characters; the limit is {MAX_CHARACTERS:,}.")
        return self._put(f"{note}{code}")

    def _code(self, record: SpanRecord) -> str:
        details = span_log().details(record)
        hidden = getattr(self._shell, "user_ns_hidden", {})
        names = {name: value for name, value in self._shell.user_ns.items() if name not in hidden}
        return call_code(record, details, names) if details is not None else ""

    # Which call

    def _calls(self, word: str) -> tuple[Call, str]:
        """Return the spans of the call that is meant, and a comment about the others in the cell."""
        cell = self._outputs.cells.resolve(word)
        if cell is not None:
            records = self._outputs.cells.records(cell)
            calls = list(_model_calls(records, "llm")) or list(_model_calls(records, "embedding"))
            if not calls:
                raise UsageError(f"%hh edit: cell {cell} has no model call. A tool is given by its name: %hh edit NAME")
            return calls[-1], _others(calls, f"cell {cell}")
        records = span_log().records()
        bare = word.lower()
        found = [record for record in records if word in (record.name, span_name(record.name))]
        if not found and len(word) >= SHORTEST_PREFIX:
            found = [record for record in records if f"{record.span_id:016x}".startswith(bare)]
        if not found:
            found = [record for record in records if bare in record.name.lower()]
        kinds = [record for record in found if record.facts.kind in (*CALL_KINDS, "tool")]
        if kinds:
            return kinds[-1:], ""
        if found:
            name = clean(span_name(found[-1].name), NAME_LENGTH)
            calls = list(_model_calls(_inside(found[-1], records), "llm"))
            if not calls:
                raise UsageError(f"%hh edit: span {name} is no call of a model or a tool, and has none inside.")
            return calls[-1], _others(calls, f"span {name}")
        if word == LAST or word.isdecimal():
            raise UsageError(f"%hh edit: {no_cell(word, self._outputs.cells.labels())}")
        names = dict.fromkeys(
            clean(span_name(record.name), NAME_LENGTH)
            for record in records
            if record.facts.kind in (*CALL_KINDS, "tool")
        )
        hint = did_you_mean(word, list(names)[-MAX_LISTED:]) if names else "No call of a model or a tool is recorded."
        raise UsageError(f"%hh edit: no span {clean(word, NAME_LENGTH)}. {hint}")

    # Where the code goes

    def _put(self, code: str) -> str:
        if not _has_user(self._shell, self._cells):
            return code
        frame = self._cells.running()
        raw = str(getattr(frame.info, "raw_cell", "") if frame is not None else "")
        if self._outputs.in_terminal:
            self._shell.set_next_input(code)
            return "hh: the code of the call is at the next prompt."
        replace = _ONLY_THIS.fullmatch(raw.strip()) is not None
        self._shell.set_next_input(code, replace=replace)
        return f"hh: the code of the call is in {'this cell' if replace else 'a new cell below'}."


def _model_calls(records: Sequence[SpanRecord], kind: str) -> Iterator[Call]:
    """Yield the model calls of a cell that are of this kind, by their start."""
    calls: list[list[SpanRecord]] = []
    for node in SpanTree.build(records).nodes:  # Depth first: what repeats a call stands below it.
        if node.record.facts.kind == kind:
            if node.repeats and calls:
                calls[-1].append(node.record)
            else:
                calls.append([node.record])
    yield from sorted(calls, key=lambda call: call[0].start_ns)


def _inside(span: SpanRecord, records: Sequence[SpanRecord]) -> list[SpanRecord]:
    """Return the spans below a span."""
    inside, ids = [], {span.span_id}
    for node in SpanTree.build([one for one in records if one.trace_id == span.trace_id]).nodes:  # Parents come first.
        if node.record.parent_id in ids:
            ids.add(node.record.span_id)
            inside.append(node.record)
    return inside


def _others(calls: Sequence[Call], place: str) -> str:
    """Return a comment that tells how to get the other calls of a cell or span; empty if there are none."""
    if len(calls) == 1:
        return ""
    names = [call[0].name for call in calls]
    words = [
        quoted(shown) if names.count(name) == 1 and shown == name else f"{call[0].span_id:016x}"[:SHORT_SPAN_ID]
        for name, call in zip(names, calls, strict=True)
        for shown in [clean(span_name(name), NAME_LENGTH)]
    ]
    others = ", ".join(f"%hh edit {word}" for word in words[-MAX_LISTED - 1 : -1])
    left = len(words) - 1 - MAX_LISTED
    more = f" and {left:,} before" if left > 0 else ""
    return f"# The last of {len(calls):,} model calls of {place}. The others: {others}{more}.\n"


def _has_user(shell: Any, cells: Cells) -> bool:
    """Whether a user edits cells, or types at a prompt that may have a default.

    A runner of notebooks ignores new cells. It also answers no questions, and says so with each request; a front end
    of a kernel other than ipykernel is known by the ids of its cells.
    """
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        prompts = getattr(shell, "pt_app", None) is not None and not getattr(shell, "simple_prompt", True)
        return prompts and bool(getattr(getattr(shell, "parent", None), "interact", True))
    request = kernel.get_parent() if hasattr(kernel, "get_parent") else None
    content = request.get("content") if isinstance(request, Mapping) else None
    asks = content.get("allow_stdin") if isinstance(content, Mapping) else None
    return bool(asks) if asks is not None else cells.cell_id is not None
