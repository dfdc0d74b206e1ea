"""Puts interceptors in force: hooks in httpx, httpx2 and aiohttp, installed only while one is.

What an interceptor is, and what it gets: `hh_jupyter.recordings.exchange`. A request that passes two of the libraries,
such as httpx over aiohttp, is seen once. Streams pass through unchanged; what the client reads is collected on the way.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from contextvars import Token
from types import TracebackType
from typing import Any, Final

from opentelemetry import context as otel_context

from hh_jupyter.recordings import aiohttp_hook, exchange, httpx_hook
from hh_jupyter.recordings.exchange import Interceptor, Method, in_force

_lock = threading.Lock()
_running: list[Interception] = []
_patches: list[_Patch] = []


class Interception(AbstractContextManager["Interception"]):
    """Puts an interceptor in force, beside those that are, until `stop`.

    Args:
        interceptor: None to put none in force, which with `replaces` switches others off.
        replaces: those of this class are not in force meanwhile.
        everywhere: also for code without this context, such as threads that were started without it.
    """

    def __init__(
        self, interceptor: Interceptor | None, *, replaces: type[Interceptor] | None = None, everywhere: bool = False
    ) -> None:
        self.interceptor, self.replaces, self.everywhere = interceptor, replaces, everywhere
        self.interceptors: list[Interceptor] = []
        self._token: Token[Any] | None = None

    def start(self, *, here: bool = True) -> None:
        """Be in force, and install the hooks if there are none.

        Args:
            here: in the current context too, not only `everywhere`.
        """
        kept = [one for one in in_force() if self.replaces is None or not isinstance(one, self.replaces)]
        if self.interceptor is not None:
            kept.append(self.interceptor)
        self.interceptors = sorted(kept, key=lambda one: one.order)
        with _lock:
            if self.interceptors:
                _running.append(self)
                if not _patches:
                    _install()
            if self.everywhere:
                exchange.everywhere.append(self.interceptors)
        if here:
            self._token = otel_context.attach(otel_context.set_value(exchange.IN_FORCE, self.interceptors))

    def stop(self) -> None:
        """End it; remove the hooks if nothing else needs them. The interceptor is not closed."""
        token, self._token = self._token, None
        if token is not None:
            try:
                token.var.reset(token)
            except (ValueError, RuntimeError):
                pass  # Another context: a generator or a coroutine that ends elsewhere.
        with _lock:
            if self.everywhere:
                exchange.everywhere[:] = [one for one in exchange.everywhere if one is not self.interceptors]
            if self in _running:
                _running.remove(self)
                if not _running:
                    _uninstall()

    def __enter__(self) -> Interception:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


# Installing and removing

_PATCH: Final = "_hh_jupyter_patch"
"""The attribute of a replacement that holds its patch."""


class _Patch:
    """One replaced method of a library."""

    def __init__(self, method: Method) -> None:
        self.owner, self.name, make = method
        self.applied = True
        self.original = getattr(self.owner, self.name)
        self.replacement = make(self.original, lambda: self.applied)
        setattr(self.replacement, _PATCH, self)
        setattr(self.owner, self.name, self.replacement)

    def remove(self) -> None:
        """Restore the method. If a later patch of someone else is on top, ours stays below it and does nothing."""
        self.applied = False
        if vars(self.owner).get(self.name) is self.replacement:
            setattr(self.owner, self.name, self.original)


def _install() -> None:
    for method in (*httpx_hook.methods(), *aiohttp_hook.methods()):
        left = getattr(getattr(method[0], method[1]), _PATCH, None)
        if isinstance(left, _Patch):  # It was below another patch when it was removed, and that one has gone since.
            left.applied = True
            _patches.append(left)
        else:
            _patches.append(_Patch(method))


def _uninstall() -> None:
    for patch in reversed(_patches):
        patch.remove()
    _patches.clear()
