"""``secateur``: the command line, and the studio when it is given no command."""

from __future__ import annotations

import sys
from pathlib import Path

from .engine.cli import main as command_line


def _studio(argv: list[str]) -> int:
    from .studio.app import run

    return run(argv)


def _tour(out: Path) -> int:
    from .studio.tours.tour import run

    return run(out)


def main() -> int:
    """Run the command line; returns the exit status."""
    return command_line(studio=_studio, tour=_tour)


if __name__ == "__main__":
    sys.exit(main())
