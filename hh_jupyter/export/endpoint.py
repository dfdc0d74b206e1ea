"""Endpoints: documents, addresses and headers of the requests to one destination.

It is loaded with the tracer, `export.http` with the first request.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote, unquote, urlsplit

from hh_jupyter.settings import Settings
from hh_jupyter.version import VERSION

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
        accepts_requests: accepts session starts, updates and events.
    """

    @property
    def credential(self) -> str: ...
    @property
    def accepts_requests(self) -> bool: ...

    def address(self, settings: Settings) -> tuple[str, str]:
        """Return URL and key, which name the destination in the spool."""

    def request(self, settings: Settings, kind: str, bodies: Sequence[bytes]) -> HttpRequest:
        """Return the request for these bodies. Several bodies are always spans."""

    def target(self, settings: Settings) -> SpanTarget:
        """Return where spans are sent."""


class HoneyHiveEndpoint:
    """The protocol of the HoneyHive backend (tests/contract/README.md, section 1)."""

    credential = API_KEY
    accepts_requests = True

    def address(self, settings: Settings) -> tuple[str, str]:
        """Return the server's URL and the key."""
        return settings.server_url, settings.sending_key or ""

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
    accepts_requests: bool = False

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

    def address(self, settings: Settings) -> tuple[str, str]:
        """Return the URL, without a key."""
        return self.url, ""

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


# Endpoints of the settings

OTLP: Final = "otlp"
"""Name of a plain OpenTelemetry backend in the setting `exporter`."""

HONEYHIVE: Final = HoneyHiveEndpoint()


def endpoints_of(settings: Settings) -> tuple[Endpoint, ...]:
    """Return the endpoints that spans are sent to, without the HoneyHive backend if it has no key."""
    names = () if settings.test_mode or settings.exporter == "none" else settings.exporter.split(",")
    return tuple(
        OtlpEndpoint.from_environment() if name == OTLP else HONEYHIVE
        for name in names
        if name == OTLP or not settings.local
    )


def address_of(settings: Settings) -> tuple[object, ...]:
    """Return the settings that determine the destinations, including whether anything is sent."""
    return settings.sending_key, *place_of(settings)


def place_of(settings: Settings) -> tuple[object, ...]:
    """Return the settings of `address_of` without the key."""
    return (
        settings.server_url,
        settings.local,
        (settings.spool, settings.spool_dir),
        endpoints_of(settings),
        settings.otlp_endpoint,
        settings.otlp_enabled,
        settings.disable_tracing,
    )


def answered_by(settings: Settings) -> tuple[object, ...]:
    """Return the settings that the backend's answer to a row depends on."""
    return (
        settings.sending_key,
        settings.server_url,
        settings.otlp_endpoint,
        endpoints_of(settings),
        settings.otlp_headers,
        settings.otlp_protocol,
        settings.requests_session,
        (settings.http_proxy, settings.https_proxy, settings.no_proxy, settings.verify_ssl),
    )
