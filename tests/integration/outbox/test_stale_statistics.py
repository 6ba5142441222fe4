"""Plans when the statistics are stale: the tables were empty when they were made, and ten thousand jobs came since.

A queue is empty most of the time, so this is what Postgres believes at the beginning of every burst. Joined with `in (select
… for update)`, it then chose to run the subquery once for each row of the table: minutes for one claim. What is compared is
how many pages a statement touches, beside the same statement with fresh statistics.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from databases import Database
from outboxkit import queries

ROWS = 10_000
BATCH = 128
# Reading an index from end to end touches a hundred pages or two; the join touched a million.
MOST = 20

FILL = """
select count(*) from outboxkit.enqueue_jobs(
    (select jsonb_agg(jsonb_build_object('kind', 'K')) from generate_series(1, %s)))
"""
BELIEVED_EMPTY = """
update pg_class set reltuples = 0, relpages = greatest(relpages, 100)
where relnamespace = 'outboxkit'::regnamespace and relkind in ('r', 'i')
"""
CLAIM = {"kinds": ["K"], "max_attempts": [3], "worker": uuid4(), "lease": timedelta(seconds=30)}


def pages(connection: psycopg.Connection[Any], name: str, ids: list[UUID], rows: list[int]) -> int:
    """How many pages the statement touches; what it did is rolled back."""
    settled = {"ids": rows, "claims": [0] * len(rows)}
    parameters: dict[str, dict[str, Any]] = {
        "claim_by_ids": {**CLAIM, "ids": sorted(ids), "early": timedelta(0)},
        "claim_due": {**CLAIM, "slots": BATCH, "overdue": timedelta(0), "excluded": []},
        "claim_triggers": {"slots": BATCH, "lease": timedelta(seconds=30), "paused": [], "only": None, "ahead": None},
        "ack_triggers": settled,
        "retry_triggers": {
            **settled, "delays": [1.0] * len(rows), "counted": [1] * len(rows), "errors": ["x"] * len(rows),
        },
        "give_back_triggers": settled,
    }  # fmt: skip
    explain = b"explain (analyze, buffers, format json) " + queries.load(name)
    with connection.transaction(force_rollback=True):
        [plans] = connection.execute(explain, parameters[name]).fetchone() or ([],)
    plan = plans[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


@pytest.mark.parametrize(
    "name", ["claim_by_ids", "claim_due", "claim_triggers", "ack_triggers", "retry_triggers", "give_back_triggers"]
)
def test_a_burst_into_tables_believed_empty(database: Database, name: str) -> None:
    """A batch costs about as many pages as with fresh statistics: nothing is done once for each row of a table."""
    with database.sync() as connection:
        connection.execute("set statement_timeout = '60s'")
        connection.execute(FILL, [ROWS])
        ids = [row[0] for row in connection.execute("select id from outboxkit.jobs order by id limit %s", [BATCH])]
        rows = [row[0] for row in connection.execute("select id from outboxkit.outbox order by id limit %s", [BATCH])]
        connection.execute(BELIEVED_EMPTY)
        stale = pages(connection, name, ids, rows)
        connection.execute("analyze outboxkit.jobs, outboxkit.outbox")
        assert stale <= MOST * pages(connection, name, ids, rows)
