"""The floors' own SQL and what the harness asks, one statement a file; the kit's statements are used as they are."""

from functools import cache
from importlib.resources import files


@cache
def load(name: str) -> bytes:
    """The statement in `<name>.sql`, read once. Bytes, which psycopg takes as it is."""
    return files(__name__).joinpath(f"{name}.sql").read_bytes()
