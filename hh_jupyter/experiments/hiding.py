"""Secrets out of what a run says about itself: `config` on its way to the backend, errors on their way to a display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hh_jupyter import settings as settings_table
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.default import current_tracer
from hh_jupyter.tracing.serialize import plain

if TYPE_CHECKING:
    from hh_jupyter.redaction import Redactor
    from hh_jupyter.redaction_with import RedactorWith

_last: tuple[Settings, Redactor | RedactorWith] | None = None


def rules_of(settings: Settings) -> Redactor | RedactorWith:
    """The rules by which secrets are taken out of spans; those of the last settings are kept."""
    from hh_jupyter.delivery.sealing.batch import redactor_of  # It costs more to load than a tracer to make.

    global _last
    if _last is None or _last[0] is not settings:
        _last = settings, redactor_of(settings)
    return _last[1]


def without_secrets(value: Any, settings: Settings) -> Any:
    """Plain data without secrets."""
    return rules_of(settings).document(plain(value))


def text_without_secrets(text: str) -> str:
    """A text to be shown, by the rules of the current tracer: a notebook is saved, committed and mailed."""
    tracer = current_tracer()
    settings = tracer.settings if tracer is not None else _default_settings()
    return str(rules_of(settings).text(text)[0])


def _default_settings() -> Settings:
    """Those that the run was made with, if any was made; else the environment's."""
    return _last[0] if _last is not None else settings_table.resolve({}, called="evaluate")
