"""`%hh listen`: spans of other programs appear in the notebook, while they come and where they belong."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

from hh_jupyter.testing import Backend
from tests.conftest import TESTS
from tests.kernel.driver import TIMEOUT, Kernel
from tests.notebook.otlp_documents import document, span

pytestmark = pytest.mark.slow

NODE_MODULES = TESTS.parent / ".venv-node" / "node_modules"
HOSTILE = "<script>alert(1)</script>"


def listen(kernel: Kernel) -> dict[str, str]:
    """Let the kernel listen; returns the printed environment variables."""
    cell = kernel.run("%hh listen")
    assert cell.reply == "ok", cell
    return dict(line.split("=", 1) for line in cell.stdout.splitlines() if line.startswith(("OTEL_", "HH_")))


def port_of(variables: dict[str, str]) -> int:
    return int(variables["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"].split(":")[2].split("/")[0])


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


@contextmanager
def service(variables: dict[str, str], *options: str, app: str = "traced_programs") -> Iterator[str]:
    """A FastAPI service in processes of its own; yields its address, which accepts connections from the start."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        command = ("uvicorn", "--log-level", "error", "--fd", str(listening.fileno()), *options)
        process = subprocess.Popen(
            [sys.executable, "-m", *command, f"tests.kernel.{app}:app"],
            cwd=TESTS.parent,
            env={**os.environ, **variables},
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT)


def test_spans_of_a_service_stand_under_the_cell_that_calls_it_and_are_sent(sending: Kernel, backend: Backend) -> None:
    variables = listen(sending)
    with service(variables) as url:
        sending.run("import requests\nfrom opentelemetry.instrumentation.requests import RequestsInstrumentor")
        sending.run("RequestsInstrumentor().instrument(tracer_provider=hh.get_tracer().provider)")
        call = f"requests.get({url!r} + '/price/tea', params={{'note': {HOSTILE!r}}}).status_code"
        first = sending.run(f"%%hh_session refund\nspan('before')\n{call}")
        other = sending.run("span('other cell')")
        sending.wait_for(lambda: "4 spans" in first.output.text, "the spans of the service")
        assert "look up tea" in first.output.html
        assert HOSTILE not in first.output.html
        assert "spans" not in other.output.text
        found = {name: (session, cell) for name, session, cell in sending.value("rows()")}
        assert found["GET tea"] == found["look up tea"] == found["before"]
    sending.run("hh.get_tracer().flush()")
    (refund,) = (each for each in backend.sessions() if each["session_name"] == "refund")
    (client,) = backend.spans("GET")
    (server,) = backend.spans("GET tea")
    assert server["parent_span_id"] == client["span_id"]
    assert server["attributes"]["honeyhive.session_id"] == refund["session_id"]
    assert server["resource"]["service.name"] == "prices"


@pytest.mark.slow
def test_a_service_with_a_tracer_of_this_package_is_under_the_cell_and_in_its_session(local: Kernel) -> None:
    with service(listen(local), app="traced_service") as url:
        cell = local.run(
            f"%%hh_session order\nimport httpx\nheaders = {{}}\n"
            "with hh.get_tracer().start_span('order tea'):\n"
            "    hh.get_tracer().inject_context(headers)\n"
            f"    httpx.get({url!r} + '/stock/tea', headers=headers)"
        )
        local.wait_for(lambda: "look_up" in cell.output.html, "the spans of the service")
        session_of = {name: session for name, session, _ in local.value("rows()")}
    (of_service,) = (session for name, session in session_of.items() if name.endswith("look_up"))
    assert of_service == session_of["order tea"]


def test_all_workers_of_a_server_send_their_spans_here(local: Kernel) -> None:
    variables = listen(local)
    with service(variables, "--workers", "2") as url:
        local.run("import requests")
        local.run(
            "def ask(item):\n"
            "    with hh.get_tracer().start_span(f'ask {item}'):\n"
            "        headers = {}\n"
            "        hh.get_tracer().inject_context(headers)\n"
            f"        return requests.get(f'{url}/price/{{item}}', headers=headers).json()['pid']"
        )
        cell = local.run("pids = set()\nwhile len(pids) < 2:\n    pids.add(ask(f'item {len(pids)}'))")
        assert cell.reply == "ok", cell
        asked = local.value("sum(name.startswith('ask ') for name, *_ in rows())")
        local.wait_for(lambda: f"{3 * asked:,} spans" in cell.output.text, "the spans of both workers")


def test_a_script_continues_the_trace_of_its_environment_and_else_is_in_the_background(local: Kernel) -> None:
    variables = listen(local)
    script = [sys.executable, str(TESTS / "kernel/traced_programs.py")]
    local.run(f"import os, subprocess\nenv = {{**os.environ, **{variables!r}}}")
    cell = local.run(
        "with hh.get_tracer().start_span('run the script'):\n"
        "    carrier = {}\n"
        "    hh.get_tracer().inject_context(carrier)\n"
        f"    subprocess.run({script!r}, env={{**env, 'TRACEPARENT': carrier['traceparent']}}, check=True)"
    )
    assert cell.reply == "ok", cell
    # The script has sent its span before the cell ended.
    assert "2 spans" in cell.output.text
    assert "after the cell ended" not in cell.output.text
    alone = local.run(f"subprocess.run({script!r}, env=env, check=True)")
    assert (alone.reply, alone.outputs) == ("ok", [])
    assert "nightly" in local.run("%hh show background").output.text


def test_spans_in_json_as_node_sends_them_appear_under_their_cell_after_it_has_ended(local: Kernel) -> None:
    url = listen(local)["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
    cell = local.run("with hh.get_tracer().start_span('ask node') as ours:\n    context = ours.get_span_context()")
    trace, parent = local.value("[context.trace_id, context.span_id]")
    body = document(span(HOSTILE, 77, trace=trace, parent=parent))
    assert requests.post(url, body, headers={"Content-Type": "application/json"}, timeout=30).status_code == 200
    local.wait_for(lambda: "+1 after the cell ended" in cell.output.text, "the span from Node")
    assert HOSTILE not in cell.output.html


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_a_node_program_on_plain_opentelemetry_continues_the_trace_of_the_cell(local: Kernel, protocol: str) -> None:
    node = shutil.which("node")
    if node is None or not (NODE_MODULES / "@opentelemetry").is_dir():
        pytest.skip("needs OpenTelemetry for Node: make node")
    variables = {**listen(local), "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": protocol, "NODE_PATH": str(NODE_MODULES)}
    cell = local.run(
        "import os, subprocess\n"
        "with hh.get_tracer().start_span('ask node'):\n"
        "    carrier = {}\n"
        "    hh.get_tracer().inject_context(carrier)\n"
        f"    env = {{**os.environ, **{variables!r}, 'TRACEPARENT': carrier['traceparent']}}\n"
        f"    subprocess.run([{node!r}, {str(TESTS / 'kernel/node_program.cjs')!r}], env=env, check=True)"
    )
    assert cell.reply == "ok", cell
    local.wait_for(lambda: "3 spans" in cell.output.text, "the spans of the Node program")
    local.run("found = hh.spans(name='look up tea')\nattributes = dict(found.details(found[-1]).attributes)")
    found = local.value("{key: attributes[key] for key in attributes if key.startswith('item')}")
    assert found == {"item.price": 3.5, "item.tags": ["green", "loose"]}


def test_spans_that_arrive_while_the_cell_runs_are_shown_at_once(local: Kernel, tmp_path: Path) -> None:
    url = listen(local)["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
    enough, ids = tmp_path / "enough", tmp_path / "ids"
    local.start(
        "import os\n"
        "with hh.get_tracer().start_span('wait') as ours:\n"
        "    context = ours.get_span_context()\n"
        f"    open({str(ids)!r}, 'w').write(f'{{context.trace_id}} {{context.span_id}}\\n')\n"
        f"    while not os.path.exists({str(enough)!r}): time.sleep(0.05)",
        cell_id="waiting",
    )
    shown = lambda name: any(name in str(message) for message in local.hub_messages)  # noqa: E731
    local.wait_for(lambda: shown("'wait'"), "the running cell")
    trace, parent = map(int, ids.read_text().split())
    body = document(span("from outside", 88, trace=trace, parent=parent))
    assert requests.post(url, body, headers={"Content-Type": "application/json"}, timeout=30).status_code == 200
    local.wait_for(lambda: shown("from outside"), "the span from outside")
    assert not shown("'ended'")
    enough.touch()
    local.wait_for(lambda: shown("'ended'"), "the end of the cell")


def test_it_listens_when_asked_and_no_longer_than_wanted(fresh: Kernel) -> None:
    assert "listening" not in fresh.run("%hh").stdout
    assert fresh.value("'hh_jupyter.notebook.receiver' in __import__('sys').modules") is False
    assert fresh.run("%hh listen off").stdout == "hh: not listening. %hh listen\n"
    first = fresh.run("%hh listen").stdout
    again = fresh.run("%hh listen").stdout
    assert again == first.replace("hh: listening", "hh: already listening")
    variables = dict(line.split("=", 1) for line in first.splitlines() if line.startswith("OTEL_"))
    assert f"127.0.0.1:{port_of(variables)}, 0 spans received" in fresh.run("%hh").stdout
    token = variables["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"].split("/")[3]
    assert token not in fresh.run("%hh status --all").stdout
    url, head = variables["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"], {"Content-Type": "application/json"}
    too_large = {**head, "Content-Encoding": "gzip"}
    assert requests.post(url, gzip.compress(bytes(17 << 20)), headers=too_large, timeout=30).status_code == 413
    assert requests.post(url.replace(token, "guess"), b"{}", headers=head, timeout=30).status_code == 404
    refused = "0 spans received, 1 request refused: the body is larger than 16 MiB"
    assert refused in fresh.run("%hh").stdout
    assert fresh.run("%hh listen off").stdout == f"hh: no longer listening. {refused}.\n"
    assert refuses(port_of(variables))
    after_off = listen(fresh)
    assert after_off != variables
    fresh.run("%unload_ext hh_jupyter")
    assert refuses(port_of(after_off))


def test_nothing_listens_after_a_restart_of_the_kernel(fresh: Kernel) -> None:
    variables = listen(fresh)
    assert not refuses(port_of(variables))
    fresh.restart()
    assert refuses(port_of(variables))
    assert "listening" not in fresh.run("%load_ext hh_jupyter\n%hh").stdout


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%hh listen of", "%hh listen: unknown word of. Did you mean off?"),
        ("%hh listen off now", "%hh listen: unexpected argument 'now'."),
        ("%hh listen --port 4318", "%hh listen: unknown option --port."),
    ],
)
def test_mistakes_are_one_line(local: Kernel, line: str, message: str) -> None:
    assert message in local.run(line).stderr


def test_the_command_completes_and_explains_itself(local: Kernel) -> None:
    assert "%hh listen" in local.complete("%hh li")
    assert "%hh listen off" in local.complete("%hh listen ")
    text = local.run("%hh listen --help").stdout
    for part in ("Usage: %hh listen [off]", "%hh listen off", "traceparent", "127.0.0.1 only"):
        assert part in text
