"""A recording has the name of its session, notebook, script or test, on every file system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hh_jupyter.recordings.location import file_name, recording_path

LOCATION = "from hh_jupyter.recordings.location import script_location\nprint(*script_location())"


@pytest.mark.parametrize("name", ["refund-triage", "refund triage", "Überweisung #3", "test_x[a-1]", "v1.2"])
def test_an_ordinary_name_is_the_name_of_the_file(name: str) -> None:
    assert file_name(name) == name


ODD_NAMES = [
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "..",
    ".",
    "",
    " ",
    "a\nb",
    "con",
    "NUL.txt",
    "a:b",
    "\ud800",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_that_is_a_path_or_cannot_be_stored_stays_in_the_folder(name: str, tmp_path: Path) -> None:
    path = recording_path(name, tmp_path, "recordings")
    assert path.parent == tmp_path / "recordings"
    path.parent.mkdir()
    path.write_text("")
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@given(st.text(max_size=300), st.text(max_size=300))
def test_different_names_have_different_files(one: str, other: str) -> None:
    assert (file_name(one) == file_name(other)) == (one == other)


@given(st.text(max_size=1000))
def test_a_file_name_fits_every_file_system(name: str) -> None:
    made = file_name(name)
    assert 0 < len(made.encode()) < 200
    assert not set('<>:"/\\|?*') & set(made)
    assert made.strip(". ") == made


def test_the_folder_may_be_relative_absolute_or_in_the_home_of_the_user(tmp_path: Path) -> None:
    assert recording_path("a", tmp_path, "x/y") == tmp_path / "x" / "y" / "a.jsonl"
    assert recording_path("a", tmp_path, "/data") == Path("/data/a.jsonl")
    assert recording_path("a", tmp_path, "~/r") == Path.home() / "r" / "a.jsonl"


def test_a_script_has_its_recordings_beside_it_wherever_it_is_started(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "triage.py").write_text(LOCATION)
    command = [sys.executable, str(folder / "triage.py")]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["triage", str(folder)]


@pytest.mark.parametrize(("arguments", "name"), [(["-m", "tool"], "tool"), (["-c", LOCATION], "-c")])
def test_a_module_has_them_in_the_working_directory(arguments: list[str], name: str, tmp_path: Path) -> None:
    installed = tmp_path / "installed" / "tool"
    installed.mkdir(parents=True)
    (installed / "__main__.py").write_text(LOCATION)
    work = tmp_path / "work"
    work.mkdir()
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=work,
        env={"PYTHONPATH": f"{installed.parent}:{Path(__file__).parents[2]}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == [name, str(work)]
