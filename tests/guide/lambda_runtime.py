"""Runs a handler as AWS Lambda does: imports it once, calls it for each event, freezes the process in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from tests.conftest import TESTS
from tests.guide.serving import load


class Environment:
    """One execution environment: a process. `invoke` returns when the process is frozen again."""

    def __init__(self, program: str) -> None:
        command = [sys.executable, "-m", "tests.guide.lambda_runtime", program]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, cwd=TESTS.parent, env=dict(os.environ), text=True, **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()  # As AWS does: no exit hook runs.
        self._process.communicate()

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        """Call the handler; return its result, or `{"error": ...}` if it raised."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(event) + "\n")
        self._process.stdin.flush()
        os.kill(self._process.pid, signal.SIGCONT)
        answer = self._process.stdout.readline()
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        found: dict[str, Any] = json.loads(answer)
        return found


def main() -> None:
    """Call the handler for each line of standard input."""
    handler = load(sys.argv[1]).handler
    for line in sys.stdin:
        try:
            answer = handler(json.loads(line), None)
        except Exception as error:  # boundary: the runtime reports whatever a handler raises
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    main()
