"""The hub's Python side: it replies to the page from its views, and its errors never reach the user's cell."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import comm
import pytest
from comm.base_comm import BaseComm

from hh_jupyter.display import hub as hub_module
from hh_jupyter.display.columns import encode_rows
from hh_jupyter.display.content import read_stack, span_details
from hh_jupyter.display.hub import MAX_REOPENS, Hub
from hh_jupyter.display.live_report import LiveReport
from hh_jupyter.display.media import ImageCollector
from hh_jupyter.display.view import CellView
from hh_jupyter.records import prices
from hh_jupyter.records.record import RecordedEvent, SpanDetails, record_of
from tests.browser.sample_cells import SESSION, STACK, long_chat, one_call, support_agent
from tests.display.views import view as view_of
from tests.spans import RECORDINGS, recorded


class FrontEnd:
    """The page's end of the model: records what the kernel sends to it."""

    comm = None

    def __init__(self) -> None:
        self.sent: list[tuple[dict[str, Any], list[bytes]]] = []

    def send(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        json.dumps(content, allow_nan=False)
        self.sent.append((content, buffers))


class OneView:
    """A source with one view."""

    def __init__(self, view: CellView) -> None:
        self.view = view

    def view_of(self, view_id: str) -> CellView | None:
        return self.view if view_id == self.view.view_id else None

    def report_of(self, view_id: str) -> LiveReport | None:
        return None

    def details(self, view_id: str, span_id: str, images: ImageCollector | None = None) -> dict[str, Any] | None:
        return {"of": f"{view_id}/{span_id}"}

    def python(self, view_id: str, span_id: str) -> str | None:
        return f"spans({view_id!r}, {span_id!r})"

    def diff(self, view_id: str, old: str | None, new: str | None) -> dict[str, Any] | None:
        return {"of": [view_id, old, new]}

    def diff_span(self, diff_id: str, row: int) -> dict[str, Any] | None:
        return {"of": [diff_id, row]}

    def previews(self, view_id: str, span_ids: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(span_ids, f"of {view_id}")

    def search(self, view_id: str, text: str) -> dict[str, Any] | None:
        return {"hits": {"1f": len(text)}, "left": 0} if view_id == self.view.view_id else None

    def feedback(self, view_id: str, span_id: str, given: Mapping[str, Any]) -> str:
        return f"{view_id} {span_id} {dict(given)}"

    def make_again(self, message: Mapping[str, Any], push: Callable[[Mapping[str, Any]], None]) -> Any:
        push({"span": message["span"], "variant": {"number": 1}})
        return {"number": 1}

    def send(self) -> str:
        return "Sent."

    def add_to_dataset(self, view_id: str, file: str) -> str:
        return f"Added to {file}."

    def save(self, view_id: str) -> str:
        return f"{view_id} saved."


class FailingView(OneView):
    """A source that always fails."""

    def view_of(self, view_id: str) -> CellView | None:
        raise RuntimeError("broken")

    def details(self, view_id: str, span_id: str, images: ImageCollector | None = None) -> dict[str, Any] | None:
        raise RuntimeError("broken")


def make_hub(view: CellView) -> Hub:
    return Hub(OneView(view))


def ask(hub: Hub, message: object) -> tuple[dict[str, Any], list[bytes]]:
    page = FrontEnd()
    hub._receive(page, message, [])
    [answer] = page.sent
    return answer


def test_the_header_has_the_texts_of_the_other_displays() -> None:
    """Title, facts and delivery word are those of the summary; the deepest error is selected; it opens when raised."""
    view = support_agent(1, fails=True).view("v", "4", raised=True)
    header = ask(make_hub(view), {"type": "rows", "view": "v", "have": None})[0]["header"]
    assert (header["title"], header["duration"], header["mark"]) == ("support_agent", "2.38 s", "error")
    assert header["errors"] == "1 error"
    assert header["caught"] == "1 caught"
    assert (header["delivery"], header["delivery_state"]) == ("Sent", "sent")
    assert header["open"] is True
    assert header["selected"] == f"{view.tree.deepest_error.record.span_id:016x}" if view.tree.deepest_error else None
    assert header["session"] == {"id": SESSION, "name": "refund-triage", "url": None}


class Recorded(OneView):
    """A source with the spans of one recording."""

    def __init__(self, name: str) -> None:
        self.spans = {span.context.span_id: span for span in recorded(name)}
        super().__init__(view_of([record_of(span) for span in self.spans.values()]))

    def details(self, view_id: str, span_id: str, images: ImageCollector | None = None) -> dict[str, Any] | None:
        span = self.spans[int(span_id, 16)]
        events = tuple(
            RecordedEvent(event.name, event.timestamp, dict(event.attributes or {})) for event in span.events
        )
        return span_details(record_of(span), SpanDetails(dict(span.attributes or {}), events))


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_first_span_selected_has_the_messages(name: str) -> None:
    """Whatever else describes the call: agents around it, spans that the client makes itself below it."""
    source = Recorded(name)
    answer, _ = ask(Hub(source), {"type": "rows", "view": source.view.view_id, "have": None})
    details = {f"{span_id:016x}": source.details("v", f"{span_id:016x}") for span_id in source.spans}
    if source.view.tree.deepest_error is None and any("messages" in (one or {}) for one in details.values()):
        assert "messages" in (details[answer["header"]["selected"]] or {})


def test_rows_are_not_sent_twice() -> None:
    """A changed delivery state costs the header, not the columns."""
    view = support_agent(1).view("v", "4")
    answer, buffers = ask(make_hub(view), {"type": "rows", "view": "v", "have": None})
    again, nothing = ask(make_hub(view), {"type": "rows", "view": "v", "have": answer["header"]["version"]})
    assert buffers
    assert nothing == []
    assert again["header"]["title"] == "support_agent"
    late = support_agent(1)
    late.add("tool", "late", 2900, 2950)
    assert ask(make_hub(late.view("v", "4")), {"type": "rows", "view": "v", "have": answer["header"]["version"]})[1]


def test_an_unknown_view_gets_a_reply_without_header() -> None:
    """For the output of another kernel in the same page, so that the page need not wait."""
    view = one_call(1).view("v", "4")
    answer = ask(make_hub(view), {"type": "rows", "view": "someone-elses", "have": None})
    assert answer == ({"type": "rows", "view": "someone-elses", "header": None}, [])


def test_replies_carry_the_number_of_the_request() -> None:
    """The page matches replies to requests by number."""
    hub = make_hub(one_call(1).view("v", "4"))
    asked = {"type": "details", "number": 7, "view": "v", "span": "0a"}
    assert ask(hub, asked) == ({"type": "answer", "number": 7, "value": {"of": "v/0a"}}, [])
    for kind, value in (("send", "Sent."), ("save", "v saved."), ("python", "spans('v', '0a')")):
        assert ask(hub, {"type": kind, "number": 8, "view": "v", "span": "0a"})[0]["value"] == value


@pytest.mark.parametrize("message", [{"type": "details", "number": 1, "view": "v", "span": "1"}, {"type": "?"}, {}, 3])
def test_an_error_is_logged_and_not_raised(message: object, caplog: pytest.LogCaptureFixture) -> None:
    """A failing source or an invalid message is logged and gets a reply; nothing is raised into the user's cell."""
    with caplog.at_level(logging.CRITICAL, logger="hh_jupyter"):
        answer, buffers = ask(Hub(FailingView(one_call(1).view("v", "4"))), message)
    assert (answer["type"], answer["value"], buffers) == ("answer", None, [])


def test_the_model_is_created_once_and_closed_completely() -> None:
    """Closing leaves no widget behind, not even its layout."""
    from ipywidgets.widgets import widget

    before = set(widget._instances)
    hub = make_hub(one_call(1).view("v", "4"))
    hub.open()
    hub.open()
    assert len(set(widget._instances) - before) == 2
    hub.changed("v")
    hub.close()
    hub.changed("v")
    hub.close()
    assert set(widget._instances) == before


class _EagerPage(BaseComm):
    """A connection whose page asks for rows the moment that the kernel can receive a message."""

    replies: ClassVar[list[Any]] = []

    def publish_msg(
        self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **keys: Any
    ) -> None:
        if msg_type == "comm_msg" and data["method"] == "custom":
            self.replies.append(data["content"])

    def on_msg(self, callback: Any) -> None:
        super().on_msg(callback)
        content = {"type": "rows", "view": "v", "have": None}
        callback({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})


def test_the_first_message_of_a_page_is_answered_however_early_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comm, "create_comm", _EagerPage)
    hub = make_hub(one_call(1).view("v", "4"))
    try:
        hub.open()
        assert [(reply["type"], reply["view"]) for reply in _EagerPage.replies] == [("rows", "v")]
    finally:
        hub.close()


def test_a_page_that_receives_nothing_gets_another_model_a_few_times() -> None:
    """Each replaces the previous one."""
    from ipywidgets.widgets import widget

    before = set(widget._instances)
    hub = make_hub(one_call(1).view("v", "4"))
    hub.open()
    models = []
    for _ in range(10):
        models.append(set(widget._instances) - before)
        hub.reply({"type": "reopen"})
    assert [len(made) for made in models] == [2] * 10
    assert len(set.union(*models)) == 2 * (1 + MAX_REOPENS)
    hub.close()
    assert set(widget._instances) == before


def test_code_stays_below_60_kb() -> None:
    """Module and style sheet, which are sent once per kernel."""
    assert len(hub_module.packed_front_end()) + len(hub_module.LOADER) <= 60_000


def test_differences_are_asked_for_by_their_runs_and_their_spans_by_the_difference() -> None:
    hub = make_hub(one_call(1).view("v", "4"))
    for asked, value in (
        ({"type": "diff", "view": "v", "old": None, "new": None}, ["v", None, None]),
        ({"type": "diff", "view": "v", "old": "3-a", "new": "4-a"}, ["v", "3-a", "4-a"]),
        ({"type": "diff_span", "diff": "2", "row": 7}, ["2", 7]),
    ):
        assert ask(hub, {**asked, "number": 5}) == ({"type": "answer", "number": 5, "value": {"of": value}}, [])


@pytest.mark.parametrize("joined", [hub_module.front_end_module, hub_module.file_script], ids=["live", "saved"])
def test_joined_modules_are_one_module(joined: Callable[[], str], tmp_path: Path) -> None:
    """Top-level names are unique, no import is left, and one default export remains."""
    script = joined()
    assert not re.search(r"^import ", script, re.MULTILINE)
    assert len(re.findall(r"^export ", script, re.MULTILINE)) == 1
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    path = tmp_path / "hub.mjs"
    path.write_text(script)
    subprocess.run([node, "--check", path], check=True)


def test_no_markup_is_made_from_data() -> None:
    """Only elements and text nodes: no function that parses text as markup or code is used."""
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function|https?://(?!www\.w3)"
    )
    assert not re.findall(forbidden, hub_module.front_end_module())


def test_details_of_a_model_call() -> None:
    """Messages in order, calls with parsed arguments, results joined to their call."""
    cell = support_agent(1)
    record = next(record for record in cell.records if record.name == "write_reply")
    shown = span_details(record, cell.details[f"{record.span_id:016x}"])
    roles = [message["role"] for message in shown["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert shown["messages"][2]["calls"] == [{"name": "get_order", "id": "call_7Qa", "arguments": {"order_id": 48213}}]
    assert shown["messages"][3]["tool"] == "get_order"
    assert shown["messages"][3]["data"]["status"] == "delivered"
    assert shown["usage"] == {"prompt": 1988, "completion": 94, "cached": None, "reasoning": None}
    assert shown["cost"] == "$0.0047"
    assert "prices" not in shown  # It is the span's own.
    assert "error" not in shown


def test_an_estimated_cost_names_its_price_table() -> None:
    cell = support_agent(1)
    record = next(record for record in cell.records if record.name == "write_reply")
    unpriced = replace(record, facts=replace(record.facts, cost=None))
    assert prices.load()
    shown = span_details(unpriced, cell.details[f"{record.span_id:016x}"])
    assert shown["cost"].startswith("~$")
    assert re.fullmatch(r"genai-prices \S+ of 20\d\d-\d\d-\d\d", shown["prices"])


def test_details_of_an_error() -> None:
    """The stack shows user code and the number of library frames that it leaves out."""
    cell = support_agent(1, fails=True)
    shown = span_details(cell.records[-1], cell.details[f"{cell.records[-1].span_id:016x}"])
    error = shown["error"]
    assert error["type"] == "HTTPError"
    assert error["stack"].splitlines()[-2:] == ["payments.py:41  in post_refund", "    r.raise_for_status()"]
    assert error["library_frames"] == 1
    assert "models.py" in error["full_stack"]
    assert shown["input"]["attempt"] == 2
    assert shown["redacted"] == 1


def test_stack_of_a_notebook_cell() -> None:
    """The generated file name of a cell is not shown; text that is not a traceback has no frames."""
    text = (
        'Traceback (most recent call last):\n  File "/tmp/ipykernel_12/345.py", line 3, in <module>\n    go()\nE: x\n'
    )
    assert read_stack(text).own == "cell:3  in <module>\n    go()"
    assert read_stack("no traceback").own == ""
    library = 'Traceback (most recent call last):\n  File "/opt/app/site-packages/x.py", line 1, in f\n    go()\nE: x\n'
    assert read_stack(library).library_frames == 1
    assert read_stack(STACK + "\nDuring handling of the above:\n\n" + text).own == "cell:3  in <module>\n    go()"


def test_details_are_json_whatever_a_span_holds() -> None:
    """Not-a-number, bytes, lone surrogates, big integers, deep nesting and a megabyte of text."""
    record = one_call(1).records[0]
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    odd = {"nan": float("nan"), "bytes": b"\xff", "text": "\ud800", "big": 2**60, "deep": deep, "long": "x" * 10**6}
    shown = span_details(replace(record, error=None), SpanDetails(attributes={**odd, "many": list(range(5000))}))
    text = json.dumps(shown, allow_nan=False)
    text.encode()
    assert len(text) < 200_000
    assert str(2**60) in text
    assert "1,000,000 characters" in text


def test_the_page_asks_for_previews_hits_and_gives_feedback() -> None:
    """Of bounded size: a page may be anyone's."""
    hub = make_hub(support_agent(1).view("v", "4"))

    def value(**message: object) -> Any:
        answer, buffers = ask(hub, {"number": 7, "view": "v", **message})
        assert (answer["type"], answer["number"], buffers) == ("answer", 7, [])
        return answer["value"]

    assert value(type="previews", spans=["a", "b"]) == {"a": "of v", "b": "of v"}
    assert len(value(type="previews", spans=[str(number) for number in range(5_000)])) == hub_module.MAX_PREVIEWS
    assert value(type="search", text="x" * 5_000)["hits"] == {"1f": hub_module.MAX_SEARCHED}
    assert value(type="search", text="x", view="other") is None
    for given, kept in (
        ({"ok": True, "other": 1}, {"ok": True}),
        ({"ok": "yes"}, {"ok": None}),
        ({"ok": None}, {"ok": None}),
        ({"note": "  late "}, {"note": "late"}),
        ({"note": " "}, {"note": None}),
        ({"note": "x" * 9_000}, {"note": "x" * hub_module.MAX_NOTE}),
    ):
        assert value(type="feedback", span="1f", given=given) == f"v 1f {kept}"


def test_details_have_the_request_beside_the_messages() -> None:
    cell = long_chat(1)
    record = cell.records[-1]
    details = span_details(record, cell.details[f"{record.span_id:016x}"])
    assert details["params"] == {"model": "gpt-4.1", "temperature": 0.2, "max_tokens": 160}
    assert [tool["name"] for tool in details["tools"]] == ["get_order", "check_limit"]
    assert details["metrics"] == {"grounded": 0.92, "decision": "yes"}
    assert details["feedback"] == {"stars": 4}


@pytest.mark.parametrize(
    ("feedback", "mark"),
    [
        ((("ok", True),), "up"),
        ((("ok", False), ("note", "x")), "down"),
        ((("stars", 5),), "note"),
        ((("ok", "no"),), "note"),
    ],
)
def test_rows_say_whether_there_is_feedback(feedback: tuple[tuple[str, Any], ...], mark: str) -> None:
    cell = support_agent(1)
    facts = cell.records[2].facts
    cell.records[2] = replace(cell.records[2], facts=replace(facts, feedback=feedback))
    described, _ = encode_rows(cell.view("v", "4"))
    assert list(described["rated"].values()) == [mark]
