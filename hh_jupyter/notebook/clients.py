"""Finds the user's client of a provider's API in this kernel."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from hh_jupyter.display.call_code import RecordedRequest

NAMELESS: Final = "client"
"""The name in code of a client that no variable holds."""


class Client(NamedTuple):
    """A client of the user's.

    Attributes:
        client: the object.
        variable: name of the variable that holds it; None if none does.
    """

    client: Any
    variable: str | None

    @property
    def name(self) -> str:
        """Its name in code."""
        return self.variable or NAMELESS

    @property
    def text(self) -> str:
        """By what a call is sent, and where to."""
        host = _host(self.client)
        holder = self.variable or f"a client of this kernel ({type(self.client).__name__})"
        return f"Sent by {holder}{f' to {host}' if host else ''}."


def find_client(request: RecordedRequest, server: Any, variables: Mapping[str, Any]) -> Client | None:
    """Return the client to use for a request; None if there is none.

    One of the given server is preferred, then one that a variable holds, then a synchronous one. Others are found
    among all objects, such as those inside a framework's model. No code of other objects runs: only their types are
    read.

    Args:
        request: the request.
        server: host name of the server; None if it is not known.
        variables: the user's variables.
    """
    kinds: dict[type, str | None] = {}

    def rank(one: Client) -> tuple[bool, bool, bool]:
        return server not in (None, _host(one.client)), one.variable is None, kinds[type(one.client)] != "sync"

    def usable(value: Any) -> bool:
        kind = type(value)
        if kind not in kinds:
            kinds[kind] = request.client_kind(kind)
        return kinds[kind] is not None and _is_open(value)

    named = [(name, value) for name, value in variables.items() if name.isidentifier() and name[0] != "_"]
    found = [Client(value, name) for name, value in named if usable(value)]
    if not any(not rank(one)[0] for one in found):
        found += [Client(one, None) for one in reversed(gc.get_objects()) if usable(one)]
    return min(found, key=rank, default=None)


def _is_open(client: Any) -> bool:
    """Whether a client can be used: closed ones are not, whose `with` block has ended."""
    try:
        return not client.is_closed()
    except Exception:  # boundary: not every client says so
        return True


def _host(client: Any) -> str:
    """Return the host that a client sends to; empty if it does not say. The rest of an address may hold a key."""
    try:
        return urlsplit(str(client.base_url)).hostname or ""
    except Exception:  # boundary: a client may have anything as its address
        return ""
