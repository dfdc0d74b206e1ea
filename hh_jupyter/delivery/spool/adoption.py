"""Records that change hands: from a dead process's file to ours, from local to a destination."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hh_jupyter.delivery.spool.record import Stored

if TYPE_CHECKING:
    from hh_jupyter.delivery.spool.file import SpoolFile
    from hh_jupyter.delivery.spool.own import OwnFile

CHUNK_BYTES: Final = 8 * 1024 * 1024
"""Records are moved in pieces of this size, so that adding goes on in between."""


@dataclass(slots=True)
class Adoption:
    """One taking over of the records that `choose` names.

    Attributes:
        own: where they go.
        destination: theirs from then on.
        unpark: parked ones wait again.
        body_bytes: bodies that may still be handed out in memory; those of later records are left on disk.
        taken: in the order of the files.
    """

    own: OwnFile
    choose: Callable[[Stored], bool]
    destination: str
    unpark: bool
    body_bytes: int
    taken: list[Stored] = field(default_factory=list)

    def take_left(self, file: SpoolFile) -> None:
        """Move records of a dead process's file into ours; a crash in between only doubles them."""
        waiting = [record for record in file.rows(bodies=False) if self.choose(record)]
        while waiting:
            size = number = 0
            while number < len(waiting) and size < CHUNK_BYTES:
                size += waiting[number].size
                number += 1
            if not self._move(file, waiting[:number]):
                return  # There is no room: they stay where they are, for the next time.
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
        """Give records of our own file the destination."""
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
