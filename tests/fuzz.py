"""Look for new examples that break a property: `python -m tests.fuzz MINUTES`, or `make fuzz MINUTES=60`.

The property tests run again and again with other examples, until one fails or the minutes are over. Hypothesis keeps
what failed in `.hypothesis/` and tries it first the next time; write it into the test with `@example` once it is
understood.
"""

from __future__ import annotations

import subprocess
import sys
import time

PYTEST = (sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile")
PROPERTIES = ("-m", "hypothesis", "--hypothesis-profile", "new examples")


def fuzz(minutes: float) -> int:
    """Return pytest's first exit code other than 0, or 0 when the time is over. The last round is finished."""
    end = time.monotonic() + minutes * 60
    rounds = failed = 0
    while not failed and time.monotonic() < end:
        rounds += 1
        failed = subprocess.run((*PYTEST, *PROPERTIES, "tests")).returncode
    print(f"{rounds} rounds of new examples, {'the last one failed' if failed else 'none failed'}")
    return failed


if __name__ == "__main__":
    sys.exit(fuzz(float(sys.argv[1])))
