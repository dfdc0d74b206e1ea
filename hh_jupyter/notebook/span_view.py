"""`SpanView`: the interactive view as a widget, to be composed with others.

    import ipywidgets
    ipywidgets.HBox([hh_jupyter.SpanView(4), hh_jupyter.SpanView("refund-triage", errors=True)])

Under its cell a traced cell's view needs none: see the hub. Widgets are not readable in a saved notebook without the
kernel, which the static outputs are; beside itself this one offers the static forms to readers that know no widgets.
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
from hh_jupyter.notebook.show import Shows


class SpanView(anywidget.AnyWidget):
    """Spans as bar, tree, waterfall and details; a cell's late spans and every change of delivery arrive in place.

    Args:
        what: number of a cell, "last" (the last cell with spans), a session as `%hh show` takes it, "all" of this
            kernel, "background" for those of no cell, or a file of OTLP JSON.
        errors: show only what failed, and the spans that lead to it.
        traits: of every widget, such as `layout`.

    Raises:
        HHError: the extension is not loaded, or there are no such spans.
    """

    _esm = hub_module.packed_front_end()
    _css = hub_module.front_end_style()
    view_id = traitlets.Unicode().tag(sync=True)

    def __init__(self, what: int | str = "last", *, errors: bool = False, **traits: Any) -> None:
        shows = _shows()
        try:
            chosen = shows.select(str(what))
        except UsageError as error:
            raise HHError(f"SpanView: {str(error).partition(': ')[2]}") from None
        # Beside others in an HBox it would have no width of its own: the view adapts to the width that it is given.
        traits.setdefault("layout", {"width": "100%"})
        super().__init__(view_id=f"hh-widget-{secrets.token_hex(4)}", **traits)
        self._what = what
        self._outputs = shows.hold(chosen, self.view_id, errors_only=errors, told=self._tell)
        self._hub = Hub(self._outputs.answers)
        self._hub.open(self)

    def _tell(self, view_id: str) -> None:
        hub = getattr(self, "_hub", None)  # None: while it is made.
        if hub is not None:
            hub.changed(view_id)

    def close(self) -> None:
        """Take it out of the page, and let go of what it shows."""
        outputs = getattr(self, "_outputs", None)
        if outputs is not None:
            outputs.forget(self.view_id)
        self.layout.close()  # A widget of its own, which closing this one leaves behind.
        super().close()

    def __repr__(self) -> str:
        return f"SpanView({self._what!r})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget, and the static forms for whoever shows no widgets."""
        bundle = super()._repr_mimebundle_(**kwargs) or {}
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        view = self._outputs.answers.drawn(self.view_id)
        static = mime_bundle(view) if view is not None else {}
        return {**data, **static}, {**metadata, METADATA_KEY: {"view_id": self.view_id}}


def _shows() -> Shows:
    extension = getattr(get_ipython(), session_magic.SHELL_ATTRIBUTE, None)
    if extension is None:
        raise HHError("SpanView: the notebook extension is not loaded. %load_ext hh_jupyter")
    shows: Shows = extension.shows
    return shows
