"""Runs a notebook as a test: in a real kernel, offline, with nothing of the user but the files beside it."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal

from hh_jupyter.display.format import clean, clean_block
from hh_jupyter.errors import NotebookError, SettingError
from hh_jupyter.export.finalize import redactor_of
from hh_jupyter.export.spool import Spool
from hh_jupyter.otlp_files.foreign_spans import rows_of_requests
from hh_jupyter.query import SpanList
from hh_jupyter.recordings.recorder import MODES
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.settings import TABLE, resolve

if TYPE_CHECKING:
    from nbclient import NotebookClient

_SETUP: Final = """\
from hh_jupyter.recordings.recorder import hold_mode
hold_mode({mode!r})
del hold_mode
%load_ext hh_jupyter
"""
_SETUP_SECONDS: Final = 60
_REASON_LENGTH: Final = 1_000

_CLIENT_KEYS: Final = (
    "OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY",
    "MISTRAL_API_KEY", "CO_API_KEY", "GROQ_API_KEY", "TOGETHER_API_KEY", "FIREWORKS_API_KEY", "OPENROUTER_API_KEY",
    "DEEPSEEK_API_KEY", "XAI_API_KEY", "PERPLEXITY_API_KEY", "VOYAGE_API_KEY", "HF_TOKEN",
)  # fmt: skip
"""Variables without which clients of model APIs refuse to start. Recordings do not depend on their values."""
_NO_KEY: Final = "not-a-key"


def run_notebook(
    path: str | os.PathLike[str],
    replay: Literal["only", "auto", "record", "off"] = "only",
    *,
    timeout: float = 60.0,
) -> SpanList:
    """Run all cells of a notebook in a new kernel of this Python, and return the spans that they made.

    The kernel works in the notebook's folder. It has neither the user's HoneyHive key and stored spans nor the user's
    IPython profile, and sends no span; other settings of the environment apply. The extension is loaded before the
    first cell, whether or not the notebook loads it. The file is not changed. As with other notebook runners, the
    tag `raises-exception` marks a cell that may fail.

    Example:
        >>> def test_the_triage_notebook_still_refunds():  # doctest: +SKIP
        ...     spans = run_notebook("triage.ipynb")
        ...     assert spans.tools == ["look_up_order", "refund_policy"]
        ...     assert not spans.errors

    Args:
        path: of the notebook.
        replay: the mode of all its recordings, whatever `%hh replay`, `--replay` or `recording()` in it say. `only`
            answers model requests from recordings alone, as far as recordings cover their client, and needs no key of
            a model API: the kernel gets placeholders for the usual ones. `auto` sends and records what is missing,
            `record` records everything anew, `off` sends everything.
        timeout: longest time for each cell, in seconds; parts of a second are rounded up.

    Returns:
        The spans of all cells, in the order in which they ended; `cell` and `session_id` say where each belongs. Model
        calls from a recording cost nothing: `totals.saved_cost` is what they would have cost.

    Raises:
        ImportError: nbclient or ipykernel is not installed.
        OSError: the notebook cannot be read.
        NotebookError: a cell failed, took too long or ended the kernel.
        SettingError: the mode is unknown, or the timeout is not above 0.
    """
    if replay not in MODES:
        raise SettingError(f"run_notebook(replay={replay!r}): must be one of {', '.join(MODES)}")
    if not isinstance(timeout, int | float) or not 0 < timeout < math.inf:  # type: ignore[redundant-expr]
        raise SettingError(f"run_notebook(timeout={timeout!r}): must be a number of seconds above 0")
    path = Path(path).resolve()
    client, notebook = _client(path)
    with TemporaryDirectory(prefix="hh-", ignore_cleanup_errors=True) as folder:
        with client.setup_kernel(env=_environment(path, Path(folder), replay)):
            _run(client, notebook, path.name, replay, math.ceil(timeout))
        return SpanList(_spans_in(Path(folder)))


def _client(path: Path) -> tuple[NotebookClient, Any]:
    missing = [name for name in ("nbclient", "ipykernel") if find_spec(name) is None]
    if missing:
        raise ImportError(f"run_notebook() needs {' and '.join(missing)}. pip install {' '.join(missing)}")
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(path.parent)}}
    quiet = ["--log-level=ERROR"]  # What a kernel warns about its transport is not about the test.
    client = NotebookClient(
        notebook, timeout=_SETUP_SECONDS, kernel_name="python3", resources=place, extra_arguments=quiet
    )
    return client, notebook


def _environment(path: Path, folder: Path, replay: str) -> Mapping[str, str]:
    """The environment of the kernel: that of this process, without what is the user's own."""
    secrets = {name for row in TABLE.values() if row.secret for name in row.env}
    ours = {
        "HH_TEST_MODE": "true",
        "HH_DISABLE_TRACING": "false",
        "HH_SPOOL": "true",
        "HH_SPOOL_DIR": str(folder / "spool"),
        "HH_REPLAY": replay,
        "IPYTHONDIR": str(folder / "ipython"),
        "JPY_SESSION_NAME": str(path),  # The notebook's name, as Jupyter Server gives it.
    }
    placeholders = dict.fromkeys(_CLIENT_KEYS, _NO_KEY) if replay == "only" else {}
    kept = {name: value for name, value in os.environ.items() if name not in secrets}
    return {**kept, **placeholders, **ours}


def _run(client: NotebookClient, notebook: Any, name: str, replay: str, timeout: int) -> None:
    """Run the cells, after one of ours."""
    from nbformat.v4 import new_code_cell

    notebook.cells.insert(0, new_code_cell(_SETUP.format(mode=replay)))
    with _failure_of(f"{name}, loading hh_jupyter", 0, client.timeout):
        client.execute_cell(notebook.cells[0], 0, store_history=False)
    client.timeout, number = timeout, 0
    for index, cell in enumerate(notebook.cells[1:], 1):
        number += cell.cell_type == "code" and bool(cell.source.strip())  # As the kernel counts.
        with _failure_of(f"{name}, In [{number}]", number, timeout):
            client.execute_cell(cell, index)


@contextmanager
def _failure_of(place: str, cell: int, timeout: int) -> Iterator[None]:
    """Raise what can go wrong in a cell as NotebookError."""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    try:
        yield
    except CellExecutionError as error:
        exception = clean(f"{error.ename}: {error.evalue}", _REASON_LENGTH)
        raise NotebookError(f"{place}: {exception}\n\n{clean_block(str(error))}", cell) from None
    except CellTimeoutError:
        raise NotebookError(f"{place}: the cell took longer than {timeout} s (timeout={timeout})", cell) from None
    except DeadKernelError:
        raise NotebookError(f"{place}: the kernel died", cell) from None


def _spans_in(folder: Path) -> list[SpanRecord]:
    """The spans that the kernel and the programs that it started have stored, by their end."""
    spool = Spool(folder / "spool")
    try:
        rows, _ = spool.search(lambda _: True, sys.maxsize, living=True)
    finally:
        spool.close()
    spans = rows_of_requests([(row.body, row.cell) for row in reversed(rows)], redactor_of(resolve({})))
    return sorted(spans, key=lambda span: span.end_ns or sys.maxsize)
