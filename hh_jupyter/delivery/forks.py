"""Import the modules that our threads import lazily, before a fork or the last delivery.

A thread that is importing during a fork does not exist in the child, but its module locks stay held there: the child's
threads would wait for them forever and deliver nothing. Importing the same modules on the forking thread waits until
the running import has finished. The children share the loaded modules.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

SEALING: Final = (
    "hh_jupyter.delivery.sealing.batch",
    "opentelemetry.exporter.otlp.proto.common.trace_encoder",
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2",
)
SENDING: Final = (
    "hh_jupyter.delivery.sending.connection",
    "google.protobuf.json_format",
    "gzip",
    "encodings.idna",  # Imported by the first host name lookup.
)


SPOOLING: Final = ("hh_jupyter.delivery.spool.left", "hh_jupyter.delivery.spool.opening")


def import_late_modules(*, sending: bool, spooling: bool) -> None:
    """Import the modules for sealing and, if requested, for sending and spooling; a repeated call costs nothing."""
    for name in (*SEALING, *(SENDING if sending else ()), *(SPOOLING if spooling else ())):
        import_module(name)
