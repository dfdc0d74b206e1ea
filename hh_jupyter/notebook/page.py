"""The hub, opened late and only where a page can take it: without one, static outputs stay as they are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hh_jupyter.display.view import CellView

if TYPE_CHECKING:
    from hh_jupyter.display.hub import Hub

logger = logging.getLogger(__name__)


class Page:
    """The front end's page, made interactive by the hub.

    Attributes:
        wanted: a cell of a notebook was traced. Headless runs tell no cell id and get no hub: its state would be saved.
    """

    def __init__(
        self,
        rows: Callable[[str], CellView | None],
        details: Callable[[str, str], dict[str, Any] | None],
        send: Callable[[], str],
    ) -> None:
        self.wanted = False
        self._callbacks = (rows, details, send)
        self._hub: Hub | None = None
        self._tried = False

    @property
    def unopened(self) -> bool:
        """`open` has something to do."""
        return self.wanted and not self._tried

    def open(self) -> None:
        """Open the hub if it is wanted and was not tried before. It imports for 0.3 s: not for a cell's own time."""
        if not self.unopened:
            return
        self._tried = True
        try:
            from hh_jupyter.display.hub import Hub

            hub = Hub(*self._callbacks)
            hub.open()
        except Exception:  # boundary: the widget libraries may be missing, old or broken; the outputs are complete
            logger.debug("no interactive view", exc_info=True)
            return
        self._hub = hub

    def changed(self, view_id: str) -> None:
        """Tell the page that a view has changed."""
        if self._hub is not None:
            self._hub.changed(view_id)

    def close(self) -> None:
        """Close the hub's model; the page goes back to the static outputs."""
        hub, self._hub, self._tried = self._hub, None, True
        if hub is not None:
            hub.close()
