"""Runs the rounds and prints the table; see the package's docstring."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
BUDGETS: Final[dict[str, str]] = {
    "import + ready": "<= 0.55",
    "memory": "<= 0.5",
    "@trace, caller": "<= 1.7",
    "@trace, all": "<= 1.2",
    "exception, caller": "<= 0.7",
    "four threads, wall": "<= 1.7",
    "create_session, caller": "<= 30 us",
    "redaction, a span": "<= 15 us",
}
UNITS: Final = {"import + ready": "ms", "memory": "MB"}

Numbers = dict[str, float]


def run(name: str, environment: dict[str, str]) -> Numbers:
    """The numbers of one implementation, measured in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.sink"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # Workers end in the middle of a request.
        text=True,
    ) as sink, ExitStack() as at_end:  # fmt: skip
        at_end.callback(sink.kill)
        assert sink.stdout is not None
        url = sink.stdout.readline().strip()
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.worker", name, url],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    numbers: Numbers = json.loads(done.stdout.splitlines()[-1])
    return numbers


def clean_environment(bytecode: str) -> dict[str, str]:
    """No settings and no proxy of the caller's. Bytecode is kept, as it is of an installed package."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("HH_", "OTEL_", "HONEYHIVE_")) and not name.lower().endswith("_proxy")
    }
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "PYTHONPYCACHEPREFIX": bytecode, "NO_PROXY": "127.0.0.1"}


def table(pairs: list[tuple[Numbers, Numbers]]) -> str:
    """The table of (plain, ours), one pair a round."""
    lines = [f"{'':24}{'plain':>10}{'ours':>10}      {'ratio':<22}budget"]
    for row in pairs[0][1]:
        unit = UNITS.get(row, "us")
        plain, ours = (statistics.median(pair[side][row] for pair in pairs) for side in (0, 1))
        ratios = [pair[1][row] / pair[0][row] for pair in pairs if pair[0][row]]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})" if ratios else "-"
        lines.append(f"{row:24}{plain:>10.1f}{ours:>10.1f} {unit:4} {spread:<22}{BUDGETS.get(row, '')}".rstrip())
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Costs beside plain OpenTelemetry.")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of processes (default: 5)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as bytecode:
        environment = clean_environment(bytecode)
        for name in ("plain", "ours"):
            run(name, environment)  # Compiles everything once.
        pairs: list[tuple[Numbers, Numbers]] = []
        for number in range(rounds):
            pairs.append((run("plain", environment), run("ours", environment)))
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    print(table(pairs))


if __name__ == "__main__":
    main()
