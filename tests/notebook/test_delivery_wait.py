"""How long a cell waits for delivery."""

from __future__ import annotations

from hh_jupyter.notebook.outputs import FlushBudget


def test_after_two_cells_that_used_the_wait_up_the_next_ones_are_short_until_one_is_fast() -> None:
    budget = FlushBudget()
    given = []
    for taken in (0.5, 0.5, 0.1, 0.01, 0.5):
        given.append(budget.seconds(0.5))
        budget.note(given[-1], taken)
    assert given == [0.5, 0.5, 0.1, 0.1, 0.5]


def test_one_slow_cell_is_no_reason_to_hurry() -> None:
    budget = FlushBudget()
    for taken in (0.5, 0.01, 0.5):
        budget.note(0.5, taken)
    assert budget.seconds(0.5) == 0.5


def test_a_shorter_setting_stays_as_it_is() -> None:
    budget = FlushBudget()
    budget.note(0.05, 0.05)
    budget.note(0.05, 0.05)
    assert budget.seconds(0.05) == 0.05
