"""How long a cell waits for the export of its spans."""

from __future__ import annotations

from hh_jupyter.notebook.outputs import FlushBudget


def test_after_two_cells_that_used_up_their_wait_the_next_ones_are_short_until_one_is_fast() -> None:
    budget = FlushBudget()
    allowed = []
    for taken in (0.5, 0.5, 0.1, 0.01, 0.5):
        allowed.append(budget.seconds(0.5))
        budget.note(allowed[-1], taken)
    assert allowed == [0.5, 0.5, 0.1, 0.1, 0.5]


def test_one_slow_cell_does_not_shorten_the_wait() -> None:
    budget = FlushBudget()
    for taken in (0.5, 0.01, 0.5):
        budget.note(0.5, taken)
    assert budget.seconds(0.5) == 0.5


def test_a_shorter_setting_is_not_extended() -> None:
    budget = FlushBudget()
    budget.note(0.05, 0.05)
    budget.note(0.05, 0.05)
    assert budget.seconds(0.05) == 0.05
