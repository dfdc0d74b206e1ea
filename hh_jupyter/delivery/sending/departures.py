"""Selects the next request and tracks the requests in flight."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from hh_jupyter.delivery.sending.circuit import Circuit
from hh_jupyter.delivery.sending.item import Batch, Flight, Item
from hh_jupyter.delivery.sending.order import Order


class Departures:
    """The requests of one destination. Guarded by the outbox's lock.

    Args:
        order: selects the next items.
        circuit: decides whether a request may be sent at all.
    """

    def __init__(self, order: Order, circuit: Circuit) -> None:
        self._order, self._circuit = order, circuit
        self._flights: dict[Item, Flight] = {}

    def take(self, now: float, enough: int) -> list[Item]:
        """Return the items of the next request, or an empty list if nothing is due.

        Args:
            enough: number of spans that are sent without waiting for more.
        """
        if not self._circuit.may_send(now):
            return []
        spans_first = self._circuit.failed_kind not in (None, "spans")  # The other endpoint may answer.
        enough = self._enough(enough)
        flight = self._spans(now, enough) if spans_first else self._call(now)
        flight = flight or (self._call(now) if spans_first else self._spans(now, enough))
        if flight is None:
            return []
        self._flights[flight.items[0]] = flight
        self._circuit.probing = self._circuit.probing or flight.probe
        return list(flight.items)

    def more_due(self, now: float, enough: int) -> bool:
        """Return whether another request could be sent now, in parallel with those in flight."""
        if not self._circuit.may_send(now):
            return False
        return self._order.due_call(now) is not None or self._order.due_spans(now, self._enough(enough))

    def next_moment(self) -> float | None:
        """Return when the next item becomes due; None if no item does or if a probe is in flight."""
        moment = None if self._circuit.open and self._circuit.probing else self._order.next_moment()
        return None if moment is None else max(moment, self._circuit.next_moment())

    def landed(self, items: Sequence[Item]) -> Flight:
        """Remove and return the flight of these items, whose request has finished."""
        flight = self._flights.pop(items[0])
        self._circuit.probing = self._circuit.probing and not flight.probe
        return flight

    def keep(self, flight: Flight) -> None:
        """Put a flight back while its request is being split."""
        self._flights[flight.items[0]] = flight

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[Item]:
        return itertools.chain.from_iterable(flight.items for flight in self._flights.values())

    def _enough(self, enough: int) -> int:
        """Return the spans that a request needs: a full batch during another export, since few large ones cost less."""
        exporting = any(flight.items[0].kind == "spans" for flight in self._flights.values())
        return max(enough, self._order.max_spans) if exporting else enough

    def _call(self, now: float) -> Flight | None:
        call = self._order.take_call(now)
        return None if call is None else Flight((call,), None, now, self._circuit.open)

    def _spans(self, now: float, enough: int) -> Flight | None:
        found = self._order.take_spans(now, enough, loose_first=self._circuit.open)
        if not found:
            return None
        if isinstance(found, Batch):
            return Flight(tuple(found.items), found, now, self._circuit.open)
        return Flight(tuple(found), None, now, self._circuit.open)
