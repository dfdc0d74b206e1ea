"""Where a provider's spans go without us: the exporters behind its other span processors.

A span that they post to our own backend must not arrive there twice, so it is shown here and left to them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from hh_jupyter.delivery.sending.target import Target, target

_OVER: Final = ("_shutdown", "_is_shutdown")
"""Attributes by which processors and exporters, OpenTelemetry's and honeyhive's, know that they send nothing more."""


class _Way(NamedTuple):
    """One exporter, and the processors and exporters that it stands behind."""

    target: Target
    parts: tuple[Any, ...]


class OtherExporters:
    """The other exporters of one provider; looked for again whenever a processor was added."""

    def __init__(self, provider: TracerProvider) -> None:
        self._all = provider._active_span_processor
        self._seen: object = None
        self._ways: tuple[_Way, ...] = ()

    def targets(self) -> tuple[Target, ...]:
        """Where they send to, without those that were shut down. Asked for every span: no lock, no exception."""
        processors = getattr(self._all, "_span_processors", ())
        if processors is not self._seen:  # A tuple, replaced by each `add_span_processor`.
            self._ways = tuple(_ways(processors))
            self._seen = processors
        if not self._ways:
            return ()
        return tuple(way.target for way in self._ways if not any(map(_is_over, way.parts)))


def _ways(found: Iterable[object], above: tuple[object, ...] = ()) -> Iterator[_Way]:
    """The exporters that post to an address, among these objects and inside of them."""
    for part in found:
        if not _is_part(part) or any(part is one for one in above):
            continue
        inside = vars(part)
        parts = (*above, part)
        url = inside.get("_endpoint", inside.get("endpoint"))
        if isinstance(url, str) and url.startswith(("http://", "https://")):
            headers = inside.get("_headers", inside.get("headers"))
            yield _Way(target(url, headers if isinstance(headers, Mapping) else {}), parts)
        for value in inside.values():
            yield from _ways(value if isinstance(value, list | tuple) else (value,), parts)


def _is_part(value: object) -> bool:
    """A processor or exporter, or what a processor of batches has between itself and its exporter."""
    return (
        isinstance(value, SpanProcessor)
        or _is_exporter(value)
        or (isinstance(getattr(value, "__dict__", None), dict) and _is_exporter(vars(value).get("_exporter")))
    )


def _is_exporter(value: object) -> bool:
    # Where nobody has loaded their module, nobody has one; another thread may be loading it.
    exporter = getattr(sys.modules.get("opentelemetry.sdk.trace.export"), "SpanExporter", None)
    return exporter is not None and isinstance(value, exporter)


def _is_over(part: object) -> bool:
    inside = vars(part)
    return any(inside.get(name) is True for name in _OVER)
