"""Runs in a process of its own: `python -m tests.contract.script MODULE CALLS URL OBSERVATIONS`.

CALLS is a file that defines `run(hh, url, obs)`. It is loaded under its own name, since span and session names come
from it. What it observed is written as JSON to the file OBSERVATIONS.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.contract.recording import CREDENTIALS


def main(module: str, calls: str, url: str, observations: str) -> None:
    """Run the case. An exception of the case itself is observed as `!raised`, as in the recordings."""
    observed: dict[str, Any] = {}
    try:
        _load(Path(calls)).run(importlib.import_module(module), url, observed)
    except BaseException as error:  # boundary: whatever the case raises is its outcome
        observed["!raised"] = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    finally:
        Path(observations).write_text(json.dumps(observed, default=repr), encoding="utf-8")


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    case = importlib.util.module_from_spec(spec)
    for name, (value, _) in CREDENTIALS.items():
        setattr(case, name, value)
    spec.loader.exec_module(case)
    return case


if __name__ == "__main__":
    main(*sys.argv[1:])
