"""Names of outputs."""

from __future__ import annotations

import re

from hh_jupyter.notebook.views import view_id_of


def test_a_cells_own_id_names_its_output_so_that_running_again_changes_nothing() -> None:
    assert view_id_of("a1b2-c3_d4", "7") == view_id_of("a1b2-c3_d4", "8") == "hh-a1b2-c3_d4"


def test_without_an_id_the_cells_number_does() -> None:
    assert view_id_of(None, "7") == "hh-7"


def test_ids_that_no_element_may_have_are_hashed() -> None:
    first, second = (view_id_of(f"vscode-notebook-cell:/a b/{n}.ipynb#W0", "1") for n in (1, 2))
    assert first != second
    assert re.fullmatch(r"hh-[0-9a-f]{12}", first)
