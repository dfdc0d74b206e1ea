"""The kept connection of one sending thread, and what became of each request on it."""

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
"""What a request gets at least, whatever is left."""


class Line:
    """The kept connection of one thread.

    Args:
        begins: called when a request goes out, its connection being ready.
        until: requests give up by then, on the clock of `time.monotonic`.
    """

    def __init__(self, begins: Callable[[], None], until: float = math.inf) -> None:
        self._begins, self._until = begins, until
        self._session: requests.Session | None = None
        self._opened_for: Settings | None = None

    def attempt(
        self, settings: Settings, endpoint: Endpoint, items: Sequence[Item], bodies: Sequence[bytes]
    ) -> Verdict:
        """Send these items in one request."""
        import requests  # Only here, on these threads: it costs more to import than all of the tracer.

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
        """Close the connection, unless it is the caller's own."""
        if self._session is not None and self._opened_for is not None:
            from hh_jupyter.delivery.sending import connection

            connection.close_session(self._session, self._opened_for)
        self._session = None
