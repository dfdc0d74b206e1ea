"""The interactive view in a page: display, mouse and keyboard. The kernel's side is the real hub."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from hh_jupyter.display.view import CellView
from hh_jupyter.records.export_state import ExportState
from tests.browser.harness import Harness, asked_by
from tests.browser.sample_cells import support_agent


def cell(page: Page, name: str) -> Locator:
    return page.locator(f"#{name}")


def rows(page: Page, name: str) -> list[str]:
    labels = cell(page, name).get_by_role("treeitem").evaluate_all("rows => rows.map(r => r.ariaLabel)")
    return [str(label) for label in labels]


def selected(page: Page, name: str) -> Locator:
    return cell(page, name).locator("[role=treeitem][aria-selected=true]")


@pytest.mark.slow
def test_a_successful_cell_is_one_line(cells: Page) -> None:
    """Folded by default: status, time, cost, tokens, counts, delivery; the static output is hidden."""
    bar = cell(cells, "bar")
    text = bar.locator(".hh-bar").inner_text()
    for fact in ("answer_question", "1.48 s", "$0.0095", "2,398 tokens", "3 spans", "1 LLM call", "Sent"):
        assert fact in text
    expect(bar.get_by_role("tree")).to_have_count(0)
    assert bar.locator(".hh-view").bounding_box()["height"] < 45  # type: ignore[index]
    expect(bar.locator(".hh-output > :not(.hh-view)").first).to_be_hidden()


def test_a_cell_that_was_run_again_says_what_changed(open_cells: Callable[..., Page]) -> None:
    """In words with a tooltip; a narrow view keeps the calls."""
    page = open_cells("again")
    delta = cell(page, "again").get_by_role("button", name="2 calls changed")
    expect(delta).to_have_text("Δ−120 ms+33 tokens−$0.00022 calls changed")
    expect(delta).to_have_attribute("title", "Against run 3 of this cell, 14:02: open the diff (d)")
    page.set_viewport_size({"width": 420, "height": 600})
    expect(delta.get_by_text("+33 tokens")).to_be_hidden()
    expect(delta.get_by_text("120 ms")).to_be_hidden()
    expect(delta.get_by_text("2 calls changed")).to_be_visible()


@pytest.mark.slow
def test_opening_shows_tree_and_details(cells: Page) -> None:
    """A click on the bar opens the tree; the last model call's messages are fetched from the kernel."""
    bar = cell(cells, "bar")
    bar.get_by_role("button", name="answer_question").click()
    assert rows(cells, "bar") == [
        "Chain answer_question, 1.48 s, 2,398 tokens",
        "Retrieval retrieve, 232 ms",
        "LLM generate, 1.23 s, 2,398 tokens",
    ]
    expect(bar.get_by_role("tabpanel")).to_contain_text("Three things changed.")
    bar.get_by_role("treeitem", name=re.compile("retrieve")).click()
    expect(bar.get_by_role("tabpanel")).to_contain_text('"docs": 5')
    bar.get_by_role("tab", name="Attributes").click()
    expect(bar.get_by_role("tabpanel")).to_contain_text("instrumentation")


def test_an_error_opens_at_its_origin(cells: Page) -> None:
    """The deepest failing span is selected; its error path and the user's stack are shown."""
    expect(selected(cells, "err")).to_have_attribute("aria-label", "HTTP POST /refunds, 230 ms, error: 503")
    pane = cell(cells, "err").get_by_role("tabpanel")
    expect(pane).to_contain_text("Raised here; propagated through issue_refund, then support_agent.")
    expect(pane).to_contain_text("payments.py:41 in post_refund")
    expect(pane).not_to_contain_text("models.py")
    pane.get_by_text("Show 1 library frame").click()
    expect(pane).to_contain_text("models.py")
    expect(cell(cells, "err").locator(".hh-note-caught")).to_have_text("503, retried")


@pytest.mark.slow
def test_the_path_of_an_error_tells_which_errors_it_became_and_who_caught_it(open_cells: Callable[..., Page]) -> None:
    page = open_cells("converted")
    shown = cell(page, "converted")
    pane = shown.get_by_role("tabpanel")
    expect(selected(page, "converted")).to_have_attribute("aria-label", "Chain ask_twice, 60 ms, error: RuntimeError")
    expect(pane).to_contain_text("gave upRaised from an error below.")
    shown.get_by_role("treeitem", name=re.compile("ask_again")).click()
    expect(pane).to_contain_text("no answerRaised here; propagated through ask_twice as RuntimeError.")
    shown.get_by_role("treeitem", name=re.compile("ask_first")).click()
    expect(pane).to_contain_text("no wordsRaised here, caught in ask_twice.")


@pytest.mark.slow
def test_a_cancelled_span_has_a_mark_of_its_own_and_is_not_red(open_cells: Callable[..., Page]) -> None:
    page = open_cells("converted")
    shown = cell(page, "converted")
    row = shown.get_by_role("treeitem", name=re.compile("slow_call"))
    expect(row).to_have_attribute("aria-label", "Tool slow_call, 7.0 ms, cancelled")
    expect(row.locator(".hh-mark, .hh-note")).to_have_text(["⊘", "cancelled"])
    expect(row.locator(".hh-failed, .hh-passed")).to_have_count(0)
    expect(shown.locator(".hh-bar")).to_contain_text("1 cancelled")
    row.click()
    expect(shown.get_by_role("tab", name="Stopped")).to_be_visible()
    expect(shown.locator(".hh-failure")).to_have_count(0)


STATIC_MARKS = """element => [
    element.querySelector("summary").textContent.trim()[0],
    ...[...element.querySelectorAll("tr")].map(row => row.cells[0].textContent).filter(text => /[▲⊘!]/.test(text)),
]"""
LIVE_MARKS = """element => [
    element.querySelector(".hh-bar .hh-mark").textContent,
    ...[...element.querySelectorAll("[role=treeitem]")].filter(row => row.querySelector(".hh-mark"))
        .map(row => row.querySelector(".hh-mark").textContent + " " + row.querySelector(".hh-name").textContent),
]"""


def test_the_static_and_the_live_view_mark_the_same_with_the_same_characters(open_cells: Callable[..., Page]) -> None:
    """The state of the cell, and each span that failed or was cancelled; the marks differ by shape."""
    names = {"agent": "✓", "err": "▲", "run": "◌", "converted": "▲", "result": "▲", "compare": "▲"}
    page = open_cells(*names)
    for name, mark in names.items():
        live = cell(page, name).evaluate(LIVE_MARKS)
        assert live[0] == mark
        if name in ("result", "compare"):
            assert cell(page, name).locator(".hh-run").first.evaluate("run => run.textContent.trim()[0]") == mark
        else:
            static = cell(page, name).locator(".hh-output").evaluate(STATIC_MARKS)
            assert [shown in line for shown, line in zip(live, static, strict=True)] == [True] * len(live)
    sent = cell(page, "result").locator(".hh-bar .hh-delivery, .hh-run > :first-child")
    assert ["✓ Sent" in text or "✓Sent" in text for text in sent.all_text_contents()] == [True, True]
    assert cell(page, "err").evaluate(LIVE_MARKS) == ["▲", "! POST /refunds", "▲ POST /refunds"]


@pytest.mark.slow
def test_an_error_that_began_outside_of_spans_is_named_below_the_bar(open_cells: Callable[..., Page]) -> None:
    shown = cell(open_cells("outside"), "outside")
    expect(shown.locator(".hh-notices")).to_have_text("LookupError: <b>no order</b> (cell:7)")
    expect(shown.locator(".hh-bar")).to_contain_text("2 caught")


@pytest.mark.slow
def test_a_limit_is_in_the_bar_and_at_the_limit_the_line_that_raises_it_below(open_cells: Callable[..., Page]) -> None:
    page = open_cells("limited", "stopped")
    meter = cell(page, "limited").locator(".hh-meter")
    expect(meter).to_have_text("~$0.31 of $0.50")
    widths = meter.locator("i").evaluate("bar => [bar.firstChild.offsetWidth, bar.offsetWidth]")
    assert widths[0] / widths[1] == pytest.approx(0.62, abs=0.03)
    stopped = cell(page, "stopped")
    expect(stopped.locator(".hh-bar")).to_contain_text("stopped at the limit")
    expect(stopped.locator(".hh-notices code")).to_have_text("%%hh_session refund-batch --max-cost 1")
    expect(stopped.locator(".hh-notices button")).to_have_count(0)


@pytest.mark.slow
def test_replayed_calls_are_hollow_and_say_how_long_they_took(open_cells: Callable[..., Page]) -> None:
    page = open_cells("replayed", "partly")
    expect(cell(page, "replayed").locator(".hh-chip")).to_have_text("↺ replayed, saved $0.0091")
    expect(cell(page, "replayed").locator(".hh-facts")).not_to_contain_text("$")
    expect(cell(page, "partly").locator(".hh-chip")).to_have_text("↺ 1 of 15 replayed, saved $0.0042")
    assert "LLM decide, 99 ms, 1,897 tokens, replayed, was 792 ms" in rows(page, "partly")
    for row in cell(page, "partly").get_by_role("treeitem").all():
        hollow = "replayed" in (row.get_attribute("aria-label") or "")
        expect(row.locator(".hh-replayed")).to_have_count(int(hollow))
    style = cell(page, "partly").locator(".hh-replayed").evaluate("bar => getComputedStyle(bar).borderTopStyle")
    assert style == "dashed"


@pytest.mark.slow
def test_a_refused_request_is_told_with_what_records_it_and_without_a_button_to_send(
    open_cells: Callable[..., Page],
) -> None:
    refused = cell(open_cells("unrecorded"), "unrecorded")
    expect(refused.locator(".hh-bar .hh-chip")).to_have_text("1 not recorded")
    expect(refused.get_by_role("alert")).to_contain_text("%hh replay auto")
    expect(refused.get_by_role("alert").get_by_role("button")).to_have_count(0)


def test_a_single_span_shows_its_messages(cells: Page) -> None:
    """No tree for one span; markup in a message is text and creates no element."""
    one = cell(cells, "one")
    expect(one.get_by_role("tabpanel")).to_contain_text("<img src=x onerror=alert(1)>")
    expect(one.locator("img")).to_have_count(0)
    expect(one.locator(".hh-left")).to_be_hidden()


@pytest.mark.slow
def test_repeats_fold_and_open(cells: Page) -> None:
    """Twelve embeddings are one row with its own numbers; Right opens it."""
    agent = cell(cells, "agent")
    assert len(rows(cells, "agent")) == 10
    agent.get_by_role("treeitem", name=re.compile("embed_chunk")).click()
    expect(agent.locator(".hh-right")).to_contain_text("p95")
    cells.keyboard.press("ArrowRight")
    assert len(rows(cells, "agent")) == 22


@pytest.mark.slow
def test_keyboard_in_the_tree(cells: Page) -> None:
    """Arrows and j/k move, Home jumps, Left folds or goes up, / filters, Escape comes back, e finds the error."""
    tree = cell(cells, "err").get_by_role("tree")
    tree.focus()
    for keys, name in (
        ("Home", "support_agent"),
        ("ArrowDown", "plan"),
        ("j", "search_policy"),
        ("k", "plan"),
        ("ArrowLeft", "support_agent"),
    ):
        cells.keyboard.press(keys)
        expect(selected(cells, "err")).to_have_attribute("aria-label", re.compile(rf"\b{name},"))
        active = tree.get_attribute("aria-activedescendant")
        assert selected(cells, "err").get_attribute("id") == active
    cells.keyboard.press("ArrowLeft")
    assert len(rows(cells, "err")) == 1
    for error in ("error: 503, retried", "error: 503", "error: 503, retried", "error: 503"):
        cells.keyboard.press("e")
        expect(selected(cells, "err")).to_have_attribute("aria-label", re.compile(f"{error}$"))
    cells.keyboard.press("/")
    cells.keyboard.type("refund")
    assert [label.split(",")[0] for label in rows(cells, "err")] == [
        "Agent support_agent", "Tool issue_refund", "HTTP POST /refunds", "HTTP POST /refunds"]  # fmt: skip
    cells.keyboard.press("Escape")
    expect(tree).to_be_focused()
    cells.keyboard.press("Enter")
    expect(cell(cells, "err").get_by_role("tab", selected=True)).to_be_focused()
    cells.keyboard.press("ArrowRight")
    expect(cell(cells, "err").get_by_role("tab", name="Input and output")).to_be_focused()
    cells.keyboard.press("Escape")
    expect(tree).to_be_focused()


def test_no_key_reaches_the_page(cells: Page) -> None:
    """Keys without Ctrl or Meta stop at the view, whatever has the focus; each focusable element opts out by itself."""
    cells.evaluate(
        "() => { window.leaked = []; document.addEventListener('keydown', (e) => window.leaked.push(e.key)); }"
    )
    err = cell(cells, "err")
    for target in (
        err.get_by_role("tree"),
        err.get_by_role("button", name="Critical path"),
        err.get_by_role("searchbox"),
    ):
        target.focus()
        for key in ("x", "a", "m", "0", "w", "+", "-", "ArrowDown"):
            cells.keyboard.press(key)
    for key in ("d", "d"):  # The first one opens what changed.
        cells.keyboard.press(key)
    assert cells.evaluate("window.leaked") == []
    focusable = "button, a[href], input, textarea, [tabindex]"
    bare = cells.locator(f".hh-view :is({focusable}):not([data-lm-suppress-shortcuts=true])")
    expect(bare).to_have_count(0)


@pytest.mark.slow
def test_errors_switch_and_critical_path(cells: Page) -> None:
    """Errors leaves what failed and what leads to it; the critical path can be put away."""
    err = cell(cells, "err")
    err.get_by_role("button", name="Errors").click()
    assert len(rows(cells, "err")) == 4
    expect(err.locator(".hh-shown")).to_have_text("4 of 22 shown")
    assert err.locator(".hh-critical").count() > 0
    err.get_by_role("button", name="Critical path").click()
    expect(err.locator(".hh-critical")).to_have_count(0)


def copied(page: Page, name: str, button: str) -> str:
    """What a button of a cell copies."""
    page.evaluate(
        "() => { window.copied = ''; navigator.clipboard.writeText = async (text) => { window.copied = text; }; }"
    )
    cell(page, name).get_by_role("button", name=button, exact=True).click()
    page.wait_for_function("window.copied")
    return str(page.evaluate("window.copied"))


@pytest.mark.slow
def test_copy_json_gives_all_data_of_the_span(cells: Page) -> None:
    """Also of a single span, which has no toolbar. The clipboard where it is open to us, else a box with the text."""
    for name, span in (("one", "chat"), ("agent", "write_reply")):
        data = json.loads(copied(cells, name, "Copy JSON"))
        assert data["name"] == span
        assert "user" in [message["role"] for message in data["messages"]]
    cells.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    cell(cells, "agent").get_by_role("button", name="Copy JSON").click(modifiers=["Shift"])
    box = cell(cells, "agent").get_by_role("textbox", name="JSON to copy")
    assert len(json.loads(box.input_value())) == 21


def test_a_text_that_cannot_be_copied_stays_until_escape_or_a_click_elsewhere(cells: Page, harness: Harness) -> None:
    """Also if the notebook takes the focus, and while the bar above it changes."""
    cells.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    button = cell(cells, "agent").get_by_role("button", name="Copy JSON")
    box = cell(cells, "agent").get_by_role("textbox", name="JSON to copy")
    button.press("Enter")
    button.press("Enter")
    expect(box).to_have_count(1)
    view = harness.by_id["hh-agent"]
    harness.by_id["hh-agent"] = dataclasses.replace(
        view, export=ExportState("api.example", made=21, sent=14, waiting=7)
    )
    try:
        cells.evaluate(
            "() => { document.activeElement.blur(); window.model.tell({ type: 'changed', view: 'hh-agent' }, []); }"
        )
        expect(cell(cells, "agent").locator(".hh-delivery")).to_have_text("Sending 7")
    finally:
        harness.by_id["hh-agent"] = view
    box.press("Escape")
    expect(box).to_have_count(0)
    expect(button).to_be_focused()
    button.click()
    expect(box).to_be_focused()
    cell(cells, "agent").get_by_role("tab", name="Attributes").click()
    expect(box).to_have_count(0)


@pytest.mark.slow
def test_copy_gives_the_text_of_the_tab(cells: Page) -> None:
    """In full, ready to paste; not the JSON."""
    messages = copied(cells, "agent", "Copy")
    assert messages.startswith("system:\nYou are a support agent for Northwind.")
    assert 'get_order({\n  "order_id": 48213\n})' in messages
    assert messages.endswith("No need to send the item back.")
    cell(cells, "agent").get_by_role("tab", name="Attributes").click()
    assert "\nllm.model_name: gpt-4.1\n" in copied(cells, "agent", "Copy")
    cell(cells, "agent").get_by_role("treeitem", name=re.compile("get_order")).click()
    cell(cells, "agent").get_by_role("tab", name="Input and output").click()
    assert copied(cells, "agent", "Copy").startswith('Input:\n{\n  "order_id": 48213\n}\nOutput:\n{')
    error = copied(cells, "err", "Copy")
    assert error.startswith("HTTPError: 503 Service Unavailable")
    assert "models.py" in error


@pytest.mark.slow
def test_keys_of_attributes_wrap_after_a_separator(cells: Page) -> None:
    """Beside the tree, where they are longer than their column: no word is cut in two."""
    cell(cells, "agent").get_by_role("tab", name="Attributes").click()
    broken = """keys => keys.flatMap(key => [...key.childNodes].filter(part => part.data).map(part => {
        const range = document.createRange(); range.selectNodeContents(part);
        return range.getClientRects().length > 1 ? part.data : ''; })).filter(Boolean)"""
    keys = cell(cells, "agent").locator(".hh-attributes tr:not(.hh-group) th")
    assert keys.evaluate_all(broken) == []
    line = keys.filter(has_text="event type").evaluate("key => key.clientHeight")
    assert max(keys.evaluate_all("keys => keys.map(key => key.clientHeight)")) > 1.5 * line


@pytest.mark.slow
def test_a_folded_system_prompt_shows_that_it_unfolds(cells: Page) -> None:
    """One line with the mark of whatever unfolds; a click turns the mark and shows all."""
    prompt = cell(cells, "agent").locator(".hh-role-system .hh-clamp")
    expect(prompt.locator(".hh-icon-chevron")).to_be_visible()
    expect(prompt).to_have_attribute("aria-expanded", "false")
    folded = prompt.bounding_box()
    prompt.click()
    expect(prompt).to_have_attribute("aria-expanded", "true")
    unfolded = prompt.bounding_box()
    assert folded is not None
    assert unfolded is not None
    assert unfolded["height"] > 1.5 * folded["height"]


@pytest.mark.slow
def test_a_notice_shows_the_command_and_its_button_sends(cells: Page) -> None:
    """Not sent: an alert with the command as text and a button that works. Local mode: no button that could not."""
    fail = cell(cells, "fail")
    expect(fail.get_by_role("alert")).to_contain_text("%hh login")
    fail.get_by_role("button", name="Save to file").click()
    expect(fail.get_by_role("alert")).to_contain_text("3 spans saved to hh-spans.jsonl.")
    fail.get_by_role("button", name="Send").click()
    expect(fail.get_by_role("alert")).to_contain_text("All 3 spans were sent.")
    expect(cell(cells, "local")).to_contain_text("%hh send")
    expect(cell(cells, "local").get_by_role("button", name="Send")).to_have_count(0)


def test_the_view_follows_the_theme(cells: Page) -> None:
    """JupyterLab's theme attribute decides, also when it changes."""
    view = cell(cells, "agent").locator(".hh-view")
    expect(view).to_have_css("background-color", "rgb(255, 255, 255)")
    cells.evaluate("() => { document.body.dataset.jpThemeLight = 'false'; }")
    expect(view).to_have_css("background-color", "rgb(20, 23, 28)")


@pytest.mark.slow
def test_an_unresponsive_kernel_brings_back_the_static_output(cells: Page) -> None:
    """A kernel that is gone: the static output comes back; when it answers after all, the view does.

    Its last answer held no rows, since they had not changed.
    """
    with cells.expect_response("**/message"):
        cells.evaluate("() => window.model.tell({ type: 'changed', view: 'hh-agent' }, [])")
    cells.evaluate("() => { window.kernel.alive = false; }")
    cell(cells, "agent").get_by_role("treeitem", name=re.compile("plan")).click()
    expect(cells.locator(".hh-view")).to_have_count(0, timeout=10_000)
    expect(cell(cells, "agent").locator(".hh-output > *").first).to_be_visible()
    cells.evaluate("() => { window.kernel.alive = true; window.model.tell({ type: 'ended', view: 'another' }, []); }")
    expect(cell(cells, "agent").locator(".hh-view")).to_be_visible()
    assert len(rows(cells, "agent")) == 10


DISCONNECT = "() => { window.model.emit('comm_live_update'); return document.querySelectorAll('.hh-view').length; }"
"""What the widget manager reports of every model when a kernel is restarted; returns how many views are left."""


@pytest.mark.slow
def test_a_restarted_kernel_brings_back_the_static_outputs_at_once(cells: Page) -> None:
    """Without waiting for a reply that cannot come."""
    cells.evaluate("() => { window.kernel.alive = false; }")
    assert cells.evaluate(DISCONNECT) == 0
    expect(cell(cells, "agent").locator(".hh-output > *").first).to_be_visible()


@pytest.mark.slow
def test_a_kernel_that_lives_on_after_a_disconnection_shows_its_views_again(cells: Page) -> None:
    count = cells.locator(".hh-view").count()
    assert cells.evaluate(DISCONNECT) == 0
    expect(cells.locator(".hh-view")).to_have_count(count)


@pytest.mark.slow
def test_a_request_that_waits_behind_a_running_cell_is_sent_again(open_cells: Callable[..., Page]) -> None:
    """The kernel's main shell is busy and holds the first request; a subshell answers the second one.

    Other messages arrive, so that the kernel does not count as unresponsive.
    """
    page = open_cells("bar")
    held: list[Route] = []

    def hold_first(route: Route) -> None:
        if held or asked_by(route.request).get("view") != "hh-err":
            route.continue_()
        else:
            held.append(route)

    page.route("**/message", hold_first)
    page.evaluate("""() => { setInterval(() => window.model.tell({ type: 'ended', view: 'another' }, []), 200);
        const div = document.createElement('div'); div.className = 'hh-output'; div.id = 'hh-err';
        document.querySelector('main').append(div); }""")
    expect(page.locator("#hh-err .hh-view")).to_be_visible()
    held[0].continue_()


OTHER_KERNEL = """async () => {
    const listeners = [];
    const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
    window.other = { get: () => undefined, on: (name, fn) => name === 'msg:custom' && listeners.push(fn), off: () => {},
        tell: (message, buffers) => listeners.forEach((fn) => fn(message, buffers)),
        async send(message) {
            if (message.type === 'visibility') return;
            const { view } = message;
            if (view !== 'hh-agent') return setTimeout(() => this.tell({ type: 'rows', view, header: null }, []));
            const answer = await (await fetch('/message', { method: 'POST', body: JSON.stringify(message) })).json();
            this.tell(answer.content, answer.buffers.map((text) => new DataView(bytes(text).buffer)));
        } };
    const hub = await import('/hub.js');
    hub.default.initialize({ model: window.other });
    while (!listeners.length) await new Promise((done) => setTimeout(done, 10)); }"""


def test_a_new_kernel_takes_over_the_output_of_a_dead_one(cells: Page) -> None:
    """The kernel was restarted, and the new one knows the output before the timeout of the old one."""
    cells.evaluate("() => { window.kernel.alive = false; }")
    first = cell(cells, "agent").locator(".hh-view").get_attribute("aria-label")
    cells.evaluate("() => { document.querySelector('#agent .hh-view').id = 'of-the-first'; }")
    cells.evaluate(OTHER_KERNEL)
    expect(cells.locator("#of-the-first")).to_have_count(0)
    expect(cell(cells, "agent").locator(".hh-view")).to_have_attribute("aria-label", str(first))
    cells.evaluate("() => window.model.emit('comm_live_update')")
    expect(cells.locator(".hh-view")).to_have_count(1, timeout=10_000)
    expect(cell(cells, "agent").locator(".hh-view")).to_be_visible()
    expect(cell(cells, "agent").locator(".hh-output > :not(.hh-view)").first).to_be_hidden()


@pytest.mark.slow
def test_a_new_kernel_takes_over_an_output_that_the_dead_one_mounts_again(cells: Page) -> None:
    """The output is updated after the new kernel's reply, and the old hub sees it first."""
    cells.evaluate("() => { window.kernel.alive = false; }")
    cells.evaluate(OTHER_KERNEL)
    cells.wait_for_timeout(300)
    cells.evaluate("""() => { const old = document.querySelector('#agent .hh-output'); const next = old.cloneNode(true);
        next.classList.remove('hh-live'); next.querySelector('.hh-view').remove(); old.replaceWith(next); }""")
    cells.wait_for_timeout(300)
    cells.evaluate("() => window.model.emit('comm_live_update')")
    expect(cells.locator(".hh-view")).to_have_count(1, timeout=10_000)
    cells.wait_for_timeout(300)
    expect(cell(cells, "agent").locator(".hh-view")).to_be_visible()


@pytest.mark.slow
def test_an_unknown_output_stays_static(cells: Page) -> None:
    """The output of another kernel is requested once and then left alone."""
    add = """() => { const div = document.createElement('div'); div.className = 'hh-output'; div.id = 'other';
        div.textContent = 'static'; document.querySelector('main').append(div); }"""
    asked = "window.asked.filter((message) => message.view === 'other').length"
    with cells.expect_response(lambda response: asked_by(response.request).get("view") == "other"):
        cells.evaluate(add)
    cells.wait_for_timeout(300)
    expect(cells.locator("#other .hh-view")).to_have_count(0)
    expect(cells.locator("#other")).to_have_text("static")
    cells.evaluate(add)
    cells.wait_for_timeout(100)
    assert cells.evaluate(asked) == 1


@pytest.mark.slow
def test_an_updated_output_keeps_view_and_focus(cells: Page) -> None:
    """`update_display` replaces the output's nodes: what was open, selected and focused stays."""
    tree = cell(cells, "agent").get_by_role("tree")
    tree.focus()
    cells.keyboard.press("Home")
    cells.evaluate("""() => {
        const old = document.querySelector('#agent .hh-output'); const next = document.createElement('div');
        next.className = 'hh-output'; next.id = old.id; next.textContent = 'new static'; old.replaceWith(next); }""")
    expect(cell(cells, "agent").locator(".hh-view")).to_have_count(1)
    expect(selected(cells, "agent")).to_have_attribute("aria-label", re.compile("support_agent"))
    expect(cell(cells, "agent").get_by_role("tree")).to_be_focused()


def test_changes_are_shown_in_place(cells: Page, harness: Harness) -> None:
    """A new delivery state changes the word; the rows are not sent again, and those shown stay."""
    before = rows(cells, "agent")
    view = harness.by_id["hh-agent"]
    harness.by_id["hh-agent"] = dataclasses.replace(
        view, export=ExportState("api.example", made=21, sent=15, waiting=6)
    )
    try:
        with cells.expect_response("**/message") as answer:
            cells.evaluate("() => window.model.tell({ type: 'changed', view: 'hh-agent' }, [])")
        assert cells.evaluate("window.asked.at(-1).have") is not None
        assert answer.value.json()["buffers"] == []
        expect(cell(cells, "agent").locator(".hh-delivery")).to_have_text("Sending 6")
        assert rows(cells, "agent") == before
    finally:
        harness.by_id["hh-agent"] = view


def test_ten_thousand_spans_draw_few_rows(open_cells: Callable[..., Page]) -> None:
    """Rows are virtual; the end of the list is reached; a click on the minimap goes to a moment."""
    page = open_cells("big")
    assert page.get_by_role("treeitem").count() < 60
    page.locator(".hh-row", has_text="×402").locator(".hh-twisty").click()
    assert page.get_by_role("treeitem").count() < 60
    page.get_by_role("tree").focus()
    page.keyboard.press("End")
    expect(selected(page, "big")).to_be_visible()
    box = page.locator(".hh-minimap").bounding_box()
    assert box is not None
    # 94 s in all; the examples of the 47th second are folded between the two that failed.
    page.locator(".hh-minimap").click(position={"x": box["width"] / 2, "y": 20})
    expect(selected(page, "big")).to_have_attribute("aria-label", re.compile("run_example, 508 times"))


def test_a_second_view_of_a_cell_begins_at_the_selected_row(open_cells: Callable[..., Page]) -> None:
    """What is selected in the first one is shared, and the second one is scrolled to it."""
    page = open_cells("big")
    page.locator(".hh-row", has_text="×402").locator(".hh-twisty").click()
    page.get_by_role("tree").focus()
    page.keyboard.press("End")
    label = selected(page, "big").get_attribute("aria-label")
    page.evaluate("""() => { const copy = document.querySelector('.hh-output').cloneNode(true);
        copy.classList.remove('hh-live'); copy.querySelectorAll('.hh-view').forEach((view) => view.remove());
        document.querySelector('#big').after(copy); }""")
    second = page.locator(".hh-view").nth(1)
    row = second.locator("[role=treeitem][aria-selected=true]")
    expect(row).to_have_attribute("aria-label", str(label))
    within = """view => { const [list, row] = [".hh-list", "[aria-selected=true]"].map(
        (one) => view.querySelector(one).getBoundingClientRect());
        return row.top > list.top && row.bottom < list.bottom + 1; }"""
    page.wait_for_function(within, arg=second.element_handle())


@pytest.mark.slow
def test_the_strips_of_a_big_trace_are_painted_after_its_rows(open_cells: Callable[..., Page]) -> None:
    page = open_cells("big")
    expect(page.get_by_role("treeitem").first).to_be_visible()
    painted = "name => document.querySelector(name).getContext('2d').getImageData(0, 0, 200, 36).data.some(Boolean)"
    for name in (".hh-spark", ".hh-minimap"):
        page.wait_for_function(painted, arg=name)


def test_a_small_trace_needs_no_minimap(cells: Page) -> None:
    expect(cell(cells, "agent").locator(".hh-minimap")).to_be_hidden()


@pytest.mark.slow
def test_the_error_chip_goes_to_the_errors(cells: Page) -> None:
    """First to the deepest one, whatever is selected."""
    err = cell(cells, "err")
    err.get_by_role("treeitem", name=re.compile("plan")).click()
    err.get_by_role("button", name="1 error").click()
    expect(selected(cells, "err")).to_have_attribute("aria-label", "HTTP POST /refunds, 230 ms, error: 503")


@pytest.mark.slow
def test_the_list_of_keys(cells: Page) -> None:
    """`?` opens and closes it, and the focus stays where it was."""
    tree = cell(cells, "agent").get_by_role("tree")
    tree.focus()
    cells.keyboard.press("?")
    expect(cell(cells, "agent").locator(".hh-keys")).to_contain_text("next error")
    expect(tree).to_be_focused()
    cells.keyboard.press("?")
    expect(cell(cells, "agent").locator(".hh-keys")).to_have_count(0)


def test_copy_as_python(cells: Page) -> None:
    """The line that fetches the selected span in this kernel, and the request as a call; it is Python."""
    cells.evaluate("() => { navigator.clipboard.writeText = async (text) => { window.copied = text; }; }")
    cell(cells, "agent").get_by_role("button", name="Copy as Python").click()
    cells.wait_for_function("window.copied")
    code = cells.evaluate("window.copied")
    assert "hh_jupyter.spans(cell=4, name='write_reply')[0]" in code
    call = ast.parse(code).body[-1]
    assert isinstance(call, ast.Expr)
    assert "openai.OpenAI().chat.completions.create" in ast.unparse(call)
    expect(cell(cells, "agent").get_by_role("button", name="Copied")).to_be_visible()


IS_WHOLE = """name => { const text = document.createRange(); text.selectNodeContents(name);
    return text.getBoundingClientRect().width < name.getBoundingClientRect().width + 0.01; }"""
"""A tenth of a pixel is enough for an ellipsis."""


@pytest.mark.parametrize("width", [760, 560])
def test_a_cell_that_was_stopped_keeps_its_name_and_reasons_where_it_is_narrow(
    open_cells: Callable[..., Page], width: int
) -> None:
    """Both chips and the delivery stay; the notice below says what was spent."""
    page = open_cells("stopped")
    page.set_viewport_size({"width": width, "height": 900})
    bar = cell(page, "stopped").locator(".hh-bar")
    assert bar.locator(".hh-name").evaluate(IS_WHOLE)
    assert bar.evaluate("bar => bar.scrollWidth <= bar.clientWidth")
    assert bar.locator(".hh-chip-error").all_inner_texts() == ["stopped at the limit", "1 error"]
    expect(bar.locator(".hh-delivery")).to_be_visible()


def test_narrow_outputs_drop_the_least_important(cells: Page) -> None:
    """Under 600 px: details below the tree, no legend unless asked for; time, error, delivery stay; no overflow."""
    cells.set_viewport_size({"width": 520, "height": 900})
    err = cell(cells, "err")
    expect(err.locator(".hh-legend")).to_be_hidden()
    for name in (".hh-duration", ".hh-chip-error", ".hh-delivery", ".hh-toggle"):
        expect(err.locator(name).first).to_be_visible()
    assert err.locator(".hh-bar").evaluate("bar => bar.scrollWidth <= bar.clientWidth")
    # Facts give way before the name does.
    assert err.locator(".hh-bar .hh-name").evaluate(IS_WHOLE)
    tree, pane = err.locator(".hh-left").bounding_box(), err.locator(".hh-right").bounding_box()
    assert tree is not None
    assert pane is not None
    assert pane["y"] >= tree["y"] + tree["height"] - 1
    err.get_by_role("tree").press("?")
    expect(err.locator(".hh-keys")).to_be_visible()


def test_stopping_restores_the_page(cells: Page) -> None:
    """The model is gone: static outputs are back, and nothing listens any more."""
    cells.evaluate("window.stopHub()")
    expect(cells.locator(".hh-view")).to_have_count(0)
    expect(cells.locator(".hh-live")).to_have_count(0)
    asked = len(cells.evaluate("window.asked"))
    cells.evaluate("""() => { const div = document.createElement('div'); div.className = 'hh-output'; div.id = 'late';
        document.body.append(div); }""")
    cells.wait_for_timeout(50)
    assert len(cells.evaluate("window.asked")) == asked


@pytest.mark.slow
def test_a_cell_that_ran_again_resets_the_view(cells: Page, harness: Harness) -> None:
    """The same output with other spans: nothing of the old run is selected or kept open, unless opened by hand."""
    view = harness.by_id["hh-err"]
    harness.by_id["hh-err"] = support_agent(2).view("hh-err", "6")
    try:
        cells.evaluate("() => window.model.tell({ type: 'changed', view: 'hh-err' }, [])")
        expect(cell(cells, "err").locator(".hh-bar .hh-chip-error")).to_have_count(0)
        expect(cell(cells, "err").get_by_role("tree")).to_have_count(0)
        cell(cells, "err").get_by_role("button", name="support_agent").click()
        expect(selected(cells, "err")).to_have_attribute("aria-label", re.compile("write_reply"))
    finally:
        harness.by_id["hh-err"] = view


NOTEBOOK = """(html) => { const div = document.createElement('div'); div.innerHTML = html;
    document.querySelector('main').append(...div.children); }"""
CELL = """<div class="jp-Notebook">{cells}</div>"""
CODE = """<div class="jp-CodeCell" id="{name}"><div class="jp-InputPrompt">{prompt}</div>
<div class="jp-InputArea-editor"><div class="cm-line">reply = support_agent(ticket)</div></div>
<div class="jp-Cell-outputWrapper"></div></div>"""


def tell_running(page: Page, harness: Harness) -> None:
    """The real hub's message about the running sample cell."""
    view = harness.views["run"]
    page.evaluate(
        """async (view) => { const answer = await (await fetch('/message', { method: 'POST',
            body: JSON.stringify({ type: 'rows', view, have: null }) })).json();
            const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
            const header = { ...answer.content.header, elapsed_ms: 1420 };
            const message = { type: 'running', view, header, source: 'reply = support_agent(ticket)' };
            window.model.tell(message, answer.buffers.map((text) => new DataView(bytes(text).buffer))); }""",
        view.view_id,
    )


def busy(name: str) -> str:
    return CELL.format(cells=CODE.format(name=name, prompt="[*]:"))


def test_a_running_cell_is_shown_below_its_code(open_cells: Callable[..., Page], harness: Harness) -> None:
    """In the first waiting cell with this code, growing; the view moves into the output that comes, focus kept."""
    page = open_cells("bar")
    two = CODE.format(name="first", prompt="[*]:") + CODE.format(name="second", prompt="[*]:")
    page.evaluate(NOTEBOOK, CELL.format(cells=CODE.format(name="done", prompt="[1]:") + two))
    tell_running(page, harness)
    view = page.locator("#first .hh-beside .hh-view")
    expect(view.locator(".hh-bar")).to_contain_text("support_agent")
    expect(page.locator(".hh-beside")).to_have_count(1)
    first = view.locator(".hh-duration").inner_text()
    expect(view.locator(".hh-duration")).not_to_have_text(first)
    page.locator("#first .hh-beside").get_by_role("tree").focus()
    page.evaluate(
        """id => { const div = document.createElement('div'); div.className = 'hh-output'; div.id = id;
        document.querySelector('#first .jp-Cell-outputWrapper').append(div); }""",
        harness.views["run"].view_id,
    )
    expect(page.locator("#first .hh-output .hh-view")).to_be_visible()
    expect(page.locator(".hh-beside")).to_have_count(0)
    expect(page.locator("#first").get_by_role("tree")).to_be_focused()


def end_run(page: Page, harness: Harness, view: CellView) -> Locator:
    """The running sample cell ends as this view; returns the view below it."""
    harness.by_id["hh-run"] = view
    page.evaluate(
        """() => { const div = document.createElement('div'); div.className = 'hh-output'; div.id = 'hh-run';
        document.querySelector('#one .jp-Cell-outputWrapper').append(div); }"""
    )
    output = page.locator("#one .hh-output .hh-view")
    expect(output.get_by_role("button", name="running")).to_have_count(0)
    return output


@pytest.fixture
def running_cell(open_cells: Callable[..., Page], harness: Harness) -> Iterator[Page]:
    """The running sample cell, which folds as most cells do."""
    before = harness.views["run"]
    harness.by_id["hh-run"] = dataclasses.replace(before, mode="auto", running=True)
    page = open_cells("bar")
    page.evaluate(NOTEBOOK, busy("one"))
    tell_running(page, harness)
    expect(page.locator("#one .hh-beside .hh-view")).to_be_visible()
    yield page
    harness.by_id["hh-run"] = before


FAILED = support_agent(5, fails=True).view("hh-run", "7", raised=True)
CAUGHT = dataclasses.replace(FAILED, raised=False)
DONE = support_agent(5).view("hh-run", "7")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clicks", "end", "opened"),
    [(0, FAILED, 1), (0, CAUGHT, 0), (0, DONE, 0), (1, FAILED, 1), (1, DONE, 1), (2, FAILED, 0), (3, FAILED, 1)],
)
def test_a_long_cell_opens_on_an_error_unless_the_user_chose(
    running_cell: Page, harness: Harness, clicks: int, end: CellView, opened: int
) -> None:
    """Folded while it ran, and folded or unfolded by hand."""
    for _ in range(clicks):
        running_cell.locator("#one .hh-toggle").click()
    output = end_run(running_cell, harness, end)
    expect(output.get_by_role("tree")).to_have_count(opened)
    if opened and end is FAILED:
        expect(output.locator("[aria-selected=true][role=treeitem]")).to_have_attribute("aria-label", re.compile("503"))


@pytest.mark.slow
def test_the_next_run_of_a_folded_cell_opens_on_its_error(running_cell: Page, harness: Harness) -> None:
    """What the user folded was the run before."""
    for _ in range(2):
        running_cell.locator("#one .hh-toggle").click()
    end_run(running_cell, harness, DONE)
    running_cell.evaluate("() => document.querySelector('#one .hh-output').remove()")
    again = support_agent(15, fails=True).view("hh-run", "7", raised=True)
    harness.by_id["hh-run"] = dataclasses.replace(again, raised=False, running=True)
    tell_running(running_cell, harness)
    expect(running_cell.locator("#one .hh-beside .hh-view")).to_be_visible()
    expect(end_run(running_cell, harness, again).get_by_role("tree")).to_have_count(1)


@pytest.mark.parametrize("inside", [".hh-name", ".hh-twisty"])
def test_a_click_counts_although_the_rows_are_drawn_anew(running_cell: Page, harness: Harness, inside: str) -> None:
    """Between press and release; the rows follow the kernel again afterwards."""
    running_cell.locator("#one .hh-toggle").click()
    row = running_cell.locator("#one [role=treeitem][aria-expanded=true]").last
    expect(row.locator(inside)).to_be_visible()
    key = row.get_attribute("id")
    # The rows of a running cell are drawn anew all the time: at the moment of the question there may be none.
    box = next(filter(None, (row.locator(inside).bounding_box() for _ in range(100))))
    assert key is not None
    running_cell.evaluate("id => { document.getElementById(id).dataset.pressed = ''; }", key)
    running_cell.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    running_cell.mouse.down()
    for _ in range(3):
        tell_running(running_cell, harness)
    running_cell.mouse.up()
    changed = ("aria-selected", "true") if inside == ".hh-name" else ("aria-expanded", "false")
    expect(running_cell.locator(f"#{key}")).to_have_attribute(*changed)
    expect(running_cell.locator("[data-pressed]")).to_have_count(0)
    first = running_cell.locator("#one .hh-duration").inner_text()
    expect(running_cell.locator("#one .hh-duration")).not_to_have_text(first)


@pytest.mark.slow
def test_an_error_does_not_take_the_selection_of_the_user(running_cell: Page, harness: Harness) -> None:
    running_cell.locator("#one .hh-toggle").click()
    running_cell.locator("#one").get_by_role("treeitem", name=re.compile("plan")).click()
    output = end_run(running_cell, harness, FAILED)
    expect(output.locator("[aria-selected=true][role=treeitem]")).to_have_attribute("aria-label", re.compile("plan"))


@pytest.mark.slow
def test_a_span_selected_while_it_ran_shows_its_answer(running_cell: Page, harness: Harness) -> None:
    """Also if the reply to a request from then arrives last, and after another span was selected."""
    held: list[Route] = []

    def hold_first(route: Route) -> None:
        if held or asked_by(route.request)["type"] != "details":
            route.continue_()
        else:
            held.append(route)

    running_cell.route("**/message", hold_first)
    # Or the page would give up the request that is held after 2 s without a message.
    running_cell.evaluate(
        "() => { setInterval(() => window.model.tell({ type: 'ended', view: 'another' }, []), 200); }"
    )
    running_cell.locator("#one .hh-toggle").click()
    with running_cell.expect_request(lambda request: asked_by(request).get("type") == "details"):
        row = running_cell.locator("#one").get_by_role("treeitem", name=re.compile("decide, running"))
        row.dispatch_event("click")  # Rows of a running cell are drawn anew all the time: none is "stable".
    output = end_run(running_cell, harness, DONE)
    answer = "The item arrived damaged"
    expect(output.get_by_role("tabpanel")).to_contain_text(answer)
    stale = {"type": "answer", "number": asked_by(held[0].request)["number"], "value": {"input": "early"}}
    with running_cell.expect_response("**/message"):
        held[0].fulfill(json={"content": stale, "buffers": []})
    running_cell.wait_for_timeout(100)
    expect(output.get_by_role("tabpanel")).to_contain_text(answer)
    output.get_by_role("treeitem", name=re.compile("plan")).click()
    expect(output.get_by_role("tabpanel")).to_contain_text("get_order")
    output.get_by_role("treeitem", name=re.compile("decide")).click()
    expect(output.get_by_role("tabpanel")).to_contain_text(answer)
    expect(output.locator(".hh-facts-line")).to_contain_text("1,836 in, 61 out")


@pytest.mark.slow
def test_changed_content_of_a_selected_span_is_shown(cells: Page, harness: Harness) -> None:
    """Late events, and prices that are loaded late, change neither the number nor the times of the spans."""
    one = cell(cells, "one")
    expect(one.get_by_role("tabpanel")).to_contain_text("An idempotency key is")
    view = harness.by_id["hh-one"]
    key = f"{view.tree.nodes[0].record.span_id:016x}"
    before = harness.details_by_span[key]
    late = {"llm.output_messages.0.message.content": "The late answer."}
    harness.details_by_span[key] = dataclasses.replace(before, attributes={**before.attributes, **late})
    harness.by_id["hh-one"] = dataclasses.replace(view, revision=1)
    try:
        cells.evaluate("() => window.model.tell({ type: 'changed', view: 'hh-one' }, [])")
        expect(one.get_by_role("tabpanel")).to_contain_text("The late answer.")
    finally:
        harness.by_id["hh-one"], harness.details_by_span[key] = view, before


@pytest.mark.slow
def test_what_the_user_unfolded_stays_when_nothing_changed(cells: Page, harness: Harness) -> None:
    """The rows are sent again, and the details are the same."""
    prompt = cell(cells, "agent").locator(".hh-role-system .hh-clamp")
    prompt.click()
    view = harness.by_id["hh-agent"]
    harness.by_id["hh-agent"] = dataclasses.replace(view, revision=1)
    try:
        with cells.expect_response(lambda response: asked_by(response.request).get("type") == "details"):
            cells.evaluate("() => window.model.tell({ type: 'changed', view: 'hh-agent' }, [])")
        cells.wait_for_timeout(100)
        expect(prompt).to_have_attribute("aria-expanded", "true")
    finally:
        harness.by_id["hh-agent"] = view


@pytest.mark.slow
def test_the_last_call_is_selected_and_in_sight(open_cells: Callable[..., Page]) -> None:
    """Of 50 equal calls at once, in groups of groups: their rows open, and only those."""
    page = open_cells("gathered")
    cell(page, "gathered").get_by_role("button", name="review_all").click()
    expect(selected(page, "gathered")).to_be_in_viewport(ratio=1)
    expect(cell(page, "gathered").get_by_role("tabpanel")).to_contain_text("Review 3.49")
    labels = cell(page, "gathered").get_by_role("treeitem", name=re.compile("4 times"))
    folded = labels.evaluate_all("rows => rows.map(row => row.ariaExpanded)")
    assert folded == ["true", "false", "false", "false"]
    tree = cell(page, "gathered").get_by_role("tree")
    tree.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(selected(page, "gathered")).to_have_attribute("aria-label", re.compile("review, 50 times"))
    expect(selected(page, "gathered")).to_have_attribute("aria-expanded", "false")


@pytest.mark.slow
def test_folding_a_group_selects_it(open_cells: Callable[..., Page]) -> None:
    """The selection is never out of sight because something is folded."""
    page = open_cells("gathered")
    cell(page, "gathered").get_by_role("button", name="review_all").click()
    cell(page, "gathered").locator(".hh-row", has_text="×50").locator(".hh-twisty").click()
    expect(selected(page, "gathered")).to_have_attribute("aria-label", re.compile("review, 50 times"))
    expect(cell(page, "gathered").locator(".hh-right")).to_contain_text("p95")
    cell(page, "gathered").locator(".hh-row", has_text="review_all").locator(".hh-twisty").click()
    expect(selected(page, "gathered")).to_have_attribute("aria-label", re.compile("review_all"))


def test_the_span_with_the_messages_is_selected(open_cells: Callable[..., Page]) -> None:
    """Not the one below it that its client makes, which has none."""
    page = open_cells("twice")
    cell(page, "twice").get_by_role("button", name="answer_question").click()
    expect(selected(page, "twice")).to_have_attribute("aria-label", re.compile("messages.create"))
    expect(cell(page, "twice").get_by_role("tabpanel")).to_contain_text("Sorry about the cracked lid.")


@pytest.mark.slow
def test_a_cell_running_in_two_notebooks_is_not_shown(open_cells: Callable[..., Page], harness: Harness) -> None:
    """The same code is running in two notebooks: neither shows the other's spans."""
    page = open_cells("bar")
    page.evaluate(NOTEBOOK, busy("one") + busy("two"))
    tell_running(page, harness)
    page.wait_for_timeout(600)
    expect(page.locator(".hh-beside")).to_have_count(0)


@pytest.mark.slow
def test_a_cell_whose_kernel_died_is_not_shown_as_running(open_cells: Callable[..., Page], harness: Harness) -> None:
    """No message reports its end, but the notebook no longer marks it as running."""
    page = open_cells("bar")
    page.evaluate(NOTEBOOK, busy("one"))
    tell_running(page, harness)
    expect(page.locator("#one .hh-view")).to_be_visible()
    page.evaluate("() => { document.querySelector('#one .jp-InputPrompt').textContent = '[ ]:'; }")
    expect(page.locator(".hh-beside")).to_have_count(0, timeout=10_000)
