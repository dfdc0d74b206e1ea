"""Builds the requests of one destination's protocol and sends them."""

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
"""Connection timeout. The timeout for the answer may be longer."""

CALLS: Final = {
    "session_start": api.SESSION_START,
    "event_update": api.EVENT_UPDATE,
    "event_create": api.EVENT_CREATE,
}


class Request(NamedTuple):
    """A request that is ready to send.

    Attributes:
        timeout: timeout for the answer, in seconds.
        certificate: CA bundle file; None uses the setting of the HTTP session.
    """

    method: str
    url: str
    body: bytes
    headers: dict[str, str]
    timeout: float
    certificate: str | None = None

    def send(self, session: requests.Session) -> requests.Response:
        """Send the request and return the answer.

        Raises:
            requests.RequestException: if there is no answer.
        """
        from hh_jupyter.delivery.sending.connection import keep_credential

        return session.request(
            self.method,
            self.url,
            data=self.body,
            headers=self.headers,
            timeout=(min(CONNECT_SECONDS, self.timeout), self.timeout),
            allow_redirects=False,  # The key must only be sent to the configured host.
            auth=keep_credential,
            verify=self.certificate,
        )


class Endpoint(Protocol):
    """Builds the requests of one destination.

    Attributes:
        credential: name of the setting to correct if the key is refused.
    """

    credential: str

    def request(self, items: Sequence[Item], bodies: Sequence[bytes]) -> Request:
        """Return the request for these items. Multiple items are always spans."""

    def target(self) -> Target:
        """Return the target that spans are sent to."""


class HoneyHive:
    """The protocol of the HoneyHive backend (tests/contract/README.md, section 1).

    Args:
        settings: provides the address, key, encoding and timeouts.
    """

    credential = API_KEY

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def request(self, items: Sequence[Item], bodies: Sequence[bytes]) -> Request:
        """Return a span export or a call."""
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
        """Return the target that spans are sent to."""
        from hh_jupyter.delivery.sending import connection

        return target(connection.trace_url(self._settings), connection.trace_headers(self._settings))


def encoded(bodies: Sequence[bytes], *, as_json: bool) -> bytes:
    """Join the spans of all bodies into one OTLP body."""
    from hh_jupyter.delivery.sealing import otlp

    body = otlp.join(bodies)
    return otlp.to_json(body) if as_json else body
