"""Identifies where spans are sent, to detect another exporter with the same destination."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

_PORTS: Final = {"http": 80, "https": 443}


class Target(NamedTuple):
    """A destination of spans.

    Attributes:
        place: host, port and path.
        credential: digest of the key, because each key belongs to one project; empty if unknown.
    """

    place: str
    credential: str

    def among(self, others: Iterable[Target]) -> bool:
        """Return whether one of the others has the same place and the same key or an unknown one."""
        return any(
            other.place == self.place and (other.credential == self.credential or not other.credential)
            for other in others
        )


def target(url: str, headers: Mapping[str, str]) -> Target:
    """Return the target of requests to this URL with these headers."""
    import hashlib  # Lazy: loads OpenSSL, and few programs have another exporter.

    parts = urlsplit(url)
    sent = next((text for name, text in headers.items() if name.lower() == "authorization"), "")
    digest = hashlib.sha256(sent.encode()).hexdigest()[:16] if sent else ""
    return Target(f"{parts.hostname}:{_port(parts.netloc, parts.scheme)}{parts.path.rstrip('/')}", digest)


def _port(netloc: str, scheme: str) -> str:
    tail = netloc.rpartition("@")[2].rpartition("]")[2]
    return tail.rpartition(":")[2] if ":" in tail else str(_PORTS.get(scheme.lower(), ""))
