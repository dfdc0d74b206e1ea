"""The backend's calls besides span export: paths, bodies and headers (contract, sections 1 and 6)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from hh_jupyter.settings import Settings
from hh_jupyter.version import VERSION

SESSION_START: Final = ("POST", "/session/start")
EVENT_UPDATE: Final = ("PUT", "/events")
EVENT_CREATE: Final = ("POST", "/events")


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
    """Document of `POST /session/start`; fields without a value are left out."""
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
    """Document of `PUT /events`. A session is the event whose id is the session's."""
    return {"event_id": event_id, **fields}


def event_create(event: Mapping[str, Any]) -> dict[str, Any]:
    """Document of `POST /events`; fields that are None are left out."""
    return {"event": {key: value for key, value in event.items() if value is not None}}


def encode(document: Mapping[str, Any]) -> bytes:
    """A document of plain data as JSON."""
    return json.dumps(document, default=str).encode()


def headers(settings: Settings) -> dict[str, str]:
    """Headers of every request: the credential and who is calling."""
    return {
        "Authorization": f"Bearer {settings.sending_key}",
        "Accept": "application/json",
        "hh-client-version": VERSION,
        "hh-client-language": "python",
        "hh-client-package": "hh_jupyter",
    }


def call_headers() -> dict[str, str]:
    """Headers of one call that is no span export; the timestamp is Unix nanoseconds as text."""
    return {"Content-Type": "application/json", "hh-client-timestamp": str(time.time_ns())}


def body_headers(*, as_json: bool) -> dict[str, str]:
    """Headers about the body of one span export, which is always compressed."""
    return {
        "Content-Type": "application/json" if as_json else "application/x-protobuf",
        "Content-Encoding": "gzip",
    }
