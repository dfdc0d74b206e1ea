"""The key of a login: where it counts, where it is kept, and what it may be."""

from __future__ import annotations

import getpass
import os
import stat
import warnings
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError

from hh_jupyter.notebook.config import Login, ask_key, key_file
from hh_jupyter.settings import Settings, resolve

TYPED = "hh_typed_key_of_no_account"
URL = "https://api.example"


def settings(arguments: dict[str, Any] | None = None, **environ: str) -> Settings:
    return resolve({"server_url": URL, **(arguments or {})}, environ=environ)


def saved(folder: Path, key: str = TYPED, **given: Any) -> Login:
    """A login of a later kernel, after `key` was saved."""
    first, now = Login(), settings(given)
    first.take(key, now.server_url)
    first.keep(first.applied_to(now))
    later = Login()
    later.load()
    return later


def in_force(settings: Settings) -> tuple[str | None, str]:
    return settings.api_key, settings.origins["api_key"]


def test_a_typed_key_beats_the_environment_but_not_what_init_is_given() -> None:
    login = Login()
    login.take(TYPED, URL)
    assert in_force(login.applied_to(settings(HH_API_KEY="of-the-environment"))) == (TYPED, "%hh login")
    assert in_force(login.applied_to(settings({"api_key": "given"}))) == ("given", "argument")
    assert login.applied_to(settings({"server_url": "https://evil.example"})).local, (
        "a key goes to its own address only"
    )
    assert TYPED not in repr(login)
    assert TYPED not in repr(login.applied_to(settings()))


def test_a_saved_key_is_used_where_no_other_is_and_for_its_address_only(tmp_path: Path) -> None:
    login = saved(tmp_path)
    assert in_force(login.applied_to(settings())) == (TYPED, "saved login")
    assert in_force(login.applied_to(settings(HH_API_KEY="other-key"))) == ("other-key", "HH_API_KEY")
    assert login.applied_to(settings({"server_url": "https://evil.example"})).local
    ingestion = "hh_ingst_" + "a" * 24 + "_" + "b" * 64
    assert login.applied_to(settings(HH_INGESTION_API_KEY=ingestion)).api_key is None


def test_keys_of_several_addresses_are_kept_side_by_side(tmp_path: Path) -> None:
    saved(tmp_path)
    login = saved(tmp_path, "hh_second_key", server_url="https://second.example")
    assert login.applied_to(settings()).api_key == TYPED
    assert login.applied_to(settings({"server_url": "https://second.example"})).api_key == "hh_second_key"


def test_the_file_is_this_users_alone_in_the_users_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    saved(tmp_path)
    path = tmp_path / "mine" / "hh_jupyter" / "key"
    assert key_file() == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["key"]  # noqa: PTH208  # Names are what is compared.
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert key_file() == tmp_path / ".config" / "hh_jupyter" / "key"


@pytest.mark.parametrize("content", ["", "[1]", '{"https://api.example": 7}', "\x00\xff", '{"https://api.exa'])
def test_a_damaged_file_is_passed_over(tmp_path: Path, content: str) -> None:
    saved(tmp_path)
    key_file().write_text(content)
    login = Login()
    login.load()
    assert login.applied_to(settings()).local


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_a_file_that_others_can_read_is_named_and_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved(tmp_path)
    key_file().chmod(0o640)
    login = Login()
    login.load()
    assert login.applied_to(settings()).local
    (record,) = caplog.records
    assert str(key_file()) in record.getMessage()
    assert TYPED not in caplog.text


def test_forget_deletes_the_file_and_says_whether_there_was_one(tmp_path: Path) -> None:
    login = saved(tmp_path)
    assert login.forget() == key_file()
    assert not key_file().exists()
    assert login.forget() is None


def test_a_folder_that_takes_no_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    login = Login()
    login.take(TYPED, URL)
    with pytest.raises(UsageError, match="cannot be written") as caught:
        login.keep(login.applied_to(settings()))
    assert TYPED not in str(caught.value)
    with pytest.raises(UsageError, match="cannot be deleted"):
        login.forget()


@pytest.mark.filterwarnings("ignore")
def test_where_typing_would_be_seen_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, Python's own prompt would read the key and show it."""

    def without_terminal(prompt: str) -> str:
        warnings.warn("Can not control echo on the terminal.", getpass.GetPassWarning, stacklevel=2)
        return TYPED

    monkeypatch.setattr(getpass, "getpass", without_terminal)
    with pytest.raises(UsageError, match="nobody can be asked"):
        ask_key()
