"""Names of outputs, and how long a cell waits for delivery."""

from __future__ import annotations

import re

from hh_jupyter.notebook.cell_output import FlushBudget, view_id_of


def test_a_cells_own_id_names_its_output_so_that_running_again_changes_nothing() -> None:
    assert view_id_of("a1b2-c3_d4", "7") == view_id_of("a1b2-c3_d4", "8") == "hh-a1b2-c3_d4"


def test_without_an_id_the_cells_number_does() -> None:
    assert view_id_of(None, "7") == "hh-7"


def test_ids_that_no_element_may_have_are_hashed() -> None:
    first, second = (view_id_of(f"vscode-notebook-cell:/a b/{n}.ipynb#W0", "1") for n in (1, 2))
    assert first != second
    assert re.fullmatch(r"hh-[0-9a-f]{12}", first)


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
