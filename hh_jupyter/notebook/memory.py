"""What was chosen in a kernel stays from one load of the extension to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from hh_jupyter.notebook.login import Login
from hh_jupyter.notebook.sessions import Made


@dataclass(slots=True)
class Memory:
    """`%reload_ext` brings new code, and is no reason to ask for a key again.

    Attributes:
        login: the keys that were typed.
        arguments: what `HoneyHiveTracer.init` was given.
        traits: those that were set while the kernel ran.
        made: the sessions that were made, of which there are still spans to show.
    """

    login: Login = field(default_factory=Login)
    arguments: dict[str, Any] = field(default_factory=dict)
    traits: dict[str, Any] = field(default_factory=dict)
    made: Made = field(default_factory=Made)


_of_shell: WeakKeyDictionary[Any, Memory] = WeakKeyDictionary()


def memory_of(shell: Any) -> Memory:
    """The memory of the kernel with this shell."""
    return _of_shell.setdefault(shell, Memory())
