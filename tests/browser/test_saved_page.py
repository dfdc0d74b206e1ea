"""The view in one HTML file, opened from disk: interactive, without requests, inert, and printed whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import hh_jupyter as hh
from tests.browser.inert import OURS, elements, handlers
from tests.browser.sample_cells import hostile, many, pictures, support_agent
from tests.browser.saved_pages import bodies, saved
from tests.display.hostile import HOSTILE

pytestmark = pytest.mark.slow

Open = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Open a file. Requests, dialogs, script errors and what the policy refuses fail the test."""
    seen: list[str] = []
    contexts = []

    def show(data: bytes, **options: object) -> Page:
        path = tmp_path / "report.html"
        path.write_bytes(data)
        context = browser.new_context(viewport={"width": 1000, "height": 900}, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("console", lambda message: seen.append(message.text))
        page.on("dialog", lambda dialog: seen.append(dialog.message))
        allowed = (path.as_uri(), "blob:")
        page.on("request", lambda one: None if one.url.startswith(allowed) else seen.append(one.url))
        page.goto(path.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert seen == []


def test_the_view_is_interactive_without_a_kernel(opened: Open) -> None:
    page = opened(saved(bodies(support_agent(2))).data)
    page.get_by_role("treeitem", name="Tool get_order").click()
    expect(page.get_by_role("tabpanel")).to_contain_text("order_id")
    page.get_by_role("treeitem", name="write_reply").click()
    expect(page.get_by_role("tabpanel")).to_contain_text("It usually shows within three working days.")
    page.get_by_role("tab", name="Attributes").click()
    expect(page.get_by_role("tabpanel")).to_contain_text("honeyhive.session_id")
    expect(page.get_by_role("treeitem", name="get_order").locator(".hh-args")).to_have_text("order_id=48213")
    expect(page.get_by_role("button", name="Good")).to_be_hidden()
    page.get_by_role("searchbox").fill("damaged_on_arrival")
    expect(page.locator(".hh-shown")).to_have_text("3 hits in 3 of 21 spans")
    expect(page.get_by_role("treeitem", name="plan")).to_have_count(0)
    page.get_by_role("searchbox").press("Enter")
    expect(page.locator("mark.hh-current")).to_have_text("damaged_on_arrival")
    expect(page.get_by_role("button", name="Copy as Python")).to_be_hidden()


def test_each_session_has_a_view_and_those_with_an_error_are_open(opened: Open) -> None:
    other = "4f2a91c0-4f89-41d3-9a0c-0305e82c3301"
    page = opened(saved(bodies(support_agent(2)), bodies(support_agent(4, fails=True), other)).data)
    expect(page.get_by_role("region")).to_have_count(2)
    expect(page.get_by_role("tree")).to_have_count(1)
    expect(page.get_by_role("tabpanel")).to_contain_text("503 Service Unavailable")
    expect(page.get_by_role("heading", name="refund-triage #3")).to_be_visible()


def test_facts_of_a_span_without_content_come_from_the_span(opened: Open) -> None:
    page = opened(saved(bodies(many(8))).data)
    page.get_by_role("treeitem", name="retrieve").first.click()
    page.get_by_role("tab", name="Attributes").click()
    panel = page.get_by_role("tabpanel")
    expect(panel).to_contain_text("trace id")
    expect(panel).to_contain_text("honeyhive.session_id")


def test_images_are_drawn_from_the_file(opened: Open) -> None:
    page = opened(saved(bodies(pictures(10))).data)
    for row in page.get_by_role("treeitem").all():
        row.click()
        if page.locator(".hh-thumb img").count():
            break
    expect(page.locator(".hh-thumb img").first).to_have_js_property("complete", value=True)
    assert page.locator(".hh-thumb img").first.evaluate("image => image.naturalWidth") > 0


@pytest.mark.parametrize("scripts", [True, False])
def test_hostile_texts_are_inert(opened: Open, *, scripts: bool) -> None:
    page = opened(saved(bodies(hostile(9))).data, java_script_enabled=scripts)
    if not scripts:
        expect(page.locator(".hh-output table")).to_contain_text("<img src=x onerror=alert(1)>")
        return
    tree, shown = page.get_by_role("tree"), ""
    tree.focus()
    page.keyboard.press("Home")
    for _ in HOSTILE:
        page.locator(".hh-head").evaluate_all("all => all.forEach(head => head.classList.add('before'))")
        page.keyboard.press("ArrowDown")
        expect(page.locator(".hh-head:not(.before) + .hh-tabs")).to_be_attached()
        for tab in page.get_by_role("tab").all():
            tab.click()
            shown += page.get_by_role("tabpanel").inner_text()
            assert elements(page, ".hh-view") <= OURS
            assert handlers(page, ".hh-view") == []
        tree.focus()
    assert HOSTILE["script"] in shown
    assert HOSTILE["image with a handler"] in shown
    assert page.locator("script").count() == 3, "two of data, one that runs"


def test_the_policy_refuses_any_other_script_and_any_request(browser: Browser, tmp_path: Path) -> None:
    """As a second line of defence: this page has had markup injected, which the package never does."""
    path = tmp_path / "report.html"
    evil = b"<script>document.title='ran'</script><img src=https://evil.example/x onerror=\"document.title='ran'\">"
    path.write_bytes(saved(bodies(support_agent(2))).data.replace(b"</main>", evil + b"</main>"))
    page, refused, console = browser.new_page(), [], []
    page.on("requestfailed", lambda one: refused.append((one.url, one.failure)))
    page.on("console", lambda message: console.append(message.text))
    page.goto(path.as_uri())
    expect(page.get_by_role("tree")).to_be_visible()
    assert page.title() == "refund-triage #3"
    assert refused == [("https://evil.example/x", "csp")]
    assert any("script" in text for text in console)
    page.close()


def test_the_print_has_a_table_in_place_of_the_view(opened: Open) -> None:
    page = opened(saved(bodies(support_agent(2))).data, color_scheme="dark")
    expect(page.locator(".hh-view")).to_be_visible()
    page.emulate_media(media="print")
    expect(page.locator(".hh-view")).to_be_hidden()
    expect(page.locator(".hh-output table")).to_contain_text("write_reply")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_the_view_follows_the_theme_of_the_system(opened: Open) -> None:
    for theme in ("light", "dark"):
        page = opened(saved(bodies(support_agent(2))).data, color_scheme=theme)
        expect(page.locator(".hh-view")).to_have_attribute("data-theme", theme)


def test_failed_and_wrong_rows_of_a_result_unfold_to_their_spans(opened: Open, tmp_path: Path) -> None:
    @hh.trace
    def look_up(number: int) -> int:
        if number == 1:
            raise ConnectionError("no route")
        return number

    result = hh.evaluate(
        lambda point: look_up(point["inputs"]["n"]),
        dataset=[{"id": f"p{number}", "inputs": {"n": number}} for number in range(3)],
        evaluators=[lambda outputs: outputs != 2],
        name="nightly",
        print_results=False,
    )
    with pytest.raises(ValueError, match="a result is saved as a page"):
        result.save(tmp_path / "run.csv")
    with pytest.raises(FileNotFoundError, match=r"/no/run\.html'$"):  # The user's path, not that of a temporary file.
        result.save(tmp_path / "no" / "run.html")
    result.save(tmp_path / "run.html")
    page = opened((tmp_path / "run.html").read_bytes())
    for number, row in enumerate(("p1", "p2"), start=1):
        page.locator("summary", has_text=row).click()
        expect(page.get_by_role("treeitem", name="look_up")).to_have_count(number)
    page.locator("summary", has_text="p0").click()
    expect(page.get_by_text("%hh show", exact=False).locator("visible=true")).to_have_count(1)
    expect(page.get_by_role("tree")).to_have_count(2)
