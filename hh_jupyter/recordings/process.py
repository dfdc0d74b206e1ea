"""The recording of a whole process, which the settings `replay` and `recordings_dir` ask for in a script."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

from hh_jupyter.recordings.exchange import in_force
from hh_jupyter.recordings.hooks import Interception
from hh_jupyter.recordings.location import recording_path, script_location
from hh_jupyter.recordings.recorder import Mode, Recorder
from hh_jupyter.redaction import Redactor, RedactorWithFunction

_lock = threading.Lock()
_running: Recorder | None = None


def begin(mode: str, directory: str, redactor: Redactor | RedactorWithFunction | None) -> Callable[[], None] | None:
    """Let the recording of the running script hold for all code, and return the function that ends it.

    None if another recording holds already: that of a block around the call, or of an earlier tracer, whose mode is
    set to this one.

    Args:
        mode: the setting `replay`, not off.
        directory: the setting `recordings_dir`.
        redactor: removes secrets from what is written; None for the built-in rules.
    """
    global _running
    with _lock:
        if _running is not None:
            _running.mode = cast("Mode", mode)
            return None
        if any(isinstance(one, Recorder) for one in in_force()):
            return None
        name, folder = script_location()
        recorder = _running = Recorder(recording_path(name, folder, directory), cast("Mode", mode), redactor=redactor)
    recorder.begin_run()
    interception = Interception(recorder, replaces=Recorder, everywhere=True)
    interception.start(here=False)

    def end() -> None:
        global _running
        interception.stop()
        recorder.close()
        with _lock:
            if _running is recorder:
                _running = None

    return end
