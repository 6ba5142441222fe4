"""Plans: what the hot statements read when most of two hundred thousand jobs are not their business.

A statement that scans a whole table here takes a hundred times as long as one that walks its index, and every claim of
every worker would. Both the plan for the values at hand and the one that a prepared statement settles on are looked at,
because psycopg prepares what it runs often.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from databases import Database
from outboxkit import queries

ROWS = 200_000
# Future jobs with their triggers, a tenth of them handed to a transport and waiting; half as many that have ended.
FILL = f"""
insert into outboxkit.jobs (id, queue, kind, payload, run_at, rescue_at, created_at)
select outboxkit.uuid7(), 'default', 'K', '{{}}', now() + interval '1 day' + n * interval '1 second',
       case when n % 10 = 0 then now() + interval '1 day' end, now()
from generate_series(1, {ROWS}) n;
insert into outboxkit.outbox (job_id, queue, kind, due_at, created_at)
select id, queue, kind, run_at, now() from outboxkit.jobs where rescue_at is null;
insert into outboxkit.jobs (id, queue, kind, payload, state, attempt, max_attempts, run_at, created_at, finished_at)
select outboxkit.uuid7(), 'default', 'K', '{{}}', 'succeeded', 1, 3, now(), now(), now() - n * interval '1 second'
from generate_series(1, {ROWS // 2}) n;
insert into outboxkit.jobs (id, queue, kind, payload, state, attempt, max_attempts, run_at, created_at, lease_until)
select outboxkit.uuid7(), 'default', 'K', '{{}}', 'running', 1, 3, now(), now(), now() + interval '1 minute'
from generate_series(1, 500) n;
"""  # noqa: S608 (a number)
MINUTE = timedelta(minutes=1)
CLAIM = {"kinds": ["K"], "max_attempts": [3], "worker": uuid4(), "lease": MINUTE}
SETTLED = {"ids": list(range(100)), "claims": [1] * 100}
HELD = {"ids": [uuid4() for _ in range(100)], "attempts": [1] * 100, "worker": uuid4()}

STATEMENTS: dict[str, dict[str, Any]] = {
    "claim_by_ids": {**CLAIM, "ids": HELD["ids"], "early": timedelta(seconds=2)},
    "claim_due": {**CLAIM, "slots": 100, "overdue": timedelta(0), "excluded": []},
    "claim_triggers": {"slots": 100, "lease": MINUTE, "paused": [], "only": None, "ahead": None},
    "claim_triggers ahead": {"slots": 100, "lease": MINUTE, "paused": [], "only": None, "ahead": MINUTE},
    "hand_over_triggers": {
        **SETTLED, "job_ids": [uuid4() for _ in range(100)], "found": [False] * 100, "waiting": [False] * 100,
        "after": MINUTE,
    },
    "next_due": {"paused": [], "only": None},
    "ack_triggers": SETTLED,
    "retry_triggers": {**SETTLED, "delays": [1.0] * 100, "counted": [1] * 100, "errors": ["x"] * 100},
    "give_back_triggers": SETTLED,
    "bury_trigger": {"job_id": uuid4(), "id": 1, "claims": 1, "counted": 1, "reason": "r", "error": "e", "status": 400},
    "heartbeat": {**HELD, "progress": [None] * 100, "lease": MINUTE},
    "complete_attempts": {**HELD, "results": [None] * 100},
    "give_back": HELD,
    "end_attempt": {
        "id": uuid4(), "attempt": 1, "worker": uuid4(), "reason": "r", "error": "e", "delay": MINUTE, "final": False,
    },
    "read_states": {"ids": HELD["ids"]},
    "cancel_job": {"id": uuid4()},
    "replay_dead_letter": {"id": 1, "actor": "a", "attempts": 3},
    "sweep_expired_leases": {"batch": 200, "longest": timedelta(hours=1)},
    "sweep_stranded": {"batch": 200, "after": MINUTE, "rescues": 5},
    "sweep_finished_jobs": {"batch": 1000, "keep": timedelta(days=14)},
}  # fmt: skip


@pytest.fixture(scope="module")
def connection(module_database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a database with all those rows, analysed."""
    with module_database.sync(cursor_factory=psycopg.ClientCursor) as made:
        made.execute(FILL)
        made.execute("vacuum analyze outboxkit.jobs, outboxkit.outbox, outboxkit.dead_letters")
        yield made


def statement(name: str) -> bytes:
    """The kit's statement; what comes after its name tells its values apart."""
    return queries.load(name.partition(" ")[0])


def plan(connection: psycopg.Connection[Any], name: str) -> str:
    """The plan for these values."""
    rows = connection.execute(b"explain " + statement(name), STATEMENTS[name]).fetchall()
    return "\n".join(line for (line,) in rows)


def prepared_plan(connection: psycopg.Connection[Any], name: str) -> str:
    """The plan that a prepared statement has settled on after it was run a few times, as psycopg's are."""
    keys: dict[str, int] = {}
    text = re.sub(r"%\((\w+)\)s", lambda m: f"${keys.setdefault(m[1], len(keys) + 1)}", statement(name).decode())
    values = [STATEMENTS[name][key] for key in keys]
    types = [_type(key, STATEMENTS[name][key]) for key in keys]
    run = f"execute prepared({', '.join('%s::' + type_ for type_ in types)})"
    with connection.transaction(force_rollback=True):
        connection.execute(f"prepare prepared({', '.join(types)}) as {text}".encode())
        for _ in range(8):
            connection.execute(run.encode(), values)
        rows = connection.execute(f"explain {run}".encode(), values).fetchall()
    connection.execute("deallocate prepared")
    return "\n".join(line for (line,) in rows)


def _type(key: str, value: Any) -> str:
    if isinstance(value, list) or value is None:
        return f"{_type(key, value[0])}[]" if value else {"excluded": "uuid[]", "ahead": "interval"}.get(key, "text[]")
    return {bool: "boolean", int: "bigint", float: "float8", str: "text", timedelta: "interval"}.get(
        type(value), "uuid"
    )


@pytest.mark.parametrize("look", [plan, prepared_plan])
@pytest.mark.parametrize("name", STATEMENTS)
def test_no_scan_of_a_whole_table(connection: psycopg.Connection[Any], name: str, look: Any) -> None:
    """Every hot statement finds its rows by an index, whatever else the tables hold."""
    found = look(connection, name)
    assert not re.search(r"Seq Scan on (jobs|outbox)\b", found), found


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("claim_due", "jobs_queued"),
        ("claim_triggers", "outbox_due"),
        ("next_due", "outbox_due"),
        ("sweep_expired_leases", "jobs_running"),
        ("sweep_stranded", "jobs_rescue"),
        ("sweep_finished_jobs", "jobs_finished"),
    ],
)
def test_uses_its_index(connection: psycopg.Connection[Any], name: str, index: str) -> None:
    """The statements that look for what is due walk the index made for them, and stop at the time."""
    found = plan(connection, name)
    assert index in found, found
    assert re.search(r"Index Cond: .*(run_at|due_at|lease_until|rescue_at|finished_at)", found) or name in {
        "next_due",
        "sweep_expired_leases",
    }, found


def test_nothing_due_is_nothing_read(connection: psycopg.Connection[Any]) -> None:
    """With nothing due, claims and sweeps read a handful of pages, not the rows of the future."""
    for name in ("claim_due", "claim_triggers", "sweep_stranded"):
        rows = connection.execute(b"explain (analyze, buffers, timing off) " + queries.load(name), STATEMENTS[name])
        text = "\n".join(line for (line,) in rows.fetchall())
        read = sum(int(n) for n in re.findall(r"shared (?:hit|read)=(\d+)", text.split("Planning")[0].split("\n")[1]))
        assert read < 50, text
