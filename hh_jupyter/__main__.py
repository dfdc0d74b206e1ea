"""`python -m hh_jupyter COMMAND`: what is done outside a kernel."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hh_jupyter.cli import autoload, strip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. A wrong command line ends the process with status 2, as argparse does."""
    parser = argparse.ArgumentParser(prog="python -m hh_jupyter", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    autoload.add_commands(commands)
    strip.add_command(commands)
    given = parser.parse_args(arguments)
    return int(given.run(given))


if __name__ == "__main__":
    sys.exit(main())
