"""Move records from a dead process's file to ours, and from local to a destination."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hh_jupyter.delivery.spool.record import Stored

if TYPE_CHECKING:
    from hh_jupyter.delivery.spool.file import SpoolFile
    from hh_jupyter.delivery.spool.own import OwnFile

CHUNK_BYTES: Final = 8 * 1024 * 1024
"""Records are moved in chunks of this size, so that new ones can be added in between."""


@dataclass(slots=True)
class Adoption:
    """One adoption of the records that `choose` selects.

    Attributes:
        own: file that receives them.
        destination: their new destination.
        unpark: whether parked records are retried.
        body_bytes: remaining memory for bodies; once it is used up, bodies stay on disk.
        taken: adopted records, in the order of the files.
    """

    own: OwnFile
    choose: Callable[[Stored], bool]
    destination: str
    unpark: bool
    body_bytes: int
    taken: list[Stored] = field(default_factory=list)

    def take_left(self, file: SpoolFile) -> None:
        """Move records from a dead process's file into ours; a crash in between can only duplicate them."""
        waiting = [record for record in file.rows(bodies=False) if self.choose(record)]
        while waiting:
            size = number = 0
            while number < len(waiting) and size < CHUNK_BYTES:
                size += waiting[number].size
                number += 1
            if not self._move(file, waiting[:number]):
                return  # They could not be stored here: leave them for the next attempt.
            waiting = waiting[number:]

    def _move(self, file: SpoolFile, chunk: list[Stored]) -> bool:
        old = [record.key for record in chunk if record.key is not None]
        for record, key in zip(chunk, old, strict=True):
            record.body = file.body(key) or b""
            record.key = self.own.new_key()
            self._settle(record)
        if not self.own.put_now(chunk, instead_of=file.path):
            return False
        file.remove(old)
        for record in chunk:
            self._hand_out(record, record.body)
        return True

    def take_own(self, file: SpoolFile) -> None:
        """Assign the destination to the chosen records of our own file."""
        chosen = [record for record in file.rows(bodies=False) if self.choose(record)]
        file.send_to([record.key for record in chosen if record.key is not None], self.destination)
        for record in chosen:
            self._settle(record)
            fits = record.size <= self.body_bytes and record.key is not None
            self._hand_out(record, file.body(record.key or 0) or b"" if fits else b"")

    def _settle(self, record: Stored) -> None:
        record.destination = self.destination
        if self.unpark:
            record.parked = None

    def _hand_out(self, record: Stored, body: bytes) -> None:
        record.body = body if len(body) <= self.body_bytes else b""
        self.body_bytes -= len(record.body)
        self.taken.append(record)
