"""A destination's name distinguishes keys without revealing them."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from hh_jupyter.delivery.spool.directory import SALT, destination_id
from hh_jupyter.delivery.spool.store import Spool
from tests.delivery.spool.spooled import ROOT, hear, numbered, say, start

KEY = "hh_key_that_nobody_may_read_0001"
URL = "https://api.example/base/"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "spool"
    directory.mkdir(mode=0o700)
    return directory


def test_address_and_key_identify_the_destination(directory: Path) -> None:
    name = destination_id(URL, KEY, directory)
    assert name.startswith("https://api.example/base#")
    assert destination_id(URL, KEY, directory) == name
    assert destination_id("https://api.example/base", KEY, directory) == name
    assert destination_id(URL, KEY + "x", directory) != name
    assert destination_id("https://other.example", KEY, directory).partition("#")[2] != ""
    assert destination_id(URL, None, directory) == "local"


def test_a_password_in_the_address_is_not_in_the_name(directory: Path) -> None:
    name = destination_id("https://user:pass-word@api.example", KEY, directory)
    assert "pass-word" not in name
    assert name != destination_id("https://user:other@api.example", KEY, directory)


def test_the_same_key_has_different_names_in_different_folders(directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert destination_id(URL, KEY, other) != destination_id(URL, KEY, directory)


def test_the_key_is_in_no_file(directory: Path) -> None:
    name = destination_id(URL, KEY, directory)
    with start(f"spool.add({name!r}, numbered(range(100))); spool.close()", directory) as process:
        assert process.wait() == 0
    everything = b"".join(path.read_bytes() for path in directory.iterdir())
    assert name.encode() in everything
    assert KEY.encode() not in everything


def test_processes_that_start_at_once_agree_on_the_salt(directory: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from hh_jupyter.delivery.spool.directory import destination_id;"
        "print('ready', flush=True); sys.stdin.readline();"
        "print(destination_id('https://a.example', 'k', Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", script, str(directory)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True)) for _ in range(4)
        ]
        for process in processes:
            hear(process)
        for process in processes:
            say(process)
        names = {hear(process) for process in processes}
    assert len(names) == 1
    assert [path.name for path in directory.iterdir()] == [SALT]


@pytest.mark.parametrize("content", [b"", b"half a salt"])
def test_a_damaged_salt_is_replaced(directory: Path, content: bytes) -> None:
    (directory / SALT).write_bytes(content)
    name = destination_id(URL, KEY, directory)
    assert len((directory / SALT).read_bytes()) == 32
    assert destination_id(URL, KEY, directory) == name


def test_without_a_folder_the_name_lasts_for_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for nowhere in (None, tmp_path / "file"):
        assert destination_id(URL, KEY, nowhere) == destination_id(URL, KEY, None)


def test_records_of_another_key_stay_where_they_are(directory: Path) -> None:
    spool = Spool.open(directory)
    spool.add(destination_id(URL, KEY, directory), numbered([1]))
    spool.close()
    assert Spool.open(directory).adopt(destination_id(URL, "another key", directory)) == []
