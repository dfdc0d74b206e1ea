"""`diff()` and `SpanDiff`: what changed between two runs of a program."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from hh_jupyter.display import html
from hh_jupyter.display.content import Detail
from hh_jupyter.display.delta import clock
from hh_jupyter.display.diff import DiffView, diff_html, diff_text
from hh_jupyter.export.model import Session
from hh_jupyter.query import SpanList, data_frame, spans
from hh_jupyter.records import prices
from hh_jupyter.records.diff import SpanChange, TreeDiff, cost_of
from hh_jupyter.records.nodes import SpanNode
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.selection import ALL, BACKGROUND, LAST, SelectionError, steps_back
from hh_jupyter.settings import display_settings
from hh_jupyter.tracing.span_store import Selected, detail_store, selector

if TYPE_CHECKING:
    import pandas as pd

Selectable = str | int | Session | Iterable[SpanRecord | ReadableSpan]

_COLUMNS: Final = (
    "mark", "name", "kind", "what", "old_ms", "new_ms", "change_ms", "old_tokens", "new_tokens", "change_tokens",
    "old_cost", "new_cost", "old_status", "new_status", "old_span_id", "new_span_id",
)  # fmt: skip


class SpanDiff(TreeDiff):
    """The difference of two runs. A notebook displays what differs as a table; its `repr` is the same as text.

    `changed`, `added`, `removed` and `moved` are lists of `SpanChange`: its `what` says what changed, its `texts` are
    the messages, parameters, inputs and outputs of both runs, and `old` and `new` the spans.

    Args:
        old, new: the spans of both runs.
        names: names of the runs, for the displays.
        detail: how much of the texts that differ the displays include; None: as the setting `saved_detail` says.
        command: shows the difference again; empty if no command does.
    """

    def __init__(
        self,
        old: SpanList,
        new: SpanList,
        names: tuple[str, str] = ("old", "new"),
        *,
        detail: Detail | None = None,
        command: str = "",
    ) -> None:
        if any(prices.needs_table(record.facts) for one in (old, new) for record in one):
            prices.load()
        super().__init__(old.tree, new.tree, detail_store().load_all)
        self._names, self._detail, self._command = names, detail, command

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one flat dict per span of either run, also those that are the same, in the order of the new run."""
        return [_flat(row) for row in self.rows]

    def to_pandas(self) -> pd.DataFrame:
        """Return a DataFrame with one row per span of either run and the keys of `to_dicts` as columns.

        Raises:
            ImportError: pandas is not installed.
        """
        return data_frame(self.to_dicts(), _COLUMNS)

    def __repr__(self) -> str:
        return diff_text(self._view("summary"))

    def _repr_html_(self) -> str:
        """Return static, self-contained HTML; span content is escaped."""
        return diff_html(self._view(display_settings().saved_detail))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return text and HTML, as far as included."""
        return html.requested({"text/plain": repr(self), "text/html": self._repr_html_()}, include, exclude)

    @property
    def titles(self) -> tuple[str, str]:
        """The names of both runs, with their time. Example: "run 3, 14:02"."""
        starts = self.old.start_ns, self.new.start_ns
        old, new = self._names
        return f"{old}, {clock(*starts)}", f"{new}, {clock(*reversed(starts))}"

    def _view(self, default: str) -> DiffView:
        old, new = self.titles
        detail: Any = self._detail or default
        return DiffView(self, old, new, display_settings().display_rows, detail, self._command)


def diff(a: Selectable | None = None, b: Selectable | None = None, *, detail: Detail | None = None) -> SpanDiff:
    """Compare two runs: `diff(old, new)`, or `diff(new)` to compare with the run before.

    Example:
        >>> diff("4~1", "4").changed  # doctest: +SKIP

    Args:
        a, b: a cell's number or "last", a session's title, name or id, as the commands of `%hh` take them, with `~1`
            for the run before; a `Session`; or spans, as `SpanList` takes them. Without any, the last two runs of the
            last cell with spans.
        detail: how much of the texts that differ the displays include: "summary" none, "preview" the beginnings,
            "full" all; None: as the setting `saved_detail` says.

    Raises:
        TypeError: an argument is neither.
        ValueError: there are no such spans, or no run before.
    """
    if detail not in (None, "summary", "preview", "full"):
        raise ValueError(f"diff(detail={detail!r}): expected summary, preview or full.")
    try:
        return compare(a, b, detail)
    except SelectionError as error:
        raise ValueError(f"diff(): {error}") from None


def compare(a: Selectable | None, b: Selectable | None, detail: Detail | None = None) -> SpanDiff:
    """As `diff`, for the commands.

    Raises:
        SelectionError: there are no such spans, or no run before.
    """
    new = b if b is not None else a if a is not None else LAST
    old = _run_before(new) if b is None or a is None else a
    after, before = _selected(new), _selected(old)
    named = isinstance(old, str | int) and isinstance(new, str | int)
    command = f"%hh diff {before.label} {after.label}" if named and before.label and after.label else ""
    names = before.title, after.title
    return SpanDiff(SpanList(before.records), SpanList(after.records), names, detail=detail, command=command)


def _run_before(new: Selectable) -> str:
    if not isinstance(new, str | int) or str(new) in (ALL, BACKGROUND):
        raise SelectionError("what has no run before needs two arguments, the old spans and the new ones.")
    text, back = steps_back(str(new))
    return f"{text}~{back + 1}"


def _selected(one: Selectable) -> Selected:
    """Return the spans that an argument means."""
    if isinstance(one, Session):
        found = Selected(spans(session=one.id), one.name)
    elif isinstance(one, str) or (isinstance(one, int) and one is not True and one is not False):
        select = selector()
        found = _of_program(str(one)) if select is None else select(str(one))
    else:
        found = Selected(SpanList(one), "spans")  # type: ignore[arg-type]
    if not found.records:
        raise SelectionError(f"no spans in {found.title!r}.")
    return found


def _of_program(text: str) -> Selected:
    """Select outside of notebooks, where there are no cells."""
    return Selected(spans() if text == ALL else spans(session=text), text)


def _flat(row: SpanChange) -> dict[str, Any]:
    record = row.node.record
    old, new = _numbers(row.old), _numbers(row.new)
    values: dict[str, Any] = {
        "mark": row.mark,
        "name": record.name,
        "kind": record.facts.kind,
        "what": ", ".join(row.what),
        **{f"old_{key}": value for key, value in old.items()},
        **{f"new_{key}": value for key, value in new.items()},
    }
    for key in ("ms", "tokens"):
        known = old[key] is not None and new[key] is not None
        values[f"change_{key}"] = new[key] - old[key] if known else None
    return {key: values[key] for key in _COLUMNS}


def _numbers(node: SpanNode | None) -> dict[str, Any]:
    if node is None:
        return dict.fromkeys(("ms", "tokens", "cost", "status", "span_id"))
    return {
        "ms": (node.end_ns - node.start_ns) / 1e6,
        "tokens": node.tokens,
        "cost": cost_of(node.record),
        "status": node.record.status,
        "span_id": f"{node.record.span_id:016x}",
    }
