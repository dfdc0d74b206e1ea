"""Backend calls other than span export: paths, bodies and headers (tests/contract/README.md, sections 1 and 6)."""

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


def headers(settings: Settings) -> dict[str, str]:
    """Return the headers of every request: the credential and the client's name and version."""
    return {
        "Authorization": f"Bearer {settings.sending_key}",
        "Accept": "application/json",
        "hh-client-version": VERSION,
        "hh-client-language": "python",
        "hh-client-package": "hh_jupyter",
    }


def call_headers() -> dict[str, str]:
    """Return the additional headers of a call other than span export; the timestamp is in Unix nanoseconds."""
    return {"Content-Type": "application/json", "hh-client-timestamp": str(time.time_ns())}


def body_headers(*, as_json: bool) -> dict[str, str]:
    """Return the headers that describe the body of a span export, which is always compressed."""
    return {
        "Content-Type": "application/json" if as_json else "application/x-protobuf",
        "Content-Encoding": "gzip",
    }
