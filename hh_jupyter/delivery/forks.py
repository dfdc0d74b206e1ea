"""What our threads import late, imported before a fork, or before the last delivery.

A thread that is importing at the moment of a fork does not exist in the child, but the locks of its modules stay taken
there: the child's own threads would wait for them for ever and deliver nothing. Importing the same modules on the
forking thread waits until an import that is under way has finished. The children share what was loaded.
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
    "encodings.idna",  # By the first look-up of a host name.
)


SPOOLING: Final = ("hh_jupyter.delivery.spool.left", "hh_jupyter.delivery.spool.opening")


def import_late_modules(*, sending: bool, spooling: bool) -> None:
    """Import what sealing needs and, for tracers that send or spool, what that needs; the second time costs nothing."""
    for name in (*SEALING, *(SENDING if sending else ()), *(SPOOLING if spooling else ())):
        import_module(name)
