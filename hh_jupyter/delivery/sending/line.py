"""The persistent connection of one sender thread; turns the outcome of each request into a verdict."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from hh_jupyter.delivery.sending.endpoint import Endpoint
from hh_jupyter.delivery.sending.item import Item
from hh_jupyter.delivery.sending.verdict import Verdict, judge, stranger
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    import requests

SHORTEST_SECONDS: Final = 0.05
"""Minimum timeout of a request, even if the deadline is closer."""


class Line:
    """The persistent connection of one thread.

    Args:
        begins: called when the connection is ready and the request is about to be sent.
        until: deadline of all requests, on the `time.monotonic` clock.
    """

    def __init__(self, begins: Callable[[], None], until: float = math.inf) -> None:
        self._begins, self._until = begins, until
        self._session: requests.Session | None = None
        self._opened_for: Settings | None = None

    def attempt(
        self, settings: Settings, endpoint: Endpoint, items: Sequence[Item], bodies: Sequence[bytes]
    ) -> Verdict:
        """Send these items in one request and return the verdict."""
        import requests  # Lazy: it takes longer to import than the whole tracer.

        from hh_jupyter.delivery.sending.connection import host_of

        request = endpoint.request(items, bodies)
        if self._until < math.inf:
            left = max(SHORTEST_SECONDS, self._until - time.monotonic())
            request = request._replace(timeout=min(request.timeout, left))
        host = host_of(request.url)
        try:
            session = self._connected(settings)
            self._begins()
            answer = request.send(session)
            return judge(answer, host, items[0].kind, items[0].session_id, endpoint.credential)
        except requests.Timeout:
            return Verdict("retry", f"{host} did not respond in time", reached=False, timed_out=True)
        except requests.exceptions.SSLError:
            return Verdict("retry", f"the certificate of {host} is not accepted", reached=False)
        except requests.exceptions.ProxyError:
            return Verdict("retry", f"the proxy to {host} cannot be reached", reached=False)
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            return Verdict("retry", f"{host} cannot be reached", reached=False)
        except requests.exceptions.ContentDecodingError:
            return stranger(host)
        except requests.RequestException as error:
            return Verdict("parked", f"the request could not be made, {type(error).__name__}")

    def _connected(self, settings: Settings) -> requests.Session:
        from hh_jupyter.delivery.sending import connection

        if self._session is None or self._opened_for is not settings:
            self.close()
            self._session, self._opened_for = connection.open_session(settings), settings
        return self._session

    def close(self) -> None:
        """Close the connection, unless the caller supplied it."""
        if self._session is not None and self._opened_for is not None:
            from hh_jupyter.delivery.sending import connection

            connection.close_session(self._session, self._opened_for)
        self._session = None
