"""`c.HHJupyter.*` in files, on the command line and with `%config`: effective from the next cell on."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.conftest import KEY, StartKernel
from tests.kernel.driver import PYTHON, Kernel, kernel_environment

STATUS = "%load_ext hh_jupyter\n%hh status --all"


def settings_shown(text: str) -> dict[str, tuple[str, str]]:
    """Value and origin by setting, of the output of `%hh status --all`."""
    lines = (line.strip().split("  ") for line in text.partition("\n\n")[2].splitlines())
    cells = ([cell.strip() for cell in line if cell.strip()] for line in lines)
    return {line[0]: (line[1], line[2]) for line in cells if len(line) == 3}


def run_ipython(cwd: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """IPython with these arguments, to its end."""
    command = [PYTHON, "-m", "IPython", "--no-banner", "--colors=NoColor", *arguments]
    return subprocess.run(
        command, env=kernel_environment(cwd, env), cwd=cwd, capture_output=True, encoding="utf-8", timeout=120
    )


def write_profile(cwd: Path, text: str, name: str = "ipython_config.py") -> None:
    """A configuration file in the profile that `kernel_environment` leads to."""
    folder = cwd / "ipython" / "profile_default"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def test_a_file_overrides_the_environment_and_the_command_line_the_file(tmp_path: Path) -> None:
    write_profile(
        tmp_path,
        "c = get_config()\nc.HHJupyter.source = 'staging'\nc.HHJupyter.display_rows = 7\nc.HHJupyter.display = 'off'",
    )
    env = {"HH_SOURCE": "of-the-environment", "HH_PROJECT": "support"}
    done = run_ipython(tmp_path, "--HHJupyter.display=line", "-c", STATUS, env=env)
    shown = settings_shown(done.stdout)
    assert done.returncode == 0, done.stderr
    assert shown["source"] == ("staging", "configuration file")
    assert shown["display_rows"] == ("7", "configuration file")
    assert shown["display"] == ("line", "command line")
    assert shown["project"] == ("support", "HH_PROJECT")
    assert shown["batch_size"] == ("100", "default")


@pytest.mark.slow
def test_a_kernel_reads_files_and_command_line_and_a_reload_keeps_the_origins(tmp_path: Path) -> None:
    write_profile(tmp_path, '{"HHJupyter": {"source": "staging"}}', "ipython_config.json")
    with Kernel(tmp_path, arguments=("--HHJupyter.display=line",)) as kernel:
        kernel.run("%load_ext hh_jupyter")
        kernel.run("%config HHJupyter.project = 'support'")
        for _ in range(2):
            shown = settings_shown(kernel.run("%hh status --all").stdout)
            assert shown["source"] == ("staging", "configuration file")
            assert shown["display"] == ("line", "command line")
            assert shown["project"] == ("support", "%config HHJupyter")
            assert kernel.run("%reload_ext hh_jupyter").reply == "ok"


def test_an_invalid_value_in_a_file_is_one_line_and_the_others_apply(tmp_path: Path) -> None:
    write_profile(tmp_path, "c.HHJupyter.source = 'staging'\nc.HHJupyter.display = 'purple'")
    done = run_ipython(tmp_path, "-c", STATUS)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "purple" in line]
    assert "one of auto, line, tree, off" in line
    shown = settings_shown(done.stdout)
    assert (shown["source"][0], shown["display"]) == ("staging", ("auto", "default"))


@pytest.mark.slow
def test_every_change_applies_from_the_next_cell_on(start_kernel: StartKernel) -> None:
    kernel = start_kernel()
    kernel.run("%config HHJupyter.display = 'tree'")
    assert "<details open" in kernel.run("span('opened')").output.html
    kernel.run("import os; os.environ['HH_PROJECT'] = 'by-variable'")
    assert settings_shown(kernel.run("%hh").stdout)["project"] == ("by-variable", "HH_PROJECT")
    kernel.run("%env HH_PROJECT=by-magic")
    assert settings_shown(kernel.run("%hh").stdout)["project"] == ("by-magic", "HH_PROJECT")
    kernel.run("del os.environ['HH_PROJECT']")
    assert "HH_PROJECT" not in kernel.run("%hh").stdout


def test_an_invalid_value_changes_nothing(local: Kernel) -> None:
    """The variable still counts; the default that traitlets falls back to must not override it."""
    local.run("import os; os.environ['HH_DISPLAY'] = 'line'")
    refused = local.run("%config HHJupyter.display = 'purple'")
    assert "one of auto, line, tree, off" in refused.stderr
    assert settings_shown(local.run("%hh").stdout)["display"] == ("line", "HH_DISPLAY")
    local.run("del os.environ['HH_DISPLAY']")


def test_a_pattern_whose_braces_ipython_has_replaced_is_refused(local: Kernel) -> None:
    """The pattern that is left would be valid, and hide six of eight digits."""
    line = "%config HHJupyter.redact_patterns = "
    refused = local.run(line + r'[r"\d{8}"]').stderr
    assert r"""would be ['\\d8']. Nothing is changed. Take two lines: patterns = [r"\d{8}"], then""" in refused
    for meant in (r'[r"\d{{8}}"]', r'[r"[A-Z]-\d+"]', "patterns"):
        local.run(r'patterns = [r"\d{6,8}"]')
        assert local.run(line + meant).stderr == ""
    assert local.run("%config HHJupyter.redact_patterns").results[0] == r"('\\d{6,8}',)"
    local.run(line + "[]")


def test_an_invalid_variable_is_reported_once(fresh: Kernel) -> None:
    fresh.run("import os; os.environ['HH_DISPLAY_ROWS'] = 'many'")
    output = [fresh.run("span('x')").stderr for _ in range(2)]
    assert "HH_DISPLAY_ROWS must be a whole number of rows" in output[0]
    assert output[1] == ""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["init", "login"])
def test_a_reload_keeps_the_key_and_other_settings(how: str, start_kernel: StartKernel, backend: Backend) -> None:
    kernel = start_kernel(HH_API_URL=backend.url)
    if how == "init":
        kernel.run(f"hh.HoneyHiveTracer.init(api_key={KEY!r}, source='given', session_name='mine')")
    else:
        kernel.run("%hh login", answer=KEY)
    before = settings_shown(kernel.run("%hh").stdout)
    for _ in range(2):
        output = kernel.run("%reload_ext hh_jupyter")
        assert output.stdout.startswith(f"hh: sending to {backend.url.removeprefix('http://')}")
    assert settings_shown(kernel.run("%hh").stdout) == before
    kernel.run("span('after')")
    assert backend.wait_for(lambda b: b.spans("after"))
    assert KEY not in repr(output)
    kernel.run("%hh display line")
    if how == "init":
        kernel.run("hh.HoneyHiveTracer.init(source='later')")
        kernel.run("%reload_ext hh_jupyter")
        shown = settings_shown(kernel.run("%hh").stdout)
        assert shown["source"] == ("later", "argument")
        assert shown["display"] == ("line", "%config HHJupyter")
        assert shown["api_key"] == ("set", "argument")
