"""What `tests/release_check.py` runs in an environment that has the package and nothing of this checkout.

`python -P tests/installed_package.py VERSION [NOTEBOOK]` loads the extension, and runs the cells of the notebook.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any


def main(expected: str, notebook: str | None = None) -> None:
    """Raise or exit if something does not work."""
    from IPython.core.interactiveshell import InteractiveShell

    import hh_jupyter

    found = Path(hh_jupyter.__file__)
    assert found.is_relative_to(sys.prefix), f"imported from {found}"
    assert version("hh_jupyter") == expected, f"installed {version('hh_jupyter')}"
    shell = InteractiveShell.instance()
    run(shell, "%load_ext hh_jupyter")
    run(shell, "%hh")
    if notebook is None:
        return
    for cell in json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            fails = "raises-exception" in cell["metadata"].get("tags", ())
            run(shell, "".join(cell["source"]), fails=fails)
    totals = hh_jupyter.spans().totals
    assert totals.llm_calls > 0, totals
    assert totals.tools_run > 0, totals
    print(f"{totals.spans} spans, {totals.llm_calls} model calls, {totals.tools_run} tools")


def run(shell: Any, code: str, *, fails: bool = False) -> None:
    """Run a cell, which must fail or succeed."""
    result = shell.run_cell(code, store_history=True)
    if result.success is fails:
        sys.exit(f"the cell {'succeeded' if fails else 'failed'}:\n{code}")


if __name__ == "__main__":
    main(*sys.argv[1:])
