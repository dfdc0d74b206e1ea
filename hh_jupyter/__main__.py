"""`python -m hh_jupyter COMMAND`: commands that run outside a kernel."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hh_jupyter.cli import autoload, strip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. On a usage error, argparse exits with status 2."""
    parser = argparse.ArgumentParser(prog="python -m hh_jupyter", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    autoload.add_commands(commands)
    strip.add_command(commands)
    options = parser.parse_args(arguments)
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
