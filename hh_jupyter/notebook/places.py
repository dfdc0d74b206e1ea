"""Where an output is shown: below the code of a cell, in what `%%capture` has captured, or in a terminal.

Nothing here keeps the shell's publisher from the time of loading: it is replaced while a capture runs, and by kernels.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

from IPython.core.displaypub import CapturingDisplayPublisher

from hh_jupyter.display import text
from hh_jupyter.display.html import METADATA_KEY, mime_bundle
from hh_jupyter.display.view import CellView
from hh_jupyter.notebook.guard import note_failure
from hh_jupyter.threads import evict_oldest


class Place(Protocol):
    """Where one output is shown. Updates may come from any thread; the first showing must not.

    A new output of a background thread would be filed under whichever cell runs then.

    Attributes:
        can_update: what is shown here can be updated in place.
    """

    can_update: bool

    def show(self, view: CellView, display_id: str, *, update: bool) -> None:
        """Show the view under this display id, or update the output that has it."""

    def publish(self, data: Mapping[str, str], view_id: str, display_id: str, *, update: bool) -> None:
        """Show these mime types under this display id, or update the output that has it."""

    def later(self) -> Place | None:
        """Return the same place for a first output that any thread shows later; None if that is not possible."""


class FrontEnd(Protocol):
    """What `Outputs` needs of a front end.

    Attributes:
        can_update: outputs that are shown can be updated in place.
    """

    can_update: bool

    def place(self) -> Place:
        """Return the place of an output that the running cell shows."""

    def place_below(self) -> Place | None:
        """Return the place below the outputs of the cell that has just ended; None if an output would erase them."""

    def close(self) -> None:
        """Undo what the front end has installed."""


class KernelFrontEnd:
    """Publishes to the clients of a kernel.

    The shell's publisher is taken whenever an output is shown: `%%capture` and `capture_output` replace it meanwhile,
    and the extension may be loaded inside them.
    """

    can_update = True

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._areas = OutputAreas(getattr(getattr(shell, "kernel", None), "session", None))

    def place(self) -> Place:
        """Return the place that the shell's publisher publishes to."""
        publisher = self._shell.display_pub
        if isinstance(publisher, CapturingDisplayPublisher):
            return CapturedPlace(self._shell, publisher)
        return KernelPlace(publisher, self._areas)

    def place_below(self) -> Place | None:
        """Return the place of the running request, unless the cell ended with a `clear_output` that still waits."""
        return None if self._areas.next_output_clears(_request_of(self._shell.display_pub)) else self.place()

    def close(self) -> None:
        """Stop following the kernel's messages."""
        self._areas.close()


class KernelPlace:
    """The output area of a request, by the publisher with which the output is first shown.

    Args:
        publisher: a DisplayPublisher. Those of kernels other than ipykernel may only have `publish`.
        areas: know whether an `ipywidgets.Output` takes the output. Clients do not update outputs in such a widget.
        parent: header of the request under which the first output is shown, unless it would erase what a thread shows
            there; None: of the running one.
    """

    def __init__(self, publisher: Any, areas: OutputAreas, *, parent: Mapping[str, Any] | None = None) -> None:
        self._publisher, self._areas, self._parent = publisher, areas, parent
        self.can_update = not areas.in_widget(_request_of(publisher))

    def show(self, view: CellView, display_id: str, *, update: bool) -> None:
        """Publish text/html and text/plain."""
        self.publish(mime_bundle(view), view.view_id, display_id, update=update)

    def publish(self, data: Mapping[str, str], view_id: str, display_id: str, *, update: bool) -> None:
        """Publish with metadata that marks the output as ours."""
        content = _content(data, view_id, display_id)
        if update or self._parent is None:
            self._publisher.publish(**content, update=update)
            return
        if self._areas.next_output_clears(self._parent.get("msg_id")):
            return
        # The publisher itself would use the header of the current request.
        message = self._publisher.session.msg("display_data", content, parent=self._parent)
        self._publisher.session.send(self._publisher.pub_socket, message, ident=self._publisher.topic)

    def later(self) -> Place | None:
        """Return the place under the current request: clients file an output under the request that is its parent."""
        parent = getattr(self._publisher, "parent_header", None)
        if not parent or not all(hasattr(self._publisher, name) for name in ("session", "pub_socket", "topic")):
            return None
        return KernelPlace(self._publisher, self._areas, parent=parent)


class CapturedPlace:
    """An output that `%%capture` or `capture_output` has captured. Updates change the captured output.

    Args:
        shell: the InteractiveShell.
        publisher: publisher that captures.
    """

    can_update = True

    def __init__(self, shell: Any, publisher: Any) -> None:
        self._shell, self._publisher = shell, publisher

    def show(self, view: CellView, display_id: str, *, update: bool) -> None:
        """Publish text/html and text/plain."""
        self.publish(mime_bundle(view), view.view_id, display_id, update=update)

    def publish(self, data: Mapping[str, str], view_id: str, display_id: str, *, update: bool) -> None:
        """Add the output to what is captured, or change it there, and also on the page if it has been shown since."""
        content = _content(data, view_id, display_id)
        captured = self._captured(display_id)
        if not captured:
            self._publisher.publish(**content)
        for one in captured:
            one["data"] = content["data"]
        screen = self._shell.display_pub
        if update and not isinstance(screen, CapturingDisplayPublisher):
            screen.publish(**content, update=True)

    def remove(self, display_id: str) -> bool:
        """Remove an output from what is captured; return whether it was there."""
        captured = self._captured(display_id)
        for one in captured:
            self._publisher.outputs.remove(one)
        return bool(captured)

    def later(self) -> Place | None:
        """Return this place: anything can be added to what is captured at any time."""
        return self

    def _captured(self, display_id: str) -> list[dict[str, Any]]:
        return [one for one in self._publisher.outputs if one.get("transient") == {"display_id": display_id}]


def _content(data: Mapping[str, str], view_id: str, display_id: str) -> dict[str, Any]:
    return {
        "data": dict(data),
        "metadata": {METADATA_KEY: {"view_id": view_id}},
        "transient": {"display_id": display_id},
    }


def _request_of(publisher: Any) -> str | None:
    """Return the message id of the request whose outputs this publisher shows; None if it is not known."""
    parent = getattr(publisher, "parent_header", None)
    return parent.get("msg_id") if isinstance(parent, Mapping) else None


class TerminalFrontEnd:
    """Prints to a terminal: one line normally, the tree on an error or on request. Printed text is never updated."""

    can_update = False

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def place(self) -> Place:
        """Return the terminal."""
        return self

    def place_below(self) -> Place | None:
        """Return the terminal."""
        return self

    def later(self) -> Place | None:
        """Return None: a terminal cannot show anything under an earlier cell."""
        return None

    def close(self) -> None:
        """Do nothing."""

    def publish(self, data: Mapping[str, str], view_id: str, display_id: str, *, update: bool) -> None:
        """Print the text; ignore updates."""
        if not update:
            print(text.TextStyle(unicode=_supports_unicode(sys.stdout)).encodable(data["text/plain"]))

    def show(self, view: CellView, display_id: str, *, update: bool) -> None:
        """Print the view; ignore updates."""
        if update:
            return
        draw = text.render if view.open else text.summary
        width = shutil.get_terminal_size().columns
        print(draw(view, unicode=_supports_unicode(sys.stdout), color=self._colored(sys.stdout), width=width))

    def _colored(self, stream: Any) -> bool:
        """Whether to use colour: on a terminal, unless IPython or NO_COLOR (no-color.org: not empty) turns it off."""
        no_color = str(getattr(self._shell, "colors", "")).lower() == "nocolor"
        return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and not no_color


def _supports_unicode(stream: Any) -> bool:
    encoding = getattr(stream, "encoding", None) or ""
    return encoding.lower().replace("-", "").replace("_", "") in ("utf8", "cp65001")


def front_end_of(shell: Any) -> FrontEnd:
    """Return the front end of this shell."""
    return KernelFrontEnd(shell) if getattr(shell, "kernel", None) is not None else TerminalFrontEnd(shell)


# Clients keep a `clear_output(wait=True)` until the next output of the same request, even one that comes after the
# cell's code: ours would erase what the cell shows. The kernel does not note such a clear, and what ends it may be
# text, a result, an error or a display, of any thread. So the messages that the kernel sends are followed, as clients
# do.

OUTPUT_MESSAGES: Final = frozenset({"stream", "display_data", "execute_result", "error"})
MAX_WAITING_CLEARS: Final = 100
"""Requests whose output may still be cleared; the oldest are forgotten."""


class OutputAreas:
    """Follows the messages of a kernel: which output areas are cleared by their next output, or belong to a widget.

    Args:
        session: the kernel's `jupyter_client.session.Session`; None in kernels without one, where nothing is known.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._clears: dict[str, None] = {}
        self._widgets: dict[str, str] = {}
        self._following = session is not None
        if session is not None:
            self._wrapper = self._following_send(session.send)
            session.send = self._wrapper

    def next_output_clears(self, request: str | None) -> bool:
        """Return whether the next output of a request would erase its outputs."""
        if request not in self._clears:
            return False
        for stream in (sys.stdout, sys.stderr):  # What was printed since the clear may not have been sent yet.
            with suppress(AttributeError, OSError, ValueError):
                stream.flush()
        return request in self._clears

    def in_widget(self, request: str | None) -> bool:
        """Return whether an `ipywidgets.Output` takes the outputs of a request."""
        return request in self._widgets.values()

    def close(self) -> None:
        """Restore the session's method, unless other code has wrapped the wrapper."""
        self._following = False
        if self._session is not None and self._session.__dict__.get("send") is self._wrapper:
            del self._session.send

    def _following_send(self, send: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(send)
        def follow_and_send(
            stream: Any, msg_or_type: Any, content: Any = None, parent: Any = None, *args: Any, **kwargs: Any
        ) -> Any:
            # Before it is sent: as soon as a client has it, another thread may ask.
            if self._following:
                try:
                    self._follow(msg_or_type, content, parent)
                except Exception as error:  # boundary: the message is sent in any case
                    note_failure("OutputAreas", error)
            return send(stream, msg_or_type, content, parent, *args, **kwargs)

        return follow_and_send

    def _follow(self, kind: Any, content: Any, parent: Any) -> None:
        """Note what a message means for the area of its request. Arguments are those of `Session.send`."""
        if isinstance(kind, Mapping):
            kind, content, parent = kind["header"]["msg_type"], kind["content"], kind["parent_header"]
        if kind in OUTPUT_MESSAGES or kind == "clear_output":
            request = (parent or {}).get("header", parent or {}).get("msg_id")
            if request is None or self.in_widget(request):
                return
            self._clears.pop(request, None)
            if kind == "clear_output" and content["wait"]:
                self._clears[request] = None
                evict_oldest(self._clears, MAX_WAITING_CLEARS)
        elif kind == "comm_msg":
            # An Output takes the outputs of the request whose id it has.
            request = (content["data"].get("state") or {}).get("msg_id")
            if request:
                self._widgets[content["comm_id"]] = request
            elif request is not None:
                self._widgets.pop(content["comm_id"], None)
