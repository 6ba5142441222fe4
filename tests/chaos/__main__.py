"""`make chaos`: attack the kit with real processes, a real Postgres and real kills, and say whether its promises held."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from chaos.faults import DISK_FULL, FAULTS
from chaos.report import lines
from chaos.run import run
from chaos.schedule import Step, steps
from chaos.volume import enter_namespace
from outboxkit_cli.interruption import raise_keyboard_interrupt

SEED = 7


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help="decides the schedule (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="tour after tour for so long (default: one tour of all faults)")
    parser.add_argument("--only", action="append", metavar="FAULT", choices=[*FAULTS, DISK_FULL], help="repeatable")
    parser.add_argument("--times", type=int, default=1, help="with --only: tours of those (default: %(default)s)")
    parser.add_argument("--apart", type=float, default=0.0, help="seconds between faults on top of the schedule's")
    parser.add_argument(
        "--settled-within",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="what has not ended so long after the last fault is lost (default: %(default)g)",
    )
    parser.add_argument("--logs", type=Path, metavar="FILE", help="append what the processes say to this file")
    parser.add_argument("--list", action="store_true", help="print the schedule, or its beginning, and do nothing")
    return parser.parse_args(argv)


def planned(options: argparse.Namespace, faults: Sequence[str]) -> "list[Step] | None":
    """The steps of a run that ends by itself; None when it goes on for some minutes."""
    if options.minutes is not None:
        return None
    return [*islice(steps(options.seed, faults), len(faults) * options.times)]


def main() -> int:
    """Run, print, and return the exit status: 0 when every promise held."""
    options = arguments(sys.argv[1:])
    raise_keyboard_interrupt()  # an orderly end, also by SIGTERM
    say: Callable[[str], None] = lambda line: print(line, flush=True)  # noqa: E731, T201 (a program that prints)
    disk = (options.only is None or DISK_FULL in options.only) and enter_namespace()
    faults = options.only or [*FAULTS, *([DISK_FULL] if disk else [])]
    plan = planned(options, faults)
    if options.list:
        for step in plan or islice(steps(options.seed, faults), 100):
            say(f"{step.fault:34}{step.choice:8}{step.hold:6.2f}{step.pause:6.2f}")
        return 0
    if not disk and options.only is None:
        say("without the full disk, which needs root and a mount namespace")
    seconds = None if options.minutes is None else options.minutes * 60
    result = asyncio.run(
        run(
            seed=options.seed,
            steps=plan or steps(options.seed, faults),
            seconds=seconds,
            apart=options.apart,
            within=options.settled_within,
            logs=options.logs,
            say=say,
            disk=disk,
        )
    )
    say("")
    for line in lines(result):
        say(line)
    return 0 if result.holds else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
