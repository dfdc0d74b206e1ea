"""Which tracer is meant when nobody says: the context's, else the default one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context

from hh_jupyter.delivery.sending.outage import told_by_host
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.arguments import A_TRACER, is_tracer, once, refuse
from hh_jupyter.tracing.scope import context_tracer

if TYPE_CHECKING:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

Host = Callable[[dict[str, Any]], "HoneyHiveTracer | None"]

_default: HoneyHiveTracer | None = None
_host: Host | None = None
_lock = threading.RLock()


def current_tracer(context: Context | None = None) -> HoneyHiveTracer | None:
    """The tracer of the OpenTelemetry context (default: the current one), else the default one; None if neither is."""
    return context_tracer(context) or _default


def set_default_tracer(tracer: HoneyHiveTracer | None) -> None:
    """Make `tracer` the one that undecided calls use; None leaves them untraced.

    Raises:
        SettingTypeError: it is no tracer.
    """
    if tracer is not None and not is_tracer(tracer):
        refuse("set_default_tracer", "tracer", tracer, A_TRACER, "HoneyHiveTracer.init() makes one.")
    global _default
    _default = tracer


def get_default_tracer() -> HoneyHiveTracer | None:
    """The tracer that undecided calls use outside any context's own; None if there is none. `get_tracer` makes one."""
    return _default


def offer_default(tracer: HoneyHiveTracer) -> None:
    """Make `tracer` the default if there is none: the first one made."""
    with _lock:
        if _default is None:
            set_default_tracer(tracer)


def tell_unsent(settings: Settings) -> None:
    """Say once that nothing is sent because there is no key; a host says so itself, and some asked for it."""
    asked = settings.test_mode or settings.disable_tracing or not settings.otlp_enabled or settings.exporter == "none"
    if _host is None and settings.local and not asked:
        where = "on this machine" if settings.spool else "in this process"
        once("no key", f"no api_key (HH_API_KEY): spans stay {where} and are not sent")


def withdraw_default(tracer: HoneyHiveTracer) -> None:
    """Stop being the default, after a shutdown."""
    with _lock:
        if _default is tracer:
            set_default_tracer(None)


def get_tracer() -> HoneyHiveTracer:
    """The current tracer, made from the environment's settings if there is none yet."""
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

    with _lock:
        return current_tracer() or HoneyHiveTracer.init()


def set_host(host: Host | None) -> None:
    """Let a host that has a tracer already, the notebook, answer `HoneyHiveTracer.init`; None: nobody does."""
    global _host
    _host = host
    told_by_host(host is not None)


def hosted(settings: dict[str, Any]) -> HoneyHiveTracer | None:
    """The host's tracer with these settings applied, or None if there is no host or the settings ask for another."""
    return None if _host is None else _host(settings)
