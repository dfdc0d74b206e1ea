"""Where a cell's output goes: a front end that takes mime bundles and updates, or a terminal that takes text."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any, Final, Protocol

from hh_jupyter.display import text
from hh_jupyter.display.bundle import mime_bundle
from hh_jupyter.display.view import CellView

METADATA_KEY: Final = "hh_jupyter"
"""Marks our outputs in a saved notebook, so that a tool can find and strip them."""


class Screen(Protocol):
    """What `Outputs` needs of a front end.

    Attributes:
        live: an output that is shown can be changed in place.
    """

    live: bool

    def show(self, view: CellView, display_id: str, *, update: bool) -> None:
        """Show the view under this id, or change what is shown under it."""

    def publish(self, data: Mapping[str, str], view_id: str, display_id: str, *, update: bool) -> None:
        """Show these mime types under this id, or change what is shown under it."""

    def place(self) -> object:
        """What `show_at` needs to show something under the cell that runs now; None where that cannot be done."""

    def show_at(self, place: object, view: CellView, display_id: str) -> None:
        """Show a first output under a cell that has ended."""


class KernelScreen:
    """A kernel's clients. Only `update` may be called from a thread: a new output would land under another cell."""

    live = True

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        # A `%%capture` that runs meanwhile puts its own publisher in this one's place.
        self._publisher = shell.display_pub

    def show(self, view: CellView, display_id: str, *, update: bool) -> None:
        """Publish text/html and text/plain."""
        self.publish(mime_bundle(view), view.view_id, display_id, update=update)

    def publish(self, data: Mapping[str, str], view_id: str, display_id: str, *, update: bool) -> None:
        """Publish, marked as ours."""
        publisher = self._publisher if update else self._shell.display_pub
        publisher.publish(
            data=dict(data),
            metadata={METADATA_KEY: {"view_id": view_id}},
            transient={"display_id": display_id},
            update=update,
        )

    def place(self) -> object:
        """The request's header; outputs are filed under the request that they name as their parent."""
        return self._publisher.parent_header

    def show_at(self, place: object, view: CellView, display_id: str) -> None:
        """Publish with that parent; `publish` itself would name the request that runs now."""
        publisher = self._publisher
        content = {
            "data": mime_bundle(view),
            "metadata": {METADATA_KEY: {"view_id": view.view_id}},
            "transient": {"display_id": display_id},
        }
        message = publisher.session.msg("display_data", content, parent=place)
        publisher.session.send(publisher.pub_socket, message, ident=publisher.topic)


class TerminalScreen:
    """IPython in a terminal: one line when all is well, the tree on an error or by request."""

    live = False

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def place(self) -> object:
        """Nowhere: a terminal only goes on."""
        return None

    def show_at(self, place: object, view: CellView, display_id: str) -> None:
        """Never called, since there is no place."""

    def publish(self, data: Mapping[str, str], view_id: str, display_id: str, *, update: bool) -> None:
        """Print the text; what is printed cannot be changed."""
        if not update:
            print(data["text/plain"])

    def show(self, view: CellView, display_id: str, *, update: bool) -> None:
        """Print the view; what is printed cannot be changed, so updates are left out."""
        if update:
            return
        draw = text.render if view.open else text.summary
        width = shutil.get_terminal_size().columns
        print(draw(view, unicode=_carries_unicode(sys.stdout), color=self._colored(sys.stdout), width=width))

    def _colored(self, stream: Any) -> bool:
        """Somebody sees it, and nobody asked for none (no-color.org: set to anything but nothing)."""
        plain = str(getattr(self._shell, "colors", "")).lower() == "nocolor"
        return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and not plain


def _carries_unicode(stream: Any) -> bool:
    encoding = getattr(stream, "encoding", None) or ""
    return encoding.lower().replace("-", "").replace("_", "") in ("utf8", "cp65001")


def screen_of(shell: Any) -> Screen:
    """The screen of this IPython."""
    return KernelScreen(shell) if getattr(shell, "kernel", None) is not None else TerminalScreen(shell)
