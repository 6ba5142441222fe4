"""The kit's SQL, one statement a file.

Values go in as `%(name)s` (psycopg), or as `:name` in the two files that run on a caller's own SQLAlchemy connection.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def load(name: str) -> bytes:
    """The statement in `<name>.sql`, read once, without its comment lines. Bytes, which psycopg takes as it is."""
    lines = files(__name__).joinpath(f"{name}.sql").read_text().splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("--")).encode()
