"""What `make release-check` looks for, and the description that a package index gets."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests import release_check

ROOT = Path(__file__).parents[1]
README = """\
![a picture](notebooks/images/summary.png) of [the notebook](notebooks/a.ipynb), see [below](#below),
[HoneyHive](https://www.honeyhive.ai) and ![a badge](https://example.org/badge.svg)
"""


def test_the_description_names_pictures_and_files_of_the_repository() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    source = settings["project"]["urls"]["Source"]
    text = README
    for one in settings["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(one["pattern"], one["replacement"], text)
    assert (
        text
        == f"""\
![a picture]({source}/raw/HEAD/notebooks/images/summary.png) of \
[the notebook]({source}/blob/HEAD/notebooks/a.ipynb), see [below](#below),
[HoneyHive](https://www.honeyhive.ai) and ![a badge](https://example.org/badge.svg)
"""
    )


def test_tests_and_notebooks_are_strangers_in_a_wheel() -> None:
    names = [
        "hh_jupyter/notebook/cells.py",
        "hh_jupyter-0.2.0.dist-info/METADATA",
        "tests/test_query.py",
        "hh_jupyter/tests/test_query.py",
        "hh_jupyter/01_quickstart.ipynb",
        "README.md",
    ]
    assert release_check.stray(names, release_check.IN_WHEEL, release_check.NEVER_IN_WHEEL) == names[2:]


def test_a_wheel_without_the_front_end_is_incomplete() -> None:
    names = ["hh_jupyter/py.typed", "hh_jupyter/cli/50-hh_jupyter.py", "hh_jupyter-1.dist-info/licenses/LICENSE"]
    found = release_check.missing(names, release_check.NEEDED_IN_WHEEL)
    assert found == ["hh_jupyter/display/static/hub.js", "hh_jupyter/display/static/spans.css"]


def test_a_python_counts_only_if_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in {"python3.11": "echo 3.11", "python3.12": "exit 127", "python3.13": "echo 3.9"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert dict(release_check.find_pythons()) == {"3.11": str(tmp_path / "python3.11")}
