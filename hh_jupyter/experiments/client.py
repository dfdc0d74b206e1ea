"""Which backend to ask about runs: `HoneyHive`, under the name that programs for the official client use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hh_jupyter import settings as settings_table
from hh_jupyter.errors import SettingError, SettingTypeError
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.default import current_tracer

if TYPE_CHECKING:
    from hh_jupyter.delivery.spool.store import Spool


class HoneyHive:
    """An address and a key for `get_run_result` and `compare_runs`. It opens no connection.

    The official client's class of this name is its whole REST interface; here it stands for the two arguments that
    those functions need, so that programs which pass one go on working.

    Args:
        api_key: default: HH_API_KEY.
        server_url: default: HH_API_URL.
        base_url: another name of `server_url`.

    Raises:
        SettingError: there is no key, or the address is none.
    """

    def __init__(self, api_key: str | None = None, *, server_url: str | None = None, base_url: str | None = None):
        given = {"api_key": api_key, "server_url": server_url or base_url}
        self.settings: Settings = settings_table.resolve(given, called="HoneyHive")
        if self.settings.api_key is None:
            raise SettingError("HoneyHive: api_key is needed, also as HH_API_KEY.")

    def __repr__(self) -> str:
        return f"<HoneyHive at {self.settings.server_url}>"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"HoneyHive.{name}: the REST interface is not part of this package; it is the honeyhive package's. "
            "Here a HoneyHive is the first argument of get_run_result and compare_runs."
        )


def asked(
    called: str,
    client: HoneyHive | str | None,
    run_ids: tuple[str | None, ...],
    *,
    api_key: str | None,
    server_url: str | None,
) -> tuple[Settings, tuple[str, ...]]:
    """Whom to ask about which runs.

    Args:
        called: the public function, for errors.
        client: what stood first: a HoneyHive, or the first run's id, which then moves the others by one.
        run_ids: as many as the function needs.

    Raises:
        SettingTypeError: too few ids or too many.
        SettingError: there is no API key, or a setting forbids to ask anybody.
    """
    given = run_ids if client is None or isinstance(client, HoneyHive) else (str(client), *run_ids)
    ids = [item for item in given if item]
    if len(ids) != len(run_ids):
        needed = "the run's id" if len(run_ids) == 1 else f"{len(run_ids)} ids of runs"
        from hh_jupyter.redaction import shown  # Its rules cost more to compile than a tracer to make.

        got = ", ".join(shown("run_id", item, 60) for item in given)
        raise SettingTypeError(f"{called}: give {needed}, after a HoneyHive client if you have one; got {got}.")
    settings = _settings(called, client if isinstance(client, HoneyHive) else None, api_key, server_url)
    for switch in ("test_mode", "disable_tracing"):
        if getattr(settings, switch):
            origin = settings.origins.get(switch, "default")
            raise SettingError(
                f"{called}: {switch} is on ({origin}), so that no backend is asked. A run is read there."
            )
    if settings.api_key is None:
        raise SettingError(f"{called}: api_key is needed to read a run, also as HH_API_KEY.")
    return settings, tuple(ids)


def local_spool() -> Spool | None:
    """Where the current tracer keeps what was made in local mode; None without one."""
    found = current_tracer()
    return None if found is None else found.spool


def _settings(called: str, client: HoneyHive | None, api_key: str | None, server_url: str | None) -> Settings:
    """The client's, else what was given, else the current tracer's, else the environment's."""
    if client is not None:
        return client.settings
    found = current_tracer()
    if api_key is None and server_url is None and found is not None:
        return found.settings
    return settings_table.resolve({"api_key": api_key, "server_url": server_url}, called=called)
