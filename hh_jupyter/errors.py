"""The exceptions of this package.

    HHError
    ├── SettingError (also ValueError)       a setting has a value that its rule forbids
    │   └── SettingTypeError (also TypeError)  a setting is unknown, or has the wrong type
    ├── BackendError                         a backend call got no valid response
    ├── SpanFileError (also ValueError)      the content of a file is not OTLP JSON
    ├── WorkerError                          an exception in a worker process cannot be pickled
    └── NotebookError                        a cell of a notebook that a test ran has failed

When an exception is raised:

- **During set-up** (`HoneyHiveTracer.init`, a decorator, `set_default_tracer`, `evaluate`), an invalid argument raises
  at once: the program has not started, and its author sees the error.
- **At run time** (`start_span`, `create_session`, the `enrich_*` functions, carriers, flushes), an invalid argument
  never raises, since tracing must not fail a request in production. Data is kept in the closest valid form: a name as
  text, a value that is not a dict under `value`. Unusable arguments are ignored or replaced by their default, and
  logged with one warning per argument that has the text of the error.
- An unknown or missing keyword raises Python's TypeError everywhere.

Errors and warnings name the call, the argument, its value (hidden if it looks like a secret), the rule, and the remedy
(`hh_jupyter.tracing.validation`). Failures of the network, the backend or the disk never raise: they are counted, shown
by `%hh` and logged by the logger `hh_jupyter`. `BackendError` is only for calls that cannot return without a response:
`evaluate`, which creates a run, and `get_run_result`.
"""

from __future__ import annotations


class HHError(Exception):
    """Base of every exception that this package raises."""


class SettingError(HHError, ValueError):
    """A setting or an argument has a value that its rule forbids. The message has the name, the value and the rule."""


class SettingTypeError(SettingError, TypeError):
    """A setting or an argument has the wrong type, or the setting does not exist."""


class BackendError(HHError):
    """A backend call got no valid response. The message has the call, the host and the problem.

    Attributes:
        status: HTTP status of the response; None without a response.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class SpanFileError(HHError, ValueError):
    """The content of a file is not OTLP JSON. The message has the file, the line and the expected content."""


class WorkerError(HHError):
    """Replaces an exception of a worker process that cannot be pickled.

    The message has the function, the exception's type and message, and the reason.
    """


class NotebookError(HHError):
    """A cell failed in a notebook that `hh_jupyter.testing.run_notebook` ran.

    The message has the notebook, the cell's number, the exception and, below, its traceback in the notebook.

    Attributes:
        cell: number of the cell, as in `In [4]`.
    """

    def __init__(self, text: str, cell: int) -> None:
        super().__init__(text)
        self.cell = cell
