"""`python -m hh_jupyter enable`, `disable`, `status`: one file, put in place and removed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hh_jupyter.__main__ import main
from hh_jupyter.cli.autoload import FILE, startup_text


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


def test_enabling_in_an_environment_concerns_that_and_disabling_leaves_nothing(
    environment: Path, user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["enable"]) == 0
    assert str(environment) in capsys.readouterr().out
    assert environment.read_text(encoding="utf-8") == startup_text()
    assert not user.exists()
    assert main(["disable"]) == 0
    assert list((environment.parents[3]).iterdir()) == []


def test_outside_environments_the_user_is_meant(environment: Path, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    assert main(["enable"]) == 0
    assert user.exists()
    assert not environment.exists()
    assert main(["disable"]) == 0
    assert list(user.parent.parent.iterdir()) == []
    assert user.parent.parent.exists(), "the profile is the user's"


def test_flags_choose(environment: Path, user: Path) -> None:
    assert main(["enable", "--user"]) == main(["enable", "--sys-prefix"]) == 0
    assert main(["disable", "--sys-prefix"]) == 0
    assert (environment.exists(), user.exists()) == (False, True)
    assert main(["enable", "--sys-prefix"]) == main(["disable"]) == 0
    assert (environment.exists(), user.exists()) == (False, False)


def test_status_says_where_it_is_and_whether_it_is_this_versions(
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
    assert everywhere.strip().startswith("on (written by another version; enable writes it anew)")
    main(["enable", "--user"])
    capsys.readouterr()
    main(["status", "--user"])
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["on", "for"]


@pytest.mark.usefixtures("environment")
def test_files_of_others_are_left_alone(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user.write_text("mine = 1\n", encoding="utf-8")
    beside = user.with_name("00-first.py")
    beside.write_text("other = 1\n", encoding="utf-8")
    assert main(["enable", "--user"]) == 1
    assert "somebody else's file" in capsys.readouterr().err
    assert main(["disable"]) == 0
    assert user.read_text(encoding="utf-8") == "mine = 1\n"
    user.unlink()
    assert main(["enable", "--user"]) == main(["disable", "--user"]) == 0
    assert [path.name for path in user.parent.iterdir()] == ["00-first.py"]


def test_where_it_cannot_be_written_one_line_says_what_to_do(
    environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.parents[2].write_text("a file where a folder should be")
    assert main(["enable", "--sys-prefix"]) == 1
    said = capsys.readouterr().err
    assert "cannot be written" in said
    assert "--user enables it for you alone." in said
    assert said.count("\n") == 1


def test_disabling_what_is_not_there_is_no_mistake(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["disable"]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert not environment.parent.exists()
