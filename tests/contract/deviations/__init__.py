"""Where this package does something else than the recorded client, on purpose, with reasons; one file per subject.

A replay may differ from its recording only by the deviations listed for the case, and each listed one must occur;
otherwise the test of that case fails. The recordings hold known faults of the client they were made with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.contract.deviations import delivery, experiments, sessions, settings, spans, tracers
from tests.contract.deviations.rows import Deviation

__all__ = ["DEVIATIONS", "NOT_YET", "Deviation"]

SUBJECTS = (settings, sessions, spans, tracers, delivery, experiments)

DEVIATIONS: Final[Mapping[str, tuple[Deviation, ...]]] = {
    case: rows for subject in SUBJECTS for case, rows in subject.DEVIATIONS.items()
}
"""Case -> what is different in it."""

NOT_YET: Final[Mapping[str, str]] = {}
"""Cases that cannot pass yet, with the reason; the test fails as soon as one does."""
