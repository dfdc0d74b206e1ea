"""Queries of a table's rows: words, named states and conditions such as `grounded<0.6 decision=no`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from hh_jupyter.display.table import Table

_TERM: Final = re.compile(
    r'(?:"(?P<quoted>[^"]*)"|(?P<word>[^\s<>=!"]+))(?:(?P<sign><=|>=|!=|<|>|=)(?P<value>"[^"]*"|\S+))?|\S+'
)
_NUMBER: Final = re.compile(r"[~$]*([-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d+)?)(ms|s|%)?")
_FACTORS: Final[Mapping[str | None, float]] = {None: 1, "s": 1, "ms": 0.001, "%": 0.01}
_WORDS: Final[Mapping[str, Any]] = {
    "yes": True,
    "true": True,
    "no": False,
    "false": False,
    "nan": math.nan,
    "none": None,
}
_SIGNS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "!=": operator.ne
}  # fmt: skip

Test = Callable[[Any], bool]


class RowQuery(NamedTuple):
    """A parsed query.

    Attributes:
        tests: all of them hold for a row that matches.
        notes: what of the query is not a condition, though it looks like one.
    """

    tests: list[Test]
    notes: list[str]

    def matches(self, row: Any) -> bool:
        """Whether a row matches."""
        return all(test(row) for test in self.tests)


def row_query(table: Table, query: str) -> RowQuery:
    """Parse a query for the rows of a table. All its terms must hold.

    A term is a named filter of the table, such as `failed`; a condition of a column (`<`, `<=`, `>`, `>=`, `=`, `!=`)
    with a number, which may have a unit (`350ms`, `$0.01`, `60%`), with yes, no, nan, none, or a text; or a text that a
    row contains. Upper and lower case are the same. Double quotes keep a name, a text or a value together, and make a
    named filter a text. An unknown value fulfills `!=` only.
    """
    columns = {_name(column.key): column for column in table.columns}
    columns |= {_name(column.title): column for column in table.columns if column.title}
    tests: list[Test] = []
    notes: list[str] = []
    for term in _TERM.finditer(query):
        name, sign = term["quoted"] if term["quoted"] is not None else term["word"], term["sign"]
        column = columns.get(_name(name)) if name and sign else None
        if column is not None:
            tests.append(_condition(column.value, sign, term["value"].strip('"')))
        elif term["word"] and not sign and name.casefold() in table.filters:
            tests.append(table.filters[name.casefold()])
        else:
            text = (term[0] if sign or name is None else name).strip('"').casefold()
            tests.append(_contains(table, text))
            if sign:
                notes.append(f"no column {name}")
    return RowQuery(tests, notes)


def condition(name: str, sign: str, value: str) -> str:
    """A condition as it is written in a query."""
    return f"{_quoted(name)}{sign}{_quoted(value)}"


def _quoted(text: str) -> str:
    return text if re.fullmatch(r'[^\s<>=!"]+', text) else f'"{text.replace(chr(34), "")}"'


def _name(text: str) -> str:
    """A column's name as it is compared: a query cannot hold its double quotes."""
    return text.replace('"', "").casefold()


def _contains(table: Table, text: str) -> Test:
    return lambda row: text in table.text(row).casefold()


def _condition(value_of: Callable[[Any], Any], sign: str, text: str) -> Test:
    compare, wanted = _SIGNS[sign], list(_readings(text))

    def holds(row: Any) -> bool:
        value = value_of(row)
        return _agrees(value, wanted) is (sign == "=") if sign in ("=", "!=") else _ordered(value, wanted, compare)

    return holds


def _readings(text: str) -> Iterator[Any]:
    """What a value in a query may mean: a number, a word such as yes, always a text."""
    if found := _NUMBER.fullmatch(text):
        yield float(found[1].replace(",", "")) * _FACTORS[found[2]]
    elif text.casefold() in _WORDS:
        yield _WORDS[text.casefold()]
    yield text.casefold()


def _agrees(value: Any, wanted: list[Any]) -> bool:
    for one in wanted:
        if one is None or value is None:
            same = one is value
        elif isinstance(one, str) or isinstance(value, str):
            same = isinstance(one, str) and isinstance(value, str) and one in (value.casefold(), _name(value))
        elif one != one:
            same = value != value
        else:
            same = value == one or (isinstance(value, float) and math.isclose(value, one, rel_tol=1e-9))
        if same:
            return True
    return False


def _ordered(value: Any, wanted: list[Any], compare: Callable[[Any, Any], bool]) -> bool:
    first = wanted[0]
    return _is_number(value) and isinstance(first, int | float) and value == value and compare(value, first)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
