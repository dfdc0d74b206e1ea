"""The interactive view in one HTML file: it opens from disk without a network, prints, and `%hh show` reads it back.

The page contains the front end, the header and columns of each view, and the spans; `display/static/file.js` answers
the front end instead of a kernel. The spans are the OTLP JSON lines that `%hh save` writes. Details that the page
cannot derive are unknown fields of a span, which other readers ignore. All data is compressed. A browser without
scripts shows the static output of each view, and so does the printed page.

The content security policy lets nothing run but the front end, by its hash, and nothing load.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from hh_jupyter.display import hub
from hh_jupyter.display.columns import encode_header, encode_rows
from hh_jupyter.display.content import span_details
from hh_jupyter.display.format import clean, count, shorten
from hh_jupyter.display.html import escape, render
from hh_jupyter.display.media import ImageCollector
from hh_jupyter.display.preview import preview
from hh_jupyter.display.view import CellView
from hh_jupyter.export import otlp
from hh_jupyter.otlp_files import page_data
from hh_jupyter.otlp_files.foreign_spans import rows_of_bodies
from hh_jupyter.otlp_files.json_lines import spans_of
from hh_jupyter.records import prices
from hh_jupyter.records.calls import key_of
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.record import ForeignRecord, SpanDetails
from hh_jupyter.records.totals import summarize
from hh_jupyter.records.tree import SpanTree
from hh_jupyter.redaction import Redactor, RedactorWithFunction

MAX_CONTENT_BYTES: Final = 5_000_000
"""Maximum size that the content of spans takes in the file. Failed spans come first."""

MAX_VALUE: Final = 200
MAX_VALUES: Final = 2_000
"""Characters of JSON: longer values, and values beyond this sum, are content and not facts about a span."""

MAX_EVENTS: Final = 10
MAX_VIEWS: Final = 20
"""Sessions that have a view each; more of them share one."""

PRINTED_ROWS: Final = 200
"""Rows of spans in the static forms, all together."""

MAX_TITLE: Final = 80
_CUT: Final = "the content of this span was left out: the file holds up to 5 MB of content"


class ReportFile(NamedTuple):
    """A page.

    Attributes:
        data: the file.
        span_ids: the spans in it.
        note: one sentence about what was left out; empty if nothing was.
    """

    data: bytes
    span_ids: set[int]
    note: str


def spans_page(
    bodies: Iterable[bytes], redactor: Redactor | RedactorWithFunction, titles: Mapping[str, str]
) -> ReportFile:
    """Return a page with a view of each session; of several, those without an error are folded.

    Args:
        bodies: serialised export requests; a span may be in several.
        redactor: redacts the spans, which may have been stored with other settings.
        titles: titles of sessions by id.
    """
    records = rows_of_bodies(bodies, redactor)
    shown = {session: str(redactor.text(title)[0]) for session, title in titles.items()}
    views = _views(records, shown)
    if len(views) > 1:
        views = [view if view.tree.deepest_error is not None else replace(view, mode="line") for view in views]
    names = [view.session_name for view in views if view.session_name]
    heading = names[0] if len(names) == len(views) == 1 else count(len({one.session_id for one in records}), "session")
    body = "\n".join(f"{_session_heading(view) if len(views) > 1 else ''}{_static(view)}" for view in views)
    return _page(heading, body, views, records)


def _static(view: CellView) -> str:
    """Return the form without scripts, which is also printed: nothing in it is folded."""
    return render(replace(view, mode="tree"))


def _session_heading(view: CellView) -> str:
    return f"<h2>{escape(view.session_name, MAX_TITLE)}</h2>\n" if view.session_name else ""


def result_page(
    title: str, report: str, bodies: Iterable[bytes], redactor: Redactor | RedactorWithFunction
) -> ReportFile:
    """Return a page with the report of a result, whose rows unfold to their spans.

    Args:
        title: title of the page, redacted.
        report: HTML of the report; it has an element for the view of each session.
        bodies: serialised export requests.
        redactor: redacts the spans.
    """
    records = rows_of_bodies(bodies, redactor)
    return _page(title, report, _views(records, {}, most=len(records)), records)


def _views(records: Sequence[ForeignRecord], titles: Mapping[str, str], most: int = MAX_VIEWS) -> list[CellView]:
    """Return the view of each session, the earliest first, with the tree open."""
    if any(prices.needs_table(record.facts) for record in records):
        prices.load()
    groups: dict[str | None, list[ForeignRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda one: one.start_ns):
        groups[record.session_id].append(record)
    if len(groups) > most:
        groups = {None: list(records)}
    return [
        CellView(
            view_id=f"hh-session-{session or 'none'}",
            label="",
            tree=SpanTree.build(found),
            totals=summarize(found),
            export=ExportState(None, made=len(found)),
            session_name=titles.get(session or ""),
            session_id=session,
            mode="tree",
            max_rows=max(10, PRINTED_ROWS // len(groups)),
            source="Saved",
        )
        for session, found in groups.items()
    ]


# The spans, each with its details.


def _span_lines(records: Sequence[ForeignRecord]) -> tuple[bytes, int]:
    """Return the lines, and the number of spans whose content did not fit."""
    by_key = {key_of(record): record for record in records}
    sources = {id(record.source): record.source for record in records}
    documents = [otlp.to_document(body) for source in sources.values() for body in source.bodies(records)]
    scopes = [scope for one in documents for part in one["resourceSpans"] for scope in part["scopeSpans"]]
    spans = [span for scope in scopes for span in scope["spans"]]
    used, cut = 0, 0
    for span in sorted(spans, key=lambda one: one.get("status", {}).get("code") != 2):
        record = by_key[int(span["traceId"], 16), int(span["spanId"], 16)]
        facts = _without_content(span)
        details = _details(record, record.source.details(record))
        if facts == span:
            details.pop("attributes", None)  # The page reads them from the span.
        else:
            size = len(zlib.compress(_json({**span, "details": details}), 1)) * 4 // 3  # In base64.
            if used + size > MAX_CONTENT_BYTES:
                cut += 1
                span.clear()
                span.update(facts)
                details = {
                    **_details(record, _read(facts)),
                    "dropped": facts.get("droppedAttributesCount", 0),
                    "hint": _CUT,
                }
                details.pop("attributes", None)
            else:
                used += size
        span["details"] = details
    return b"\n".join(map(_json, documents)), cut


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _details(record: ForeignRecord, details: SpanDetails | None) -> dict[str, Any]:
    images = ImageCollector()
    found = span_details(record, details, images) if details is not None else {}
    if shown := preview(record, details):
        found["preview"] = shown
    return {**found, **({"images": [base64.b64encode(one).decode() for one in images.taken]} if images.taken else {})}


def _read(span: Mapping[str, Any]) -> SpanDetails:
    ((_, message),) = spans_of({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
    return otlp.details_of(message)


def _without_content(span: Mapping[str, Any]) -> dict[str, Any]:
    """Return a span of OTLP JSON without its content; an equal one if it has none."""
    left, dropped = MAX_VALUES, 0

    def shortened(owner: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal left, dropped
        pairs = []
        for pair in owner.get("attributes", ()):
            if (size := len(json.dumps(pair))) <= min(MAX_VALUE, left):
                left -= size
                pairs.append(pair)
            else:
                dropped += 1
        return {**owner, **({"attributes": pairs} if "attributes" in owner else {})}

    facts = shortened(span)
    for name in {"events", "links"} & span.keys():
        facts[name] = [shortened(one) for one in span[name][:MAX_EVENTS]]
    facts["name"] = shorten(span.get("name", ""), MAX_VALUE)
    if message := span.get("status", {}).get("message"):
        facts["status"] = {**span["status"], "message": shorten(message, MAX_VALUE)}
    if dropped:
        facts["droppedAttributesCount"] = span.get("droppedAttributesCount", 0) + dropped
    return facts


# The page.

_STYLE: Final = """
:root { color-scheme: light dark; }
body { margin: 0; background: #fff; color: #1b1f27; font: 14px/1.5 system-ui, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 16px; }
header { margin: 0 0 14px; overflow-wrap: anywhere; }
header p { margin: 2px 0; opacity: .8; }
h1 { margin: 0; font-size: 18px; }
h2 { margin: 0 0 4px; font-size: 14px; }
.hh-output { margin: 0 0 14px !important; }
[data-focus="python"], .hh-feedback { display: none !important; }
@media (prefers-color-scheme: dark) { body { background: #0f1115; color: #e4e7ec; } }
@media print {
  :root { color-scheme: light; }
  body { background: #fff; color: #000; }
  main { max-width: none; padding: 0; }
  .hh-live > .hh-view { display: none; }
  .hh-live.hh-live > :not(.hh-view) { display: block !important; }
  tr, summary { break-inside: avoid; }
  * { print-color-adjust: exact; }
}
"""
"""The page around the views. Printed are the static forms, which have no scroll bars; the page has no kernel to ask for
Python code."""


def _page(heading: str, body: str, views: Sequence[CellView], records: Sequence[ForeignRecord]) -> ReportFile:
    lines, cut = _span_lines(records)
    note = f"The content of {count(cut, 'span')} was left out: a report holds up to 5 MB of it." if cut else ""
    script = hub.file_script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src blob: data:; "
        "base-uri 'none'; form-action 'none'"
    )
    title = escape(heading, MAX_TITLE)
    facts = f"{count(len(records), 'span')}, saved by hh_jupyter. {note}".rstrip()
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width"><meta name="referrer" content="no-referrer"><title>{title}</title>
<style>{_STYLE}{hub.front_end_style()}</style></head><body><main>
<header><h1>{title}</h1><p>{facts}</p></header>
{body}
</main>
{page_data.element("hh-views", _view_bytes(views))}
{page_data.element(page_data.SPANS_ID, lines)}
<script type="module">{script}</script>
</body></html>
"""
    return ReportFile(page.encode("utf-8", "replace"), {record.span_id for record in records}, note)


def _view_bytes(views: Sequence[CellView]) -> bytes:
    """Return a line of JSON with the headers, then the columns of all views."""
    described, data = [], []
    for view in views:
        rows, columns = encode_rows(view)
        error = view.tree.deepest_error
        header = {**encode_header(view), **rows}
        header["selected"] = f"{error.record.span_id:016x}" if error is not None else None
        described.append(
            {"id": clean(view.view_id, 300), "header": header, "lengths": [len(column) for column in columns]}
        )
        data += columns
    return b"\n".join((_json(described), b"".join(data)))
