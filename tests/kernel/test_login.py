"""`%hh login`: the key is asked for where it leaves no trace, holds from then on, and is kept only by request."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES
from tests.kernel.conftest import KEY, StartKernel
from tests.kernel.driver import Kernel, kernel_with

OTHER_KEY = "hh_another_key_of_no_account"
EVERYWHERE = """hidden = ("_ih", "_oh")
print([In, Out, hh.get_tracer(), hh.get_tracer().settings, hh.get_tracer().settings.describe()])
print({name: repr(value) for name, value in globals().items() if name not in hidden})
print(list(get_ipython().history_manager.get_range()))
%config HHJupyter
%hh"""
"""Whatever prints something about the kernel."""


def key_file(folder: Path) -> Path:
    return folder / "config" / "hh_jupyter" / "key"


def test_later_spans_are_sent_and_earlier_ones_stay_local(start_kernel: StartKernel, backend: Backend) -> None:
    kernel = start_kernel(HH_API_URL=backend.url)
    kernel.run("span('before')")
    cell = kernel.run("%hh login", answer=KEY)
    assert cell.asked == [{"prompt": "HoneyHive API key: ", "password": True}]
    host = backend.url.removeprefix("http://")
    first, second, third = cell.stdout.splitlines()
    assert first.startswith(f"hh: sending to {host} as dev, session notebook.")
    assert second == f"  {host} accepts the key."
    assert "stay on this machine" in third
    assert kernel.run("span('after')").output.text.splitlines()[0].endswith("  sent")
    assert [span["name"] for span in backend.spans()] == ["after"]
    assert [session["session_name"] for session in backend.sessions()] == ["notebook"]
    lines = {words[0]: words[1:] for line in kernel.run("%hh").stdout.splitlines() if (words := line.split())}
    assert lines["api_key"] == ["set", "%hh", "login"]


@pytest.mark.slow
def test_the_key_is_in_no_output_and_no_history(start_kernel: StartKernel, backend: Backend, tmp_path: Path) -> None:
    kernel = start_kernel(HH_API_URL=backend.url)
    login = kernel.run("%hh login", answer=KEY)
    kernel.run("span('x')")
    everywhere = kernel.run(EVERYWHERE)
    assert everywhere.reply == "ok", everywhere
    for cell in (login, everywhere):
        assert KEY not in repr(cell)
    kernel.stop()
    assert [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []


@pytest.mark.slow
def test_without_a_prompt_one_line_says_what_to_do(local: Kernel) -> None:
    cell = local.run("%hh login")
    assert cell.stderr.startswith(
        "UsageError: %hh login: this front end cannot prompt for input. Set HH_API_KEY before"
    )
    assert cell.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"%hh login {KEY}", "type the key at the prompt; in a cell it would stay in the notebook and its history."),
        ("%hh login --sav", "unknown option --sav. Did you mean --save?"),
        ("%hh login --save --forget", "use either --save or --forget, not both."),
    ],
)
def test_a_mistake_is_one_line_that_does_not_repeat_the_key(local: Kernel, line: str, message: str) -> None:
    cell = local.run(line, answer="")
    assert cell.stderr == f"UsageError: %hh login: {message}\n"
    assert cell.asked == []


@pytest.mark.parametrize("typed", ["", "   ", "two\u00e4 wrong"])
def test_invalid_input_changes_nothing_and_is_not_repeated(local: Kernel, typed: str) -> None:
    cell = local.run("%hh login", answer=typed)
    assert cell.ename == "UsageError"
    assert "wrong" not in cell.stderr
    assert local.run("%hh").stdout.startswith("hh: local mode")


@pytest.mark.slow
def test_a_saved_key_is_private_and_used_by_later_kernels_for_its_server_only(
    start_kernel: StartKernel, backend: Backend, tmp_path: Path
) -> None:
    message = start_kernel(HH_API_URL=backend.url).run("%hh login --save", answer=KEY).stdout
    assert f"The key for {backend.url} is saved in {key_file(tmp_path)}." in message
    assert stat.S_IMODE(key_file(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file(tmp_path).parent.stat().st_mode) == 0o700

    second = start_kernel(HH_API_URL=backend.url)
    assert second.run("span('x')").output.text.splitlines()[0].endswith("  sent")
    assert "saved login" in second.run("%hh").stdout
    assert backend.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    with Backend() as other_server:
        third = start_kernel(HH_API_URL=other_server.url)
        assert third.run("%hh").stdout.startswith("hh: local mode"), "a key is sent to its own server only"
    with_key = start_kernel(HH_API_URL=backend.url, HH_API_KEY=OTHER_KEY)
    with_key.run("span('y')")
    assert backend.requests[-1].headers["authorization"] == f"Bearer {OTHER_KEY}", (
        "the environment overrides the saved key"
    )

    assert second.run("%hh login --forget").stdout.startswith(f"hh: deleted {key_file(tmp_path)}.")
    assert second.run("%hh login --forget").stdout == "hh: no key is saved.\n"
    assert start_kernel(HH_API_URL=backend.url).run("%hh").stdout.startswith("hh: local mode")


@pytest.mark.slow
def test_a_saved_key_that_other_users_can_read_is_ignored(
    start_kernel: StartKernel, backend: Backend, tmp_path: Path
) -> None:
    path = key_file(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({backend.url: KEY}))
    path.chmod(0o644)
    assert start_kernel(HH_API_URL=backend.url).run("%hh").stdout.startswith("hh: local mode")


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["HH_API_KEY", "init"])
def test_a_login_replaces_a_rejected_key(start_kernel: StartKernel, backend: Backend, origin: str) -> None:
    kernel = start_kernel(HH_API_URL=backend.url, **({"HH_API_KEY": OTHER_KEY} if origin == "HH_API_KEY" else {}))
    if origin == "init":
        kernel.run(f"hh.HoneyHiveTracer.init(api_key={OTHER_KEY!r})")
    backend.force({"/": [401] * 50})
    kernel.run("span('held back')")
    backend.force({})
    kernel.run("%hh login", answer=KEY)
    kernel.run("span('x')")
    assert backend.wait_for(lambda b: len(b.spans()) == 2)
    assert {request.headers["authorization"] for request in backend.requests if request.accepted} == {f"Bearer {KEY}"}


ASKED_SECONDS = 2.0
SLOW_NAMES = """import socket
look_up = socket.getaddrinfo
def slow(*arguments, **named):
    time.sleep(8)
    return look_up(*arguments, **named)
socket.getaddrinfo = slow"""


@pytest.fixture(scope="module")
def local_and_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kernel, Path]]:
    """A kernel that is shared, and its folder; each test gives it another address."""
    folder = tmp_path_factory.mktemp("kernel")
    with kernel_with(folder) as kernel:
        yield kernel, folder


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_the_backend_rejects_changes_nothing_and_is_not_saved(
    start_kernel: StartKernel, tmp_path: Path, status: int
) -> None:
    with Backend(statuses={"/": [status]}, repeat_last_status=True) as backend:
        kernel = start_kernel(HH_API_URL=backend.url)
        host = backend.url.removeprefix("http://")
        cell = kernel.run("%hh login --save", answer=KEY)
        assert cell.stderr == f"UsageError: %hh login: {host} rejected the key ({status}); nothing was changed.\n"
        assert len(backend.requests) == 1
        assert kernel.run("%hh").stdout.startswith("hh: local mode")
        assert not key_file(tmp_path).exists()
        backend.force({})
        kernel.run("%hh login", answer=KEY)
        backend.force({"/": [status] * 50})
        kernel.run("%hh login", answer=OTHER_KEY)
        backend.force({})
        assert kernel.run("span('x')").output.text.splitlines()[0].endswith("  sent")
        assert backend.requests[-1].headers["authorization"] == f"Bearer {KEY}", "the working key is kept"


@pytest.mark.parametrize(
    ("behaviour", "found"),
    [
        ({"refuse": True}, "HOST cannot be reached."),
        ({"hang": ("/",)}, "HOST did not respond"),
        ({"break_connection": "hang"}, "HOST did not respond"),
        ({"break_connection": "request"}, "HOST cannot be reached."),
        ({"statuses": {"/": [500]}}, "HOST answered 500."),
        ({"statuses": {"/": [503]}, "headers": {"Retry-After": "60"}}, "HOST answered 503."),
        ({"statuses": {"/": [404]}}, "HOST refused the request (404). Check server_url (HH_API_URL)."),
        ({"redirect_to": "http://127.0.0.1:9"}, "HOST refused the request (307). Check server_url (HH_API_URL)."),
        ({"html_page": "<html>Sign in</html>"}, "HOST returned an unexpected response (is a proxy or login page"),
        ({"raw_body": b"nonsense"}, "HOST returned an unexpected response (is a proxy or login page in between?)."),
    ],
)
def test_login_asks_the_backend_once_and_says_what_it_found(
    local_and_folder: tuple[Kernel, Path], behaviour: dict[str, Any], found: str
) -> None:
    kernel, folder = local_and_folder
    with Backend(**behaviour, repeat_last_status=True) as backend:
        kernel.run(f"%env HH_API_URL={backend.url}")
        cell = kernel.run("%hh login --save", answer=KEY)
        first, second = cell.stdout.splitlines()
        host = backend.url.removeprefix("http://")
        assert first.startswith(f"hh: the key is set, but {found.replace('HOST', host)}"), first
        assert "Spans are kept on disk until they can be sent." in first
        assert second == f"  The key for {backend.url} is saved in {key_file(folder)}, unchecked."
        assert cell.seconds < ASKED_SECONDS + 1.5, "the answer, and what starting the first request takes"
        assert len(backend.requests) <= 1
        assert re.search(r"api_key +set +%hh login", kernel.run("%hh").stdout)


@pytest.mark.slow
def test_login_does_not_wait_for_a_slow_name_service(start_kernel: StartKernel) -> None:
    kernel = start_kernel(HH_API_URL="http://no-such-host.example")
    kernel.run(SLOW_NAMES)
    cell = kernel.run("%hh login", answer=KEY)
    assert cell.stdout.startswith("hh: the key is set, but no-such-host.example did not respond within 2 s.")
    assert cell.seconds < ASKED_SECONDS + 1.5


@pytest.mark.parametrize("environment", [{"HH_TEST_MODE": "1"}, {"HH_EXPORTER": "none"}, {"HH_DISABLE_TRACING": "1"}])
def test_where_nothing_is_sent_login_asks_nothing(
    start_kernel: StartKernel, backend: Backend, environment: dict[str, str]
) -> None:
    kernel = start_kernel(HH_API_URL=backend.url, **environment)
    assert "sending to" not in kernel.run("%hh login", answer=KEY).stdout
    assert backend.requests == []


@pytest.mark.slow
def test_the_same_key_retries_only_what_it_is_now_accepted_for(start_kernel: StartKernel, backend: Backend) -> None:
    """A key that is still rejected retries nothing, and neither does it retry what was rejected for another reason."""
    kernel = start_kernel(HH_API_URL=backend.url, HH_API_KEY=KEY)
    backend.force({TRACES: [401] * 50})
    kernel.run("span('held back')")
    asked = len(backend.requests)
    assert "rejected the key (401)" in kernel.run("%hh login", answer=KEY).stderr
    assert len(backend.requests) == asked + 1
    backend.force({})
    assert kernel.run("%hh login", answer=KEY).stdout.splitlines()[1].endswith("accepts the key.")
    assert backend.wait_for(lambda b: b.spans("held back"))

    backend.force({TRACES: [404] * 50})
    kernel.run("span('refused')")
    backend.force({})
    assert "Rejected before: 1 span. Use %hh send to retry." in kernel.run("%hh login", answer=KEY).stdout
    kernel.run("hh.get_tracer().force_flush()")
    assert backend.spans("refused") == []
    kernel.run("%hh send")
    assert len(backend.spans("refused")) == 1


@pytest.mark.slow
def test_the_question_is_about_the_typed_key_even_if_another_one_sends_spans(
    start_kernel: StartKernel, backend: Backend
) -> None:
    with Backend() as collector:
        kernel = start_kernel(
            HH_API_URL=backend.url, HH_OTLP_ENDPOINT=collector.url, HH_OTLP_HEADERS='{"Authorization": "Basic x"}'
        )
        assert f"{backend.url.removeprefix('http://')} accepts" in kernel.run("%hh login", answer=KEY).stdout
        (question,) = backend.requests
        assert (question.headers["authorization"], question.body) == (f"Bearer {KEY}", [])
        assert collector.requests == []


@pytest.mark.slow
def test_a_first_init_with_a_key_overrides_the_login(start_kernel: StartKernel, backend: Backend) -> None:
    kernel = start_kernel(HH_API_URL=backend.url)
    kernel.run("%hh login", answer=KEY)
    kernel.run("span('x')")
    kernel.run(f"hh.HoneyHiveTracer.init(api_key={OTHER_KEY!r})")
    kernel.run("span('y')")
    assert backend.requests[-1].headers["authorization"] == f"Bearer {OTHER_KEY}"


@pytest.mark.slow
def test_colabs_secret_is_used_without_a_prompt(start_kernel: StartKernel, backend: Backend, tmp_path: Path) -> None:
    module = tmp_path / "google" / "colab"
    module.mkdir(parents=True)
    (module / "__init__.py").touch()
    (module / "userdata.py").write_text(f"def get(name):\n    return {{'HH_API_KEY': {KEY!r}}}[name]\n")
    kernel = start_kernel(HH_API_URL=backend.url)
    kernel.run(f"import google; google.__path__ = [{str(module.parent)!r}, *google.__path__]")
    assert kernel.run("%hh login").stdout.startswith("hh: sending to ")
    (module / "userdata.py").write_text("def get(name):\n    raise TimeoutError\n")
    kernel.run("import importlib; from google.colab import userdata; importlib.reload(userdata)")
    assert kernel.run("%hh login", answer=KEY).asked != []
