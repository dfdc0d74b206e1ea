"""Model requests that are recorded, answered from a file, or stopped before they cost too much.

Nothing of it is imported until a recording or a limit is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, cast
from urllib.parse import urlsplit

from hh_jupyter.errors import SettingError
from hh_jupyter.recordings.hooks import Interception
from hh_jupyter.recordings.recorder import MODES, Recorder, mode_in_force
from hh_jupyter.redaction import shown

__all__ = ["recording"]


@contextmanager
def recording(
    path: str | os.PathLike[str],
    mode: Literal["auto", "only", "record", "off"] = "auto",
    *,
    hosts: Iterable[str] = (),
    ignore: Iterable[str] = (),
) -> Iterator[Recorder | None]:
    """Answer model requests from a file, and record those that are not in it yet::

        with hh_jupyter.recording("triage.jsonl"):
            reply = agent(ticket)  # The second time without a request, and with the same answers.

    It holds for all code that runs in the block, threads and tasks included; the innermost block counts.

    Args:
        path: of the file, which is made if it is missing.
        mode: `auto` answers complete, successful exchanges that are recorded, and sends and records the rest. `only`
            sends nothing; what is not recorded is answered with an error 404 that says what differs. `record` sends
            everything and records it anew. `off` does neither, also inside another block.
        hosts: further hosts whose requests are recorded, such as "gateway.corp", "localhost:8000" or the base address
            of a client. Those of known model APIs are, and elsewhere requests that look like theirs.
        ignore: fields of JSON bodies that do not matter when requests are compared, such as "user" or
            "metadata.run_id"; lists are looked through.

    Yields:
        the recorder, whose `counts` say how many requests were replayed, sent and missed; None in mode `off`.

    Raises:
        SettingError: an unknown mode, or a path, host or field that is none.
    """
    if mode not in MODES:
        raise SettingError(f"recording(mode={shown('mode', mode)}): must be one of {', '.join(MODES)}")
    if not os.fspath(path) or "\0" in os.fspath(path):
        raise SettingError(f"recording({shown('path', path)}): must be the path of a file, such as triage.jsonl")
    mode = cast("Literal['auto', 'only', 'record', 'off']", mode_in_force(mode))
    if mode == "off":
        with Interception(None, replaces=Recorder, everywhere=True):
            yield None
        return
    recorder = Recorder(path, mode, hosts=map(_host, _listed("hosts", hosts)), ignore=_listed("ignore", ignore))
    recorder.begin_run()
    try:
        with Interception(recorder, replaces=Recorder, everywhere=True):
            yield recorder
    finally:
        recorder.close()


def _listed(name: str, values: Iterable[str]) -> list[str]:
    """The values of an argument, which may be a single one."""
    try:
        found = [values] if isinstance(values, str) else list(values)
    except TypeError:
        found = [cast("str", values)]
    for value in found:
        if type(value) is not str or not value:
            raise SettingError(f"recording({name}=[{shown(name, value)}]): must be names, such as {_EXAMPLES[name]}")
    return found


def _host(value: str) -> str:
    """The host of an entry, which may be the base address of a client."""
    return urlsplit(value if "//" in value else f"//{value}").netloc.rpartition("@")[2] or value


_EXAMPLES = {"hosts": '"localhost:8000"', "ignore": '"metadata.run_id"'}
