"""View ids of outputs."""

from __future__ import annotations

import re

from hh_jupyter.notebook.views import view_id_of


def test_the_view_id_is_made_of_the_cell_id_and_stays_when_the_cell_is_run_again() -> None:
    assert view_id_of("a1b2-c3_d4", "7") == view_id_of("a1b2-c3_d4", "8") == "hh-a1b2-c3_d4"


def test_without_a_cell_id_the_view_id_is_made_of_the_cell_number() -> None:
    assert view_id_of(None, "7") == "hh-7"


def test_cell_ids_that_are_not_valid_element_ids_are_hashed() -> None:
    first, second = (view_id_of(f"vscode-notebook-cell:/a b/{n}.ipynb#W0", "1") for n in (1, 2))
    assert first != second
    assert re.fullmatch(r"hh-[0-9a-f]{12}", first)
