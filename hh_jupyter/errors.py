"""What can be wrong, as exceptions.

    HHError
    ├── SettingError (also ValueError)       a setting has a value that its rule forbids
    │   └── SettingTypeError (also TypeError)  a setting is unknown, or has the wrong type
    ├── BackendError                         a question to the backend got no usable answer
    ├── SpanFileError (also ValueError)      the content of a file is not OTLP JSON
    └── WorkerError                          what a function raised in a worker process cannot be sent back as it is

What raises, and what does not:

- **Where something is set up** (`HoneyHiveTracer.init`, a decorator, `set_default_tracer`, `evaluate`): a mistake is
  an error at once. The program has not begun, and the person who made the mistake is reading.
- **Where a program runs** (`start_span`, `create_session`, the `enrich_*` functions, carriers, flushes): a wrong
  argument never raises, since this must not be what ends a request at night. Data is kept in the best form there is: a
  name as text, a value that is no dict under `value`. What cannot be used is left out or replaced by its default, and
  one warning per argument tells it, in the words of the error.
- An unknown keyword, or one too few, is Python's own TypeError everywhere.

Both texts name the call, the argument, its value (hidden where it looks like a secret), the rule, and what to do
(`hh_jupyter.tracing.validation`). Trouble with the network, the backend or the disk never raises: it is counted, shown
by `%hh` and logged under the logger `hh_jupyter`. `BackendError` is for the few calls that have nothing to return
without an answer: `evaluate`, which makes a run, and `get_run_result`.
"""

from __future__ import annotations


class HHError(Exception):
    """Base of every exception that this package raises."""


class SettingError(HHError, ValueError):
    """A setting or an argument has a value that its rule forbids. The text names it, the value and the rule."""


class SettingTypeError(SettingError, TypeError):
    """A setting or an argument has the wrong type, or no such setting exists."""


class BackendError(HHError):
    """A question to the backend got no usable answer. The text names the call, the host and what came instead.

    Attributes:
        status: the HTTP status that was answered; None when nothing was.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class SpanFileError(HHError, ValueError):
    """The content of a file is not OTLP JSON. The message names the file, the line and what is expected."""


class WorkerError(HHError):
    """What a function raised in a worker process, where the exception itself cannot be sent back.

    The text names the function, the exception's type and its text, and why it cannot travel.
    """
