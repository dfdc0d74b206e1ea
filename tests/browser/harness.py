"""A page with cell outputs and a stand-in for the widget model, connected to the real hub over HTTP.

Run `python -m tests.browser.harness` and open the address it prints, with `#dark` for the dark
theme, `?cells=big` for other cells than the small ones, `&static` for the outputs as they are without a kernel.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Request

from hh_jupyter.display import hub
from hh_jupyter.display.content import span_details
from hh_jupyter.display.html import mime_bundle
from hh_jupyter.display.hub import Hub
from hh_jupyter.display.live_report import LiveReport
from hh_jupyter.display.media import ImageCollector
from hh_jupyter.display.preview import previews
from hh_jupyter.display.search import Candidates, HitCounter, search_reply
from hh_jupyter.display.snippet import python_code
from hh_jupyter.display.view import CellView
from hh_jupyter.records.calls import key_of
from hh_jupyter.records.record import SpanDetails, SpanRecord
from tests.browser.compared_runs import EDITED, LENGTHY, ComparedRuns, edited
from tests.browser.sample_again import sample_request
from tests.browser.sample_cells import sample_views
from tests.browser.sample_reports import comparison, displayed, result

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Cells</title>
<link rel="icon" href="data:,"><style>
body {{ margin: 0; background: #fff; color: #1b1f27; font: 14px/1.5 system-ui, sans-serif }}
body[data-jp-theme-light="false"] {{ background: #0f1115; color: #e4e7ec }}
main {{ max-width: 968px; margin: 20px auto; padding: 0 12px }} section {{ margin: 0 0 24px }}
</style></head><body data-jp-theme-light="true"><main>{cells}</main>
<script type="module">
if (location.hash === "#dark") document.body.dataset.jpThemeLight = "false";
const listeners = {{}};
const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
const packed = new DataView(await (await fetch("/packed")).arrayBuffer());
window.asked = [];
window.kernel = {{ alive: true }};
window.model = {{
  get: (name) => (name === "packed" ? packed : undefined),
  on: (name, fn) => (listeners[name] ??= []).push(fn),
  off: (name, fn) => (listeners[name] = (listeners[name] ?? []).filter((other) => other !== fn)),
  tell: (message, buffers) => (listeners["msg:custom"] ?? []).forEach((fn) => fn(message, buffers)),
  emit: (name) => (listeners[name] ?? []).forEach((fn) => fn()),
  async send(message) {{
    window.asked.push(message);
    if (!window.kernel.alive || message.type === "visibility") return;
    const answer = await (await fetch("/message", {{ method: "POST", body: JSON.stringify(message) }})).json();
    if (answer.content) this.tell(answer.content, answer.buffers.map((text) => new DataView(bytes(text).buffer)));
  }},
}};
if (!location.search.includes("static")) {{
  const hub = await import("/hub.js");
  window.stopHub = hub.default.initialize({{ model: window.model }});
}}
</script></body></html>"""


SMALL = ("bar", "agent", "one", "err", "run", "fail", "local")
"""Cells of a page that names none: all but those that are big or odd."""


def asked_by(request: Request) -> dict[str, Any]:
    """A message of the page; {} for other requests."""
    return json.loads(request.post_data or "{}")  # type: ignore[no-any-return]


class _Handler(BaseHTTPRequestHandler):
    server: Harness

    def do_GET(self) -> None:
        if self.path == "/hub.js":
            self._send("text/javascript", hub.LOADER.encode())
        elif self.path == "/packed":
            self._send("application/octet-stream", hub.packed_front_end())
        else:
            asked = parse_qs(urlsplit(self.path).query).get("cells", [""])[0]
            self._send("text/html; charset=utf-8", self.server.page(asked.split(",") if asked else SMALL).encode())

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply, buffers = self.server.hub.reply(content) or (None, [])
        body = {"content": reply, "buffers": [base64.b64encode(buffer).decode() for buffer in buffers]}
        self._send("application/json", json.dumps(body, allow_nan=False).encode())

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


class Harness(ThreadingHTTPServer):
    """The server of one page, at `url`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.views, details = sample_views()
        self.details_by_span = {span_id: found for cell in details.values() for span_id, found in cell.items()}
        self.views["edited"], self.views["compared"] = edited("hh-edited"), edited("hh-compared", shows_diff=True)
        self.views["lengthy"] = LENGTHY.view("hh-lengthy", "5")
        self.details_by_span |= EDITED.details | LENGTHY.details
        self.by_id = {view.view_id: view for view in self.views.values()}
        self.runs = ComparedRuns()
        self.diff, self.diff_span = self.runs.diff, self.runs.diff_span
        self.hits = HitCounter(self._candidates)
        self.given: list[tuple[str, dict[str, Any]]] = []
        self.added: list[tuple[str, str]] = []
        self.again = sample_request()
        self.reports = {"result": displayed(result()), "compare": displayed(comparison())}
        self.hub = Hub(self)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"

    def add_report(self, name: str, report: tuple[str, str, LiveReport]) -> None:
        """Add a report to the cells of the page."""
        self.reports[name] = report

    def view_of(self, view_id: str) -> CellView | None:
        if view_id.startswith("hh-session-"):  # The spans of a row.
            return dataclasses.replace(self.views["agent"], view_id=view_id, label=view_id[11:])
        return self.by_id.get(view_id)

    def report_of(self, view_id: str) -> LiveReport | None:
        return next((report for one, _, report in self.reports.values() if one == view_id), None)

    def details(self, view_id: str, span_id: str, images: ImageCollector | None = None) -> dict[str, Any] | None:
        record, details = self._record(view_id, span_id), self.details_by_span.get(span_id)
        return None if record is None or details is None else span_details(record, details, images)

    def python(self, view_id: str, span_id: str) -> str | None:
        record = self._record(view_id, span_id)
        return None if record is None else python_code(self.by_id[view_id], record, self.details_by_span[span_id])

    def previews(self, view_id: str, span_ids: Sequence[str]) -> dict[str, str]:
        records = [record for one in span_ids if (record := self._record(view_id, one)) is not None]
        return {f"{span_id:016x}": text for span_id, text in previews(records, self._load).items()}

    def search(self, view_id: str, text: str) -> dict[str, Any] | None:
        return search_reply(self.hits, [node.record for node in self.by_id[view_id].tree.nodes], text)

    def feedback(self, view_id: str, span_id: str, given: Mapping[str, Any]) -> str:
        """Kept as the log keeps it: the span's attributes change, and the view with them. A variant is not in it."""
        if "refuse" in str(given.get("note")):
            return "Not saved: the span is no longer in memory."
        if view_id.startswith("hh-session-") or span_id not in self.details_by_span:
            self.given.append((view_id if view_id.startswith("hh-session-") else span_id, dict(given)))
            return ""
        details = self.details_by_span[span_id]
        attributes = {**details.attributes, **{f"honeyhive_feedback.{name}": value for name, value in given.items()}}
        kept = {name: value for name, value in attributes.items() if value is not None}
        self.details_by_span[span_id] = replace(details, attributes=kept)
        view = self.by_id[view_id]
        self.by_id[view_id] = replace(view, revision=view.revision + 2)
        self.given.append((span_id, dict(given)))
        return ""

    def _load(self, records: Sequence[SpanRecord]) -> dict[tuple[int, int], SpanDetails]:
        known = {key_of(one): self.details_by_span.get(f"{one.span_id:016x}") for one in records}
        return {key: details for key, details in known.items() if details is not None}

    def _candidates(self, records: Sequence[SpanRecord], _wanted: Callable[[bytes], bool]) -> Candidates:
        return {key: partial(lambda one: one, details) for key, details in self._load(records).items()}

    def make_again(self, message: Mapping[str, Any], push: Callable[[Mapping[str, Any]], None]) -> Any:
        return self.again if message["action"] == "open" else None

    def send(self) -> str:
        return "All 3 spans were sent."

    def add_to_dataset(self, view_id: str, file: str) -> str:
        self.added.append((view_id, file))
        return f"Added to /home/me/notebooks/{file}, which has {len(self.added)} rows now."

    def save(self, view_id: str) -> str:
        return f"{len(self.by_id[view_id].tree.nodes)} spans saved to hh-spans.jsonl."

    def _record(self, view_id: str, span_id: str) -> SpanRecord | None:
        """None for a span that the cell no longer has: it ran again while the page was asking."""
        view = self.view_of(view_id)
        records = (node.record for node in view.tree.nodes) if view is not None else ()
        return next((record for record in records if record.span_id == int(span_id, 16)), None)

    def page(self, names: Sequence[str]) -> str:
        """These cells, each with its static output."""
        outputs = "".join(f'<section id="{name}">{self.static(name)}</section>' for name in names)
        return PAGE.format(cells=outputs)

    def static(self, name: str) -> str:
        """The static output of a cell."""
        return self.reports[name][1] if name in self.reports else mime_bundle(self.views[name])["text/html"]

    def __enter__(self) -> Harness:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()
        self.server_close()


if __name__ == "__main__":
    with Harness() as harness:
        print(harness.url)
        threading.Event().wait()
