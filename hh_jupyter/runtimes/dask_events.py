"""The way home from Dask: results stay in its workers and go on to other tasks there, so spans come as events.

A worker logs them under a topic of the process that sent the work; the scheduler passes them on to that process's
clients, in order, before it tells them that the task is done. It keeps the latest of each topic
(`distributed.admin.low-level-log-length`), and a worker that dies takes with it what its running tasks have made.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Mapping
from typing import Any, Final

from hh_jupyter.delivery.away import process_name
from hh_jupyter.runtimes.going_home import take_in
from hh_jupyter.tracing import away
from hh_jupyter.tracing.bounded import forget_oldest

MOST_RUNNING: Final = 10_000
"""Tasks that are remembered as running somewhere."""

_listening: weakref.WeakSet[Any] = weakref.WeakSet()
_running: dict[str, str] = {}
"""Address of the worker by task."""


def _topic(process: str) -> str:
    return f"hh_jupyter-{process}"


# At home


def listen() -> None:
    """Hear what workers send to this process, through every Dask client that it has by now."""
    module: Any = sys.modules.get("distributed.client")
    if module is None:
        return
    for client in list(module.Client._instances):
        if client not in _listening and client.status in ("running", "connecting", "newly-created"):
            client.subscribe_topic(_topic(process_name()), _heard)
            _listening.add(client)


def _heard(event: tuple[float, Mapping[str, Any]]) -> None:
    _, message = event
    if "parcel" in message:
        _running.pop(message["task"], None)
        take_in(message["parcel"])
        return
    before = _running.get(message["task"])
    _running[message["task"]] = message["worker"]
    forget_oldest(_running, MOST_RUNNING)
    if before is not None and before != message["worker"]:
        lost = f"a Dask worker was lost while it ran {message['name']}; the spans made there until then are lost"
        away.tracer_of(away.Handle(*message["handle"])).note_lost(lost)


# In a worker


def to(process: str) -> _Events | None:
    """The way to that process from the Dask task that runs here; None outside of one."""
    module: Any = sys.modules.get("distributed.worker")
    if module is None:
        return None
    try:
        worker = module.get_worker()
    except ValueError:
        return None
    # A process forked from a worker has a copy of it, which serves nobody: its threads are gone.
    if worker.thread_id not in {thread.ident for thread in threading.enumerate()}:
        return None
    return _Events(worker, _topic(process))


class _Events:
    """What one task tells.

    Args:
        worker: that runs it.
        topic: of the process that sent it.
    """

    def __init__(self, worker: Any, topic: str) -> None:
        self._worker, self._topic = worker, topic
        self._task = str(worker.get_current_task())

    def began(self, call: str, name: str, handle: away.Handle) -> None:
        """The task runs here from now on."""
        self._task = f"{call} {self._task}"
        self._tell({"worker": self._worker.address, "name": name, "handle": list(handle)})

    def send(self, parcel: bytes) -> None:
        """The task has run; these are its spans."""
        self._tell({"parcel": parcel})

    def _tell(self, message: dict[str, Any]) -> None:
        self._worker.log_event(self._topic, {"task": self._task, **message})


def _after_fork_in_child() -> None:
    _listening.clear()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
