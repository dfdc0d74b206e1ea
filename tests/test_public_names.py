"""What the package offers by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hh_jupyter

ROOT = Path(__file__).parents[1]


def test_completion_shows_the_public_names_and_nothing_else() -> None:
    assert dir(hh_jupyter) == sorted(hh_jupyter.__all__)
    assert all(getattr(hh_jupyter, name) is not None for name in dir(hh_jupyter))


def test_event_types_are_imported_with_their_first_use() -> None:
    code = (
        "import sys, hh_jupyter\n"
        "assert 'hh_jupyter.conventions.event_type' not in sys.modules\n"
        "from hh_jupyter import EventType\n"
        "assert hh_jupyter.EventType is EventType\n"
        "assert 'hh_jupyter.experiments' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
