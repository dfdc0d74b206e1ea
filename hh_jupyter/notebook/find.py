"""`%hh find`: search the spans of this kernel, and with `--all` those on disk, and show the hits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from hh_jupyter.display.format import clean, count
from hh_jupyter.display.found import Found, FoundGroup, bundle
from hh_jupyter.display.search import Hits, SearchText
from hh_jupyter.export import otlp
from hh_jupyter.export.finalize import redactor_of
from hh_jupyter.notebook.cells import Cells
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.sessions import SHORT_ID, TITLE_LENGTH, KnownSession, NotebookSessions, SessionStore
from hh_jupyter.notebook.views import view_id_of
from hh_jupyter.query import MAX_STORED_BYTES, find_text
from hh_jupyter.records.calls import key_of
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.selection import ALL, BACKGROUND, cell_number
from hh_jupyter.tracing.span_store import span_log


class FindCommand:
    """`%hh find`.

    Args:
        sessions: sessions of the notebook.
        outputs: shows the hits.
        cells: knows the running cell.
        store: knows the sessions on disk.
    """

    def __init__(self, sessions: NotebookSessions, outputs: Outputs, cells: Cells, store: SessionStore) -> None:
        self._sessions, self._outputs, self._cells, self._store = sessions, outputs, cells, store

    def find(self, text: str, *, errors_only: bool, on_disk: bool) -> str | None:
        """Show the hits of a text below the running cell.

        Args:
            text: the text; at least one character that is no white space.
            errors_only: only spans in error.
            on_disk: also the sessions that earlier kernels left on disk.

        Returns:
            A message to print, if there are no hits.
        """
        tracer, wanted = self._sessions.tracer, SearchText(text)
        tracer.wait_processed()
        records = span_log().records()
        known = {one.id: one for one in self._store.all()} if on_disk else {}
        groups = _Groups(self._title_of(known), self._number_of)
        groups.add(hits for hits in find_text(records, wanted) if not errors_only or hits.record.status == "error")
        left_out = 0
        if on_disk and tracer.spool is not None:
            here = {key_of(record) for record in records}
            rows, left_out = tracer.spool.search(wanted.may_be_in, MAX_STORED_BYTES)
            for row in rows:
                found = (
                    wanted.hits(*one) for one in otlp.spans_of(row.body, wanted.may_be_in) if key_of(one[0]) not in here
                )
                groups.add(hits for hits in found if hits and (not errors_only or hits.record.status == "error"))
        if not errors_only:
            titles = {one: session.title for one, session in known.items()}
            titles |= {one: title for record in records if (one := record.session_id) and (title := self._title(one))}
            groups.add_names({one: title for one, title in titles.items() if wanted.found_in(title)})
        shown = clean(redactor_of(tracer.settings).text(text)[0], TITLE_LENGTH)
        searched, places = count(len(records), "span"), ""
        if on_disk:
            spans = sum(session.spans for session in known.values()) + sum(not record.session_id for record in records)
            searched, places = count(spans, "span"), count(len(known), "session")
        typed = "TEXT" if shown != text else f"'{text}'" if " " in text and "'" not in text else text
        notes = self._notes(typed, on_disk=on_disk, left_out=left_out)
        if not (hits := groups.latest_first()):
            return "\n".join([f"hh: no hits for {shown} in {searched}{' of ' if places else ''}{places}.", *notes])
        if places:
            notes.insert(0, f"Searched {places}, also of earlier kernels.")
        result = Found(shown, hits, searched, notes)
        self._outputs.show_data(bundle(result, view_id := self._view_id), view_id)
        return None

    @property
    def _view_id(self) -> str:
        return f"{view_id_of(self._cells.cell_id, self._cells.label)}-found"

    def _notes(self, typed: str, *, on_disk: bool, left_out: int) -> list[str]:
        notes, forgotten = [], span_log().evicted
        if not on_disk:
            older = f"{count(forgotten, 'older span')} of this kernel and " if forgotten else ""
            notes.append(f"%hh find {typed} --all also searches {older}the sessions of earlier kernels on disk.")
        if left_out:
            notes.append(f"{count(left_out, 'older group')} of spans on disk may have more hits; not searched.")
        return notes

    def _title(self, session_id: str) -> str | None:
        return self._sessions.title(session_id)

    def _title_of(self, known: Mapping[str, KnownSession]) -> Callable[[str], str]:
        def title(session_id: str) -> str:
            session = known.get(session_id)
            return (session.title if session is not None else self._title(session_id)) or "-"

        return title

    def _number_of(self, key: str) -> str | None:
        """Return the number of the cell if this is its latest run, which `%hh show` shows by the number."""
        number = cell_number(key)
        try:
            return number if self._outputs.cells.key(number) == key else None
        except KeyError:
            return None


class _Groups:
    """Hits by the cell or session that a command shows.

    Args:
        title: returns the title of a session.
        number: returns the number of a cell by the key of its run; None if it was run again.
    """

    def __init__(self, title: Callable[[str], str], number: Callable[[str], str | None]) -> None:
        self._title, self._number = title, number
        self._hits: defaultdict[tuple[str, str], list[Hits]] = defaultdict(list)
        self._named: set[str] = set()

    def add(self, found: Iterable[Hits]) -> None:
        """Add hits."""
        for hits in found:
            self._hits[self._place(hits.record)].append(hits)

    def add_names(self, titles: Iterable[str]) -> None:
        """Add sessions whose names have a hit, by id."""
        self._named |= set(titles)

    def latest_first(self) -> list[FoundGroup]:
        """Return the groups by their latest span; at the end, sessions of which only the name has a hit."""
        ordered = sorted(self._hits.items(), key=lambda one: max(_end(hits.record) for hits in one[1]), reverse=True)
        groups = [self._group(*place, hits) for place, hits in ordered]
        return groups + [
            self._group("session", one, []) for one in sorted(self._named) if ("session", one) not in self._hits
        ]

    def _place(self, record: SpanRecord) -> tuple[str, str]:
        if record.cell is not None and (number := self._number(record.cell)) is not None:
            return "cell", number
        if record.session_id:
            return "session", record.session_id
        return "", BACKGROUND if record.cell is None else ALL

    def _group(self, kind: str, name: str, hits: list[Hits]) -> FoundGroup:
        hits.sort(key=lambda one: one.record.start_ns)
        if kind != "session":
            title = (
                f"cell {name}" if kind else {BACKGROUND: "spans outside cells", ALL: "cells that were run again"}[name]
            )
            return FoundGroup(title, f"%hh show {name}", hits)
        title = clean(self._title(name), TITLE_LENGTH)
        return FoundGroup(f"session {title}", f"%hh show {name[:SHORT_ID]}", hits, named=name in self._named)


def _end(record: SpanRecord) -> int:
    return record.end_ns or record.start_ns
