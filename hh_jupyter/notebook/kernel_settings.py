"""The settings of the kernel's tracer: what `init` was given, `%config`, magics, logins, and the environment."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Final

from hh_jupyter.notebook.config import HHJupyter
from hh_jupyter.notebook.memory import Memory
from hh_jupyter.settings import TABLE, Settings, resolve
from hh_jupyter.tracing.tracer import HoneyHiveTracer

_ADDRESS: Final = ("api_key", "ingestion_api_key", "server_url", "test_mode")
_ENCODED: Final = tuple(os.environ.encodekey(variable) for row in TABLE.values() for variable in row.env)


class KernelSettings:
    """Makes them from their sources, and applies them when one of these changes.

    Args:
        config: the traits.
        memory: what was chosen in this kernel before.

    Attributes:
        tracer: the kernel's; whoever makes it sets it.
    """

    tracer: HoneyHiveTracer

    def __init__(self, config: HHJupyter, memory: Memory) -> None:
        self._config, self._memory, self._login = config, memory, memory.login
        self._seen = (_environ(), config.given())
        self._initialised = bool(memory.arguments)

    def first(self) -> Settings:
        """Those to make a tracer with."""
        self._login.load()
        return self._of(self._memory.arguments)

    def _of(self, arguments: dict[str, Any], called: str = "hh_jupyter") -> Settings:
        settings = self._login.applied_to(resolve(arguments, traits=self._config.given(), called=called))
        settings = dataclasses.replace(settings, origins=self._config.exact(settings.origins))
        # A kernel is killed more often than it ends: here what waits is kept on disk unless somebody says no.
        return settings if settings.spool is not None else dataclasses.replace(settings, spool=True)

    def _arguments(self) -> dict[str, Any]:
        """What `init` was given in this kernel; it stays in force over traits and environment."""
        now = self.tracer.settings
        return {name: getattr(now, name) for name, origin in now.origins.items() if origin == "argument"}

    def remember(self) -> None:
        """Note what was chosen, for the next load."""
        self._memory.arguments = self._arguments()
        self._memory.traits = self._config.chosen()

    def adopt(self, arguments: dict[str, Any]) -> HoneyHiveTracer | None:
        """`HoneyHiveTracer.init(...)` in this kernel: its settings are the kernel's tracer's from now on.

        None for a second call that names another key or address: that is a tracer of its own.
        """
        if not any(arguments.get(name) is not None for name in _ADDRESS):
            arguments = {**self._arguments(), **arguments}
        settings = self._of(arguments, called="HoneyHiveTracer.init")
        now = self.tracer.settings
        same = (settings.sending_key, settings.server_url) == (now.sending_key, now.server_url)
        # A key that was wrong, or came late, is corrected; one that was in use is another tracer's business.
        in_use = self._initialised and self.tracer.export_state().sent > 0
        if self.tracer.closed or (in_use and not same):
            return None
        self._initialised = True
        self.tracer.configure(settings)
        self.tracer.span_source.become_global()
        return self.tracer

    def set_trait(self, name: str, value: Any) -> None:
        """Set one by a magic: it beats what `init` was given before."""
        self._config.set(name, value)
        self.apply_changes(chosen=name)

    def log_in(self, key: str) -> None:
        """Use a key that was typed: it beats that of `init`, too."""
        self._login.take(key, self.tracer.settings.server_url)
        arguments = self._arguments()
        arguments.pop("api_key", None)
        self.tracer.configure(self._of(arguments))

    def apply_changes(self, chosen: str | None = None) -> None:
        """Apply traits and `HH_*` variables that changed since the last cell to the tracer.

        Compared instead of observed: setting a trait to its default is no change, and yet beats a variable.

        Args:
            chosen: a setting that was given just now.
        """
        seen = (_environ(), self._config.given())
        if seen == self._seen and chosen is None:
            return
        self._seen = seen
        arguments = self._arguments()
        arguments.pop(chosen or "", None)
        self.tracer.configure(self._of(arguments))


def _environ() -> tuple[object, ...]:
    """The variables of the settings as they stand in the environment, only to be compared.

    Read before every cell. `os.environ.get` encodes the name and catches an error for each that is not set: 90 us for
    all of them, against 3 us from the dict behind it [measured].
    """
    return tuple(map(os.environ._data.get, _ENCODED))  # type: ignore[attr-defined]
