"""Fixtures that start the guide's programs as users would: configured by the environment."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import pytest

from hh_jupyter.testing import Backend
from tests.conftest import TESTS
from tests.guide.serving import PROGRAMS, load

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def settings_in_the_environment(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
    """Set key and URL of the stand-in backend in the environment, as for deployed programs."""
    monkeypatch.setenv("HH_API_KEY", "test-key-0001")
    monkeypatch.setenv("HH_API_URL", backend.url)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)


@pytest.fixture
def program() -> Iterator[Callable[[str], ModuleType]]:
    """Load a program of the folder `programs` in this process; shut its tracer down after the test."""
    with ExitStack() as stack:

        def start(name: str) -> ModuleType:
            module = load(name)
            stack.callback(module.tracer.shutdown)
            return module

        yield start


FORK_WARNING = "ignore:This process:DeprecationWarning"
"""Python 3.12 and later warn whenever a process with threads forks; ours are prepared for it."""


@pytest.fixture
def run() -> Run:
    """Run Python source in a separate process and wait for its end."""

    def start(source: str, *args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", FORK_WARNING, "-c", source, *args]
        return subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, timeout=60)

    return start


@pytest.fixture
def start_service() -> Iterator[Callable[..., str]]:
    """Serve a program in a separate process, with the given number of threads; returns its URL."""
    with ExitStack() as stack:

        def start(*args: str) -> str:
            command = [sys.executable, "-m", "tests.guide.serving", *args]
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            process = stack.enter_context(
                subprocess.Popen(command, cwd=TESTS.parent, env=dict(os.environ), text=True, **pipes)
            )
            assert process.stdin is not None
            assert process.stdout is not None
            stack.callback(process.stdin.close)
            return str(process.stdout.readline()).strip()

        yield start


def source_of(name: str) -> str:
    """Return the source of a program."""
    return (PROGRAMS / f"{name}.py").read_text("utf-8")
