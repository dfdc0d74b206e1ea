"""A new file belongs to its creator from the start, even if other processes scan the folder meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hh_jupyter.delivery.spool import opening
from hh_jupyter.delivery.spool.record import SpoolFault
from hh_jupyter.delivery.spool.store import Spool
from tests.delivery.spool.spooled import HERE, files_in, numbered, numbers_of


def test_a_file_that_was_deleted_before_it_was_locked_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process can lock the file, finds no records and deletes it, as if its owner were dead."""
    connect = opening.connect
    deleted: list[Path] = []

    def connect_while_others_adopt(path: Path) -> object:
        opened = connect(path)
        if not deleted:
            deleted.append(path)
            path.unlink()
        return opened

    monkeypatch.setattr(opening, "connect", connect_while_others_adopt)
    spool = Spool.open(tmp_path)
    spool.add(HERE, numbered([1]))
    assert spool.problem is None
    assert deleted[0] not in files_in(tmp_path)
    spool.close()
    monkeypatch.undo()
    assert numbers_of(Spool.open(tmp_path).adopt(HERE)) == [1]


def test_opening_a_deleted_file_does_not_create_it_again(tmp_path: Path) -> None:
    assert opening.open_left(tmp_path / "spool-gone.sqlite3") is None
    with pytest.raises(SpoolFault, match="unable to open"):
        opening.connect(tmp_path / "spool-gone.sqlite3")
    assert list(tmp_path.iterdir()) == []


def test_names_are_random(tmp_path: Path) -> None:
    """A process id, for example, recurs in every container."""
    spools = [Spool.open(tmp_path) for _ in range(3)]
    for spool in spools:
        spool.add(HERE, numbered([1]))
    names = [path.name for path in files_in(tmp_path)]
    assert len(set(names)) == 3
    assert not any(str(os.getpid()) == name.removeprefix("spool-").removesuffix(".sqlite3") for name in names)
    for spool in spools:
        spool.close()
