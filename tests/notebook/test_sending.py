"""The one line of `%hh send` says what was sent, what was not, and why."""

from __future__ import annotations

from typing import Any

import pytest

from hh_jupyter.notebook.transfer import Outcome


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sent": 12, "about": "refund-triage"}, "hh: 12 spans of refund-triage sent to api.example."),
        ({"sent": 1}, "hh: 1 span sent to api.example."),
        ({}, "hh: nothing waits here."),
        ({"about": "refund-triage"}, "hh: nothing of refund-triage waits here."),
        (
            {"sent": 3, "waiting": 9, "reason": "api.example cannot be reached."},
            "hh: 3 of 12 spans sent to api.example; 9 wait: api.example cannot be reached.",
        ),
        ({"waiting": 1}, "hh: 0 of 1 span sent to api.example; 1 waits."),
        (
            {"waiting": 2, "refused": 1, "reason": "too large"},
            "hh: 0 of 3 spans sent to api.example; 2 wait, 1 refused: too large.",
        ),
        (
            {"sent": 1, "lost": (2, "invalid")},
            "hh: 1 span sent to api.example; 2 spans lost: invalid.",
        ),
        ({"lost": (2, None)}, "hh: 2 spans lost."),
        (
            {"calls": (1, "no such project")},
            "hh: 1 call (session start, update or event) refused: no such project.",
        ),
    ],
)
def test_one_line_for_every_outcome(fields: dict[str, Any], said: str) -> None:
    assert str(Outcome("api.example", **fields)) == said
