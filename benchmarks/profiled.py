"""Runs `outboxkit` under cProfile: `python -m benchmarks.profiled FILE worker --fd 3` writes FILE when the role ends.

The profiler multiplies the cost of small functions: read the order, not the seconds. It sees the main thread
only, and counts the time in which the event loop waits as the loop's own.
"""

import cProfile
import io
import pstats
import sys
from pathlib import Path

from outboxkit_cli.main import main

TOP = 30


def run(file: str, arguments: list[str]) -> None:
    """Run the command and write its profile, however it ends."""
    sys.argv = ["outboxkit", *arguments]
    profile = cProfile.Profile()
    try:
        profile.runcall(main)
    finally:
        profile.dump_stats(file)


def summary(file: Path) -> str:
    """The functions that took longest themselves, of one profile."""
    text = io.StringIO()
    pstats.Stats(str(file), stream=text).strip_dirs().sort_stats("tottime").print_stats(TOP)
    return text.getvalue()


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
