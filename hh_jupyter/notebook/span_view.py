"""`SpanView`: the interactive view as a widget that can be composed with others.

    import ipywidgets
    ipywidgets.HBox([hh_jupyter.SpanView(4), hh_jupyter.SpanView("refund-triage", errors=True)])

The view under a traced cell needs no widget of its own; see `hh_jupyter.display.hub`. Since a saved notebook cannot
show widgets without a kernel, the outputs of a `SpanView` and of a layout around one are static text and HTML too, and
the hub shows the widgets in their place.
"""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

try:
    import anywidget
    import ipywidgets
    import traitlets
except ImportError as error:
    text = "SpanView needs the widget libraries: %pip install anywidget, then restart the kernel"
    raise ImportError(text, name=error.name) from error
from IPython.core.error import UsageError
from IPython.core.getipython import get_ipython

from hh_jupyter.display import hub as hub_module
from hh_jupyter.display.html import BOX_PREFIX, METADATA_KEY, box_html, mime_bundle
from hh_jupyter.display.hub import Hub
from hh_jupyter.display.view import CellView
from hh_jupyter.errors import HHError
from hh_jupyter.notebook import session_magic
from hh_jupyter.notebook.show import ShowCommand

Bundle = tuple[dict[str, Any], dict[str, Any]]
"""Data by mime type, and metadata."""

Page = Literal["hub", "widgets", "none"]
"""How the front end shows a widget: by the hub in place of static HTML, as any other widget, or not at all."""

_CELL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""The id of a cell in a notebook's file, which JupyterLab and Notebook send. VS Code sends a URL."""


class _UnsentLayout(ipywidgets.Layout):
    """A layout without a connection to a page, whose state a headless run would save in the notebook."""

    def open(self) -> None:
        """Do nothing."""


class SpanView(anywidget.AnyWidget):
    """Spans as bar, tree, waterfall and details, updated in place when spans end late or their export state changes.

    Args:
        what: number of a cell, "last" (the last cell with spans), a session as for `%hh show`, "all" for every span of
            this kernel, "background" for spans outside cells, or a file of OTLP JSON.
        errors: show only spans in error and their ancestors.
        traits: traits of every widget, such as `layout`.

    Raises:
        HHError: the extension is not loaded, or there are no such spans.
    """

    _esm = hub_module.LOADER
    packed = traitlets.Bytes(hub_module.packed_front_end(), read_only=True).tag(sync=True)
    view_id = traitlets.Unicode().tag(sync=True)

    def __init__(self, what: int | str = "last", *, errors: bool = False, **traits: Any) -> None:
        command = _show_command()
        try:
            selection = command.select(str(what))
        except UsageError as error:
            raise HHError(f"SpanView: {str(error).partition(': ')[2]}") from None
        if selection.note and isinstance(what, str):
            print(selection.note)
        self._page = _page_of(command.cell_id)
        # The view adapts to its width; without one it would collapse inside an HBox.
        layout = traits.setdefault("layout", {"width": "100%"})
        if self._page == "none" and isinstance(layout, dict):
            traits["layout"] = _UnsentLayout(**layout)
        super().__init__(view_id=f"hh-widget-{secrets.token_hex(4)}", **traits)
        self._what = what
        self._outputs = command.add_widget_view(selection, self.view_id, errors_only=errors, on_change=self._on_change)
        self._hub = Hub(self._outputs.hub_source)
        self._hub.open(self)
        _show_layouts(get_ipython())

    def _on_change(self, view_id: str) -> None:
        hub = getattr(self, "_hub", None)  # None during __init__.
        if hub is not None:
            hub.changed(view_id)

    def open(self) -> None:
        """Connect to the page. A headless run has none, and would save the widget's state in the notebook."""
        if self._page != "none":
            super().open()

    @property
    def model_id(self) -> str:
        """The id of the widget's model. Layouts in a headless run, which refer to it, get that of an empty widget."""
        return str(super().model_id) if self.comm is not None else str(self._stand_in.model_id)

    @cached_property
    def _stand_in(self) -> ipywidgets.HTML:
        return ipywidgets.HTML()

    def close(self) -> None:
        """Remove the widget from the page, which shows its static form again, and stop updating it."""
        outputs = getattr(self, "_outputs", None)
        if outputs is not None:
            outputs.forget(self.view_id)
        self.layout.close()  # A separate widget, which super().close() does not close.
        super().close()

    def __repr__(self) -> str:
        return f"SpanView({self._what!r})"

    def static_view(self) -> CellView | None:
        """Return the view for static rendering; None after the widget was closed."""
        return self._outputs.hub_source.static_view(self.view_id)

    def _repr_mimebundle_(self, **kwargs: Any) -> Bundle:
        """Return static text and HTML, and the widget only for front ends in which the hub does not work."""
        view = self.static_view()
        static = mime_bundle(view) if view is not None else {"text/plain": repr(self)}
        widget = _widget_bundle(super(), kwargs)[0] if self._page == "widgets" else {}
        return {**widget, **static}, {METADATA_KEY: {"view_id": self.view_id}}


def _page_of(cell_id: str | None) -> Page:
    """Return how the front end that runs this cell shows a widget."""
    if "google.colab" in sys.modules or (cell_id is not None and not _CELL_ID.fullmatch(cell_id)):
        return "widgets"
    return "none" if cell_id is None else "hub"


def _widget_bundle(widget: Any, options: dict[str, Any]) -> Bundle:
    bundle = widget._repr_mimebundle_(**options) or {}
    return bundle if isinstance(bundle, tuple) else (bundle, {})


# Layouts of widgets that hold a view. IPython displays all layouts by this module's function once a view exists.


def _views_in(box: ipywidgets.Box) -> Iterator[SpanView]:
    for child in box.children:
        if isinstance(child, SpanView):
            yield child
        elif isinstance(child, ipywidgets.Box):
            yield from _views_in(child)


def _display_box(box: ipywidgets.Box) -> Bundle:
    """Return the outputs of a layout; those with a view in it get its static form."""
    views = list(_views_in(box))
    if not views:
        return _widget_bundle(box, {})
    html = box_html(box.model_id, [view for one in views if (view := one.static_view()) is not None])
    data, metadata = _widget_bundle(box, {}) if views[0]._page == "widgets" else ({"text/plain": repr(box)}, {})
    return {**data, "text/html": html}, {**metadata, METADATA_KEY: {"view_id": BOX_PREFIX + box.model_id}}


def _show_layouts(shell: Any) -> None:
    """Let IPython display layouts by `_display_box`, unless it has another function for them."""
    formatter = shell.display_formatter.mimebundle_formatter
    formatter.type_printers.setdefault(ipywidgets.Box, _display_box)


def restore_layouts(shell: Any) -> None:
    """Let IPython display layouts as before."""
    printers = shell.display_formatter.mimebundle_formatter.type_printers
    if printers.get(ipywidgets.Box) is _display_box:
        del printers[ipywidgets.Box]


def _show_command() -> ShowCommand:
    extension = getattr(get_ipython(), session_magic.SHELL_ATTRIBUTE, None)
    if extension is None:
        raise HHError("SpanView: the notebook extension is not loaded. %load_ext hh_jupyter")
    command: ShowCommand = extension.show_command
    return command
