"""`%hh open`: a session's page in the web application."""

from __future__ import annotations

import webbrowser

from IPython.core.error import UsageError

from hh_jupyter.notebook.status import local_mode
from hh_jupyter.notebook.views import session_url
from hh_jupyter.tracing.tracer import HoneyHiveTracer


def open_session(session_id: str | None, tracer: HoneyHiveTracer, *, here: bool) -> str:
    """The page's address; opened in a browser as well if there is one where this runs.

    Args:
        session_id: of the session.
        tracer: of this kernel.
        here: the person is at this machine, in a terminal. Front ends of a kernel make a link of the address.

    Raises:
        UsageError: the address of the web application is not known, or nothing is sent there.
    """
    if tracer.destination is None:
        raise UsageError(f"%hh open: {local_mode(tracer.settings)}")
    url = session_url(tracer.settings, session_id)
    if url is None:
        example = "%config HHJupyter.app_url = 'https://app.example/sessions/{session_id}'"
        raise UsageError(f"%hh open: the setting app_url says where a session's page is: {example}")
    if here:
        webbrowser.open(url)
    return f"hh: {url}"
