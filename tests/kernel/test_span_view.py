"""`SpanView`: a widget that serves requests of its page, with static text and HTML."""

from __future__ import annotations

import pytest

from tests.kernel.driver import Kernel

WIDGET_AND_LAYOUT = 2
STATIC = {"text/html", "text/plain"}
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.mark.slow
def test_it_is_displayed_as_static_text_and_html(fresh: Kernel) -> None:
    """The hub shows the widget in their place; a file without a kernel has no widget that cannot be shown."""
    cell = fresh.run("span('a'), span('b')", cell_id="cell-1")
    fresh.wait_for(lambda: fresh.comms == WIDGET_AND_LAYOUT, "the hub is not open")
    shown = fresh.run(f"view = hh.SpanView({cell.count})\ndisplay(view)", cell_id="cell-2").output
    data = shown.versions[0]
    assert set(data) == STATIC
    assert "2 spans" in data["text/html"]
    assert data["text/plain"].startswith("✓ 2 traces")
    view_id = fresh.value("view.view_id")
    assert shown.metadata == {"hh_jupyter": {"view_id": view_id}}
    assert f'id="{view_id}"' in data["text/html"]
    assert fresh.comms == 2 * WIDGET_AND_LAYOUT
    fresh.run("view.close()")
    assert fresh.comms == WIDGET_AND_LAYOUT


BOX = "box = ipywidgets.VBox([ipywidgets.Label('x'), ipywidgets.HBox([hh.SpanView('last'), hh.SpanView('all')])])\nbox"


@pytest.mark.slow
@pytest.mark.parametrize("cell_id", ["cell-2", None], ids=["notebook", "headless"])
def test_a_layout_around_it_is_displayed_as_static_text_and_html(fresh: Kernel, cell_id: str | None) -> None:
    """Each view in it, one below the other. Other layouts are displayed as ever."""
    fresh.run("import ipywidgets\nspan('a')", cell_id=cell_id)
    data = fresh.run(BOX, cell_id=cell_id).results_data[0]
    assert set(data) == STATIC
    assert data["text/plain"].startswith("VBox(children=(Label(value='x'), HBox(children=(SpanView('last'), ")
    assert f'class="hh-output hh-box" id="hh-box-{fresh.value("box.model_id")}"' in data["text/html"]
    assert data["text/html"].count("<b>a</b>") == 2
    other = "ipywidgets.HBox([ipywidgets.Label('x')])"
    assert set(fresh.run(other, cell_id=cell_id).results_data[0]) == {WIDGET, "text/plain"}
    fresh.run("%unload_ext hh_jupyter")
    assert set(fresh.run("box", cell_id=cell_id).results_data[0]) == {WIDGET, "text/plain"}


@pytest.mark.slow
def test_a_front_end_without_the_hub_gets_the_widgets_too(fresh: Kernel) -> None:
    """VS Code has each output in a place of its own; it names cells by a URL."""
    fresh.run("import ipywidgets\nspan('a')", cell_id="vscode-notebook-cell:/a.ipynb#W1")
    for code in (BOX, "hh.SpanView()"):
        shown = fresh.run(code, cell_id="vscode-notebook-cell:/a.ipynb#W2").results_data[0]
        assert set(shown) == {*STATIC, WIDGET}


@pytest.mark.slow
def test_a_headless_run_gets_no_widget(fresh: Kernel) -> None:
    """A runner saves the state of every widget in the notebook."""
    fresh.run("span('a')")
    assert set(fresh.run("view = hh.SpanView()\nview").results_data[0]) == STATIC
    assert fresh.comms == 0
    fresh.run("view.close()")


def test_its_page_gets_rows_details_and_notifications_of_changes(fresh: Kernel) -> None:
    cell = fresh.run(
        "import threading\nlate = threading.Event()\nspan('a')\n"
        "worker = threading.Thread(target=lambda: (late.wait(60), span('late')))\nworker.start()"
    )
    fresh.run(
        "sent = []\n"
        f"view = hh.SpanView({cell.count})\n"
        "view.send = lambda content, buffers=None: sent.append(content)\n"
        "def ask(**content):\n"
        "    view._handle_custom_msg(content, [])\n"
        "    return sent.pop()"
    )
    header = fresh.value("ask(type='rows', view=view.view_id, have=None)['header']")
    assert (header["title"], header["names"]) == ("a", ["a"])
    span_id = fresh.value("format(span_log().records()[0].span_id, '016x')")
    details = fresh.value(f"ask(type='details', number=1, view=view.view_id, span={span_id!r})")
    assert ("span id", span_id) in details["value"]["attributes"]
    assert fresh.value("ask(type='rows', view='hh-other', have=None)['header']") is None
    fresh.run("late.set(); worker.join(); hh.get_tracer().seal()")
    fresh.wait_for(
        lambda: fresh.value("{'type': 'changed', 'view': view.view_id} in sent"), "the page was not notified"
    )
    fresh.run("sent.clear()")
    assert fresh.value("ask(type='rows', view=view.view_id, have=None)['header']['names']") == ["a", "late"]


@pytest.mark.slow
def test_it_takes_sessions_all_and_a_layout(fresh: Kernel) -> None:
    fresh.run("%%hh_session triage\nspan('a')")
    fresh.run("import ipywidgets")
    assert fresh.run("hh.SpanView('triage', layout={'width': '50%'}).layout.width").results == ["'50%'"]
    boxed = fresh.run("box = ipywidgets.HBox([hh.SpanView('all'), hh.SpanView('last')])\nbox")
    assert boxed.reply == "ok"
    assert boxed.results == ["HBox(children=(SpanView('all'), SpanView('last')))"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("hh.SpanView(9999)", "SpanView: no spans for cell 9999. Cells with spans: "),
        ("hh.SpanView('nothing')", "SpanView: no session nothing."),
    ],
)
def test_an_error_lists_what_can_be_shown(local: Kernel, code: str, message: str) -> None:
    local.run("span('some')")
    ((name, message),) = local.run(code).errors
    assert name == "HHError"
    assert message.startswith(message)


@pytest.mark.slow
def test_without_the_extension_the_error_says_how_to_load_it(fresh: Kernel) -> None:
    fresh.run("%unload_ext hh_jupyter")
    assert fresh.run("hh.SpanView()").errors == [
        ("HHError", "SpanView: the notebook extension is not loaded. %load_ext hh_jupyter")
    ]


@pytest.mark.slow
def test_without_the_widget_library_the_error_says_what_to_install(fresh: Kernel) -> None:
    fresh.run("import sys\nsys.modules['anywidget'] = None")
    ((name, message),) = fresh.run("hh.SpanView()").errors
    assert name == "ImportError"
    assert message == "SpanView needs the widget libraries: %pip install anywidget, then restart the kernel"
