"""One widget model per kernel, opened when a cell of a notebook is traced, and never part of an output."""

from __future__ import annotations

import pytest

from tests.kernel.driver import Kernel

WIDGET_AND_LAYOUT = 2
"""The layout of a widget is a widget with a comm of its own."""


def settle(kernel: Kernel, comms: int) -> None:
    kernel.wait_for(lambda: kernel.comms == comms, f"{kernel.comms} comms are open")


@pytest.mark.slow
def test_a_client_without_cell_ids_gets_no_widget(fresh: Kernel) -> None:
    fresh.run("span('a')")
    fresh.run("time.sleep(1)")
    assert fresh.comms == 0


@pytest.mark.slow
def test_all_cells_share_one_model_across_reloads_and_unloading_closes_it(fresh: Kernel) -> None:
    for number in range(4):
        cell = fresh.run("span('a')", cell_id=f"cell-{number}")
        assert all(set(version) == {"text/plain", "text/html"} for version in cell.output.versions)
        assert f'id="hh-cell-{number}"' in cell.output.html
    settle(fresh, WIDGET_AND_LAYOUT)
    for _ in range(2):
        fresh.run("%reload_ext hh_jupyter")
        settle(fresh, 0)
        fresh.run("span('b')", cell_id="cell-1")
        settle(fresh, WIDGET_AND_LAYOUT)
    fresh.run("%unload_ext hh_jupyter")
    settle(fresh, 0)


def test_running_a_cell_again_leaves_its_saved_output_unchanged(fresh: Kernel) -> None:
    first, second = (fresh.run("span('same')", cell_id="cell-1") for _ in range(2))
    assert first.output.metadata == second.output.metadata
    # A late update of the first run must not change the output of the second.
    assert first.output.display_id != second.output.display_id


@pytest.mark.slow
def test_without_the_widget_library_only_the_static_output_is_shown(fresh: Kernel) -> None:
    fresh.run("import sys\nsys.modules['anywidget'] = None")
    cell = fresh.run("span('a')", cell_id="cell-1")
    assert (cell.reply, cell.stderr, len(cell.outputs)) == ("ok", "", 1)
    fresh.run("time.sleep(1)")
    assert fresh.comms == 0
