"""Where spans are posted to, so that two ways to the same place can be told: ours, and another exporter's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

_PORTS: Final = {"http": 80, "https": 443}


class Target(NamedTuple):
    """One destination of spans.

    Attributes:
        place: host, port and path.
        credential: digest of the key, since another key is another project; empty where none is known.
    """

    place: str
    credential: str

    def among(self, others: Iterable[Target]) -> bool:
        """One of the others is the same place, and not known to have another key."""
        return any(
            other.place == self.place and (other.credential == self.credential or not other.credential)
            for other in others
        )


def target(url: str, headers: Mapping[str, str]) -> Target:
    """The target of requests to this address with these headers."""
    import hashlib  # Loads OpenSSL, and few programs have another exporter.

    parts = urlsplit(url)
    sent = next((text for name, text in headers.items() if name.lower() == "authorization"), "")
    digest = hashlib.sha256(sent.encode()).hexdigest()[:16] if sent else ""
    return Target(f"{parts.hostname}:{_port(parts.netloc, parts.scheme)}{parts.path.rstrip('/')}", digest)


def _port(netloc: str, scheme: str) -> str:
    tail = netloc.rpartition("@")[2].rpartition("]")[2]
    return tail.rpartition(":")[2] if ":" in tail else str(_PORTS.get(scheme.lower(), ""))
