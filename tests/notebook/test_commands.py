"""The words after `%hh`."""

from __future__ import annotations

import pytest

from hh_jupyter.notebook.commands import with_numbers


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["refund-triage", "#3"], ["refund-triage #3"]),
        (["a", "#2", "b", "#10"], ["a #2", "b #10"]),
        (["refund-triage #3"], ["refund-triage #3"]),
        (["#3"], ["#3"]),
        (["a", "#x", "#"], ["a", "#x", "#"]),
        ([], []),
    ],
)
def test_the_number_of_a_title_belongs_to_the_name_before_it(words: list[str], joined: list[str]) -> None:
    assert with_numbers(words) == joined
