"""Fixtures every test may use. Tests that start kernels or browsers are marked by their folder."""

from __future__ import annotations

import gc
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from opentelemetry import context as otel_context

from hh_jupyter.settings import set_display_settings
from hh_jupyter.testing import Backend

# Every run of the tests tries the same examples, wherever it runs; `make fuzz` looks for new ones. No deadline: how
# long an example takes tells how busy the machine is.
settings.register_profile("same examples", deadline=None, derandomize=True)
settings.register_profile("new examples", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("same examples")

TESTS = Path(__file__).parent
_LAYERS = ("", "kernel", "browser")
"""Folders of tests that start processes, slowest last; everything else comes first."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_LONG = {"jupyter", "lab", "site"}
"""Fixtures of browser tests that take about as long as eight in a page of cells."""

BROWSER_SECONDS = 600
"""Playwright does not survive the signal of a timeout: later tests would wait forever. Its own waits end before."""
OUR_VARIABLES = ("HH_", "HONEYHIVE_", "OTEL_", "TRACELOOP_")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark kernel and browser tests by their folder and run them last: the first failure shows within a minute.

    The longest browser modules come first: a worker runs whole modules, and none should be busy alone at the end.
    """
    for item in items:
        if folder := _slow_folder(item):
            item.add_marker(folder)
        if folder == "browser" and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(BROWSER_SECONDS))
    lengths: Counter[Path] = Counter()
    for item in items:
        if _slow_folder(item) == _LAYERS[-1]:
            lengths[item.path] += 8 if _LONG.intersection(getattr(item, "fixturenames", ())) else 1
    items.sort(key=lambda item: (_LAYERS.index(_slow_folder(item)), -lengths[item.path]))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_FailuresAtOnce(config))


class _FailuresAtOnce:
    """Names a failed test when it fails, so that you need not wait for the end of a long run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal:
            terminal.write_line(f"\nFAILED {report.nodeid} ({report.when})", red=True)


def _slow_folder(item: pytest.Item) -> str:
    folder = item.path.relative_to(TESTS).parts[0]
    return folder if folder in _LAYERS else ""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the settings or credentials of the machine it runs on, its proxy, or what its users kept."""
    for name in list(os.environ):
        if name.startswith(OUR_VARIABLES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


@pytest.fixture(autouse=True)
def clean_context() -> Iterator[None]:
    """`create_session` in a test's own code changes the context for good, as documented; not for the next test.

    The same holds for the display settings among the arguments of `HoneyHiveTracer.init`.
    """
    before = otel_context.get_current()
    yield
    otel_context.attach(before)
    set_display_settings(None)


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A stand-in backend that accepts everything at once."""
    with Backend() as running:
        yield running


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the system's Chromium. Without one the test is skipped, in CI it fails."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    message = "needs Chromium (Debian, Ubuntu: apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def clients_dropped() -> Iterator[None]:
    """Close what other people's clients leave open, where they do it: not in the test that is next collected."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
