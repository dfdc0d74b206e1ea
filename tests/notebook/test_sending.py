"""The line that `%hh send` prints: what was sent, what was not, and why."""

from __future__ import annotations

from typing import Any

import pytest

from hh_jupyter.notebook.transfer import SendResult


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"sent": 12, "subject": "refund-triage"}, "hh: 12 spans of refund-triage sent to api.example."),
        ({"sent": 1}, "hh: 1 span sent to api.example."),
        ({}, "hh: nothing to send."),
        ({"subject": "refund-triage"}, "hh: nothing to send for refund-triage."),
        (
            {"sent": 3, "waiting": 9, "reason": "api.example cannot be reached."},
            "hh: 3 of 12 spans sent to api.example; 9 waiting: api.example cannot be reached.",
        ),
        ({"waiting": 1}, "hh: 0 of 1 span sent to api.example; 1 waiting."),
        (
            {"waiting": 2, "rejected": 1, "reason": "too large"},
            "hh: 0 of 3 spans sent to api.example; 2 waiting, 1 rejected: too large.",
        ),
        (
            {"sent": 1, "dropped": (2, "invalid")},
            "hh: 1 span sent to api.example; 2 spans dropped: invalid.",
        ),
        ({"dropped": (2, None)}, "hh: 2 spans dropped."),
        (
            {"requests": (1, "no such project")},
            "hh: 1 request (session start, update or event) rejected: no such project.",
        ),
    ],
)
def test_each_result_is_one_line(fields: dict[str, Any], line: str) -> None:
    assert str(SendResult("api.example", **fields)) == line
