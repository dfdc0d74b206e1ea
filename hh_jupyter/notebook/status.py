"""What `%hh` shows: settings, where each value came from, and the delivery of spans."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hh_jupyter.delivery.sending.verdict import KEY_REJECTED
from hh_jupyter.delivery.spool.store import Spool
from hh_jupyter.display.format import count
from hh_jupyter.display.view import Notice
from hh_jupyter.notebook.sessions import KnownSession
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.tracer import HoneyHiveTracer

ALWAYS_SHOWN: Final = ("api_key", "server_url", "project", "source", "display", "cell_flush_seconds")
"""Settings in the status even when nobody set them; others only when somebody did."""

HELP_HINT: Final = "%hh? for help"


def load_line(
    settings: Settings, destination: str | None, session_name: str | None, *, shows_only: bool = False
) -> str:
    """The one line that loading prints."""
    if settings.disable_tracing:
        return f"hh: tracing is off ({settings.origins.get('disable_tracing')}). {HELP_HINT}"
    if not settings.otlp_enabled and destination is not None:
        return f"hh: {kept_here(settings)} Sessions and events go to {destination}. {HELP_HINT}"
    if destination is not None and shows_only:
        return f"hh: {_shown_only(destination)} {HELP_HINT}"
    if destination is not None:
        return f"hh: sending to {destination} as {settings.source}, session {session_name}. {HELP_HINT}"
    return f"hh: {local_mode(settings)} {HELP_HINT}"


def _shown_only(destination: str) -> str:
    """Why nothing is sent although there is a key."""
    return f"spans are shown here and left to another exporter, which sends them to {destination}."


def kept_here(settings: Settings) -> str:
    """Why spans are not sent although there is a key."""
    return f"spans stay on this machine (otlp_enabled is off, {settings.origins.get('otlp_enabled')})."


def local_mode(settings: Settings) -> str:
    """Why nothing is sent, and what to do about it."""
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
    everything: bool = False,
    joins: bool = False,
    shows_only: bool = False,
    trouble: Iterable[str] = (),
) -> str:
    """The text of `%hh`.

    Args:
        settings: in force.
        export: of all spans of this kernel.
        session: the session in force, with its short id.
        traced: libraries whose instrumentor is on.
        disk: what is kept there, in sentences; see `disk_lines`.
        everything: also the settings that nobody set.
        joins: the spans are made by a provider of somebody else.
        shows_only: they are sent by another exporter of their provider.
        trouble: what failed in this extension, in sentences.
    """
    if settings.disable_tracing:
        head = f"hh: tracing is off ({settings.origins.get('disable_tracing')})."
    elif export.destination is None:
        head = f"hh: {local_mode(settings)}"
    elif shows_only:
        head = f"hh: {_shown_only(export.destination)}"
    else:
        head = f"hh: sending to {export.destination} as {settings.source}"
    facts = [("session", session), ("spans", _counts(export))]
    if export.reason and (export.waiting or export.parked or export.dropped):
        facts.append(("reason", export.reason))
    if calls := _calls(export):
        facts.append(("calls", calls))
    facts += [("" if number else "on disk", line) for number, line in enumerate(disk)]
    facts.append(("traced", ", ".join(traced) or "no library. %hh instrument"))
    if joins:
        facts.append(("provider", "another one is global and is joined: its sampler, limits and resource hold"))
    facts += [("trouble", line) for line in trouble]
    lines = [head, *(f"  {name:<9} {text}" for name, text in facts)]
    others = [] if everything else ["  (others have their defaults: %hh status --all)"]
    return "\n".join([*lines, "", *_setting_lines(settings, everything=everything), *others])


def _counts(export: ExportState) -> str:
    if export.destination is None:
        return f"{export.made:,} made"
    left = f", {export.exported_elsewhere:,} left to others" if export.exported_elsewhere else ""
    return (
        f"{export.made + export.exported_elsewhere:,} made, {export.sent:,} sent, {export.waiting:,} waiting, "
        f"{export.parked:,} parked, {export.dropped:,} dropped{left}"
    )


def _calls(export: ExportState) -> str:
    """Session starts, updates and events that did not come through; empty where all did, as they mostly do."""
    counts = (
        (export.calls_waiting, "waiting"),
        (export.calls_parked, "refused"),
        (export.calls_dropped, "lost"),
    )
    found = ", ".join(f"{number:,} {word}" for number, word in counts if number)
    why = export.parked_reason if export.calls_parked else export.dropped_reason if export.calls_dropped else None
    return f"{found} (session starts, updates, events){f': {why}' if why else ''}" if found else ""


def disk_lines(spool: Spool | None, known: Iterable[KnownSession]) -> list[str]:
    """What the spool keeps, or why it keeps nothing.

    Args:
        spool: of this process; None where the setting is off.
        known: the sessions that are listed by `%hh sessions`.
    """
    if spool is None:
        return ["nothing is kept there (spool is off)"]
    kept = [session for session in known if session.kept]
    here = [session for session in kept if session.here]
    earlier = [session for session in kept if not session.here]
    waiting, local = sum(session.waiting for session in here), sum(session.local for session in here)
    lines = [spool.problem] if spool.problem else []
    if waiting:
        lines.append(f"{count(waiting, 'span')} of this kernel not sent yet")
    if local:
        lines.append(f"{count(local, 'span')} of this kernel for this machine only")
    if earlier:
        spans = sum(session.kept for session in earlier)
        many = f"{count(len(earlier), 'session')}, {count(spans, 'span')} of earlier kernels"
        lines.append(f"{many} are kept here: %hh sessions")
    if spool.dropped:
        lines.append(f"{count(spool.dropped, 'span')} deleted unsent, for age or room")
    if spool.forgotten:
        lines.append(f"{count(spool.forgotten, 'span')} of local mode deleted, for age or room")
    return lines or ["nothing waits there"]


def _setting_lines(settings: Settings, *, everything: bool) -> list[str]:
    rows = [row for row in settings.describe() if everything or row.name in ALWAYS_SHOWN or row.origin != "default"]
    widths = (max(len(row.name) for row in rows), max(len(row.value) for row in rows))
    return [f"  {row.name:<{widths[0]}}  {row.value:<{widths[1]}}  {row.origin}" for row in rows]


# What an output says about delivery beyond its one word: once per outage, and once that a kernel is local.


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
