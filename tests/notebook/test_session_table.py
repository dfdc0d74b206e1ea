"""`%hh sessions` is an aligned table of bounded length; no title can break it."""

from __future__ import annotations

from typing import Any

from hh_jupyter.notebook.sessions import MAX_TABLE_ROWS, KnownSession, sessions_text
from hh_jupyter.records.export_state import ExportState


def known(number: int = 0, **changes: Any) -> KnownSession:
    fields: dict[str, Any] = {
        "id": f"{number:08x}-0000-4000-8000-000000000000",
        "title": f"session-{number}",
        "name": f"session-{number}",
        "spans": number,
        "last": 1_700_000_000.0 + number,
        "this_kernel": True,
        "local": number,
        "waiting": 0,
        "export": ExportState(None, made=number),
    }
    return KnownSession(**{**fields, **changes})


def test_columns_are_aligned_and_numbers_right_aligned() -> None:
    text = sessions_text([known(7, title="a"), known(12_345, title="a much longer one")])
    head, first, second = text.splitlines()
    assert first.index("00000007") == second.index("00003039") == head.index("id")
    assert first.index("     7") + 5 == second.index("12,345") + 5
    assert first.index("local only") == second.index("local only") == head.index("where")


def test_a_long_table_shows_the_newest_and_counts_the_rest() -> None:
    lines = sessions_text([known(number) for number in range(MAX_TABLE_ROWS + 5)]).splitlines()
    assert lines[1] == "(5 older sessions not shown)"
    assert len(lines) == MAX_TABLE_ROWS + 2
    assert lines[2].startswith("session-5 ")
    assert lines[-1].startswith(f"session-{MAX_TABLE_ROWS + 4} ")
    assert "not shown" not in sessions_text([known(number) for number in range(MAX_TABLE_ROWS)])


def test_many_sessions_of_one_name_are_one_line() -> None:
    runs = [known(number, title="run a" if number % 2 else "run-b", name="r") for number in range(80)]
    few = [known(100 + number, title="twice") for number in range(2)]
    lines = sessions_text([*runs, *few]).splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "run-b", "run a", "twice", "twice", "%hh sessions 'run a' lists each session of this name."
    ]  # fmt: skip
    assert lines[1].split()[1:4] == ["40", "sessions", "1,560"]
    assert len(sessions_text(runs, each=True).splitlines()) == MAX_TABLE_ROWS + 2
    ended = [known(number, title="run a", this_kernel=False) for number in range(9)]
    assert len(sessions_text([*runs, *ended]).splitlines()) == 5


def test_the_export_state_has_the_same_wording_as_in_outputs() -> None:
    sent = ExportState("api.example", made=3, sent=3)
    left = ExportState("api.example", made=3, waiting=3, failing=True)
    rows = sessions_text([known(1), known(2, export=sent), known(3, export=left, this_kernel=False)]).splitlines()[1:]
    assert rows[0].endswith("local only             this one")
    assert rows[1].endswith("api.example: sent      this one")
    assert rows[2].endswith("api.example: not sent  earlier")


def test_a_title_is_one_short_line_without_control_characters() -> None:
    hostile = "\x1b[31mred\x1b[0m\nsecond line " + "x" * 500
    lines = sessions_text([known(title=hostile)]).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("red second line xxx")
    assert "\x1b" not in lines[1]
    assert len(lines[1]) < 120
