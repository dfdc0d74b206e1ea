"""The destinations of one pipeline. Each lane has its own queue, verdicts and counts; all lanes share the bodies."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from hh_jupyter.delivery.sending.endpoint import Endpoint, HoneyHive
from hh_jupyter.delivery.sending.item import Item
from hh_jupyter.delivery.sending.outbox import Outbox
from hh_jupyter.delivery.sending.sender import Sender
from hh_jupyter.delivery.sending.target import Target
from hh_jupyter.delivery.spool.copies import Copies
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.log import ReentrantCondition
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    from hh_jupyter.delivery.sending.plain_otlp import OtlpTarget

HONEYHIVE: Final = "honeyhive"
OTLP: Final = "otlp"


class Lane(NamedTuple):
    """One destination. `sender` is None if nothing is sent."""

    name: str
    outbox: Outbox
    sender: Sender | None


class SharingOutbox(Outbox):
    """The first lane's outbox. It passes its input on to the other lanes' outboxes, which share its lock.

    Attributes:
        others: outboxes that receive copies of the items. The copies share the bodies and have no row in the spool.
    """

    others: tuple[Outbox, ...] = ()

    def count_made(self, cells: Counter[str | None], by_others: tuple[Target, ...] = ()) -> None:
        """See `Outbox`. This applies to all methods of this class."""
        super().count_made(cells, by_others)
        for other in self.others:
            other.count_made(cells, by_others)

    def note_lost(self, reason: str) -> None:
        super().note_lost(reason)
        for other in self.others:
            other.note_lost(reason)

    def add(self, items: Sequence[Item]) -> None:
        for other in self.others:
            other.add([dataclasses.replace(item, key=None) for item in items if item.kind == "spans"])
        super().add(items)


class Lanes:
    """All lanes of the settings. The first lane's outbox feeds all others.

    Args:
        settings: determines the lanes, which are fixed. `follow` applies later changes of other settings.
        copies: copies on disk of the first lane's items.
    """

    def __init__(self, settings: Settings, copies: Copies) -> None:
        guard = ReentrantCondition()
        names = names_of(settings)
        first = names[0] if names else None
        self.outbox = SharingOutbox(
            _host(settings, first),
            settings.batch_size,
            settings.flush_interval,
            copies if copies.spool is not None else None,
            calls=first != OTLP,
            guard=guard,
        )
        self._all = [_lane(first, self.outbox, settings)]
        for name in names[1:]:
            outbox = Outbox(
                _host(settings, name), settings.batch_size, settings.flush_interval, calls=name != OTLP, guard=guard
            )
            self._all.append(_lane(name, outbox, settings))
        self.outbox.others = tuple(lane.outbox for lane in self._all[1:])
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """Apply changed settings for the same destinations."""
        for lane in self._all:
            lane.outbox.batch_size, lane.outbox.flush_interval = settings.batch_size, settings.flush_interval
            lane.outbox.max_batch = settings.max_export_batch_size
            if lane.sender is not None:
                lane.sender.settings = settings

    @property
    def destination(self) -> str | None:
        """Hosts joined by "and"; None if nothing is sent."""
        return " and ".join(lane.outbox.destination for lane in self._all if lane.outbox.destination) or None

    def left_to(self, others: tuple[Target, ...]) -> bool:
        """Return whether spans that other exporters send to these targets reach every lane's destination."""
        return all(lane.outbox.left_to(others) for lane in self._all)

    def start(self) -> None:
        """Start the senders."""
        for lane in self._all:
            if lane.sender is not None:
                lane.sender.start()

    def stop(self, deadline: float) -> None:
        """Stop the senders. Wait until `deadline` (on the `time.monotonic` clock) at most."""
        for lane in self._all:
            if lane.sender is not None:
                lane.sender.stop(max(0.0, deadline - time.monotonic()))

    def flush(self, deadline: float, *, asked: bool) -> bool:
        """Flush all outboxes within one deadline. Return whether every flush succeeded."""
        for lane in self._all[1:]:
            lane.outbox.flush(0.0, asked=False)  # They send while we wait for the first lane.
        for lane in self._all:
            if lane.sender is not None and lane.sender.stranded:
                lane.outbox.flush(0.0, asked=False)  # Makes everything due.
                lane.sender.send_here(deadline)
        done = [lane.outbox.flush(deadline, asked=asked) for lane in self._all]
        return all(done)

    def hurry(self) -> None:
        """Send all items from now on without waiting for batches to fill."""
        for lane in self._all:
            lane.outbox.hurry()

    def release(self) -> None:
        """Retry everything that was refused, given up or paused."""
        for lane in self._all:
            lane.outbox.release()

    def worth_waiting(self) -> bool:
        """Return whether waiting for verdicts makes sense for at least one lane."""
        return any(lane.outbox.worth_waiting() for lane in self._all)

    def hand_to(self, heirs: Lanes) -> None:
        """Move items that are paused by a refused key to the HoneyHive lane of `heirs`."""
        by_name = {lane.name: lane.outbox for lane in heirs._all}
        for lane in self._all:
            if lane.outbox.paused and lane.name == HONEYHIVE and lane.name in by_name:
                lane.outbox.hand_to(by_name[lane.name])

    def states(self, cell: str | None = None) -> dict[str, ExportState]:
        """Return the export state of each lane, by lane name."""
        return {lane.name: lane.outbox.state(cell) for lane in self._all}

    def state(self, cell: str | None = None) -> ExportState:
        """Return one export state for all lanes. A span counts as sent when every lane has sent it."""
        states = self.states(cell)
        if len(states) == 1:
            return next(iter(states.values()))
        worst = max(states.values(), key=lambda state: (state.made - state.sent, state.made))
        return worst._replace(destination=self.destination, failing=any(s.failing for s in states.values()))


def names_of(settings: Settings) -> tuple[str, ...]:
    """Return the names of the configured lanes, without the HoneyHive backend if it has no key."""
    names = () if settings.test_mode or settings.exporter == "none" else tuple(settings.exporter.split(","))
    return tuple(name for name in names if name == OTLP or not settings.local)


def otlp_target(settings: Settings) -> OtlpTarget | None:
    """Return the target of the plain OTLP lane, or None if that lane is not configured."""
    if OTLP not in names_of(settings):
        return None
    from hh_jupyter.delivery.sending.plain_otlp import target_of

    return target_of()


def address(settings: Settings) -> tuple[str | None, str | None]:
    """Return the URL and key of the first lane, which identify its destination on disk; no URL in local mode."""
    first = next(iter(names_of(settings)), None)
    target = otlp_target(settings)
    if first == OTLP and target is not None:
        return target.url, None
    return (None, None) if first is None else (settings.server_url, settings.sending_key)


def _host(settings: Settings, name: str | None) -> str | None:
    from urllib.parse import urlsplit

    target = otlp_target(settings) if name == OTLP else None
    url = settings.server_url if target is None else target.url
    return None if name is None else urlsplit(url).netloc.rpartition("@")[2]


def _lane(name: str | None, outbox: Outbox, settings: Settings) -> Lane:
    if name is None:
        return Lane(HONEYHIVE, outbox, None)
    sender = Sender(settings, outbox, _endpoint(settings, name))
    outbox.target = lambda: sender.endpoint(sender.settings).target()
    return Lane(name, outbox, sender)


def _endpoint(settings: Settings, name: str) -> Callable[[Settings], Endpoint]:
    target = otlp_target(settings) if name == OTLP else None
    if target is None:
        return HoneyHive
    from hh_jupyter.delivery.sending.plain_otlp import PlainOtlp

    return partial(PlainOtlp, target)
