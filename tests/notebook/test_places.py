"""Places of outputs: what the kernel's messages mean for the output area of a cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from jupyter_client.session import Session

from hh_jupyter.notebook.places import OutputAreas


class Stream:
    """A socket that calls a function when a message is about to leave."""

    def __init__(self, leaves: Callable[[], None]) -> None:
        self._leaves = leaves

    def send_multipart(self, parts: Sequence[bytes], **_options: Any) -> None:
        self._leaves()


@pytest.mark.parametrize("form", ["a type", "a message"])
def test_a_clear_is_known_before_any_client_has_it(form: str) -> None:
    """Otherwise another thread may show something in between, and erase what the cell shows."""
    session = Session(key=b"a key")
    areas = OutputAreas(session)
    known: list[bool] = []
    stream: Any = Stream(lambda: known.append(areas.next_output_clears("request")))
    for kind, content in (("clear_output", {"wait": True}), ("stream", {"name": "stdout", "text": "shown"})):
        parent = {"msg_id": "request", "msg_type": "execute_request"}
        if form == "a type":
            session.send(stream, kind, content, parent=parent)
        else:
            session.send(stream, session.msg(kind, content, parent=parent), ident=b"topic")
    assert known == [True, False]
    areas.close()
