"""How one destination is spoken to: which requests make up its protocol, and what its answers are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from hh_jupyter.delivery import api
from hh_jupyter.delivery.sending.item import Item
from hh_jupyter.delivery.sending.target import Target, target
from hh_jupyter.delivery.sending.verdict import API_KEY
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS: Final = 5.0
"""Longest wait for a connection; an answer may take longer."""

CALLS: Final = {
    "session_start": api.SESSION_START,
    "event_update": api.EVENT_UPDATE,
    "event_create": api.EVENT_CREATE,
}


class Request(NamedTuple):
    """One request, ready to go.

    Attributes:
        timeout: longest wait for the answer in seconds.
        certificate: file of the authorities to trust; None: as the session decides.
    """

    method: str
    url: str
    body: bytes
    headers: dict[str, str]
    timeout: float
    certificate: str | None = None

    def send(self, session: requests.Session) -> requests.Response:
        """Send it and read the answer.

        Raises:
            requests.RequestException: no answer.
        """
        from hh_jupyter.delivery.sending.connection import keep_credential

        return session.request(
            self.method,
            self.url,
            data=self.body,
            headers=self.headers,
            timeout=(min(CONNECT_SECONDS, self.timeout), self.timeout),
            allow_redirects=False,  # The key goes to the configured host only.
            auth=keep_credential,
            verify=self.certificate,
        )


class Endpoint(Protocol):
    """Makes the requests of one destination.

    Attributes:
        credential: what the user can correct if the key is refused.
    """

    credential: str

    def request(self, items: Sequence[Item], bodies: Sequence[bytes]) -> Request:
        """The request that carries these items; several are always spans."""

    def target(self) -> Target:
        """Where spans go."""


class HoneyHive:
    """The backend's own protocol (contract, section 1).

    Args:
        settings: address, key, encoding, timeouts.
    """

    credential = API_KEY

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def request(self, items: Sequence[Item], bodies: Sequence[bytes]) -> Request:
        """A span export, or one call."""
        settings = self._settings
        if items[0].kind != "spans":
            method, path = CALLS[items[0].kind]
            headers = {**api.headers(settings), **api.call_headers()}
            return Request(method, settings.server_url + path, bodies[0], headers, settings.api_timeout)
        from gzip import compress

        from hh_jupyter.delivery.sending import connection

        as_json = settings.otlp_protocol == "http/json"
        headers = {**connection.trace_headers(settings), **api.body_headers(as_json=as_json)}
        body = compress(encoded(bodies, as_json=as_json), compresslevel=1)
        return Request("POST", connection.trace_url(settings), body, headers, settings.export_timeout)

    def target(self) -> Target:
        """Where spans go."""
        from hh_jupyter.delivery.sending import connection

        return target(connection.trace_url(self._settings), connection.trace_headers(self._settings))


def encoded(bodies: Sequence[bytes], *, as_json: bool) -> bytes:
    """One OTLP body with the spans of all of them."""
    from hh_jupyter.delivery.sealing import otlp

    body = otlp.join(bodies)
    return otlp.to_json(body) if as_json else body
