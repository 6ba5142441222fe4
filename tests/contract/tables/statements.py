"""The statements of examples/shell/sql: run by psql as they are, or put in place of the kit's own."""

import csv
import io
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from outboxkit import queries

SHELL = Path(__file__).parents[3] / "examples" / "shell"
SQL = SHELL / "sql"

_VARIABLE = re.compile(r":'(\w+)'")


def run(psql: Path, url: str, name: str, **variables: Any) -> list[dict[str, str]]:
    """Run NAME.sql with psql, and its variables; return its rows as text."""
    settings = [argument for key, value in variables.items() for argument in ("-v", f"{key}={value}")]
    command = [psql, url, "-XqA", "--csv", "-v", "ON_ERROR_STOP=1", *settings, "-f", SQL / f"{name}.sql"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout, newline="")))


class Substitute(NamedTuple):
    """The file that stands for one of the kit's statements, and what its variables are in that statement's parameters."""

    name: str
    variables: Mapping[str, str]


_WORKER = {"worker": "%(worker)s"}
_LEASE = {"lease": "extract(epoch from %(lease)s)::float8"}
_FIRST = {"job": "(%(ids)s::uuid[])[1]"}
_FIRST_TOKEN = {**_FIRST, "attempt": "(%(attempts)s::integer[])[1]", **_WORKER}
_KINDS = {"kinds": "jsonb_object(%(kinds)s::text[], %(max_attempts)s::text[])"}

# By the kit's name. Where the kit takes several jobs, these take the first.
SUBSTITUTES = {
    "claim_by_ids": Substitute("claim_by_id", {**_FIRST, **_WORKER, **_LEASE, **_KINDS}),
    "claim_due": Substitute(
        "claim_due",
        {
            **_WORKER, **_LEASE, **_KINDS,
            "slots": "%(slots)s", "overdue": "extract(epoch from %(overdue)s)::float8",
        },
    ),
    "heartbeat": Substitute(
        "heartbeat", {**_FIRST_TOKEN, **_LEASE, "progress": "coalesce((%(progress)s::text[])[1], '')"}
    ),
    "complete_attempts": Substitute(
        "complete", {**_FIRST_TOKEN, "result": "coalesce((%(results)s::text[])[1], '')"}
    ),
    "end_attempt": Substitute(
        "end_attempt",
        {
            "job": "%(id)s", "attempt": "%(attempt)s", **_WORKER, "reason": "%(reason)s", "error": "%(error)s",
            "final": "%(final)s", "delay": "extract(epoch from %(delay)s)::float8",
        },
    ),
    "give_back": Substitute("give_back", _FIRST_TOKEN),
    "read_states": Substitute("read_state", _FIRST),
    "cancel_job": Substitute("cancel", {"job": "%(id)s"}),
    "replay_dead_letter": Substitute(
        "replay", {"letter": "%(id)s", "actor": "%(actor)s", "attempts": "%(attempts)s"}
    ),
}  # fmt: skip

# What the kit's Python reads of a claim, in its order; the rows that are claimed do not depend on it.
_CLAIMED = "id, queue, kind, payload::text, attempt, max_attempts, now() as run_at, now() as created_at, traceparent"


def substituted(name: str) -> bytes:
    """The kit's statement of this name, or the file that stands for it, as psycopg takes it."""
    substitute = SUBSTITUTES.get(name)
    if substitute is None:
        return queries.load(name)
    lines = (SQL / f"{substitute.name}.sql").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("--"))
    text = _VARIABLE.sub(lambda match: substitute.variables[match[1]], text)
    return re.sub(r"select .* from claimed;", f"select {_CLAIMED} from claimed", text).encode()  # noqa: S608 (ours)
