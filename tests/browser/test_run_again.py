"""A model call is changed and made again in JupyterLab: a real kernel, client and instrumentor, and a fake server."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Dialog, Locator, WebSocket, expect

from tests.browser.accessibility import axe_source
from tests.browser.inert import OURS, elements, handlers
from tests.browser.lab import Jupyter, Lab
from tests.display.hostile import HOSTILE
from tests.fake_llm import FakeLLM
from tests.token_examples import example

pytestmark = pytest.mark.slow

KEY = example("OpenAI")
PROMPTS = [("system", "You answer in one sentence."), ("user", "Hello")]
RUN = re.compile("Run +~")
FORM = {"LABEL", "OPTION", "DATALIST", "SELECT", "TEXTAREA", "I", "SECTION"}
"""Elements of the draft, besides those of the view."""


class Watched:
    """The page, the frames of its web sockets, and the server of the model."""

    def __init__(self, lab: Lab, fake: FakeLLM, frames: list[str]) -> None:
        self.lab, self.fake, self.frames = lab, fake, frames

    def open(self, cell: int = 1) -> Locator:
        """Run a cell anew and open the request of its call."""
        self.lab.run(cell)
        self.fake.log.clear()
        view = self.lab.page.locator(".jp-CodeCell").nth(cell).locator(".hh-view")
        expect(view.locator(".hh-bar")).to_contain_text("ChatCompletion")
        if view.locator(".hh-toggle").get_attribute("aria-expanded") == "false":
            view.locator(".hh-toggle").click()
        view.get_by_role("button", name="Run again").click()
        expect(view.get_by_role("button", name=RUN)).to_be_enabled()
        return view


def write(jupyter: Jupyter, fake: FakeLLM, name: str) -> None:
    """A notebook whose second to fifth cell make a model call each."""
    texts = [text for name, text in HOSTILE.items() if not name.startswith(("long", "lone"))]
    setup = f"""%load_ext hh_jupyter
%hh instrument openai
import openai
client = openai.OpenAI(base_url="{fake.url}/v1", api_key=open("key.txt").read())
tools = [{{"type": "function", "function": {{"name": name, "parameters": {{"type": "object", "properties": {{"city": {{
    "type": "string"}}}}, "required": []}}}}}} for name in ("get_weather", "get_time")]
history = [{{"role": "assistant", "content": None, "tool_calls": [{{"id": "c1", "type": "function", "function": {{
    "name": "get_weather", "arguments": "{{}}"}}}}]}}, {{"role": "tool", "tool_call_id": "c1", "content": "rain"}}]
hostile = [{{"role": "user", "content": text}} for text in {texts!r}]
def ask(*more, **options):
    system, user = ({{"role": role, "content": text}} for role, text in {PROMPTS})
    return client.chat.completions.create(
        model="gpt-4o", messages=[system, *more, user], temperature=0.2, **options)
"""
    (jupyter.folder / "key.txt").write_text(KEY)
    calls = ["%%hh_session triage\nask();", "ask(*history, tools=tools);", "ask(*hostile);", "list(ask(stream=True));"]
    jupyter.write(name, [setup, *calls])


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeLLM]:
    with FakeLLM() as server:
        yield server


@pytest.fixture(scope="module")
def watched(browser: Browser, jupyter: Jupyter, fake: FakeLLM) -> Iterator[Watched]:
    write(jupyter, fake, "again.ipynb")
    lab = Lab(browser, jupyter.url, "again.ipynb")
    frames: list[str] = []

    def watch(socket: WebSocket) -> None:
        for event in ("framereceived", "framesent"):
            socket.on(event, lambda frame: frames.append(frame if isinstance(frame, str) else frame.decode("latin-1")))

    lab.page.on("websocket", watch)
    lab.page.reload()  # Its sockets are watched from the beginning.
    lab.wait_for_kernel()
    lab.run(0)
    with lab:
        yield Watched(lab, fake, frames)
    assert [error for error in lab.errors if "hh" in error] == []


def test_a_changed_call_is_sent_once_and_shown_beside_the_original(watched: Watched) -> None:
    change_and_run(watched)


def test_it_works_the_same_in_notebook_7(browser: Browser, jupyter: Jupyter, fake: FakeLLM) -> None:
    write(jupyter, fake, "seven.ipynb")
    with Lab(browser, jupyter.url, "seven.ipynb", app="notebooks") as seven:
        seven.run(0)
        watched = Watched(seven, fake, [])
        change_and_run(watched)
        to_a_new_cell(watched)


def change_and_run(watched: Watched) -> None:
    view = watched.open()
    view.get_by_label("temperature", exact=True).fill("0.7")
    area = view.get_by_label("system message 1")
    area.fill("You answer in one sentence, and you are kind.")
    expect(view.get_by_text("changed, was 5 words")).to_be_visible()
    expect(view.get_by_text("was 0.2")).to_be_visible()
    assert watched.fake.log == []
    view.get_by_role("button", name=RUN).click()
    variant = view.get_by_role("group", name="Variant 1")
    expect(variant).to_contain_text("Hello! How can I help you today?")
    expect(variant).to_contain_text("system +4 words")
    expect(variant).to_contain_text("temperature 0.7")
    expect(variant.locator(".hh-facts-line")).to_contain_text(" in, 8 out")
    expect(view.get_by_role("group", name="Original")).to_contain_text("Hello! How can I help you today?")
    assert len(watched.fake.log) == 1
    sent = watched.fake.last_request[1]
    assert (sent["temperature"], sent["messages"][0]["content"]) == (
        0.7,
        "You answer in one sentence, and you are kind.",
    )
    expect(view.locator(".hh-bar")).to_contain_text("+1 variant")
    view.get_by_role("button", name="Back to the trace").click()
    expect(view.get_by_role("button", name="Run again")).to_be_visible()


def axe(watched: Watched) -> list[str]:
    watched.lab.page.evaluate(axe_source())
    run = "async () => (await axe.run('.hh-again', { resultTypes: ['violations'] })).violations"
    return [
        f"{fault['id']}: {node['html'][:160]}" for fault in watched.lab.page.evaluate(run) for node in fault["nodes"]
    ]


def test_opening_editing_and_leaving_send_nothing_and_keep_the_draft(watched: Watched) -> None:
    view = watched.open()
    page = watched.lab.page
    view.get_by_label("user message 2").fill("Goodbye")
    view.get_by_label("Name of another parameter").fill("max_tokens")
    page.keyboard.press("Enter")
    page.keyboard.type("50")
    expect(view.get_by_text("At most $")).to_be_visible()
    page.keyboard.press("Escape")
    expect(view.locator(".hh-again")).to_have_count(0)
    view.get_by_role("tab").first.focus()
    page.keyboard.press("r")
    expect(view.get_by_label("user message 2")).to_have_value("Goodbye")
    expect(view.get_by_label("max_tokens")).to_have_value("50")
    view.get_by_role("button", name="Undo", exact=True).click()
    expect(view.get_by_label("user message 2")).to_have_value("Hello")
    view.get_by_role("button", name="Remove").nth(1).click()
    expect(view.get_by_label("user message 2")).to_have_count(0)
    view.get_by_role("button", name="Copy as Python").click()
    assert watched.fake.log == []
    assert view.get_by_role("group", name=re.compile("Variant")).count() == 0


def test_keys_of_the_draft_do_not_reach_the_notebook(watched: Watched) -> None:
    view = watched.open()
    page = watched.lab.page
    before, prompt = watched.lab.sources(), page.locator(".jp-InputPrompt").nth(1).inner_text()
    view.get_by_label("temperature", exact=True).focus()
    for key in ("x", "d", "d", "Control+Enter"):
        page.keyboard.press(key)
    expect(view.get_by_role("group", name="Variant 1").locator(".hh-failure, .hh-text").first).to_be_visible()
    assert (watched.lab.sources(), page.locator(".jp-InputPrompt").nth(1).inner_text()) == (before, prompt)
    assert len(watched.fake.log) == 1


def test_tools_are_offered_by_check_boxes_and_messages_with_calls_are_json(watched: Watched) -> None:
    view = watched.open(2)
    view.get_by_label("get_time").uncheck()
    json = view.get_by_label("assistant message 2 as JSON")
    json.fill("{")
    expect(view.get_by_text("A message or the tools are not valid JSON.")).to_be_visible()
    expect(view.get_by_role("button", name=RUN)).to_be_disabled()
    view.get_by_role("button", name="Undo").click()
    view.get_by_role("button", name=RUN).click()
    expect(view.get_by_role("group", name="Variant 1")).to_contain_text("tools 1 of 2")
    assert [tool["function"]["name"] for tool in watched.fake.last_request[1]["tools"]] == ["get_weather"]
    assert watched.fake.last_request[1]["messages"][1]["tool_calls"][0]["id"] == "c1"


def test_draft_and_variants_are_accessible_in_both_themes_and_widths(watched: Watched) -> None:
    view = watched.open()
    found = []
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        set_theme = (
            "name => { window.jupyterapp.commands.execute('apputils:change-theme', { theme: name }); return 1; }"
        )
        watched.lab.page.evaluate(set_theme, theme)
        expect(view).to_have_attribute("data-theme", theme.split()[1].lower())
        for width in ("900px", "540px"):
            view.evaluate("(view, width) => { view.style.width = width; }", width)
            found += axe(watched)
        if theme == "JupyterLab Dark":
            view.get_by_label("model", exact=True).fill("gpt-4o-err401")
            view.get_by_role("button", name=re.compile("Run")).last.click()
            expect(view.get_by_role("group", name="Variant 1")).to_contain_text("AuthenticationError")
            view.get_by_role("button", name="Draft", exact=True).click()
    assert found == []


def test_hostile_content_is_inert(watched: Watched) -> None:
    page = watched.lab.page
    seen: list[str] = []

    def note(dialog: Dialog) -> None:
        seen.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", note)
    view = watched.open(3)
    areas = view.locator(".hh-draft textarea").evaluate_all("areas => areas.map(area => area.value)")
    assert {HOSTILE["script"], HOSTILE["image with a handler"]} <= set(areas)
    assert elements(page, ".hh-again") <= OURS | FORM
    assert handlers(page, ".hh-again") == []
    view.get_by_label("model", exact=True).fill("<img src=x onerror=alert(1)>")
    view.get_by_role("button", name=re.compile("Run")).last.click()
    expect(view.get_by_role("group", name="Variant 1")).to_contain_text("model <img src=x")
    expect(view.get_by_role("group", name="Variant 1").get_by_role("button", name="Stop")).to_have_count(0)
    assert elements(page, ".hh-again") <= OURS | FORM
    assert handlers(page, ".hh-again") == []
    assert len(watched.fake.log) == 1
    assert seen == []


def test_words_that_the_original_answer_does_not_have_are_marked_unless_switched_off(watched: Watched) -> None:
    view = watched.open()
    expect(view.get_by_role("button", name="Word differences")).to_have_count(0)
    view.get_by_label("user message 2").fill("Summarize it")
    view.get_by_role("button", name=RUN).click()
    variant = view.get_by_role("group", name="Variant 1")
    expect(variant.locator("ins").first).to_be_visible()
    expect(variant).to_contain_text("In short: the text describes one main idea")
    expect(view.get_by_role("group", name="Original").locator("ins")).to_have_count(0)
    switch = view.get_by_role("button", name="Word differences")
    expect(switch).to_have_attribute("aria-pressed", "true")
    switch.click()
    expect(switch).to_have_attribute("aria-pressed", "false")
    expect(variant.locator("ins")).to_have_count(0)
    expect(variant).to_contain_text("In short: the text describes one main idea")


def to_a_new_cell(watched: Watched) -> None:
    view = watched.open()
    page = watched.lab.page
    before = watched.lab.sources()
    view.get_by_label("temperature", exact=True).fill("0.9")
    view.get_by_role("button", name="To a new cell").click()
    expect(view.get_by_role("button", name="In a new cell below")).to_be_visible()
    after = watched.lab.sources()
    assert after[:2] + after[3:] == before
    kind, code = after[2]
    assert kind == "code"
    assert code.startswith("# The same request again:\nclient.chat.completions.create(")
    assert "temperature=0.9," in code
    assert watched.fake.log == []
    watched.lab.run(2)
    assert watched.fake.last_request[1]["temperature"] == 0.9
    page.evaluate("() => { window.jupyterapp.shell.currentWidget.model.sharedModel.deleteCell(2); return 1; }")


def test_the_code_of_the_draft_goes_into_a_new_cell_below(watched: Watched) -> None:
    to_a_new_cell(watched)


def test_where_no_cell_can_be_made_the_code_is_copied(watched: Watched) -> None:
    view = watched.open()
    page = watched.lab.page
    before = watched.lab.sources()
    read_only = "value => { window.jupyterapp.shell.currentWidget.context.model.readOnly = value; return 1; }"
    page.evaluate(read_only, True)
    page.evaluate("() => { navigator.clipboard.writeText = async () => { throw new Error('no'); }; return 1; }")
    view.get_by_role("button", name="To a new cell").click()
    expect(view.get_by_label("Python to copy")).to_have_value(re.compile(r"client\.chat\.completions\.create\("))
    page.evaluate(read_only, False)
    assert watched.lab.sources() == before


def test_a_click_counts_also_if_its_button_is_drawn_anew_meanwhile(watched: Watched) -> None:
    """As when the cost arrives while the button is pressed."""
    view = watched.open()
    page = watched.lab.page
    button = view.get_by_role("button", name=RUN)
    pressed = button.element_handle()
    button.hover()
    page.mouse.down()
    view.get_by_label("temperature", exact=True).dispatch_event("input")
    assert pressed.evaluate("button => button.isConnected") is False
    page.mouse.up()
    expect(view.get_by_role("group", name="Variant 1")).to_contain_text("Hello! How can I help you today?")
    assert len(watched.fake.log) == 1


def test_a_streamed_answer_appears_as_it_arrives_while_the_next_draft_is_written(watched: Watched) -> None:
    view = watched.open(4)
    watched.fake.chunk_delay = 0.7
    view.get_by_role("button", name=RUN).click()
    variant = view.get_by_role("group", name="Variant 1")
    expect(variant.locator(".hh-arriving")).to_contain_text("Hello!")
    expect(variant).to_contain_text("first token")
    expect(variant.get_by_role("button", name="Copy")).to_have_count(0)
    view.get_by_role("button", name="Draft", exact=True).click()
    area = view.get_by_label("user message 2")
    area.fill("Summarize")
    for _ in range(4):
        area.press("ArrowLeft")
    expect(variant).to_contain_text("Hello! How can I help you today?")
    expect(variant.get_by_role("button", name="Stop")).to_have_count(0)
    expect(variant).not_to_contain_text("first token")
    watched.lab.page.keyboard.type("-")
    expect(area).to_have_value("Summa-rize")
    watched.fake.chunk_delay = 0


def test_a_stream_is_stopped_and_what_had_arrived_stays(watched: Watched) -> None:
    view = watched.open(4)
    watched.fake.chunk_delay = 2
    view.get_by_role("button", name=RUN).click()
    variant = view.get_by_role("group", name="Variant 1")
    expect(variant.locator(".hh-arriving")).to_contain_text("Hello!", timeout=15_000)
    variant.get_by_role("button", name="Stop").click()
    expect(variant.get_by_role("alert")).to_have_text("Stopped.")
    expect(variant).to_contain_text("Hello!")
    watched.fake.chunk_delay = 0


def test_the_end_of_a_variant_is_shown_also_if_its_output_was_out_of_the_page(watched: Watched) -> None:
    """As while an output is replaced, or scrolled away."""
    view = watched.open(4)
    watched.fake.chunk_delay = 0.5
    view.get_by_role("button", name=RUN).click()
    expect(view.get_by_role("group", name="Variant 1")).to_contain_text("first token")
    output = view.locator("xpath=..").element_handle()
    place = output.evaluate_handle("output => { const place = output.parentElement; output.remove(); return place; }")
    seen = len(watched.frames)
    ended = re.compile(r'"type": ?"variant".*"running": ?false', re.DOTALL)
    while not any(ended.search(frame) for frame in watched.frames[seen:]):
        watched.lab.page.wait_for_timeout(50)
    place.evaluate("(place, output) => { place.append(output); return 1; }", output)
    variant = view.get_by_role("group", name="Variant 1")
    expect(variant).to_contain_text("Hello! How can I help you today?")
    expect(variant.get_by_role("button", name="Stop")).to_have_count(0)
    watched.fake.chunk_delay = 0


def test_the_key_never_reaches_the_page(watched: Watched) -> None:
    """Last: in no frame of the tests above."""
    assert any("gpt-4o-err401" in frame for frame in watched.frames)
    assert not any(KEY in frame or KEY[8:24] in frame for frame in watched.frames)
