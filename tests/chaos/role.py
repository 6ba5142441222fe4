"""A role under attack: the real command line, with the named points in its functions and, if asked for, a wrong clock.

`python -m chaos.role web|relay|worker`, configured by the environment like `outboxkit` itself; `google` is Cloud Tasks.
"""

import os
import sys

from chaos import clocks

CLOCK = "CHAOS_CLOCK_SHIFT"

if __name__ == "__main__":
    if seconds := float(os.environ.get(CLOCK, "0")):
        # Before anything else is imported: what has `datetime` already keeps the right one.
        clocks.shift(seconds)
    if sys.argv[1] == "google":
        from chaos.google_role import serve

        serve()
        sys.exit()
    from chaos import points
    from outboxkit_cli.main import main

    points.install(sys.argv[1])
    main()
