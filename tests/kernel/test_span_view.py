"""`SpanView`: a widget that serves requests of its page, with static text and HTML."""

from __future__ import annotations

import pytest

from tests.kernel.driver import Kernel

WIDGET_AND_LAYOUT = 2


def test_it_is_a_widget_with_static_text_and_html(fresh: Kernel) -> None:
    cell = fresh.run("span('a'), span('b')")
    shown = fresh.run(f"view = hh.SpanView({cell.count})\ndisplay(view)").output
    data = shown.versions[0]
    assert set(data) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    assert "2 spans" in data["text/html"]
    assert data["text/plain"].startswith("✓ 2 traces")
    view_id = fresh.value("view.view_id")
    assert shown.metadata == {"hh_jupyter": {"view_id": view_id}}
    assert f'id="{view_id}"' in data["text/html"]
    assert fresh.comms == WIDGET_AND_LAYOUT
    fresh.run("view.close()")
    assert fresh.comms == 0


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


def test_without_the_extension_the_error_says_how_to_load_it(fresh: Kernel) -> None:
    fresh.run("%unload_ext hh_jupyter")
    assert fresh.run("hh.SpanView()").errors == [
        ("HHError", "SpanView: the notebook extension is not loaded. %load_ext hh_jupyter")
    ]


def test_without_the_widget_library_the_error_says_what_to_install(fresh: Kernel) -> None:
    fresh.run("import sys\nsys.modules['anywidget'] = None")
    ((name, message),) = fresh.run("hh.SpanView()").errors
    assert name == "ImportError"
    assert message == "SpanView needs the widget libraries: %pip install anywidget, then restart the kernel"
