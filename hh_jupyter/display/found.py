"""Render what a search found as text and static HTML: the hits by cell and session, and how to open each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hh_jupyter.display.format import clean, count, fit, span_name
from hh_jupyter.display.html import BORDER, GREY, MUTED, PLAIN_CODE, ROOT_STYLE, escape
from hh_jupyter.display.search import Hits
from hh_jupyter.display.view import KIND_WORDS

MAX_ROWS: Final = 30
"""Spans that are shown, each by its first hit; the others are counted."""

TITLE_LENGTH: Final = 60
NOTE_LENGTH: Final = 200
NAME_WIDTH: Final = 28
WHERE_WIDTH: Final = 14


@dataclass(frozen=True, slots=True)
class FoundGroup:
    """Hits in one cell or session.

    Attributes:
        title: what it is. Example: "cell 4", "session refund-triage #3".
        command: shows its spans. Example: "%hh show 4".
        hits: by the start of their spans; may be empty if the name has the hit.
        named: whether the session's name has a hit.
    """

    title: str
    command: str
    hits: Sequence[Hits]
    named: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search.

    Attributes:
        text: what was searched for, redacted.
        groups: the latest first.
        searched: what was searched. Example: "22 spans".
        notes: sentences below the hits, such as what was left out.
    """

    text: str
    groups: Sequence[FoundGroup]
    searched: str
    notes: Sequence[str] = ()

    @property
    def summary(self) -> str:
        """The numbers. Example: "9 hits in 4 of 22 spans and 1 in session names"."""
        spans = [hits for group in self.groups for hits in group.hits]
        named = sum(group.named for group in self.groups)
        hits = f"{count(sum(hits.count for hits in spans), 'hit')} in {len(spans):,} of {self.searched}"
        if not spans:
            return f"{count(named, 'hit')} in session names"
        return f"{hits} and {named:,} in session names" if named else hits

    def shown(self) -> tuple[list[FoundGroup], str]:
        """Return the groups with at most `MAX_ROWS` rows, and a sentence about the others; empty if there are none."""
        left, groups = MAX_ROWS, []
        for group in self.groups:
            if left <= 0:
                break
            groups.append(replace(group, hits=group.hits[:left]))
            left -= max(1, len(group.hits))
        hidden = sum(len(group.hits) for group in self.groups) - sum(len(group.hits) for group in groups)
        parts = [count(hidden, "more span") if hidden else ""]
        others = len(self.groups) - len(groups)
        parts.append(f"{others:,} more {'cell or session' if others == 1 else 'cells and sessions'}" if others else "")
        return groups, " in ".join(filter(None, parts)) + " not shown." if any(parts) else ""


def bundle(found: Found, view_id: str) -> dict[str, str]:
    """Return the data of the output by mime type.

    Args:
        found: the result.
        view_id: id of the output's element in the page.
    """
    return {"text/plain": render_text(found), "text/html": render_html(found, view_id)}


def render_text(found: Found) -> str:
    """Return the result as text, one line per span; the match is in « »."""
    groups, more = found.shown()
    lines = [f"{found.summary} for {clean(found.text, TITLE_LENGTH)}"]
    for group in groups:
        lines += ["", f"{clean(group.title, TITLE_LENGTH)}   {clean(group.command, TITLE_LENGTH)}"]
        lines += [f"  {line}".rstrip() for line in _lines(group)]
    return "\n".join(
        [
            *lines,
            *(["", *notes] if (notes := [clean(note, NOTE_LENGTH) for note in (more, *found.notes) if note]) else []),
        ]
    )


def _lines(group: FoundGroup) -> Iterator[str]:
    if group.named:
        yield "the name of the session has the text"
    for hits in group.hits:
        kind = f"{KIND_WORDS.get(hits.record.facts.kind, 'span'):<5}"
        name, where = fit(span_name(hits.record.name), NAME_WIDTH), fit(hits.where, WHERE_WIDTH)
        more = f"  ({count(hits.count, 'hit')})" if hits.count > 1 else ""
        yield f"{kind} {name}  {where}  {hits.before}«{hits.match}»{hits.after}{more}"


_CELL: Final = "text-align:left;padding:1px 8px 1px 0;border:0;vertical-align:top;overflow-wrap:anywhere"
_CHIP: Final = "border-radius:5px;padding:0 5px;font-size:11px;white-space:nowrap"
_MATCH: Final = "background-color:rgba(214,148,25,.3);border-radius:3px"


def render_html(found: Found, view_id: str) -> str:
    """Return the result as static HTML, complete without styles: the match is bold."""
    groups, more = found.shown()
    parts = [f'<div style="padding:5px 12px"><b>{escape(found.summary)}</b> for {_code(found.text)}</div>']
    parts += [_group(group) for group in groups]
    notes = "".join(f"<div>{escape(note)}</div>" for note in (more, *found.notes) if note)
    if notes:
        parts.append(f'<div style="border-top:{BORDER};padding:4px 12px;font-size:12px;{MUTED}">{notes}</div>')
    inner = "\n".join(parts)
    classes = "hh-output tex2jax_ignore mathjax_ignore"
    return f'<div class="{classes}" id="{escape(view_id)}" style="{ROOT_STYLE}">{inner}</div>'


def _code(text: str) -> str:
    return f'<code style="{PLAIN_CODE}">{escape(text, TITLE_LENGTH)}</code>'


def _group(group: FoundGroup) -> str:
    named = f'<div style="{MUTED}">the name of the session has the text</div>' if group.named else ""
    rows = "\n".join(map(_row, group.hits))
    table = f'<table style="width:100%;border-collapse:collapse;border:0;margin:0;font-size:12px">{rows}</table>'
    head = f"<b>{escape(group.title, TITLE_LENGTH)}</b> &nbsp; {_code(group.command)}"
    return (
        f'<div style="border-top:{BORDER};padding:4px 12px"><div>{head}</div>{named}{table if group.hits else ""}</div>'
    )


def _row(hits: Hits) -> str:
    small = f"{_CELL};font-size:11px;{MUTED}"
    chip = f' <span style="background-color:{GREY};{_CHIP}">{hits.count:,} hits</span>' if hits.count > 1 else ""
    # `escape` removes the spaces around the match.
    before, after = (" " if hits.before.endswith(" ") else ""), (" " if hits.after.startswith(" ") else "")
    line = f'{escape(hits.before)}{before}<b style="{_MATCH}">{escape(hits.match)}</b>{after}{escape(hits.after)}'
    return (
        f'<tr><td style="{small};white-space:nowrap;width:7%">{KIND_WORDS.get(hits.record.facts.kind, "span")}</td>'
        f'<td style="{_CELL};width:24%">{escape(span_name(hits.record.name))}</td>'
        f'<td style="{small};width:14%">{escape(hits.where)}</td>'
        f'<td style="{_CELL}">{line}{chip}</td></tr>'
    )
