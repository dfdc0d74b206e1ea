"""What an output says about delivery beyond its one word: once per outage, and once that a kernel is local."""

from __future__ import annotations

from typing import Final

from hh_jupyter.delivery.sending.verdict import KEY_REJECTED
from hh_jupyter.display.view import Notice
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.tracer import HoneyHiveTracer


def settled(export: ExportState) -> bool:
    """Nothing about these spans will change by itself."""
    return export.destination is None or export.sent + export.dropped >= export.made


def in_trouble(export: ExportState) -> bool:
    """Some of these spans are not on their way."""
    return (
        export.destination is not None
        and export.sent < export.made
        and bool(export.failing or export.parked or export.dropped)
    )


LEFT_TO_OTHERS: Final = "The spans are another exporter's to send; see %hh."


class Notices:
    """Gives the notice to the first output that is affected, and keeps it there until all is well again."""

    def __init__(self, tracer: HoneyHiveTracer) -> None:
        self._tracer = tracer
        self._local: object = None
        self._outage: object = None

    def of(self, output: object, export: ExportState, *, overdue: bool) -> Notice | None:
        """The notice of this output; None for most.

        Args:
            output: whose it is; compared by identity.
            export: its delivery state.
            overdue: the wait after its cell ended before all was delivered.
        """
        if export.destination is None:
            self._local = self._local or output
            return local_notice(self._tracer.settings) if self._local is output else None
        if not in_trouble(export) and (settled(export) or not overdue):
            if self._outage is output:
                self._outage = None
            return None
        self._outage = self._outage or output
        return outage_notice(export, kept_where(self._tracer)) if self._outage is output else None


def sending_result(export: ExportState) -> str:
    """One sentence about what an attempt to deliver came to."""
    if export.destination is None:
        return "Local mode: nothing leaves this machine."
    if export.left_to_others:
        return LEFT_TO_OTHERS
    if export.sent >= export.made:
        return "All spans are sent."
    return f"{_spans(export.made - export.sent)} not sent. {export.reason or ''}".strip()


def local_notice(settings: Settings) -> Notice:
    """Why nothing is sent, and what would change it."""
    if not settings.local:
        return Notice(kind="info", title="Spans stay on this machine.", text="otlp_enabled is off.")
    title = "Nothing leaves this machine."
    if settings.test_mode:
        return Notice(kind="info", title=title, text="test_mode is on.")
    return Notice(kind="info", title=title, text="No key is set. To send from now on:", command="%hh login")


def kept_where(tracer: HoneyHiveTracer) -> str:
    """Where spans wait."""
    return "on disk" if tracer.spool is not None and tracer.spool.problem is None else "in this kernel"


def outage_notice(export: ExportState, where: str) -> Notice:
    """What was not sent, why, and where it is now: "on disk" or "in this kernel"."""
    missing = export.made - export.sent
    if not in_trouble(export):
        why = f"{export.destination} has not answered yet. Spans are kept {where} until it does."
        return Notice(kind="info", title=f"{missing:,} on the way.", text=why)
    kept = export.made - export.sent - export.dropped
    sentences = [(export.reason or f"{export.destination} did not accept them").rstrip(".") + "."]
    if export.dropped:
        sentences.append(f"{_spans(export.dropped)} dropped.")
    wants_key = KEY_REJECTED in sentences[0]
    if export.parked and not wants_key:
        sentences.append(f"{_spans(export.parked)} refused and kept {where}.")
    if kept - export.parked > 0:
        sentences.append(f"Tracing goes on; spans are kept {where} and sent when it is back.")
    return Notice(
        kind="error",
        title=f"{_spans(missing)} not sent.",
        text=" ".join(sentences),
        command=None if not kept else "%hh login" if wants_key else "%hh send",
        other="%hh save FILE" if kept else None,
    )


def _spans(count: int) -> str:
    return f"{count:,} span was" if count == 1 else f"{count:,} spans were"
