"""Secrets out of what a run says about itself: `config` on its way to the backend, errors on their way to a display."""

from __future__ import annotations

import functools
from typing import Any

from hh_jupyter.settings import Settings


def without_secrets(value: Any, settings: Settings) -> Any:
    """Plain data without secrets, by the rules for spans."""
    from hh_jupyter.tracing.serialize import plain

    return _redactor(settings).document(plain(value))


def text_without_secrets(text: str) -> str:
    """A text to be shown, whatever the settings of the tracer: a notebook is saved, committed and mailed."""
    return str(_plain_redactor().text(text)[0])


@functools.cache
def _plain_redactor() -> Any:
    from hh_jupyter.redaction import Redactor  # Its rules cost more to compile than a tracer to make.

    return Redactor()


def _redactor(settings: Settings) -> Any:
    from hh_jupyter.redaction import Redactor

    return Redactor(
        enabled=settings.redact,
        keys=settings.redact_keys,
        patterns=settings.redact_patterns,
        secrets=[key for key in (settings.api_key, settings.ingestion_api_key) if key],
    )
