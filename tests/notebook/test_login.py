"""The keys of `%hh login`: precedence, the file of saved keys, and valid input."""

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


def saved(key: str = TYPED, **arguments: Any) -> Login:
    """Save `key` in one kernel and return the login of a later kernel."""
    first, current = Login(), settings(arguments)
    first.set_typed_key(key, current.server_url)
    first.save(first.apply(current))
    later = Login()
    later.load()
    return later


def key_and_origin(settings: Settings) -> tuple[str | None, str]:
    return settings.api_key, settings.origins["api_key"]


def test_a_typed_key_overrides_the_environment_but_not_an_argument_of_init() -> None:
    login = Login()
    login.set_typed_key(TYPED, URL)
    assert key_and_origin(login.apply(settings(HH_API_KEY="of-the-environment"))) == (TYPED, "%hh login")
    assert key_and_origin(login.apply(settings({"api_key": "given"}))) == ("given", "argument")
    assert login.apply(settings({"server_url": "https://evil.example"})).local, "a key goes to its own address only"
    assert TYPED not in repr(login)
    assert TYPED not in repr(login.apply(settings()))


def test_a_saved_key_is_used_without_another_one_and_for_its_server_only(tmp_path: Path) -> None:
    login = saved()
    assert key_and_origin(login.apply(settings())) == (TYPED, "saved login")
    assert key_and_origin(login.apply(settings(HH_API_KEY="other-key"))) == ("other-key", "HH_API_KEY")
    assert login.apply(settings({"server_url": "https://evil.example"})).local
    ingestion = "hh_ingst_" + "a" * 24 + "_" + "b" * 64
    assert login.apply(settings(HH_INGESTION_API_KEY=ingestion)).api_key is None


def test_one_key_is_saved_for_each_server(tmp_path: Path) -> None:
    saved()
    login = saved("hh_second_key", server_url="https://second.example")
    assert login.apply(settings()).api_key == TYPED
    assert login.apply(settings({"server_url": "https://second.example"})).api_key == "hh_second_key"


def test_only_the_user_can_read_the_file_in_the_configuration_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    saved()
    path = tmp_path / "mine" / "hh_jupyter" / "key"
    assert key_file() == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["key"]  # noqa: PTH208  # Names are what is compared.
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert key_file() == tmp_path / ".config" / "hh_jupyter" / "key"


@pytest.mark.parametrize("content", ["", "[1]", '{"https://api.example": 7}', "\x00\xff", '{"https://api.exa'])
def test_a_damaged_file_is_ignored(tmp_path: Path, content: str) -> None:
    saved()
    key_file().write_text(content)
    login = Login()
    login.load()
    assert login.apply(settings()).local


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_a_file_that_other_users_can_read_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved()
    key_file().chmod(0o640)
    login = Login()
    login.load()
    assert login.apply(settings()).local
    (record,) = caplog.records
    assert str(key_file()) in record.getMessage()
    assert TYPED not in caplog.text


def test_forget_deletes_the_file_and_returns_its_path_or_none(tmp_path: Path) -> None:
    login = saved()
    assert login.forget() == key_file()
    assert not key_file().exists()
    assert login.forget() is None


def test_a_file_that_cannot_be_written_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    login = Login()
    login.set_typed_key(TYPED, URL)
    with pytest.raises(UsageError, match="cannot write") as caught:
        login.save(login.apply(settings()))
    assert TYPED not in str(caught.value)
    with pytest.raises(UsageError, match="cannot delete"):
        login.forget()


@pytest.mark.filterwarnings("ignore")
def test_there_is_no_prompt_where_the_input_would_be_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, `getpass` reads the input with echo, after a warning."""

    def without_terminal(prompt: str) -> str:
        warnings.warn("Can not control echo on the terminal.", getpass.GetPassWarning, stacklevel=2)
        return TYPED

    monkeypatch.setattr(getpass, "getpass", without_terminal)
    with pytest.raises(UsageError, match="cannot prompt for input"):
        ask_key()
