"""`SpanView`: the interactive view as a widget that can be composed with others.

    import ipywidgets
    ipywidgets.HBox([hh_jupyter.SpanView(4), hh_jupyter.SpanView("refund-triage", errors=True)])

The view under a traced cell needs no widget of its own; see `hh_jupyter.display.hub`. Since a saved notebook cannot
show widgets without a kernel, a `SpanView` adds the static text and HTML to its output.
"""

from __future__ import annotations

import secrets
from typing import Any

try:
    import anywidget
    import traitlets
except ImportError as error:
    text = "SpanView needs the widget libraries: %pip install anywidget, then restart the kernel"
    raise ImportError(text, name=error.name) from error
from IPython.core.error import UsageError
from IPython.core.getipython import get_ipython

from hh_jupyter.display import hub as hub_module
from hh_jupyter.display.html import METADATA_KEY, mime_bundle
from hh_jupyter.display.hub import Hub
from hh_jupyter.errors import HHError
from hh_jupyter.notebook import session_magic
from hh_jupyter.notebook.show import ShowCommand


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

    _esm = hub_module.packed_front_end()
    _css = hub_module.front_end_style()
    view_id = traitlets.Unicode().tag(sync=True)

    def __init__(self, what: int | str = "last", *, errors: bool = False, **traits: Any) -> None:
        command = _show_command()
        try:
            selection = command.select(str(what))
        except UsageError as error:
            raise HHError(f"SpanView: {str(error).partition(': ')[2]}") from None
        if selection.note and isinstance(what, str):
            print(selection.note)
        # The view adapts to its width; without one it would collapse inside an HBox.
        traits.setdefault("layout", {"width": "100%"})
        super().__init__(view_id=f"hh-widget-{secrets.token_hex(4)}", **traits)
        self._what = what
        self._outputs = command.add_widget_view(selection, self.view_id, errors_only=errors, on_change=self._on_change)
        self._hub = Hub(self._outputs.hub_source)
        self._hub.open(self)

    def _on_change(self, view_id: str) -> None:
        hub = getattr(self, "_hub", None)  # None during __init__.
        if hub is not None:
            hub.changed(view_id)

    def close(self) -> None:
        """Remove the widget from the page and stop updating it."""
        outputs = getattr(self, "_outputs", None)
        if outputs is not None:
            outputs.forget(self.view_id)
        self.layout.close()  # A separate widget, which super().close() does not close.
        super().close()

    def __repr__(self) -> str:
        return f"SpanView({self._what!r})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the widget together with static text and HTML, for front ends without widgets."""
        bundle = super()._repr_mimebundle_(**kwargs) or {}
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        view = self._outputs.hub_source.static_view(self.view_id)
        static = mime_bundle(view) if view is not None else {}
        return {**data, **static}, {**metadata, METADATA_KEY: {"view_id": self.view_id}}


def _show_command() -> ShowCommand:
    extension = getattr(get_ipython(), session_magic.SHELL_ATTRIBUTE, None)
    if extension is None:
        raise HHError("SpanView: the notebook extension is not loaded. %load_ext hh_jupyter")
    command: ShowCommand = extension.show_command
    return command
