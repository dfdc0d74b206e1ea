"""Tools that ran: one for each operation, however many spans tell of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from hh_jupyter.records.parents import Parents, SpanKey, key_of
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.twins import by_place, twins

_HANDOFF: Final = "handoff to "
_QUALIFIED = re.compile(r"(?:(?:[^\W\d]\w*|<locals>)\.)+([^\W\d]\w*)")


@dataclass(frozen=True, slots=True)
class ToolRun:
    """One operation of a tool.

    Attributes:
        record: the outermost span that tells of it.
        handoff: one agent handed over to another; the OpenAI Agents instrumentor makes a tool span of that.
    """

    record: SpanRecord
    name: str
    handoff: bool


def find_tool_runs(records: Sequence[SpanRecord], parents: Parents) -> list[ToolRun]:
    """The tools that ran, by start.

    A traced function that a framework calls as a tool has a span of each, and is one.
    """
    tools = sorted((record for record in records if record.facts.kind == "tool"), key=by_place)
    told_by = {key_of(record): {record.scope} for record in tools}
    doubled: set[SpanKey] = set()
    for outer, inner in twins(tools, lambda record: (tool_name(record),), partial(_may_be_one, told_by)):
        told_by[key_of(outer)].add(inner.scope)
        doubled.add(key_of(inner))
    for record in tools:
        above = parents.of(record)
        rival = above is not None and above.facts.kind == "tool" and above.scope != record.scope
        if above is not None and rival and tool_name(above) == tool_name(record):
            doubled.add(key_of(record))
    ran = [record for record in tools if key_of(record) not in doubled]
    return [ToolRun(record, tool_name(record), _is_handoff(record)) for record in ran]


def _may_be_one(told_by: Mapping[SpanKey, set[str]], outer: SpanRecord, inner: SpanRecord) -> bool:
    return inner.scope not in told_by[key_of(outer)]


def tool_name(record: SpanRecord) -> str:
    """The tool's name as its span tells, else the span's, of a function without its module."""
    if record.facts.tool_name:
        return record.facts.tool_name
    qualified = _QUALIFIED.fullmatch(record.name)
    return qualified[1] if qualified else record.name


def _is_handoff(record: SpanRecord) -> bool:
    return record.facts.tool_name is None and record.name.startswith(_HANDOFF)
