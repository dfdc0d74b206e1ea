"""`%hh show FILE`: spans of any file of OTLP JSON, static and interactive."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToJson
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from tests.kernel.conftest import StartKernel
from tests.kernel.driver import Kernel
from tests.spans import recorded

WIDGET_AND_LAYOUT = 2
WORDS = "carry an umbrella"
AGENT = recorded("openinference-langchain-agent.json")


@pytest.fixture
def kernel(start_kernel: StartKernel, tmp_path: Path) -> Kernel:
    (tmp_path / "traces").mkdir()
    for name in ("trace.jsonl", "traces/plain", "plain", "chat", "two words.json"):
        (tmp_path / name).write_text(MessageToJson(encode_spans(AGENT), indent=None))
    return start_kernel()


@pytest.mark.slow
def test_a_saved_session_shows_the_same_tree_totals_and_content_from_its_file(start_kernel: StartKernel) -> None:
    kernel = start_kernel()
    kernel.run(
        "@hh.trace(event_type='tool')\ndef look_up(q):\n    return {'answer': 'Rayleigh ' + 'scattering'}\n"
        "@hh.trace\ndef ask(q):\n    return [look_up(q), look_up(q)]"
    )
    cell = kernel.run("_ = ask('why')")
    kernel.run("%hh save spans.jsonl")
    shown = kernel.run("%hh show spans.jsonl --detail full").output
    session = kernel.run(f"%hh show {cell.count} --detail full").output
    foot = re.compile(r"\n\n(file spans\.jsonl|session .*)\Z")
    assert foot.sub("", shown.text).replace("read from file", "local only") == foot.sub("", session.text)
    assert shown.text.splitlines()[-1] == "file spans.jsonl"
    assert "Rayleigh scattering" in shown.text
    assert "File spans.jsonl" in shown.html
    assert "Read from file" in shown.html
    assert "Rayleigh" not in str(kernel.run("%hh show spans.jsonl").output.versions)
    kernel.run(f"own, read = hh.spans(cell={cell.count}), hh.SpanList.from_otlp('spans.jsonl')")
    assert kernel.value("own.totals == read.totals and len(read)") == 3
    assert kernel.value("all(own.content(a) == read.content(b) for a, b in zip(own, read, strict=True))") is True


def test_a_file_of_another_program_is_shown_and_its_command_for_more_works(kernel: Kernel) -> None:
    shown = kernel.run("%hh show trace.jsonl").output
    assert re.match(r"✓ .*  read from file\n", shown.text)
    assert WORDS not in str(shown.versions)
    command = re.findall(r"messages: (%hh show .*)\Z", shown.text)
    assert command == ["%hh show trace.jsonl --detail full"]
    assert WORDS in kernel.run(command[0]).output.text
    quoted = kernel.run("%hh show 'two words.json'").output.text
    assert quoted.endswith("%hh show 'two words.json' --detail full")
    assert kernel.run("%hh show ./trace.jsonl --errors").stdout.startswith("hh: no errors in ./trace.jsonl, ")
    assert kernel.value("rows()") == []


@pytest.mark.slow
def test_the_page_gets_the_rows_of_a_file_and_the_details_of_a_span(kernel: Kernel) -> None:
    shown = kernel.run("%hh show trace.jsonl", cell_id="c1").output
    view_id = shown.metadata["hh_jupyter"]["view_id"]
    assert re.fullmatch(r"hh-c1-shows-[0-9a-f]{12}", view_id)
    kernel.wait_for(lambda: kernel.comms == WIDGET_AND_LAYOUT, "no hub")
    # The hub is announced from a thread a moment before it can receive; a page needs longer than that to start.
    kernel.wait_for(lambda: kernel.value("get_ipython()._hh._outputs._hub._hub is not None"), "the hub is not open")
    span = next(span for span in AGENT if WORDS in str(span.attributes))
    kernel.ask({"type": "rows", "view": view_id, "have": None})
    kernel.ask({"type": "details", "number": 1, "view": view_id, "span": f"{span.context.span_id:016x}"})
    kernel.ask({"type": "python", "number": 2, "view": view_id, "span": f"{span.context.span_id:016x}"})
    kernel.wait_for(
        lambda: (
            {"answer", "rows"} <= {m["type"] for m in kernel.hub_messages}
            and sum(m["type"] == "answer" for m in kernel.hub_messages) == 2
        ),
        "the requests were not answered",
    )
    header = next(message["header"] for message in kernel.hub_messages if message["type"] == "rows")
    assert (header["delivery"], header["delivery_state"], header["file"]) == ("Read from file", "local", "trace.jsonl")
    answers = {message["number"]: message["value"] for message in kernel.hub_messages if message["type"] == "answer"}
    assert WORDS in str(answers[1])
    kernel.run(answers[2].partition("\n\n# The same request")[0])
    assert kernel.value("span.span_id") == span.context.span_id


@pytest.mark.slow
def test_span_view_shows_a_file(kernel: Kernel) -> None:
    shown = kernel.run("display(hh.SpanView('trace.jsonl'))").output
    assert "read from file" in shown.text


def test_a_secret_in_a_file_is_in_no_form_of_the_output(kernel: Kernel, tmp_path: Path) -> None:
    key = "sk-" + "proj-" + "4f9aQ27bXcd81LmZ0pRtUvWy3eHjKs6N"
    path = tmp_path / "secret.json"
    path.write_text((tmp_path / "trace.jsonl").read_text().replace(WORDS, key))
    shown = kernel.run("%hh show secret.json --detail full").output
    assert "redacted" in shown.text
    assert key not in str(shown.versions)


@pytest.mark.slow
def test_a_name_is_a_session_unless_it_looks_like_a_path(kernel: Kernel) -> None:
    kernel.run("%%hh_session chat\nspan('in the session')")
    kernel.run("%%hh_session a/b\nspan('with a slash')")
    assert "in the session" in kernel.run("%hh show chat").output.text
    assert "with a slash" in kernel.run("%hh show a/b").output.text
    for name in ("plain", "./chat", "traces/plain"):
        text = kernel.run(f"%hh show {name}").output.text
        assert "read from file" in text
        assert f"file {name}" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("none.jsonl", "none.jsonl cannot be read (No such file or directory)."),
        ("no/file", "no/file cannot be read (No such file or directory)."),
        ("./traces", "./traces cannot be read (Is a directory)."),
        ("broken.json", "broken.json, line 1: found 3, expected an object with resourceSpans."),
        ("empty.json", "empty.json holds no spans."),
        ("nothing", "no session nothing. This kernel has no sessions with spans yet."),
    ],
)
def test_a_mistake_is_one_line(kernel: Kernel, line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("3")
    (tmp_path / "empty.json").write_text('{"resourceLogs": []}')
    assert kernel.run(f"%hh show {line}").stderr == f"UsageError: %hh show: {message}\n"


@pytest.mark.slow
def test_tab_completes_files_and_the_folders_on_the_way(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "traces" / "day.jsonl.gz").touch()
    (tmp_path / "trace.py").touch()
    if kernel.versions[0] == 7:
        pytest.skip("IPython 7 offers its own beside ours")
    assert kernel.complete("%hh show tr") == ["%hh show trace.jsonl", "%hh show traces/"]
    assert kernel.complete("%hh show traces/") == ["%hh show traces/day.jsonl.gz"]
    assert kernel.complete("%hh show 'two w") == ["%hh show 'two words.json'"]
    assert {"%hh show trace.jsonl", "%hh show last"} <= set(kernel.complete("%hh show "))
