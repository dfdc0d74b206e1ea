"""`%hh sessions`, `show`, `send` and `clear`, for sessions of this kernel and of earlier ones on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import SESSION_START
from tests.kernel.conftest import KEY, StartKernel
from tests.kernel.driver import Kernel, kernel_with

LLM = """with hh.get_tracer().start_span("agent"):
    with hh.get_tracer().start_span("ask", attributes={
        "openinference.span.kind": "LLM", "llm.model_name": "gpt-4o-mini", "llm.token_count.prompt": 1200,
        "llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": "Where is my parcel?",
    }):
        pass"""
DETAILS = """outputs = get_ipython().magics_manager.registry["HHMagics"]._commands._outputs
while outputs._hub._hub is None:
    time.sleep(0.01)
asked = next(node.record for node in outputs.hub_source.view_of({view!r}).tree.nodes if node.record.name == "ask")
message = dict(type="details", number=1, view={view!r}, span=format(asked.span_id, "016x"))
print(outputs._hub._hub.reply(message)[0]["value"]["messages"])"""
"""Prints the reply to a page that requests the details of the span "ask"."""
WIDGET_AND_LAYOUT = 2


def table(kernel: Kernel) -> list[list[str]]:
    """Return the rows of `%hh sessions`, split into words."""
    return [line.split() for line in kernel.run("%hh sessions").stdout.splitlines()[1:]]


def usage_error(kernel: Kernel, line: str) -> str:
    cell = kernel.run(line)
    assert cell.ename == "UsageError", cell
    assert cell.stderr.count("\n") == 1, cell.stderr
    return cell.stderr.removeprefix("UsageError: ").rstrip()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel in local mode with two sessions of one name, one with spaces, and its own."""
    with kernel_with(tmp_path_factory.mktemp("kernel")) as kernel:
        kernel.run(f"%%hh_session refund-triage\n{LLM}")
        kernel.run("%%hh_session refund-triage\nspan('second')")
        kernel.run("%%hh_session 'two words'\nspan('third')")
        kernel.run("span('own')")
        yield kernel


@pytest.mark.slow
def test_the_table_lists_every_session_of_this_kernel_the_newest_last(made: Kernel) -> None:
    lines = made.run("%hh sessions").stdout.splitlines()
    assert lines[0].split() == ["session", "id", "spans", "last", "span", "where", "kernel"]
    assert [line[:16].rstrip() for line in lines[1:]] == ["refund-triage", "refund-triage #2", "two words", "notebook"]
    assert [line.split()[-7] for line in lines[1:]] == ["2", "1", "1", "1"]
    assert all(line.endswith("local only  this one") for line in lines[1:])


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("'refund-triage #2'", "second"),
        ("refund-triage #2", "second"),
        ("refund-triage #1", "ask"),
        ("refund-triage", "second"),
        ("'two words'", "third"),
        ("all", "own"),
    ],
)
def test_a_session_is_shown_by_title_or_name_like_a_cell(made: Kernel, words: str, shown: str) -> None:
    """The name selects the latest of several sessions."""
    cell = made.run(f"%hh show {words}")
    assert shown in cell.output.text
    assert "<details open" in cell.output.html
    assert "local only" in cell.output.text.splitlines()[0]


def test_a_session_is_shown_by_its_id_or_the_beginning_of_it_and_the_output_says_how(made: Kernel) -> None:
    whole = made.value("[i for i, title in get_ipython()._hh.titles().items() if title == 'two words'][0]")
    for text in (whole, whole[:6], whole[:6].upper()):
        cell = made.run(f"%hh show {text}")
        assert "third" in cell.output.text
        assert f"%hh show {whole[:8]}" in cell.output.text


DIGITS = "91312377-0000-4000-8000-000000000001"


@pytest.mark.slow
def test_every_place_that_takes_a_session_takes_the_same_words(fresh: Kernel, tmp_path: Path) -> None:
    fresh.run(f"%%hh_session 'two words' --id {DIGITS}\nspan('first')")
    fresh.run("%%hh_session 'two words'\nspan('second')")
    for number, text in enumerate((DIGITS, "9131", "91312377", "two words #1")):
        assert "first" in fresh.run(f"%hh show {text!r}").output.text
        assert "first" in fresh.value(f"hh.SpanView({text!r})._repr_mimebundle_()[0]['text/plain']")
        assert fresh.value(f"[row.name for row in hh.spans(session={text!r})]") == ["first"]
        assert fresh.run(f"%%hh_session --join {text!r}\n1").reply == "ok"
        assert fresh.run(f"%hh save {tmp_path}/{number}.jsonl {text!r}").reply == "ok"
        assert (tmp_path / f"{number}.jsonl").read_text().count('"traceId"') == 1
    fresh.run("span('own')")
    assert fresh.value("[row.name for row in hh.spans(session='notebook')]") == ["own"]
    hint = "no session two wrods. Did you mean two words?"
    assert usage_error(fresh, "%hh show 'two wrods'") == f"%hh show: {hint}"
    assert usage_error(fresh, "%hh clear 'two wrods'") == f"%hh clear: {hint}"
    assert usage_error(fresh, "%%hh_session --join 'two wrods'\n1") == f"%%hh_session: {hint}"
    assert hint in str(fresh.run("hh.SpanView('two wrods')").errors)
    assert hint in str(fresh.run("hh.spans(session='two wrods')").errors)


@pytest.mark.slow
def test_an_id_of_digits_is_shown_and_no_name_is_taken_for_a_cell_silently(fresh: Kernel) -> None:
    fresh.run(f"%%hh_session digits --id {DIGITS}\nspan('of digits')")
    for typed in ("91312377", "9131", DIGITS):
        assert "of digits" in fresh.run(f"%hh show {typed}").output.text
    assert usage_error(fresh, "%hh show 91312378").startswith(
        "%hh show: no spans for cell 91312378. Cells with spans: 2."
    )

    cell = fresh.run("span('of the cell')")
    fresh.run(f"%%hh_session {cell.count}\nspan('of the session')")
    own = fresh.value("[row.session_id for row in span_log().records() if row.name == 'of the session'][0]")
    shown = fresh.run(f"%hh show {cell.count}")
    assert "of the cell" in shown.output.text
    assert shown.stdout == f"hh: showing cell {cell.count}. For session {cell.count}: %hh show {own}\n"
    assert "of the session" in fresh.run(shown.stdout.rpartition(": ")[2]).output.text
    assert fresh.run("%hh show 2").stdout == ""

    fresh.run("%%hh_session 777\nspan('named by a number')")
    assert "named by a number" in fresh.run("%hh show 777").output.text
    for word in ("last", "all"):
        fresh.run(f"%%hh_session {word}\nspan('named {word}')")
        printed = fresh.run(f"%hh show {word}").stdout
        assert f"named {word}" in fresh.run(printed.rpartition(": ")[2]).output.text
    offered = fresh.complete("%hh show ")
    assert {f"%hh show {DIGITS[:8]}", "%hh show digits"} & set(offered)
    assert f"%hh show {own[:8]}" in offered, "its name would show the cell"


def test_spans_outside_cells_are_shown_by_the_word_background(fresh: Kernel) -> None:
    assert usage_error(fresh, "%hh show background") == "%hh show: no spans outside cells."
    fresh.run(
        "from opentelemetry import context\n"
        "def work():\n    context.attach(context.Context())\n    span('lonely')\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()"
    )
    shown = fresh.run("%hh show background").output.text
    assert "lonely" in shown


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%hh show refund-triaje", "%hh show: no session refund-triaje. Did you mean refund-triage?"),
        ("%hh show abc", "%hh show: no session abc. Known: refund-triage, refund-triage #2, two words, notebook."),
        ("%hh show 9999", "%hh show: no spans for cell 9999. Cells with spans: 2, 3, 4, 5."),
        ("%hh send", "%hh send: no API key is set. Use %hh login to enter one."),
        ("%hh send refund-triage", "%hh send: no API key is set. Use %hh login to enter one."),
        ("%hh clear nothing", "%hh clear: no session nothing. Known: refund-triage, refund-triage #2, two words"),
        ("%hh on all", "%hh on: unexpected argument 'all'. It takes no arguments."),
    ],
)
def test_a_mistake_is_one_line(made: Kernel, line: str, message: str) -> None:
    assert usage_error(made, line).startswith(message)


def test_clear_needs_a_name_that_matches_one_session(made: Kernel) -> None:
    printed = usage_error(made, "%hh clear refund-triage")
    ids = [row[-8] for row in table(made)[:2]]
    assert printed == f"%hh clear: 2 sessions are named refund-triage; use an id: {', '.join(ids)}."


def test_a_new_kernel_shows_the_sessions_of_a_killed_one_and_sends_only_those_that_are_named(
    start_kernel: StartKernel, backend: Backend
) -> None:
    first = start_kernel()
    first.run(f"%%hh_session refund-triage\n{LLM}")
    first.run("%%hh_session private\nspan('diary')")
    first.stop(now=True)

    second = start_kernel(HH_API_URL=backend.url)
    assert "2 sessions, 3 spans of earlier kernels: %hh sessions" in second.run("%hh").stdout
    assert [(row[0], row[2], row[-1]) for row in table(second)] == [
        ("refund-triage", "2", "earlier"),
        ("private", "1", "earlier"),
    ]
    shown = second.run("%hh show refund-triage", cell_id="cell-1").output
    assert ("ask" in shown.text, "local only" in shown.text) == (True, True)
    second.wait_for(lambda: second.comms == WIDGET_AND_LAYOUT, "the page is not interactive")
    view_id = shown.metadata["hh_jupyter"]["view_id"]
    assert "Where is my parcel?" in second.run(DETAILS.format(view=view_id)).stdout

    assert "sending to" in second.run("%hh login", answer=KEY).stdout
    assert second.run("%hh send").stdout == "hh: nothing to send.\n"
    assert [request.body for request in backend.requests] == [[]], "only the question at the login"
    cell = second.run("%hh send refund-triage", answer="y")
    assert "1 session, 2 spans of other kernels: refund-triage " in cell.asked[0]["prompt"]
    printed = cell.stdout
    assert printed == f"hh: 2 spans of refund-triage sent to {backend.url.removeprefix('http://')}.\n"
    assert sorted(span["name"] for span in backend.spans()) == ["agent", "ask"]
    (session,) = backend.sessions()
    assert session["session_name"] == "refund-triage"
    assert {span["attributes"]["honeyhive.session_id"] for span in backend.spans()} == {session["session_id"]}
    assert {row[0]: " ".join(row[5:-1]) for row in table(second)} == {
        "private": "local only",
        "refund-triage": f"{backend.url.removeprefix('http://')}: sent",
    }
    assert second.run("%hh send private --yes").stdout.startswith("hh: 1 span of private sent to ")


@pytest.mark.slow
def test_feedback_given_after_a_span_is_on_disk_with_it_for_a_later_kernel(start_kernel: StartKernel) -> None:
    event = "24242424-2424-4424-8424-242424242424"
    first = start_kernel()
    first.run(f"%%hh_session rated\nwith hh.get_tracer().start_span('a'): hh.enrich_span(update_event_id={event!r})")
    first.run(f"hh.enrich_span(event_id={event!r}, feedback={{'stars': 1, 'why': 'late'}})\nhh.flush()")
    first.stop(now=True)

    second = start_kernel()
    second.run(f"hh.enrich_span(event_id={event!r}, feedback={{'stars': 4}})\nhh.flush()")
    shown = second.run("%hh show rated").output
    assert "[why late]  [stars 4]" in shown.text
    assert ">stars 4</span>" in shown.html


def test_a_session_of_local_mode_is_sent_by_name_and_its_output_shows_it(
    start_kernel: StartKernel, backend: Backend
) -> None:
    kernel = start_kernel(HH_API_URL=backend.url)
    one, two = kernel.run("%%hh_session one\nspan('a')"), kernel.run("%%hh_session two\nspan('b')")
    printed = kernel.run("%hh login", answer=KEY).stdout
    assert "Earlier spans stay on this machine" in printed
    kernel.run("%hh send one")
    assert [span["name"] for span in backend.spans()] == ["a"]
    kernel.wait_for(lambda: one.output.text.endswith("  sent"), "the sent cell's output")
    assert "local only" in two.output.text
    assert [" ".join(row[5:-2]) for row in table(kernel)] == [f"{backend.url[7:]}: sent", "local only"]
    assert kernel.run("%hh send all").stdout.startswith("hh: 1 span sent to ")
    assert kernel.run("%hh send all").stdout == "hh: nothing to send.\n"


@pytest.mark.slow
def test_send_reports_what_is_waiting_and_why_and_sends_it_when_it_can(start_kernel: StartKernel) -> None:
    with Backend(refuse=True) as backend:
        kernel = start_kernel(HH_API_KEY=KEY, HH_API_URL=backend.url, HH_CELL_FLUSH_SECONDS="0.1")
        cell = kernel.run("%%hh_session kept\nspan('x'); span('y')")
        host = backend.url.removeprefix("http://")
        printed = kernel.run("%hh send").stdout
        assert printed == f"hh: 0 of 2 spans sent to {host}; 2 waiting: {host} cannot be reached.\n"
        assert "2 spans of this kernel not sent yet" in kernel.run("%hh").stdout
        error = usage_error(kernel, "%hh clear")
        assert (
            error
            == "%hh clear: 2 spans not sent yet would be lost. Use %hh send to send them, %hh clear all to delete them."
        )
        backend.listen()
        assert kernel.run("%hh send").stdout == f"hh: 2 spans sent to {host}.\n"
        kernel.wait_for(lambda: cell.output.text.splitlines()[0].endswith("  sent"), "the cell's output")
        assert len(backend.spans()) == 2


def test_send_retries_rejected_spans(sending: Kernel, backend: Backend) -> None:
    backend.force({"/": [401] * 50})
    sending.run("span('refused')")
    assert "1 rejected: " in sending.run("%hh send").stdout
    assert "rejected the key (401)" in sending.run("%hh").stdout
    backend.force({})
    assert sending.run("%hh send").stdout.startswith("hh: 1 span sent to ")
    assert len(backend.spans("refused")) == 1


@pytest.mark.slow
def test_status_and_send_report_a_rejected_session_start(sending: Kernel, backend: Backend) -> None:
    backend.force({SESSION_START: [400] * 50})
    sending.run("%%hh_session unlucky\nspan('x')")
    assert "requests  1 rejected (session starts, updates, events): " in sending.run("%hh").stdout
    assert sending.run("%hh send").stdout.startswith("hh: 1 request (session start, update or event) rejected: ")


@pytest.mark.slow
def test_clear_deletes_the_spans_on_disk_of_one_session_or_of_all(start_kernel: StartKernel) -> None:
    first = start_kernel()
    first.run("%%hh_session one\nspan('a')")
    first.run("%%hh_session two\nspan('b'); span('c')")
    first.stop(now=True)
    second = start_kernel()
    assert second.run("%hh clear two --yes").stdout.startswith("hh: 2 spans of two deleted from ")
    assert [row[0] for row in table(second)] == ["one"]
    others = second.run("%hh clear --others --yes").stdout
    assert others.startswith("hh: 1 span deleted from ")
    assert "This kernel" not in others, "it never had them"
    assert second.run("%hh sessions").stdout == "hh: no sessions with spans yet.\n"
    assert "on disk   nothing\n" in second.run("%hh").stdout


def test_without_the_spool_sessions_of_this_kernel_are_listed_and_shown(
    start_kernel: StartKernel, backend: Backend
) -> None:
    kernel = start_kernel(HH_SPOOL="off", HH_API_URL=backend.url)
    kernel.run("%%hh_session one\nspan('a')")
    assert [(row[0], row[-2], row[-1]) for row in table(kernel)] == [("one", "this", "one")]
    assert "a" in kernel.run("%hh show one").output.text
    assert kernel.run("%hh clear").stdout == "hh: nothing to delete: the setting spool is off.\n"
    kernel.run("%hh login", answer=KEY)
    assert "nothing to send: with the setting spool off" in usage_error(kernel, "%hh send one")
    kernel.run("%%hh_session --join one\nspan('b')")
    assert "1 of 2 sent" in kernel.run("%hh show one").output.text
    assert "nothing (spool is off)" in kernel.run("%hh").stdout


@pytest.mark.slow
def test_a_session_continued_after_the_login_is_sent_in_part_until_it_is_named(
    start_kernel: StartKernel, backend: Backend
) -> None:
    kernel = start_kernel(HH_API_URL=backend.url)
    kernel.run("%%hh_session one\nspan('a')")
    kernel.run("%hh login", answer=KEY)
    kernel.run("%%hh_session --join one\nspan('b')")
    assert [span["name"] for span in backend.spans()] == ["b"]
    assert "1 of 2 sent" in kernel.run("%hh sessions").stdout
    shown = kernel.run("%hh show one").output.text
    assert ("1 of 2 sent" in shown, "a " in shown, "b " in shown) == (True, True, True)
    assert kernel.run("%hh send one").stdout.startswith("hh: 1 span of one sent to ")
    assert ": sent" in kernel.run("%hh sessions").stdout


def test_a_session_of_a_killed_kernel_that_is_continued_is_shown_complete(
    start_kernel: StartKernel, backend: Backend
) -> None:
    first = start_kernel()
    first.run("%%hh_session one\nspan('a')")
    ((_, short_id, *_),) = table(first)
    whole = first.value(f"[i for i in get_ipython()._hh.titles() if i.startswith({short_id!r})][0]")
    first.stop(now=True)
    second = start_kernel(HH_API_URL=backend.url, HH_API_KEY=KEY)
    second.run(f"%%hh_session --join {whole}\nspan('b')")
    (row,) = table(second)
    assert row[:3] == ["one", short_id, "2"]
    shown = second.run(f"%hh show {short_id}").output.text
    assert ("a " in shown, "b " in shown) == (True, True)
    assert [span["name"] for span in backend.spans()] == ["b"]


def test_status_reports_an_unusable_spool_folder_and_nothing_fails(
    start_kernel: StartKernel, backend: Backend, tmp_path: Path
) -> None:
    (tmp_path / "no-folder").touch()
    kernel = start_kernel(HH_API_URL=backend.url, HH_SPOOL_DIR=str(tmp_path / "no-folder" / "spool"))
    kernel.run("%%hh_session one\nspan('a')")
    assert "on disk   no copy on disk: " in kernel.run("%hh").stdout
    assert [row[0] for row in table(kernel)] == ["one"]
    assert "a" in kernel.run("%hh show one").output.text
    assert kernel.run("%hh save spans.jsonl").stdout == "hh: 1 span saved to spans.jsonl.\n"
    kernel.run("%hh login", answer=KEY)
    assert "no copy on disk: " in usage_error(kernel, "%hh send one")


@pytest.mark.slow
def test_sessions_that_share_a_cell_have_their_own_export_states(start_kernel: StartKernel, backend: Backend) -> None:
    """Sessions that user code created are included."""
    kernel = start_kernel(HH_API_URL=backend.url)
    kernel.run("for name in ('one', 'two'):\n    with hh.get_tracer().with_session(name): span(name)")
    kernel.run("%hh login", answer=KEY)
    assert kernel.run("%hh send one").stdout.startswith("hh: 1 span of one sent to ")
    where = {row[0]: (row[2], " ".join(row[5:-2])) for row in table(kernel)}
    two = kernel.value("[row.session_id for row in span_log().records() if row.name == 'two'][0]")
    assert where == {"one": ("1", f"{backend.url[7:]}: sent"), "two": ("1", "local only")}
    assert "local only" in kernel.run("%hh show two").output.text
    assert [span["name"] for span in backend.spans()] == ["one"]
    kernel.run(f"%%hh_session --join {two}\nspan('more')")
    shown = kernel.run(f"%hh show {two}").output.text
    assert ("1 of 2 sent" in shown, "session two " in shown) == (True, True)


@pytest.mark.slow
def test_the_view_of_a_session_changes_to_sent_once_it_is_sent(start_kernel: StartKernel) -> None:
    """Its spans do not change, but its export state does."""
    with Backend(refuse=True) as backend:
        kernel = start_kernel(HH_API_KEY=KEY, HH_API_URL=backend.url, HH_CELL_FLUSH_SECONDS="0.1")
        kernel.run("%%hh_session triage\nspan('x')")
        shown, everything = kernel.run("%hh show triage"), kernel.run("%hh show all")
        both = (shown, everything)
        kernel.wait_for(lambda: all("Not sent" in cell.output.html for cell in both), "the outage is not shown")
        backend.listen()
        kernel.run("%hh send")
        kernel.wait_for(lambda: all("Sent" in cell.output.html for cell in both), "the output is not updated")


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", [{"refuse": True}, {"statuses": {"/opentelemetry": [400]}}], ids=["out", "400"])
@pytest.mark.parametrize("line", ["%hh clear private", "%hh clear all"])
def test_what_was_deleted_is_not_sent_later(start_kernel: StartKernel, behaviour: dict[str, Any], line: str) -> None:
    """This includes what waits in memory, and what the backend has rejected."""
    with Backend(**behaviour) as backend:
        kernel = start_kernel(HH_API_KEY=KEY, HH_API_URL=backend.url, HH_CELL_FLUSH_SECONDS="0.2")
        kernel.run("%%hh_session private\nspan('secret')")
        assert kernel.value("hh.get_tracer().force_flush(1_000)") is False
        assert "1 span" in kernel.run(line).stdout
        kernel.run("%%hh_session public\nspan('fine')")
        if behaviour.get("refuse"):
            backend.listen()
        kernel.run("%hh send")
        assert kernel.value("hh.get_tracer().force_flush(10_000)") is True
        assert [span["name"] for span in backend.spans()] == ["fine"]


RATED = """import uuid
event = str(uuid.uuid4())
with hh.get_tracer().start_span("rated"):
    hh.enrich_span(update_event_id=event)"""


def updates(backend: Backend) -> list[Any]:
    return [request.body["feedback"] for request in backend.requests if request.method == "PUT"]


@pytest.mark.slow
@pytest.mark.parametrize("restarted", [False, True])
def test_feedback_on_a_span_is_sent_with_its_session(
    start_kernel: StartKernel, backend: Backend, *, restarted: bool
) -> None:
    """The feedback names the event, not the session."""
    kernel = start_kernel(HH_API_URL=backend.url)
    kernel.run(f"%%hh_session one\n{RATED}")
    kernel.run(f"%%hh_session two\n{RATED.replace('event', 'other')}")
    kernel.run("hh.enrich_span(event_id=other, feedback={'ok': True})")
    kernel.run("hh.enrich_span(event_id=event, feedback={'ok': False})")
    if restarted:
        kernel.value("hh.get_tracer().wait_processed()")
        kernel.stop(now=True)
        kernel = start_kernel(HH_API_URL=backend.url)
    kernel.run("%hh login", answer=KEY)
    assert kernel.run("%hh send one --yes").stdout.startswith("hh: 1 span of one sent to ")
    assert kernel.value("hh.get_tracer().force_flush(10_000)") is True
    assert updates(backend) == [{"ok": False}]


def test_feedback_on_a_span_is_deleted_with_its_session(fresh: Kernel, tmp_path: Path) -> None:
    fresh.run(f"%%hh_session one\n{RATED}")
    fresh.run("hh.enrich_span(event_id=event, feedback={'why': 'a private reason'})")
    fresh.value("hh.get_tracer().wait_processed()")

    def on_disk() -> bool:
        return any(b"a private reason" in file.read_bytes() for file in (tmp_path / "data").rglob("*.sqlite3*"))

    assert on_disk()
    fresh.run("%hh clear one")
    assert not on_disk()
