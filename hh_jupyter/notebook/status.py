"""Text of `%hh` and of loading, and the notices in outputs: settings and their origins, the export of spans."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from hh_jupyter.display.format import count
from hh_jupyter.display.view import Notice
from hh_jupyter.export.http import KEY_REJECTED
from hh_jupyter.export.spool import Spool
from hh_jupyter.notebook.sessions import KnownSession
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.settings import Settings, display_settings
from hh_jupyter.tracing.tracer import HoneyHiveTracer

if TYPE_CHECKING:  # Late: where nothing is limited, it is not needed.
    from hh_jupyter.recordings.budget import Budget

ALWAYS_SHOWN: Final = ("api_key", "server_url", "project", "source", "display", "cell_flush_seconds")
"""Settings that the status always shows; others only when they are set."""

HELP_HINT: Final = "%hh? for help"


def tracing_off(settings: Settings) -> str:
    """Return the sentence that tracing is off, with what has switched it off."""
    return f"hh: tracing is off ({settings.origins.get('disable_tracing')})."


def load_line(
    settings: Settings, destination: str | None, session_name: str | None, *, exported_elsewhere: bool = False
) -> str:
    """Return the line that loading prints."""
    if settings.disable_tracing:
        return f"{tracing_off(settings)} {HELP_HINT}"
    if not settings.otlp_enabled and destination is not None:
        return f"hh: {kept_here(settings)} Sessions and events go to {destination}. {HELP_HINT}"
    if destination is not None and exported_elsewhere:
        return f"hh: {_exported_elsewhere(destination)} {HELP_HINT}"
    if destination is not None:
        return f"hh: sending to {destination} as {settings.source}, session {session_name}. {HELP_HINT}"
    return f"hh: {local_mode(settings)} {HELP_HINT}"


def _exported_elsewhere(destination: str) -> str:
    """Explain why nothing is sent although there is a key."""
    return f"spans are displayed here; another exporter sends them to {destination}."


def kept_here(settings: Settings) -> str:
    """Explain that otlp_enabled is off."""
    return f"spans stay on this machine (otlp_enabled is off, {settings.origins.get('otlp_enabled')})."


def local_mode(settings: Settings) -> str:
    """Explain why nothing is sent, and what to do."""
    if not settings.local:
        return kept_here(settings)
    if settings.test_mode:
        return f"local mode ({settings.origins.get('test_mode')}), nothing leaves this machine."
    return "local mode, nothing leaves this machine. %hh login to send."


def status_text(
    settings: Settings,
    export: ExportState,
    *,
    session: str,
    traced: Iterable[str],
    disk: Iterable[str] = (),
    all_settings: bool = False,
    joins: bool = False,
    exported_elsewhere: bool = False,
    listening: str | None = None,
    trouble: Iterable[str] = (),
) -> str:
    """Return the text of `%hh`.

    Args:
        settings: current settings.
        export: export state of all spans of this kernel.
        session: current session, with its short id.
        traced: libraries whose instrumentor is on.
        disk: lines about unsent spans on disk; see `disk_lines`.
        all_settings: include settings that have their defaults.
        joins: the spans come from an existing global TracerProvider.
        exported_elsewhere: another exporter of that provider sends the spans.
        listening: where spans of other programs are received, and how many were; None if nothing listens.
        trouble: lines about failures of this extension.
    """
    if settings.disable_tracing:
        head = tracing_off(settings)
    elif export.destination is None:
        head = f"hh: {local_mode(settings)}"
    elif exported_elsewhere:
        head = f"hh: {_exported_elsewhere(export.destination)}"
    else:
        head = f"hh: sending to {export.destination} as {settings.source}"
    facts = [("session", session), ("spans", _counts(export))]
    if export.reason and (export.waiting or export.rejected or export.dropped):
        facts.append(("reason", export.reason))
    if requests := _requests(export):
        facts.append(("requests", requests))
    facts += [("" if number else "on disk", line) for number, line in enumerate(disk)]
    facts.append(("traced", ", ".join(traced) or "no library. %hh instrument"))
    if joins:
        facts.append(("provider", "using the existing global TracerProvider (its sampler, limits and resource apply)"))
    if listening is not None:
        facts.append(("listening", listening))
    facts += [("trouble", line) for line in trouble]
    lines = [head, *(f"  {name:<9} {text}" for name, text in facts)]
    others = [] if all_settings else ["  (all other settings have their defaults: %hh status --all)"]
    return "\n".join([*lines, "", *_setting_lines(settings, all_settings=all_settings), *others])


def _counts(export: ExportState) -> str:
    if export.destination is None:
        return f"{export.made:,} made"
    left = f", {export.exported_elsewhere:,} left to others" if export.exported_elsewhere else ""
    return (
        f"{export.made + export.exported_elsewhere:,} made, {export.sent:,} sent, {export.waiting:,} waiting, "
        f"{export.rejected:,} rejected, {export.dropped:,} dropped{left}"
    )


def _requests(export: ExportState) -> str:
    """Count session starts, updates and events that were not sent; empty if all were."""
    counts = (
        (export.requests_waiting, "waiting"),
        (export.requests_rejected, "rejected"),
        (export.requests_dropped, "dropped"),
    )
    numbers = ", ".join(f"{number:,} {word}" for number, word in counts if number)
    rejected, dropped = export.requests_rejected, export.requests_dropped
    why = export.rejected_reason if rejected else export.dropped_reason if dropped else None
    return f"{numbers} (session starts, updates, events){f': {why}' if why else ''}" if numbers else ""


def disk_lines(spool: Spool | None, known: Iterable[KnownSession]) -> list[str]:
    """Describe the spans on disk, or why there are none.

    Args:
        spool: spool of this process; None if the setting is off.
        known: sessions that `%hh sessions` lists.
    """
    if spool is None:
        return ["nothing (spool is off)"]
    stored = [session for session in known if session.on_disk]
    own = [session for session in stored if session.this_kernel]
    earlier = [session for session in stored if not session.this_kernel]
    waiting, local = sum(session.waiting for session in own), sum(session.local for session in own)
    lines = [spool.problem] if spool.problem else []
    if waiting:
        lines.append(f"{count(waiting, 'span')} of this kernel not sent yet")
    if local:
        lines.append(f"{count(local, 'span')} of this kernel local only")
    if earlier:
        spans = sum(session.on_disk for session in earlier)
        many = f"{count(len(earlier), 'session')}, {count(spans, 'span')} of earlier kernels"
        lines.append(f"{many}: %hh sessions")
    if spool.dropped:
        lines.append(f"{count(spool.dropped, 'span')} deleted unsent (age or size limit)")
    if spool.forgotten:
        lines.append(f"{count(spool.forgotten, 'span')} of local mode deleted (age or size limit)")
    return lines or ["nothing"]


def _setting_lines(settings: Settings, *, all_settings: bool) -> list[str]:
    every = (*settings.describe(), *display_settings().describe())
    rows = [row for row in every if all_settings or row.name in ALWAYS_SHOWN or row.origin != "default"]
    widths = (max(len(row.name) for row in rows), max(len(row.value) for row in rows))
    return [f"  {row.name:<{widths[0]}}  {row.value:<{widths[1]}}  {row.origin}" for row in rows]


# Notices about the export: in one output per outage, and in one that says that the kernel is in local mode.


def is_final(export: ExportState) -> bool:
    """Whether every span has been sent or dropped, or there is no destination."""
    return export.destination is None or export.sent + export.dropped >= export.made


def is_failing(export: ExportState) -> bool:
    """Whether some of these spans were rejected or dropped, or the last export failed."""
    return (
        export.destination is not None
        and export.sent < export.made
        and bool(export.failing or export.rejected or export.dropped)
    )


EXPORTED_ELSEWHERE: Final = "These spans are sent by another exporter; see %hh."


class Notices:
    """Assigns a notice to the first output that it concerns, and keeps it there until the problem is over."""

    def __init__(self, tracer: HoneyHiveTracer) -> None:
        self._tracer = tracer
        self._local: object = None
        self._outage: object = None

    def notice_for(self, output: object, export: ExportState, *, overdue: bool) -> Notice | None:
        """Return the notice of an output; None for most.

        Args:
            output: the output, compared by identity.
            export: export state of its spans.
            overdue: the wait after its cell ended before all spans were exported.
        """
        if export.destination is None:
            self._local = self._local or output
            return local_notice(self._tracer.settings) if self._local is output else None
        if not is_failing(export) and (is_final(export) or not overdue):
            if self._outage is output:
                self._outage = None
            return None
        self._outage = self._outage or output
        return outage_notice(export, storage(self._tracer)) if self._outage is output else None


def stop_notice(budget: Budget, refused: int) -> Notice:
    """Return the notice that calls were not sent because of a limit, and how to raise it.

    Args:
        budget: the one whose limit was reached.
        refused: number of calls that were not sent.
    """
    from hh_jupyter.recordings.limit import line_to_raise, spending  # Late: where nothing is limited, it is not needed.

    went = f"{budget.calls:,} {'call' if budget.calls == 1 else 'calls'} went out, {refused:,} did not."
    command = line_to_raise(budget)
    return Notice(
        kind="error",
        title="Stopped before the call.",
        text=f"{spending(budget)}. {went} To raise the limit:",
        command=command,
    )


def sending_result(export: ExportState) -> str:
    """Return one sentence about the result of sending again."""
    if export.destination is None:
        return "Local mode: nothing leaves this machine."
    if export.left_to_others:
        return EXPORTED_ELSEWHERE
    if export.sent >= export.made:
        return "All spans have been sent."
    return f"{_spans(export.made - export.sent)} not sent. {export.reason or ''}".strip()


def local_notice(settings: Settings) -> Notice:
    """Return the notice that nothing is sent, and how to change that."""
    if not settings.local:
        return Notice(kind="info", title="Spans stay on this machine.", text="otlp_enabled is off.")
    title = "Nothing leaves this machine."
    if settings.test_mode:
        return Notice(kind="info", title=title, text=f"test_mode is on ({settings.origins.get('test_mode')}).")
    return Notice(kind="info", title=title, text="No key is set. To send from now on:", command="%hh login")


def storage(tracer: HoneyHiveTracer) -> str:
    """Return where unsent spans are: "on disk" or "in this kernel"."""
    return "on disk" if tracer.spool is not None and tracer.spool.problem is None else "in this kernel"


def outage_notice(export: ExportState, where: str) -> Notice:
    """Return the notice about unsent spans: how many, why, and where they are (see `storage`)."""
    missing = export.made - export.sent
    if not is_failing(export):
        why = f"{export.destination} has not responded yet. Spans are kept {where} until it does."
        return Notice(kind="info", title=f"{missing:,} on the way.", text=why)
    kept = export.made - export.sent - export.dropped
    sentences = [(export.reason or f"{export.destination} did not accept them").rstrip(".") + "."]
    if export.dropped:
        sentences.append(f"{_spans(export.dropped)} dropped.")
    wants_key = KEY_REJECTED in sentences[0]
    if export.rejected and not wants_key:
        sentences.append(f"{_spans(export.rejected)} rejected and kept {where}.")
    if kept - export.rejected > 0:
        sentences.append(f"Tracing continues; spans are kept {where} and will be sent when it is reachable again.")
    return Notice(
        kind="error",
        title=f"{_spans(missing)} not sent.",
        text=" ".join(sentences),
        command=None if not kept else "%hh login" if wants_key else "%hh send",
        other="%hh save FILE" if kept else None,
        sends=True,
    )


def _spans(count: int) -> str:
    return f"{count:,} span was" if count == 1 else f"{count:,} spans were"
