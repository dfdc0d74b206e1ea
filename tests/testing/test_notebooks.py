"""What `run_notebook` refuses before it starts a kernel; what it runs: `tests/kernel/test_run_notebook.py`."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest

from hh_jupyter.errors import SettingError
from hh_jupyter.testing import run_notebook


@pytest.mark.parametrize("name", ["nbclient", "ipykernel"])
def test_the_error_without_a_package_is_the_line_that_installs_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"run_notebook\(\) needs {name}\. pip install {name}"):
        run_notebook("triage.ipynb")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"replay": "never"}, r"run_notebook\(replay='never'\): must be one of auto, only, record, off"),
        ({"timeout": 0}, r"run_notebook\(timeout=0\): must be a number of seconds above 0"),
        ({"timeout": math.inf}, r"run_notebook\(timeout=inf\): must be a number of seconds above 0"),
        ({"timeout": math.nan}, r"run_notebook\(timeout=nan\): must be a number of seconds above 0"),
        ({"timeout": "60"}, r"run_notebook\(timeout='60'\): must be a number of seconds above 0"),
    ],
)
def test_an_impossible_argument_is_named_with_its_rule(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        run_notebook("triage.ipynb", **arguments)


def test_a_notebook_that_is_not_there_is_an_error_of_the_file_system() -> None:
    with pytest.raises(FileNotFoundError, match="no-such"):
        run_notebook("no-such.ipynb")
