"""Checks what a release publishes: `make release-check`.

Builds sdist and wheel into `dist/`, looks at their files, metadata and description, installs each in an empty
environment of every Python that is here, loads the extension and runs the quickstart there. Arguments are passed on to
`pip install`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PYTHONS: Final = ("3.11", "3.12", "3.13")
NOTEBOOK: Final = ROOT / "notebooks" / "01_quickstart.ipynb"
IN_WHEEL: Final = ("hh_jupyter/*", "hh_jupyter-*.dist-info/*")
NEVER_IN_WHEEL: Final = (
    "*.ipynb", "*/tests/*", "*/test_*.py", "*/conftest.py", "*/fake_llm.py", "*/fake_model.py", "*.pyc",
)  # fmt: skip
NEEDED_IN_WHEEL: Final = (
    "hh_jupyter/py.typed", "hh_jupyter/display/static/hub.js", "hh_jupyter/display/static/spans.css",
    "hh_jupyter/cli/50-hh_jupyter.py", "hh_jupyter-*.dist-info/licenses/LICENSE",
)  # fmt: skip
IN_SDIST: Final = (
    "hh_jupyter/*", "tests/*", "notebooks/*", "jupyter-config/*", "README.md", "CHANGELOG.md", "LICENSE", "Makefile",
    "pyproject.toml", "PKG-INFO", ".gitignore",
)  # fmt: skip


def main(pip_arguments: Iterable[str]) -> int:
    """Check everything, print a line for each step, and return the exit code."""
    sdist, wheel = build()
    problems = [*problems_of_files(wheel, sdist), *problems_of_metadata(wheel, sdist)]
    print(f"files and metadata of {sdist.name} and {wheel.name}: {'ok' if not problems else 'not ok'}", flush=True)
    pythons = dict(find_pythons())
    for version in PYTHONS:
        if version not in pythons:
            print(f"Python {version}: skipped, neither on PATH nor among the versions of pyenv", flush=True)
            continue
        for archive in (wheel, sdist):
            problem = install_and_run(pythons[version], archive, [*pip_arguments])
            print(f"Python {version}, {archive.name}: {problem or 'ok'}", flush=True)
            if problem is not None:
                problems.append(f"Python {version}, {archive.name}: {problem}")
    if not pythons:
        problems.append(f"there is no Python {', '.join(PYTHONS)} here")
    print(*[f"not ok: {problem}" for problem in problems] or ["ok"], sep="\n")
    return bool(problems)


def build() -> tuple[Path, Path]:
    """Build sdist and wheel, and return their paths."""
    folder = ROOT / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "--directory", str(folder)], cwd=ROOT, check=True)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


# What is in them


def problems_of_files(wheel: Path, sdist: Path) -> list[str]:
    """Return what is in an archive and should not be, and what is missing."""
    in_wheel, in_sdist = names_in_wheel(wheel), names_in_sdist(sdist)
    return [
        *(f"{name} is in the wheel" for name in stray(in_wheel, IN_WHEEL, NEVER_IN_WHEEL)),
        *(f"{name} is missing in the wheel" for name in missing(in_wheel, NEEDED_IN_WHEEL)),
        *(f"{name} is in the sdist" for name in stray(in_sdist, IN_SDIST, ("*.pyc",))),
        *(f"{name} is missing in the sdist" for name in missing(in_sdist, IN_SDIST[:-1])),
    ]


def names_in_wheel(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def names_in_sdist(path: Path) -> list[str]:
    """The names below the archive's only folder."""
    with tarfile.open(path) as archive:
        return [member.name.partition("/")[2] for member in archive if member.isfile()]


def stray(names: Iterable[str], allowed: Collection[str], never: Collection[str]) -> list[str]:
    """The names that match none of the allowed patterns, or one of the others."""
    return [name for name in names if not _matches(name, allowed) or _matches(name, never)]


def missing(names: Collection[str], needed: Iterable[str]) -> list[str]:
    """The patterns that no name matches."""
    return [pattern for pattern in needed if not any(fnmatch(name, pattern) for name in names)]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def problems_of_metadata(wheel: Path, sdist: Path) -> list[str]:
    """Return what a package index would refuse or show wrongly."""
    from packaging.metadata import Metadata

    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        of_wheel = archive.read(name)
    with tarfile.open(sdist) as archive:
        (member,) = (member for member in archive if re.fullmatch(r"[^/]+/PKG-INFO", member.name))
        of_sdist = archive.extractfile(member).read()  # type: ignore[union-attr]
    problems = [] if of_wheel == of_sdist else ["wheel and sdist differ in their metadata"]
    try:
        metadata = Metadata.from_email(of_wheel, validate=True)
    except ExceptionGroup as invalid:
        return [*problems, *(f"metadata: {error}" for error in invalid.exceptions)]
    if str(metadata.version) != package_version():
        problems.append(f"metadata: version {metadata.version}, but version.py has {package_version()}")
    return [*problems, *problems_of_description(metadata.description or "")]


def package_version() -> str:
    """The version in version.py."""
    found = re.search(r'VERSION: Final = "(.+)"', (ROOT / "hh_jupyter" / "version.py").read_text(encoding="utf-8"))
    assert found
    return found[1]


def problems_of_description(text: str) -> list[str]:
    """Return why a package index would not show the description as it is meant."""
    from readme_renderer import markdown

    page = markdown.render(text)
    if not page:
        return ["the description cannot be rendered"]
    addresses = re.findall(r'<(?:img|a)\b[^>]*?\b(?:src|href)="([^"]*)"', page)
    wrong = [address for address in addresses if not re.match(r"https?://|#|mailto:", address)]
    return [f"the description has the relative address {address}" for address in wrong]


# Installed


def find_pythons() -> Iterator[tuple[str, str]]:
    """Yield each version that is here with its interpreter: on PATH, or installed by pyenv."""
    pyenv = shutil.which("pyenv")
    bare = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True).stdout if pyenv else ""
    for version in PYTHONS:
        candidates = [shutil.which(f"python{version}")]
        for name in reversed([line.strip() for line in bare.splitlines() if line.strip().startswith(f"{version}.")]):
            prefix = subprocess.run([str(pyenv), "prefix", name], capture_output=True, text=True).stdout.strip()
            candidates.append(str(Path(prefix) / "bin" / "python"))
        if works := [path for path in candidates if path and _version_of(path) == version]:
            yield version, works[0]


def _version_of(python: str) -> str:
    """The version of an interpreter; empty if it does not start, as pyenv's command of an inactive version."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        return subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60).stdout.strip()
    except OSError:
        return ""


def install_and_run(python: str, archive: Path, pip_arguments: list[str]) -> str | None:
    """Install an archive in an empty environment and try it there. Returns what failed, None if nothing did."""
    with tempfile.TemporaryDirectory(prefix="hh-release-") as folder:
        environment = Path(folder) / "venv"
        inside = str(environment / ("Scripts" if os.name == "nt" else "bin") / "python")
        pip = [sys.executable, "-m", "pip", "--python", inside, "install", "--quiet", *pip_arguments]
        script = [inside, "-P", str(ROOT / "tests" / "installed_package.py"), package_version()]
        steps = {
            "an empty environment": [python, "-m", "venv", "--without-pip", str(environment)],
            "installing": [*pip, str(archive)],
            "loading the extension": script,
            "python -m hh_jupyter": [inside, "-P", "-m", "hh_jupyter", "--help"],
            "installing with [openai]": [*pip, f"{archive}[openai]"],
            "the quickstart": [*script, str(NOTEBOOK)],
        }
        env = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("HH_", "HONEYHIVE_", "OTEL_"))
            },
            "IPYTHONDIR": f"{folder}/ipython",
            "HH_SPOOL": "off",
            "HH_TEST_MODE": "true",
            "PYTHONPATH": str(NOTEBOOK.parent),  # The fake model; there is nothing else to import.
        }
        for step, command in steps.items():
            cwd = ROOT if command[: len(pip)] == pip else folder  # A lock file is named relative to the checkout.
            done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
            if done.returncode:
                print(done.stdout, done.stderr, sep="\n")
                return f"{step} failed with exit code {done.returncode}"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
