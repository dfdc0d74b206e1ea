"""Addresses, headers and the HTTP session of requests, derived from the settings.

Only sender threads and read requests import this module, because `requests` takes longer to import than the tracer.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import InsecureRequestWarning

from hh_jupyter.delivery import api
from hh_jupyter.delivery.sealing.otlp import TRACES_PATH
from hh_jupyter.settings import Settings

logger = logging.getLogger(__name__)

OTLP_PATH: Final = "/v1/traces"
"""Default path of OTLP over HTTP, used if the endpoint has no path."""

_told: dict[str, object] = {}
"""Hosts for which the unverified-certificate warning was logged, each with a token of the session that logged it."""


def trace_url(settings: Settings) -> str:
    """Return the URL that spans are posted to."""
    if settings.otlp_endpoint is None:
        return settings.server_url + TRACES_PATH
    return settings.otlp_endpoint + ("" if urlsplit(settings.otlp_endpoint).path else OTLP_PATH)


def host_of(url: str) -> str:
    """Return the host and port of a URL for use in messages, without credentials."""
    return urlsplit(url).netloc.rpartition("@")[2]


def trace_headers(settings: Settings) -> dict[str, str]:
    """Return the headers of a span export, without those that describe its body.

    The key is sent only to the origin of `server_url`. Any other origin gets `otlp_headers` and nothing else.
    """
    own: dict[str, str] = {}
    if _origin(trace_url(settings)) == _origin(settings.server_url):
        own = api.headers(settings)
        if settings.source:
            own["X-Source"] = settings.source if _fits_a_header(settings.source) else quote(settings.source)
    given = dict(settings.otlp_headers or {})
    replaced = {name.lower() for name in given}
    return {name: text for name, text in own.items() if name.lower() not in replaced} | given


def open_session(settings: Settings) -> requests.Session:
    """Return the HTTP session for all requests: the caller's own, unchanged, or a new one made from the settings."""
    if settings.requests_session is not None:
        return settings.requests_session  # type: ignore[no-any-return]
    session = requests.Session()
    session.proxies.update(_proxies(settings))
    if not settings.verify_ssl:
        session.mount("https://", _UncheckedAdapter())
        for host in {urlsplit(url).hostname or "" for url in _addresses(settings)}:
            mine = object()
            if _told.setdefault(host, mine) is mine:  # Atomic: threads connect concurrently.
                logger.warning("the certificate of %s is not checked (%s)", host, settings.origins.get("verify_ssl"))
            message = f"Unverified HTTPS request is being made to host '{re.escape(host)}'"
            warnings.filterwarnings("ignore", message, InsecureRequestWarning)  # Logged above, once.
    return session


def close_session(session: requests.Session | None, settings: Settings) -> None:
    """Close a session made by `open_session`. A session supplied by the caller stays open."""
    if session is not None and session is not settings.requests_session:
        session.close()


def keep_credential(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Return the request unchanged. Without an `auth`, requests lets ~/.netrc replace the Authorization header."""
    return request


class _UncheckedAdapter(HTTPAdapter):
    """Disables certificate verification. `REQUESTS_CA_BUNDLE` would override `Session.verify = False`."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["verify"] = False
        return super().send(request, *args, **kwargs)


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


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _fits_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip()
