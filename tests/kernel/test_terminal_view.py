"""Outputs in a real terminal: colours where wanted, errors with their tree, width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fake_llm import FakeLLM
from tests.kernel.driver import PYTHON, kernel_environment

TRACED = """
import hh_jupyter as hh

def span(name):
    with hh.get_tracer().start_span(name):
        return None

@hh.trace(event_type="tool", event_name="pay")
def pay(order):
    raise ConnectionError("503 Service Unavailable")

@hh.trace(event_type="chain", event_name="agent")
def agent(order):
    span("look up")
    pay(order)
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def in_terminal(
    tmp_path: Path, *lines: str, columns: int = 100, options: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> str:
    """Return what a real terminal receives from a session in which these lines are typed."""
    (tmp_path / "traced.py").write_text(TRACED)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = kernel_environment(tmp_path, {"PYTHONIOENCODING": "utf-8", "TERM": "xterm"})
    del environment["NO_COLOR"]
    environment.pop("COLUMNS", None)
    environment |= env or {}
    command = [PYTHON, "-m", "IPython", "--simple-prompt", "--no-banner", *options]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=tmp_path) as process:
        os.close(slave)
        os.write(master, "\n".join(["%load_ext hh_jupyter", "from traced import *", *lines, "exit()", ""]).encode())
        printed = b""
        # An I/O error means that the other end of the terminal is closed.
        with suppress(OSError):
            while part := os.read(master, 65_536):
                printed += part
        os.close(master)
        assert process.wait(60) == 0
    return printed.decode("utf-8", "replace").replace("\r\n", "\n")


def summary_of(printed: str, name: str) -> str:
    """Return the summary line of a span, without the prompt in front of it."""
    line = next(line for line in printed.splitlines() if f"✓ {name}" in COLOUR.sub("", line))
    return re.sub(r"^.*In \[\d+\]: ", "", line)


@pytest.mark.slow
def test_terminals_get_colours(tmp_path: Path) -> None:
    assert COLOUR.search(summary_of(in_terminal(tmp_path, "span('well')"), "well"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "env"), [((), {"NO_COLOR": "1"}), (("--colors=NoColor",), {})], ids=["NO_COLOR", "--colors=NoColor"]
)
def test_no_colours_where_they_are_turned_off(tmp_path: Path, options: tuple[str, ...], env: dict[str, str]) -> None:
    printed = in_terminal(tmp_path, "span('well')", options=options, env=env)
    assert summary_of(printed, "well").startswith("✓ well")
    assert not COLOUR.search(summary_of(printed, "well"))


def test_an_error_is_printed_with_its_path_its_line_and_the_tree(tmp_path: Path) -> None:
    printed = COLOUR.sub("", in_terminal(tmp_path, "agent(7)"))
    lines = printed[printed.index("▲ agent") :].splitlines()
    assert re.fullmatch(r"▲ agent  [\d.]+ ms  3 spans  1 error  local only", lines[0])
    assert lines[1] == "  pay: ConnectionError: 503 Service Unavailable  traced.py:10"
    assert lines[2] == "  Nothing leaves this machine. No key is set. To send from now on: %hh login"
    assert [line.split("  ")[0] for line in lines[4:7]] == ["chain agent", "├─ span", "└─ ▲"]
    assert "━" in lines[4]
    assert re.search(r"inputs and outputs: %hh show \d+ --detail full", printed)


@pytest.mark.slow
def test_a_notice_is_printed_once(tmp_path: Path) -> None:
    printed = in_terminal(tmp_path, "span('one')", "span('two')")
    assert printed.count("Nothing leaves this machine.") == 1


@pytest.mark.slow
def test_narrow_terminals_get_no_bars(tmp_path: Path) -> None:
    printed = COLOUR.sub("", in_terminal(tmp_path, "agent(7)", columns=70))
    assert "▲     pay" in printed
    assert "━" not in printed


@pytest.mark.slow
def test_span_content_is_printed_on_request(tmp_path: Path) -> None:
    printed = COLOUR.sub("", in_terminal(tmp_path, "agent('order ' + '48213')", "%hh show --detail full"))
    before, asked, shown = printed.partition("Error: agent")
    assert "order 48213" not in before
    assert asked
    assert 'input\n    {"order": "order 48213"}' in shown


@pytest.mark.slow
def test_ascii_with_colour_where_the_stream_does_not_support_unicode(tmp_path: Path) -> None:
    printed = COLOUR.sub("", in_terminal(tmp_path, "agent(7)", env={"PYTHONIOENCODING": "ascii"}))
    assert "!! agent" in printed
    assert "`- !!    pay" in printed
    assert "==" in printed


@pytest.mark.slow
def test_a_terminal_has_the_same_limit(tmp_path: Path) -> None:
    call = "client.chat.completions.create(model='gpt-4o', messages=[{'role': 'user', 'content': 'Hello'}]);"
    lines = ("import openai", "%hh instrument openai", "client = openai.OpenAI()", "%hh_session batch --max-calls 1")
    with FakeLLM() as fake:
        env = {"OPENAI_BASE_URL": f"{fake.url}/v1", "OPENAI_API_KEY": "sk-fake", "NO_COLOR": "1"}
        printed = in_terminal(tmp_path, *lines, call, call, "%hh_session other --max-calls zero", env=env)
    assert len(fake.log) == 1
    assert "Stopped before the call. 1 of 1 call sent. 1 call went out, 1 did not." in printed
    assert "%hh_session batch --max-calls 2" in printed
    assert "UsageError: %hh_session: --max-calls must be a whole number of calls, at least 1; got 'zero'." in printed
