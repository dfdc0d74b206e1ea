"""The hub, opened late and only where a page can take it: without one, static outputs stay as they are."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hh_jupyter.display.hub import Hub, Source
    from hh_jupyter.display.view import CellView

logger = logging.getLogger(__name__)


class Page:
    """The front end's page, made interactive by the hub.

    Attributes:
        wanted: a cell of a notebook was traced. Headless runs tell no cell id and get no hub: its state would be saved.
    """

    def __init__(self, source: Source) -> None:
        self.wanted = False
        self._source = source
        self._hub: Hub | None = None
        self._tried = False
        self._opening = threading.Lock()

    @property
    def unopened(self) -> bool:
        """`open` has something to do."""
        return self.wanted and not self._tried

    def open(self) -> None:
        """Open the hub if it is wanted and was not tried before. It imports for 0.3 s: not for a cell's own time."""
        with self._opening:
            if not self.unopened:
                return
            self._tried = True
            self._open()

    def _open(self) -> None:
        try:
            from hh_jupyter.display.hub import Hub

            hub = Hub(self._source)
            hub.open()
        except Exception:  # boundary: the widget libraries may be missing, old or broken; the outputs are complete
            logger.debug("no interactive view", exc_info=True)
            return
        self._hub = hub

    def changed(self, view_id: str) -> None:
        """Tell the page that a view has changed."""
        if self._hub is not None:
            self._hub.changed(view_id)

    @property
    def seen(self) -> bool:
        """Somebody looks at the page, as far as it says."""
        return self._hub is not None and self._hub.seen

    @property
    def looks(self) -> int:
        """See `Hub.looks`."""
        return self._hub.looks if self._hub is not None else 0

    def running(self, view: CellView, source: str, elapsed_ms: float) -> None:
        """Show what a cell that still runs has done so far; see `Hub.running`."""
        if self._hub is not None:
            self._hub.running(view, source, elapsed_ms)

    def ended(self, view_id: str) -> None:
        """A cell that was shown as running has ended."""
        if self._hub is not None:
            self._hub.ended(view_id)

    def close(self) -> None:
        """Close the hub's model; the page goes back to the static outputs."""
        hub, self._hub, self._tried = self._hub, None, True
        if hub is not None:
            hub.close()
