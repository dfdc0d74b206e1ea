"""`python -m hh_jupyter COMMAND`: commands that run outside a kernel."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from hh_jupyter.cli import agents, show, startup, strip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; argparse exits with status 2 on a wrong command line."""
    parser = argparse.ArgumentParser(prog="python -m hh_jupyter", description=__doc__)
    add_commands(parser)
    parsed = parser.parse_args(arguments)
    return int(parsed.run(parsed))


def add_commands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Add all commands to the parser; return the parser of each."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    startup.add_commands(commands)
    strip.add_command(commands)
    show.add_commands(commands)
    agents.add_command(commands)
    return commands.choices


if __name__ == "__main__":
    sys.exit(main())
