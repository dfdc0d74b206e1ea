"""Sends spans over HTTP to any OpenTelemetry backend, configured by the standard `OTEL_EXPORTER_OTLP_*` variables.

The variables and their defaults match OpenTelemetry's Python exporter ("OpenTelemetry Protocol Exporter" in the
specification). As in that exporter, the timeout is in seconds.
"""

from __future__ import annotations

import gzip
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from hh_jupyter.delivery.sending.endpoint import Request, encoded
from hh_jupyter.delivery.sending.item import Item
from hh_jupyter.delivery.sending.target import Target, target
from hh_jupyter.settings import Settings

logger = logging.getLogger(__name__)

PREFIX: Final = "OTEL_EXPORTER_OTLP_"
DEFAULT_ENDPOINT: Final = "http://localhost:4318"
TRACES_PATH: Final = "/v1/traces"
DEFAULT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class OtlpTarget:
    """Address and options of the OTLP endpoint.

    Attributes:
        headers: may contain credentials, so they are never shown.
        certificate: CA bundle file; None uses the default bundle.
        timeout: in seconds.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    gzip: bool = False
    certificate: str | None = None
    timeout: float = DEFAULT_SECONDS


def target_of(environ: Mapping[str, str] | None = None) -> OtlpTarget:
    """Return the target set by the environment variables. Trace-specific variables override the general ones."""
    environ = os.environ if environ is None else environ

    def value(name: str) -> str:
        return (environ.get(f"{PREFIX}TRACES_{name}") or environ.get(PREFIX + name) or "").strip()

    url = environ.get(f"{PREFIX}TRACES_ENDPOINT", "").strip()
    if not url:
        base = environ.get(f"{PREFIX}ENDPOINT", "").strip() or DEFAULT_ENDPOINT
        url = base.rstrip("/") + TRACES_PATH
    return OtlpTarget(
        url=url,
        headers=_headers(value("HEADERS")),
        gzip=value("COMPRESSION").lower() == "gzip",
        certificate=value("CERTIFICATE") or None,
        timeout=_seconds(value("TIMEOUT")),
    )


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    """Parse a list like `name=value,name=value`, percent-encoded as in W3C baggage."""
    pairs = (entry.partition("=") for entry in text.split(",") if entry.strip())
    found = tuple((unquote(name).strip(), unquote(value).strip()) for name, equals, value in pairs if equals)
    good = tuple(pair for pair in found if all(part.isascii() and part.isprintable() for part in pair) and pair[0])
    if len(good) != len([entry for entry in text.split(",") if entry.strip()]):
        logger.warning("%sHEADERS must be a list like name=value,name=value; invalid entries are ignored.", PREFIX)
    return good


def _seconds(text: str) -> float:
    try:
        found = float(text or DEFAULT_SECONDS)
    except ValueError:
        found = 0.0
    if not 0.0 < found < float("inf"):
        logger.warning("%sTIMEOUT must be a number of seconds above 0; got %.80r. Using 10 seconds.", PREFIX, text)
        return DEFAULT_SECONDS
    return found


class PlainOtlp:
    """Builds the requests for an OTLP target, which accepts only spans.

    Args:
        settings: provides the encoding.
    """

    credential = PREFIX + "HEADERS"

    def __init__(self, target: OtlpTarget, settings: Settings) -> None:
        self._target, self._settings = target, settings

    def request(self, items: Sequence[Item], bodies: Sequence[bytes]) -> Request:
        """Return a span export."""
        to = self._target
        as_json = self._settings.otlp_protocol == "http/json"
        body = encoded(bodies, as_json=as_json)
        headers = {**dict(to.headers), "Content-Type": "application/json" if as_json else "application/x-protobuf"}
        if to.gzip:
            body = gzip.compress(body, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        return Request("POST", to.url, body, headers, to.timeout, to.certificate)

    def target(self) -> Target:
        """Return the target that spans are sent to."""
        return target(self._target.url, dict(self._target.headers))
