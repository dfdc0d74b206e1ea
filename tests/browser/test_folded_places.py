"""Outputs in folded elements, such as the rows of a run's table: the hub requests them when they open."""

from __future__ import annotations

import dataclasses

import pytest
from playwright.sync_api import Page, expect

from tests.browser.harness import Harness


@pytest.mark.slow
def test_an_output_in_a_folded_element_is_requested_when_it_opens(cells: Page, harness: Harness) -> None:
    """A run's table has an output per row, and a long table must not request all of them."""
    view_id = "hh-folded-0b1e9a52"
    harness.by_id[view_id] = dataclasses.replace(harness.views["bar"], view_id=view_id)
    cells.evaluate(
        """id => {
          const row = document.createElement("details");
          row.id = "folded";
          row.innerHTML = `<summary>row</summary><div class="hh-output" id="${id}"><div>Spans</div></div>`;
          document.querySelector("main").append(row);
        }""",
        view_id,
    )
    asked = f"window.asked.some((message) => message.view === '{view_id}')"
    cells.evaluate("() => new Promise((done) => setTimeout(done, 50))")  # Observers have run by then.
    assert not cells.evaluate(asked)
    cells.locator("#folded > summary").click()
    expect(cells.locator("#folded .hh-view")).to_contain_text("answer_question")
    expect(cells.get_by_text("Spans", exact=True)).to_be_hidden()
