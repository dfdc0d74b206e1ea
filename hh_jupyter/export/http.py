"""HTTP: connections to an endpoint, and what a response means.

`requests`, which takes longer to import than the whole tracer, is loaded with the first connection.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from hh_jupyter.export.endpoint import API_KEY, CONNECT_SECONDS, Endpoint, host_of, trace_url
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    import requests

    from hh_jupyter.export.model import Kind

logger = logging.getLogger(__name__)

# Connections

_warned_hosts: dict[str, object] = {}
"""Hosts whose unchecked certificate was logged, each with a token of the session that logged it."""


def open_session(settings: Settings) -> requests.Session:
    """Return the HTTP session for all requests: the caller's own, unchanged, or a new one made from the settings."""
    if settings.requests_session is not None:
        return settings.requests_session  # type: ignore[no-any-return]
    import requests

    session = requests.Session()
    session.proxies.update(_proxies(settings))
    if not settings.verify_ssl:
        _accept_any_certificate(session, settings)
    return session


def close_session(session: requests.Session | None, settings: Settings) -> None:
    """Close a session made by `open_session`. A session supplied by the caller stays open."""
    if session is not None and session is not settings.requests_session:
        session.close()


def keep_credential(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Return the request unchanged. Without an `auth`, requests lets ~/.netrc replace the Authorization header."""
    return request


def _accept_any_certificate(session: requests.Session, settings: Settings) -> None:
    import warnings

    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import InsecureRequestWarning

    class UncheckedAdapter(HTTPAdapter):
        """Disables certificate checks. `REQUESTS_CA_BUNDLE` would override `Session.verify = False`."""

        def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
            kwargs["verify"] = False
            return super().send(request, *args, **kwargs)

    session.mount("https://", UncheckedAdapter())
    for host in {urlsplit(url).hostname or "" for url in _addresses(settings)}:
        mine = object()
        if _warned_hosts.setdefault(host, mine) is mine:  # Atomic: threads connect concurrently.
            logger.warning("the certificate of %s is not checked (%s)", host, settings.origins.get("verify_ssl"))
        message = f"Unverified HTTPS request is being made to host '{re.escape(host)}'"
        warnings.filterwarnings("ignore", message, InsecureRequestWarning)  # Logged above, once.


def _addresses(settings: Settings) -> Iterator[str]:
    yield settings.server_url
    yield trace_url(settings)


def _proxies(settings: Settings) -> Mapping[str, str]:
    """Return proxies by address, in the form that takes precedence over the standard variables in requests.

    An empty string means no proxy. An address without an entry uses the proxy from the standard variables.
    """
    found: dict[str, str] = {}
    for url in _addresses(settings):
        parts = urlsplit(url)
        if _is_listed(url, settings.no_proxy or ""):
            found[f"{parts.scheme}://{parts.hostname}"] = ""
        elif proxy := settings.https_proxy if parts.scheme == "https" else settings.http_proxy:
            found[f"{parts.scheme}://{parts.hostname}"] = proxy
    return found


def _is_listed(url: str, hosts: str) -> bool:
    """Return whether a `NO_PROXY` list matches the address: by host, domain, host and port, or `*` for all."""
    host = urlsplit(url).hostname or ""
    names = [entry.strip().lower().removeprefix("*").removeprefix(".") for entry in hosts.split(",") if entry.strip()]
    return any(name in ("", host, host_of(url).lower()) or host.endswith(f".{name}") for name in names)


class Connection:
    """The persistent connection of one thread to one endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._session: requests.Session | None = None
        self._opened_for: Settings | None = None

    def post(
        self,
        settings: Settings,
        kind: str,
        session_id: str,
        bodies: Sequence[bytes],
        begin: Callable[[], None],
        *,
        seconds: float = math.inf,
    ) -> Result:
        """Send these bodies in one request and return the result.

        Args:
            begin: called when the connection is ready and the request is about to be sent.
            seconds: limit of both timeouts.
        """
        import requests

        request = self._endpoint.request(settings, kind, bodies)
        host = host_of(request.url)
        try:
            session = self._connected(settings)
            begin()
            response = session.request(
                request.method,
                request.url,
                data=request.body,
                headers=request.headers,
                timeout=(min(CONNECT_SECONDS, request.timeout, seconds), min(request.timeout, seconds)),
                allow_redirects=False,  # The key must only be sent to the configured host.
                auth=keep_credential,
                verify=request.certificate,
            )
            return result_of(response, host, kind, session_id, self._endpoint.credential)
        except requests.Timeout:
            return Result("retry", f"{host} did not respond in time", reached=False, timed_out=True)
        except requests.exceptions.SSLError:
            return Result("retry", f"the certificate of {host} is not accepted", reached=False)
        except requests.exceptions.ProxyError:
            return Result("retry", f"the proxy to {host} cannot be reached", reached=False)
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            return Result("retry", f"{host} cannot be reached", reached=False)
        except requests.exceptions.ContentDecodingError:
            return _unexpected(host)
        except requests.RequestException as error:
            return Result("rejected", f"the request could not be made, {type(error).__name__}")

    def _connected(self, settings: Settings) -> requests.Session:
        if self._session is None or self._opened_for is not settings:
            self.close()
            self._session, self._opened_for = open_session(settings), settings
        return self._session

    def close(self) -> None:
        """Close the connection, unless the caller supplied it."""
        if self._opened_for is not None:
            close_session(self._session, self._opened_for)
        self._session = None


# What a response means

RETRY: Final = frozenset({408, 429})
KEY_CODES: Final = frozenset({401, 403})
KEY_REJECTED: Final = "rejected the key"
"""Part of every reason for a rejected key, so that displays can recognize it and suggest a fix."""
MAY_BE_ONE_SPAN: Final = frozenset({400, 413, 422})
"""Rejections that may concern a single span or the size of the request."""

LONGEST_PAUSE: Final = 600.0
"""Upper limit for `Retry-After`, in seconds."""

Outcome = Literal["sent", "retry", "rejected", "key_rejected", "split"]


class Result(NamedTuple):
    """What a response, or no response, means for the rows of a request.

    Attributes:
        outcome: sent; retry; rejected (kept, not retried); key_rejected (nothing is sent until there is another key);
            split (retry with fewer spans).
        reason: what went wrong, in one sentence.
        reached: the backend itself answered.
        timed_out: the request timed out.
        server_error: the backend answered with 5xx, possibly because of this batch only.
        too_large: the backend answered with 413.
        retry_after: pause that the backend asked for, in seconds.
        rejected: number of spans rejected in an accepted request.
        other_session: session id that the backend returned instead of the requested one.
    """

    outcome: Outcome
    reason: str | None = None
    reached: bool = True
    timed_out: bool = False
    server_error: bool = False
    too_large: bool = False
    retry_after: float | None = None
    rejected: int = 0
    other_session: str | None = None


def result_of(
    response: requests.Response, host: str, kind: Kind | str, session_id: str, credential: str = API_KEY
) -> Result:
    """Return what a response means. A 2xx is a success only if its body is empty or has the expected form.

    Args:
        host: host of the backend, for the reason.
        session_id: session id requested by a session start.
        credential: name of the setting to correct if the key is rejected.
    """
    code = response.status_code
    if 200 <= code < 300:
        return _of_spans(response, host) if kind == "spans" else _of_document(response, host, kind, session_id)
    if code in RETRY or code >= 500:
        pause = retry_after(response.headers.get("Retry-After", "")) if code in (429, 503) else None
        return Result("retry", f"{host} answered {code}", server_error=code >= 500 and pause is None, retry_after=pause)
    if code in KEY_CODES:
        then = f"Set a valid {credential}; pending spans are kept and will be sent with it."
        return Result("key_rejected", f"{host} {KEY_REJECTED} ({code}). {then}")
    outcome: Outcome = "split" if kind == "spans" and code in MAY_BE_ONE_SPAN else "rejected"
    return Result(outcome, f"{host} refused the request ({code})", too_large=code == 413)


def retry_after(text: str) -> float | None:
    """Return the delay of a `Retry-After` header in seconds. Accepts seconds or an HTTP date; None if invalid."""
    from email.utils import parsedate_to_datetime

    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:6]), LONGEST_PAUSE)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, moment - time.time()), LONGEST_PAUSE)


def _unexpected(host: str) -> Result:
    """Return the result of a response that does not come from a backend, such as a captive portal or proxy page."""
    text = f"{host} returned an unexpected response (is a proxy or login page in between?)"
    return Result("retry", text, reached=False)


def _of_spans(response: requests.Response, host: str) -> Result:
    from hh_jupyter.export import otlp

    found = otlp.partial_success(response.headers.get("Content-Type", ""), response.content)
    if found is None:
        return _unexpected(host)
    rejected, message = found
    if rejected <= 0:
        return Result("sent")
    detail = f" ({message:.200})" if message else ""
    text = f"{host} refused {rejected} spans of one request{detail}, without naming them"
    return Result("sent", text, rejected=rejected)


def _of_document(response: requests.Response, host: str, kind: str, session_id: str) -> Result:
    if not response.content:
        return Result("sent")
    try:
        found: Any = json.loads(response.content)
    except (ValueError, RecursionError):
        return _unexpected(host)
    if kind != "session_start":
        return Result("sent")
    if not isinstance(found, dict):
        return _unexpected(host)
    other = found.get("session_id")
    # Bodies are patched in place, so the new id must have the same length. Backend ids are UUIDs.
    differs = isinstance(other, str) and other != session_id and len(other) == len(session_id) and other.isascii()
    return Result("sent", other_session=other if differs else None)
