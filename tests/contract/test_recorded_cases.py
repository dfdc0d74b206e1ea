"""The same calls make the same requests as the official client, apart from the deviations that are listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.comparison import differences
from tests.contract.deviations import DEVIATIONS, NOT_YET
from tests.contract.recording import DATA, load
from tests.contract.replay import early, replay

LONGEST = "export_down"
"""It waits for a flush to give up, and so begins first: the others run beside it."""

CASES = sorted((path.stem for path in DATA.glob("*.json")), key=lambda name: (name != LONGEST, name))


def _parameters() -> list[object]:
    marks = {name: pytest.mark.xfail(reason=reason, strict=True) for name, reason in NOT_YET.items()}
    return [pytest.param(name, marks=[marks[name]] if name in marks else []) for name in CASES]


@pytest.mark.parametrize("name", _parameters())
def test_a_replay_makes_the_recorded_requests(name: str, tmp_path: Path) -> None:
    case = load(name)
    done = replay(case, tmp_path)
    found = differences(case.recorded, done.run, ordered=case.ordered)
    allowed = DEVIATIONS.get(name, ())
    unlisted = [line for line in found if not any(row.allows(line) for row in allowed)]
    assert not unlisted, "\n".join(["differs from the recording:", *unlisted, done.stderr[-2000:]])
    gone = [row.what for row in allowed if row.always and not any(row.allows(line) for line in found)]
    assert not gone, "\n".join(["listed in deviations.py, but the replay no longer differs so:", *gone])
    assert not list(early(done.requests)), "sent before the start of its session"
    assert not [request.undecodable for request in done.requests if request.undecodable]


def test_every_listed_case_exists() -> None:
    assert set(DEVIATIONS) | set(NOT_YET) <= set(CASES)
