"""Each statement of docs/protocol.md does what the kit's own does, whatever situation the job is in."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from psycopg.rows import dict_row

from contract.tables import statements
from contract.tables.situations import ATTEMPT, SITUATIONS, WORKER, Connection, Situation
from databases import Database, Server
from outboxkit import queries

LEASE, DELAY, OVERDUE = 3600, 7200, 0
RESULT = '{"a": ["it\'s", "\\\\", 1.50, null]}'
ERROR = 'it\'s \\ a "failure": ü'

# So coarse that the time a test takes does not show; the lease and the delay do.
UNIT = 1200


class Same(NamedTuple):
    """A file and its variables, the kit's statement and the parameters that make it the same.

    `answer` names what both say. `takes` and `kit_takes` add what names the job, or its dead letter.
    """

    name: str
    variables: dict[str, Any]
    kits: str
    parameters: dict[str, Any]
    answer: tuple[str, ...] = ()
    takes: Callable[[UUID, int], dict[str, Any]] = lambda job, _: {"job": job}
    kit_takes: Callable[[UUID, int], dict[str, Any]] = lambda job, _: {"ids": [job]}


_LEASED = {"worker": WORKER, "lease": LEASE}
_KIT_LEASED = {"worker": WORKER, "lease": timedelta(seconds=LEASE)}
_TOKEN = {"attempt": ATTEMPT, "worker": WORKER}
_KIT_TOKENS = {"attempts": [ATTEMPT], "worker": WORKER}
_CLAIM = {**_LEASED, "kinds": '{"K": 3, "ELSE": 1}'}
_KIT_CLAIM = {**_KIT_LEASED, "kinds": ["K", "ELSE"], "max_attempts": [3, 1]}
_CLAIMED = ("attempt", "max_attempts", "kind", "queue", "payload", "traceparent")
_END = {**_TOKEN, "reason": "why", "error": ERROR}


def _one(job: UUID, _: int) -> dict[str, Any]:
    return {"id": job}


def _end(*, final: bool) -> Same:
    delay = timedelta(seconds=DELAY)
    return Same(
        "end_attempt", {**_END, "delay": DELAY, "final": final}, "end_attempt", {**_END, "delay": delay, "final": final},
        ("state", "attempt"), kit_takes=_one,
    )  # fmt: skip


SAME = {
    "claim_by_id": Same(
        "claim_by_id", _CLAIM, "claim_by_ids", {**_KIT_CLAIM, "early": timedelta(seconds=2)}, _CLAIMED
    ),
    "claim_due": Same(
        "claim_due", {**_CLAIM, "slots": 2, "overdue": OVERDUE}, "claim_due",
        {**_KIT_CLAIM, "slots": 2, "overdue": timedelta(0), "excluded": []}, _CLAIMED,
        takes=lambda *_: {}, kit_takes=lambda *_: {},
    ),
    "claim_due, long overdue": Same(
        "claim_due", {**_CLAIM, "slots": 2, "overdue": 60}, "claim_due",
        {**_KIT_CLAIM, "slots": 2, "overdue": timedelta(seconds=60), "excluded": []}, _CLAIMED,
        takes=lambda *_: {}, kit_takes=lambda *_: {},
    ),
    "heartbeat": Same(
        "heartbeat", {**_TOKEN, **_LEASED, "progress": ""}, "heartbeat",
        {**_KIT_TOKENS, **_KIT_LEASED, "progress": [None]}, ("cancelled",),
    ),
    "heartbeat with progress": Same(
        "heartbeat", {**_TOKEN, **_LEASED, "progress": RESULT}, "heartbeat",
        {**_KIT_TOKENS, **_KIT_LEASED, "progress": [RESULT]}, ("cancelled",),
    ),
    "complete": Same(
        "complete", {**_TOKEN, "result": ""}, "complete_attempts", {**_KIT_TOKENS, "results": [None]}
    ),
    "complete with a result": Same(
        "complete", {**_TOKEN, "result": RESULT}, "complete_attempts", {**_KIT_TOKENS, "results": [RESULT]}
    ),
    "end_attempt": _end(final=False),
    "end_attempt, final": _end(final=True),
    "give_back": Same("give_back", _TOKEN, "give_back", _KIT_TOKENS),
    "read_state": Same("read_state", {}, "read_states", {}, ("state", "kind", "attempt", "leased_by")),
    "cancel": Same("cancel", {}, "cancel_job", {}, ("state", "asked"), kit_takes=_one),
    "replay": Same(
        "replay", {"actor": "o'neill", "attempts": 3}, "replay_dead_letter", {"actor": "o'neill", "attempts": 3},
        takes=lambda _, letter: {"letter": letter}, kit_takes=lambda _, letter: {"id": letter},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(postgres_server: Server, migrated_template: Database) -> Iterator[Database]:
    """A migrated database for the module; each test empties it."""
    with postgres_server.temporary(template=migrated_template.name) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def connection(shared: Database) -> Iterator[Connection]:
    """A connection to it, in autocommit."""
    with shared.sync() as made:
        yield made


def prepared(connection: Connection, situation: Situation) -> tuple[UUID, int]:
    """Bring one job into this situation; return it and its dead letter, 0 when there is none."""
    connection.execute("truncate outboxkit.jobs, outboxkit.outbox, outboxkit.dead_letters restart identity")
    job = situation(connection)
    letter = connection.execute("select coalesce(max(id), 0) from outboxkit.dead_letters").fetchone()
    assert letter is not None
    return job, letter[0]


def tables(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """What stands in the tables, ids left out and times as so many units from now."""
    now = connection.execute("select clock_timestamp()").fetchone()
    assert now is not None
    with connection.cursor(row_factory=dict_row) as cursor:
        return {
            table: [
                {name: _plain(value, now[0]) for name, value in row.items() if name not in ("id", "job_id")}
                for row in cursor.execute(f"select * from outboxkit.{table} order by id".encode()).fetchall()  # noqa: S608
            ]
            for table in ("jobs", "outbox", "dead_letters")
        }


def _plain(value: Any, now: datetime) -> Any:
    if isinstance(value, datetime):
        return round((value - now).total_seconds() / UNIT)
    if isinstance(value, list):  # a job's errors: when, does not matter
        return [{key: item for key, item in entry.items() if key != "at"} for entry in value]
    return value


def _text(value: Any) -> str:
    return {None: "", True: "t", False: "f"}[value] if value is None or isinstance(value, bool) else str(value)


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
@pytest.mark.parametrize("same", SAME.values(), ids=SAME)
def test_same_effect(shared: Database, connection: Connection, psql: Path, same: Same, situation: Situation) -> None:
    """The file and the kit's statement, each on a job in the same situation, say the same and leave the same behind."""
    subject = prepared(connection, situation)
    said = statements.run(psql, shared.url, same.name, **same.variables, **same.takes(*subject))
    left = tables(connection)

    subject = prepared(connection, situation)
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(queries.load(same.kits), {**same.parameters, **same.kit_takes(*subject)})
        kits = cursor.fetchall()
    assert tables(connection) == left
    assert [[row[name] for name in same.answer] for row in said] == [
        [_text(row[name]) for name in same.answer] for row in kits
    ]


def test_every_file_is_compared() -> None:
    """No statement of examples/shell/sql is left out, but those that are no statement of a worker's or a person's."""
    others = {"enqueue", "wake", "readiness", "complete_and_commit"}
    assert {path.stem for path in statements.SQL.glob("*.sql")} == {same.name for same in SAME.values()} | others
