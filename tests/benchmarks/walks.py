"""How many files of the package a walk visits: `python -m tests.benchmarks.walks [--files]`.

Measured with `sys.setprofile` in a real kernel, on the main thread and on every thread that the package starts, after a
warm-up. With `--files` each file is named.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.kernel.driver import Kernel

PROFILE: Final = """
import json, sys, threading
on, seen = False, []

def profile(frame, event, argument):
    if on and event == "call" and "/hh_jupyter/" in frame.f_code.co_filename:
        seen.append((frame.f_code.co_filename.split("/hh_jupyter/", 1)[1], frame.f_code.co_qualname))

def before(info):
    global on
    if info.raw_cell.endswith("# walk"):
        seen.clear()
        on = True

def after(result):
    global on
    on = False

get_ipython().events.register("pre_run_cell", before)
threading.setprofile(profile)
sys.setprofile(profile)
"""
PREPARE: Final = """
get_ipython().events.register("post_run_cell", after)  # After the extension's own.
from hh_jupyter import trace

@trace
def work(city):
    return city
"""
WALKS: Final = {
    "a traced cell": "work('Lima')  # walk",
    "a %%hh_session cell": "%%hh_session refund-triage --metadata team=support\nwork('Lima')  # walk",
    "%hh display line": "get_ipython().run_line_magic('hh', 'display line')  # walk",
}


def main() -> None:
    """Print the calls, functions and files of each walk, and how many files are of which package."""
    with TemporaryDirectory() as folder, Kernel(Path(folder)) as kernel:
        for code in (PROFILE, "%load_ext hh_jupyter", PREPARE, *WALKS.values()):
            kernel.run(code)
        for name, code in WALKS.items():
            kernel.run(code)
            seen = json.loads(kernel.value("json.dumps(seen)"))
            files = sorted({file for file, _ in seen})
            functions = len({(file, function) for file, function in seen})
            packages = Counter(str(Path(file).parent) for file in files)
            print(f"{name:20} {len(seen):6,} calls {functions:5} functions {len(files):4} files ", dict(packages))
            if "--files" in sys.argv:
                print(*files, sep="\n")


if __name__ == "__main__":
    main()
