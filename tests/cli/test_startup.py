"""`python -m hh_jupyter enable`, `disable`, `status`: one startup file, written and removed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hh_jupyter.__main__ import main
from hh_jupyter.cli.startup import FILE, startup_text


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The startup file of a virtual environment."""
    prefix = tmp_path / "env"
    prefix.mkdir()
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return prefix / "etc" / "ipython" / "startup" / FILE


@pytest.fixture
def user(environment: Path, tmp_path: Path) -> Path:
    """The startup file of the user, who has used IPython before."""
    folder = tmp_path / "ipython" / "profile_default" / "startup"
    folder.mkdir(parents=True)
    return folder / FILE


def test_enable_in_an_environment_applies_to_it_and_disable_leaves_nothing_behind(
    environment: Path, user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["enable"]) == 0
    assert str(environment) in capsys.readouterr().out
    assert environment.read_text(encoding="utf-8") == startup_text()
    assert not user.exists()
    assert main(["disable"]) == 0
    assert list((environment.parents[3]).iterdir()) == []


def test_enable_outside_an_environment_applies_to_the_user(
    environment: Path, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    assert main(["enable"]) == 0
    assert user.exists()
    assert not environment.exists()
    assert main(["disable"]) == 0
    assert list(user.parent.parent.iterdir()) == []
    assert user.parent.parent.exists(), "the profile is the user's"


def test_flags_select_environment_or_user(environment: Path, user: Path) -> None:
    assert main(["enable", "--user"]) == main(["enable", "--sys-prefix"]) == 0
    assert main(["disable", "--sys-prefix"]) == 0
    assert (environment.exists(), user.exists()) == (False, True)
    assert main(["enable", "--sys-prefix"]) == main(["disable"]) == 0
    assert (environment.exists(), user.exists()) == (False, False)


def test_status_shows_where_it_is_enabled_and_files_of_another_version(
    environment: Path, user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["enable", "--user"])
    user.write_text(startup_text() + "# of yesterday\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["status"]) == 0
    head, here, everywhere = capsys.readouterr().out.splitlines()
    assert head.startswith("hh_jupyter 0.")
    assert here.split()[0] == "off"
    assert here.endswith(str(environment))
    assert everywhere.strip().startswith("on (written by another version: run enable again)")
    main(["enable", "--user"])
    capsys.readouterr()
    main(["status", "--user"])
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["on", "for"]


@pytest.mark.usefixtures("environment")
def test_files_of_other_programs_are_left_unchanged(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user.write_text("mine = 1\n", encoding="utf-8")
    beside = user.with_name("00-first.py")
    beside.write_text("other = 1\n", encoding="utf-8")
    assert main(["enable", "--user"]) == 1
    assert "was not written by hh_jupyter" in capsys.readouterr().err
    assert main(["disable"]) == 0
    assert user.read_text(encoding="utf-8") == "mine = 1\n"
    user.unlink()
    assert main(["enable", "--user"]) == main(["disable", "--user"]) == 0
    assert [path.name for path in user.parent.iterdir()] == ["00-first.py"]


def test_a_file_that_cannot_be_written_is_one_line_that_says_what_to_do(
    environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.parents[2].write_text("a file where a folder should be")
    assert main(["enable", "--sys-prefix"]) == 1
    message = capsys.readouterr().err
    assert "cannot write" in message
    assert message.rstrip().endswith("--user")
    assert message.count("\n") == 1


def test_disable_without_a_startup_file_succeeds(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["disable"]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert not environment.parent.exists()
