"""What is different between two runs of one case, one line per difference.

Calls are compared by method, path, query, credential, body and, unless the case is concurrent, order: of each session
and event among its own calls and those that belong to none, since calls of different sessions may overtake each other.
Spans are one set, by name, parent's name, kind, status, attributes and events. An id means nothing by itself: it is
named after what owns it (`<session first run>`), so a span or an update under another session is a difference.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.contract.recording import Call, Run

UUID = re.compile(r"<uuid:\d+>")
ITEM = re.compile(r"\.\d+$")
RUNS = "/v1/runs"
Row = dict[str, str]
"""One call or span: path of the field -> JSON text of its value."""


def differences(want: Run, got: Run, *, ordered: bool = True) -> list[str]:
    """Each difference as `what: field: expected -> found`; a missing field reads `absent`."""
    wanted, found = _Rows(want, ordered=ordered), _Rows(got, ordered=ordered)
    lines = [line for key in _keys(wanted.calls, found.calls) for line in _pair(key, wanted.calls, found.calls)]
    lines += [line for key in _keys(wanted.spans, found.spans) for line in _pair(key, wanted.spans, found.spans)]
    lines += _fields("observed", wanted.observed, found.observed)
    if ordered and not any(line.startswith("call ") and line.endswith((": missing", ": unexpected")) for line in lines):
        lines += _fields("order", wanted.order, found.order)
    return lines


class _Rows:
    """A run as flat rows in buckets of those that may correspond, ids replaced by names."""

    def __init__(self, run: Run, *, ordered: bool) -> None:
        calls = [(f"call {call.method} {call.path}", _call_row(call)) for call in run.calls]
        spans = [(f"span {span['name']}", _span_row(span, run.spans)) for span in run.spans]
        observed = _flat(run.observations)
        names = _id_names(run.calls, [("observed", observed), *calls, *spans])
        self.calls = _bucketed(calls, names)
        if not ordered:
            self.calls = {title: [_as_sets(row) for row in rows] for title, rows in self.calls.items()}
        self.spans = _bucketed(spans, names)
        self.observed = _named(observed, names)
        owners = [call.session_id or (call.body or {}).get("event_id") for call in run.calls]
        self.order = _order(
            [_replace(title, names) for title, _ in calls], [owner and names[owner] for owner in owners]
        )


def _call_row(call: Call) -> Row:
    fields = {
        "query": call.query,
        "authorization": call.authorization,
        "body": call.body,
        "answered session": call.session_id,
    }
    return _flat({key: value for key, value in fields.items() if value not in (None, {})})


def _span_row(span: Mapping[str, Any], spans: Sequence[Mapping[str, Any]]) -> Row:
    parents = [other["name"] for other in spans if other["span_id"] == span["parent_span_id"]]
    parent = parents[0] if parents else "<remote>" if span["parent_span_id"] else None
    return _flat({"parent": parent, **{key: span[key] for key in ("kind", "status", "attributes", "events")}})


def _flat(value: Any, path: str = "") -> Row:
    """Nested dicts and lists as one level; what is empty stays visible as `{}` or `[]`."""
    if not value or not isinstance(value, dict | list):
        return {path: json.dumps(value)} if path else {}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {k: v for key, item in items for k, v in _flat(item, f"{path}.{key}" if path else str(key)).items()}


def _order(titles: Sequence[str], owners: Sequence[str | None]) -> Row:
    """By owner: the calls that are its own or nobody's, in their order."""
    found: dict[str, list[str]] = {owner: [] for owner in owners if owner} or {"calls": []}
    for title, owner in zip(titles, owners, strict=True):
        for name, calls in found.items():
            if owner in (None, name):
                calls.append(title if owner else f"({title})")
    return {name: "; ".join(calls) for name, calls in found.items()}


def _id_names(calls: Sequence[Call], rows: Sequence[tuple[str, Row]]) -> dict[str, str]:
    """A name for each id: of the session or run that was made under it, else of all places where it stands.

    Ids of one name are numbered by what stands beside them in calls, and only where that is equal in their order.
    """
    bases: dict[str, str] = {}
    for call in calls:
        if call.session_id:
            bases.setdefault(call.session_id, f"session {call.body['session'].get('session_name')}")
        if call.path == RUNS:
            bases.setdefault(call.body["run_id"], f"run {call.body.get('name')}")
    places: dict[str, list[str]] = defaultdict(list)
    beside: dict[str, list[str]] = defaultdict(list)
    for title, row in rows:
        text = UUID.sub("<id>", f"{title} {sorted(row.items())}")
        for path, value in row.items():
            for identifier in UUID.findall(title + path + value):
                places[identifier].append(f"{UUID.sub('<id>', title)} {UUID.sub('<id>', path)}")
                beside[identifier].append(text if title.startswith("call ") else "")
    for identifier, found in places.items():
        bases.setdefault(identifier, f"id in {max(found)}")
    names: dict[str, str] = {}
    for identifier in sorted(bases, key=lambda found: sorted(beside[found])):
        names[identifier] = _unique(bases[identifier], names)
    return names


def _as_sets(row: Row) -> Row:
    """The row with the items of each list in the order of their values."""
    lists: dict[str, list[str]] = defaultdict(list)
    for path, value in row.items():
        lists[ITEM.sub("", path)].append(value)
    items = {path: iter(sorted(values)) for path, values in lists.items()}
    return {path: next(items[ITEM.sub("", path)]) for path in row}


def _unique(name: str, names: Mapping[str, str]) -> str:
    taken = set(names.values())
    candidates = (f"<{name}>" if n == 1 else f"<{name} #{n}>" for n in range(1, len(taken) + 2))
    return next(candidate for candidate in candidates if candidate not in taken)


def _replace(text: str, names: Mapping[str, str]) -> str:
    return UUID.sub(lambda match: names.get(match[0], match[0]), text)


def _named(row: Row, names: Mapping[str, str]) -> Row:
    return {_replace(path, names): _replace(value, names) for path, value in row.items()}


def _bucketed(rows: Sequence[tuple[str, Row]], names: Mapping[str, str]) -> dict[str, list[Row]]:
    buckets: dict[str, list[Row]] = defaultdict(list)
    for title, row in rows:
        buckets[_replace(title, names)].append(_named(row, names))
    return buckets


def _keys(want: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys([*want, *got]))


def _pair(title: str, want: Mapping[str, list[Row]], got: Mapping[str, list[Row]]) -> Iterator[str]:
    """Equal rows first, then of those left over always the two that share most fields; what remains is alone."""
    found = list(got.get(title, []))
    left = []
    for row in want.get(title, []):
        if row in found:
            found.remove(row)
        else:
            left.append(row)
    while left and found:
        pairs = ((row, other) for row in left for other in found)
        row, other = max(pairs, key=lambda pair: len(pair[0].items() & pair[1].items()))
        left.remove(row)
        found.remove(other)
        yield from _fields(title, row, other)
    yield from (f"{title}: missing" for _ in left)
    yield from (f"{title}: unexpected" for _ in found)


def _fields(title: str, want: Row, got: Row) -> Iterator[str]:
    for path in _keys(want, got):
        if want.get(path) != got.get(path):
            yield f"{title}: {path}: {want.get(path, 'absent')} -> {got.get(path, 'absent')}"
