"""Which extra brings what is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from outboxkit_cli.failures import CommandFailed


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a missing third-party package into one line that names the extra to install.

    Wrap only imports of our own roles in it: a module that the user's application misses is another matter.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0].startswith("outboxkit"):
            raise
        raise CommandFailed(f"{missing} is not installed: install the extra outboxkit[{extra}]") from error
