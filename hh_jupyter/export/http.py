"""HTTP: documents, addresses and headers of requests, connections, and what a response means.

`requests`, which takes longer to import than the whole tracer, is loaded with the first connection.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol
from urllib.parse import quote, unquote, urlsplit

from hh_jupyter.settings import Settings
from hh_jupyter.version import VERSION

if TYPE_CHECKING:
    import requests

    from hh_jupyter.export.model import Kind

logger = logging.getLogger(__name__)

# Documents of requests other than spans (tests/contract/README.md, sections 1 and 6).

PATHS: Final[Mapping[str, tuple[str, str]]] = {
    "session_start": ("POST", "/session/start"),
    "event_update": ("PUT", "/events"),
    "event_create": ("POST", "/events"),
}


def session_start(
    *,
    session_id: str,
    name: str,
    source: str | None,
    project: str | None,
    inputs: Mapping[str, Any] | None = None,
    session_metadata: Mapping[str, Any] | None = None,
    user_properties: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the document of `POST /session/start`, without the fields that have no value."""
    session = {
        "session_name": name,
        "source": source or None,
        "project": project,
        "session_id": session_id,
        "inputs": inputs,
        "metadata": session_metadata or None,
        "user_properties": user_properties or None,
    }
    return {"session": {key: value for key, value in session.items() if value is not None}}


def event_update(event_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of `PUT /events`. To update a session, pass its id as the event id."""
    return {"event_id": event_id, **fields}


def event_create(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of `POST /events`, without the fields that are None."""
    return {"event": {key: value for key, value in event.items() if value is not None}}


def encode(document: Mapping[str, Any]) -> bytes:
    """Encode a document as JSON."""
    return json.dumps(document, default=str).encode()


# Addresses and headers

TRACES_PATH: Final = "/opentelemetry/v1/traces"
OTLP_PATH: Final = "/v1/traces"
"""Path of OTLP over HTTP, used if the endpoint has none."""


def trace_url(settings: Settings) -> str:
    """Return the URL that spans are posted to."""
    if settings.otlp_endpoint is None:
        return settings.server_url + TRACES_PATH
    return settings.otlp_endpoint + ("" if urlsplit(settings.otlp_endpoint).path else OTLP_PATH)


def host_of(url: str) -> str:
    """Return the host and port of a URL for use in messages, without credentials."""
    return urlsplit(url).netloc.rpartition("@")[2]


def client_headers(settings: Settings) -> dict[str, str]:
    """Return the headers of every request: the credential and the client's name and version."""
    return {
        "Authorization": f"Bearer {settings.sending_key}",
        "Accept": "application/json",
        "hh-client-version": VERSION,
        "hh-client-language": "python",
        "hh-client-package": "hh_jupyter",
    }


def document_headers() -> dict[str, str]:
    """Return the additional headers of a request with a document; the timestamp is in Unix nanoseconds."""
    return {"Content-Type": "application/json", "hh-client-timestamp": str(time.time_ns())}


def trace_headers(settings: Settings) -> dict[str, str]:
    """Return the headers of a span export, without those that describe its body.

    The key is sent only to the origin of `server_url`. Any other origin gets `otlp_headers` and nothing else.
    """
    own: dict[str, str] = {}
    if _origin(trace_url(settings)) == _origin(settings.server_url):
        own = client_headers(settings)
        if settings.source:
            own["X-Source"] = settings.source if _fits_a_header(settings.source) else quote(settings.source)
    given = dict(settings.otlp_headers or {})
    replaced = {name.lower() for name in given}
    return {name: text for name, text in own.items() if name.lower() not in replaced} | given


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _fits_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip()


class SpanTarget(NamedTuple):
    """Where spans are sent, to detect another exporter with the same destination.

    Attributes:
        place: host, port and path.
        credential: digest of the key, because each key belongs to one project; empty if unknown.
    """

    place: str
    credential: str

    @classmethod
    def of(cls, url: str, headers: Mapping[str, str]) -> SpanTarget:
        """Return the target of requests to this URL with these headers."""
        import hashlib  # Lazy: loads OpenSSL, and few programs have another exporter.

        parts = urlsplit(url)
        sent = next((text for name, text in headers.items() if name.lower() == "authorization"), "")
        digest = hashlib.sha256(sent.encode()).hexdigest()[:16] if sent else ""
        host = parts.netloc.rpartition("@")[2].rpartition("]")[2]
        port = host.rpartition(":")[2] if ":" in host else {"http": "80", "https": "443"}.get(parts.scheme.lower(), "")
        return cls(f"{parts.hostname}:{port}{parts.path.rstrip('/')}", digest)

    def is_among(self, others: Sequence[SpanTarget]) -> bool:
        """Return whether one of the others has the same place and the same key or an unknown one."""
        return any(
            other.place == self.place and (other.credential == self.credential or not other.credential)
            for other in others
        )


# Endpoints: they build the requests of one destination.

CONNECT_SECONDS: Final = 5.0
"""Connection timeout. The timeout for the response may be longer."""

API_KEY: Final = "api_key (HH_API_KEY)"
"""Name of the setting to correct if the key is rejected."""


class HttpRequest(NamedTuple):
    """A request that is ready to send.

    Attributes:
        timeout: timeout for the response, in seconds.
        certificate: CA bundle file; None uses the setting of the HTTP session.
    """

    method: str
    url: str
    body: bytes
    headers: dict[str, str]
    timeout: float
    certificate: str | None = None


class Endpoint(Protocol):
    """Builds the requests of one destination.

    Attributes:
        credential: name of the setting to correct if the key is rejected.
    """

    @property
    def credential(self) -> str: ...

    def request(self, settings: Settings, kind: str, bodies: Sequence[bytes]) -> HttpRequest:
        """Return the request for these bodies. Several bodies are always spans."""

    def target(self, settings: Settings) -> SpanTarget:
        """Return where spans are sent."""


class HoneyHiveEndpoint:
    """The protocol of the HoneyHive backend (tests/contract/README.md, section 1)."""

    credential = API_KEY

    def request(self, settings: Settings, kind: str, bodies: Sequence[bytes]) -> HttpRequest:
        """Return a span export, or a request with a document."""
        if kind != "spans":
            method, path = PATHS[kind]
            headers = {**client_headers(settings), **document_headers()}
            return HttpRequest(method, settings.server_url + path, bodies[0], headers, settings.api_timeout)
        headers = {
            **trace_headers(settings),
            "Content-Type": _content_type(settings),
            "Content-Encoding": "gzip",
        }
        body = _compressed(_spans_body(settings, bodies))
        return HttpRequest("POST", trace_url(settings), body, headers, settings.export_timeout)

    def target(self, settings: Settings) -> SpanTarget:
        """Return where spans are sent."""
        return SpanTarget.of(trace_url(settings), trace_headers(settings))


def _content_type(settings: Settings) -> str:
    return "application/json" if settings.otlp_protocol == "http/json" else "application/x-protobuf"


def _spans_body(settings: Settings, bodies: Sequence[bytes]) -> bytes:
    """Join the spans of all bodies into one OTLP body."""
    from hh_jupyter.export import otlp

    body = otlp.join(bodies)
    return otlp.to_json(body) if settings.otlp_protocol == "http/json" else body


def _compressed(body: bytes) -> bytes:
    from gzip import compress

    return compress(body, compresslevel=1)


# Any OpenTelemetry backend, configured by the standard `OTEL_EXPORTER_OTLP_*` variables. The variables and their
# defaults match OpenTelemetry's Python exporter ("OpenTelemetry Protocol Exporter" in the specification). As in that
# exporter, the timeout is in seconds.

OTLP_PREFIX: Final = "OTEL_EXPORTER_OTLP_"
OTLP_DEFAULT_ENDPOINT: Final = "http://localhost:4318"
OTLP_DEFAULT_SECONDS: Final = 10.0


class OtlpEndpoint(NamedTuple):
    """The protocol of a plain OpenTelemetry backend, which accepts only spans.

    Attributes:
        headers: may contain credentials, so they are never shown.
        gzip: whether bodies are compressed.
        certificate: CA bundle file; None uses the default bundle.
        timeout: in seconds.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    gzip: bool = False
    certificate: str | None = None
    timeout: float = OTLP_DEFAULT_SECONDS
    credential: str = OTLP_PREFIX + "HEADERS"

    def __repr__(self) -> str:
        return f"OtlpEndpoint({self.url!r})"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> OtlpEndpoint:
        """Return the endpoint set by the variables. Trace-specific variables override the general ones."""
        environ = os.environ if environ is None else environ

        def value(name: str) -> str:
            return (environ.get(f"{OTLP_PREFIX}TRACES_{name}") or environ.get(OTLP_PREFIX + name) or "").strip()

        url = environ.get(f"{OTLP_PREFIX}TRACES_ENDPOINT", "").strip()
        if not url:
            base = environ.get(f"{OTLP_PREFIX}ENDPOINT", "").strip() or OTLP_DEFAULT_ENDPOINT
            url = base.rstrip("/") + OTLP_PATH
        return cls(
            url=url,
            headers=_otlp_headers(value("HEADERS")),
            gzip=value("COMPRESSION").lower() == "gzip",
            certificate=value("CERTIFICATE") or None,
            timeout=_otlp_seconds(value("TIMEOUT")),
        )

    def request(self, settings: Settings, kind: str, bodies: Sequence[bytes]) -> HttpRequest:
        """Return a span export."""
        body = _spans_body(settings, bodies)
        headers = {**dict(self.headers), "Content-Type": _content_type(settings)}
        if self.gzip:
            body = _compressed(body)
            headers["Content-Encoding"] = "gzip"
        return HttpRequest("POST", self.url, body, headers, self.timeout, self.certificate)

    def target(self, settings: Settings) -> SpanTarget:
        """Return where spans are sent."""
        return SpanTarget.of(self.url, dict(self.headers))


def _otlp_headers(text: str) -> tuple[tuple[str, str], ...]:
    """Parse a list like `name=value,name=value`, percent-encoded as in W3C baggage."""
    entries = [entry for entry in text.split(",") if entry.strip()]
    pairs = (entry.partition("=") for entry in entries)
    found = tuple((unquote(name).strip(), unquote(value).strip()) for name, equals, value in pairs if equals)
    good = tuple(pair for pair in found if all(part.isascii() and part.isprintable() for part in pair) and pair[0])
    if len(good) != len(entries):
        logger.warning("%sHEADERS must be a list like name=value,name=value; invalid entries are ignored.", OTLP_PREFIX)
    return good


def _otlp_seconds(text: str) -> float:
    try:
        found = float(text or OTLP_DEFAULT_SECONDS)
    except ValueError:
        found = 0.0
    if not 0.0 < found < float("inf"):
        name = OTLP_PREFIX + "TIMEOUT"
        logger.warning("%s must be a number of seconds above 0; got %.80r. Using 10 seconds.", name, text)
        return OTLP_DEFAULT_SECONDS
    return found


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
