"""The entry point of the console script, which is installed even when click is not."""

import sys


def main() -> None:
    """Run the command line; without click, say in one line what to install."""
    try:
        # Imported here, because a producer installs the kit without its command line.
        from outboxkit_cli.commands import outboxkit
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit("outboxkit: the command line needs click: install the extra outboxkit[cli]")
    outboxkit(prog_name="outboxkit")
