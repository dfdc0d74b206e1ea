"""Where requests go and how: addresses, headers and the HTTP session, all from the settings.

Imported by the threads that send, and by questions: it brings `requests`, which costs more to import than the tracer.
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
"""Path of OTLP over HTTP, for an endpoint that names none."""

_told: dict[str, object] = {}
"""Hosts whose certificate was said to be unchecked, and a mark of who said so."""


def trace_url(settings: Settings) -> str:
    """The address that spans are posted to."""
    if settings.otlp_endpoint is None:
        return settings.server_url + TRACES_PATH
    return settings.otlp_endpoint + ("" if urlsplit(settings.otlp_endpoint).path else OTLP_PATH)


def host_of(url: str) -> str:
    """Host and port of an address, as messages name it: without a password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def trace_headers(settings: Settings) -> dict[str, str]:
    """Headers of a request with spans, apart from those about its body.

    The key is for the host of `server_url` only: another one gets what `otlp_headers` says and nothing else.
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
    """The session to send and to ask with: the caller's own as it is, else one made from the settings."""
    if settings.requests_session is not None:
        return settings.requests_session  # type: ignore[no-any-return]
    session = requests.Session()
    session.proxies.update(_proxies(settings))
    if not settings.verify_ssl:
        session.mount("https://", _UncheckedAdapter())
        for host in {urlsplit(url).hostname or "" for url in _addresses(settings)}:
            mine = object()
            if _told.setdefault(host, mine) is mine:  # In one step: threads connect at the same time.
                logger.warning("the certificate of %s is not checked (%s)", host, settings.origins.get("verify_ssl"))
            message = f"Unverified HTTPS request is being made to host '{re.escape(host)}'"
            warnings.filterwarnings("ignore", message, InsecureRequestWarning)  # Said above, once.
    return session


def close_session(session: requests.Session | None, settings: Settings) -> None:
    """Close what `open_session` made; the caller's own stays open."""
    if session is not None and session is not settings.requests_session:
        session.close()


def keep_credential(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """An `auth` that changes nothing: without one, requests lets ~/.netrc replace the Authorization header."""
    return request


class _UncheckedAdapter(HTTPAdapter):
    """Checks no certificate. `Session.verify = False` would be overruled by `REQUESTS_CA_BUNDLE`."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["verify"] = False
        return super().send(request, *args, **kwargs)


def _addresses(settings: Settings) -> Iterator[str]:
    yield settings.server_url
    yield trace_url(settings)


def _proxies(settings: Settings) -> Mapping[str, str]:
    """Proxy by address, in the form that requests prefers to the standard variables; empty text means none.

    An address without an entry here has the proxy of the standard variables.
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
    """Whether a list as in `NO_PROXY` names the address: by host, domain, host and port, or `*` for all."""
    host = urlsplit(url).hostname or ""
    names = [entry.strip().lower().removeprefix("*").removeprefix(".") for entry in hosts.split(",") if entry.strip()]
    return any(name in ("", host, host_of(url).lower()) or host.endswith(f".{name}") for name in names)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _fits_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip()
