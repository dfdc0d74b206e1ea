"""A kernel whose startup file loads the extension: silent until a cell is traced, and harmless if it fails."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.kernel.driver import PRELUDE, PROJECT, PYTHON, Kernel, kernel_environment

GLOBAL = "type(__import__('opentelemetry.trace').trace.get_tracer_provider()).__name__"
NAMES = "sorted(name for name in globals() if 'hh' in name.lower())"


def hh(cwd: Path, *arguments: str, python: str = PYTHON) -> str:
    """`python -m hh_jupyter` with these arguments."""
    done = subprocess.run(
        [python, "-m", "hh_jupyter", *arguments],
        env=kernel_environment(cwd),
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def enabled(tmp_path: Path) -> Path:
    """A folder whose user has enabled the extension."""
    assert "will be loaded in every kernel that starts from now on" in hh(tmp_path, "enable", "--user")
    return tmp_path


@pytest.mark.slow
def test_nothing_is_printed_or_global_until_something_is_traced(enabled: Path) -> None:
    with Kernel(enabled) as kernel:
        first = kernel.run("1 + 1")
        assert (first.results, first.kinds) == (["2"], ["result"])
        assert kernel.value(GLOBAL) == "ProxyTracerProvider"
        assert kernel.value(NAMES) == []
        assert (kernel.run(PRELUDE).kinds) == []
        assert "traced" in kernel.run("span('traced')").output.text
        assert kernel.value(GLOBAL) == "ProxyTracerProvider"
        assert "%hh show 4" in kernel.run("%hh?").page


@pytest.mark.slow
def test_a_notebook_with_load_ext_runs_as_without_the_startup_file(enabled: Path) -> None:
    with Kernel(enabled) as kernel:
        loading = kernel.run("%load_ext hh_jupyter")
        assert loading.stdout.startswith("hh: local mode, nothing leaves this machine.")
        assert kernel.value(GLOBAL) == "TracerProvider"
        assert "already loaded" in kernel.run("%load_ext hh_jupyter").stdout
        kernel.run(PRELUDE)
        assert (
            len(
                kernel.run(
                    "from opentelemetry import trace\nwith trace.get_tracer('x').start_as_current_span('g'): pass"
                ).outputs
            )
            == 1
        )
        unloaded = kernel.run("%unload_ext hh_jupyter")
        assert (unloaded.reply, unloaded.stdout) == ("ok", "")
        assert kernel.value("hasattr(get_ipython(), '_hh')") is False


def test_a_startup_file_of_an_earlier_version_loads_the_extension(tmp_path: Path) -> None:
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "50-hh_jupyter.py").write_text("from hh_jupyter.notebook.autoload import start\nstart(get_ipython())\n")
    with Kernel(tmp_path) as kernel:
        kernel.run(PRELUDE)
        assert "traced" in kernel.run("span('traced')").output.text


def test_init_makes_the_provider_global(enabled: Path) -> None:
    with Kernel(enabled) as kernel:
        kernel.run("from hh_jupyter import HoneyHiveTracer; tracer = HoneyHiveTracer.init(test_mode=True)")
        assert kernel.value(GLOBAL) == "TracerProvider"


@pytest.mark.slow
def test_a_users_own_list_of_extensions_does_not_disable_it(enabled: Path) -> None:
    profile = enabled / "ipython" / "profile_default"
    (profile / "ipython_config.py").write_text(
        "c.InteractiveShellApp.extensions = ['storemagic']\nc.HHJupyter.display = 'tree'"
    )
    with Kernel(enabled, arguments=("--InteractiveShellApp.extensions=autoreload",)) as kernel:
        kernel.run(PRELUDE)
        assert "<details open" in kernel.run("span('x')").output.html


@pytest.mark.slow
def test_terminal_ipython_scripts_and_one_liners_print_nothing(enabled: Path) -> None:
    (enabled / "script.py").write_text("print(get_ipython()._hh is not None)")
    for arguments in (["-c", "print(get_ipython()._hh is not None)"], ["script.py"]):
        done = subprocess.run(
            [PYTHON, "-m", "IPython", "--TerminalInteractiveShell.term_title=False", *arguments],
            env=kernel_environment(enabled),
            cwd=enabled,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
        # IPython 7 sets the terminal's title first.
        assert (done.stdout.rpartition("\a")[2], done.stderr) == ("True\n", "")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment without this project."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=False, symlinks=True)
    return folder


def run_in(environment: Path, cwd: Path, *arguments: str, path: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    """Python of the environment, with this path before what is installed here."""
    return subprocess.run(
        [environment / "bin" / "python", "-m", *arguments],
        env={**kernel_environment(cwd), "PYTHONPATH": paths(path)},
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


def paths(first: Path) -> str:
    """Folders that are on a path are not searched for editable installs, of which this project is one."""
    return os.pathsep.join((str(first), sysconfig.get_paths()["purelib"]))


@pytest.mark.parametrize(
    ("files", "logged"),
    [
        ({}, ""),
        ({"hh_jupyter/__pycache__/x.pyc": ""}, ""),
        ({"hh_jupyter/__init__.py": "import a_package_that_is_gone"}, "hh_jupyter is not loaded: ModuleNotFoundError"),
        ({"hh_jupyter/__init__.py": "def ("}, "hh_jupyter is not loaded: SyntaxError"),
    ],
    ids=["uninstalled", "left-over", "broken", "half-written"],
)
def test_ipython_starts_if_the_package_is_missing_or_broken(
    enabled: Path, environment: Path, files: dict[str, str], logged: str
) -> None:
    """A missing package is ignored; a broken one is logged in one line."""
    other = enabled / "other"
    for name, text in files.items():
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_text(text)
    done = run_in(environment, enabled, "IPython", "-c", "print(hasattr(get_ipython(), '_hh'))", path=other)
    assert (done.returncode, done.stdout) == (0, "False\n")
    assert done.stderr.startswith(logged)
    assert done.stderr.count("\n") == (1 if logged else 0), done.stderr


def test_a_kernel_starts_in_a_broken_environment(enabled: Path, environment: Path) -> None:
    other = enabled / "other"
    (other / "hh_jupyter").mkdir(parents=True)
    (other / "hh_jupyter" / "__init__.py").write_text("import a_package_that_is_gone")
    with Kernel(enabled, {"PYTHONPATH": paths(other)}, python=str(environment / "bin" / "python")) as kernel:
        cell = kernel.run("1 + 1")
        assert (cell.results, cell.kinds) == (["2"], ["result"])


@pytest.mark.slow
def test_enable_in_an_environment_applies_to_its_kernels_only(environment: Path, tmp_path: Path) -> None:
    done = run_in(environment, tmp_path, "hh_jupyter", "enable")
    assert done.stdout.splitlines()[1].strip().startswith(str(environment / "etc" / "ipython" / "startup"))
    python = str(environment / "bin" / "python")
    with Kernel(tmp_path, {"PYTHONPATH": paths(PROJECT)}, python=python) as kernel:
        kernel.run(PRELUDE)
        assert "x" in kernel.run("span('x')").output.text
    with Kernel(tmp_path) as kernel:
        assert kernel.value("hasattr(get_ipython(), '_hh')") is False
    assert run_in(environment, tmp_path, "hh_jupyter", "disable").returncode == 0
    assert not (environment / "etc").exists()


@pytest.mark.slow
def test_the_wheel_contains_the_startup_file(environment: Path, tmp_path: Path) -> None:
    """Run from an unpacked wheel, without the checkout on the path."""
    wheels = tmp_path / "wheels"
    subprocess.run([PYTHON, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, PROJECT], check=True, timeout=110)
    installed = tmp_path / "installed"
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    done = run_in(environment, tmp_path, "hh_jupyter", "enable", "--user", path=installed)
    assert (done.returncode, done.stderr) == (0, "")
    started = run_in(environment, tmp_path, "IPython", "-c", "print(get_ipython()._hh)", path=installed)
    assert "Extension" in started.stdout
