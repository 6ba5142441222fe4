"""deploy/sql/roles.sql: each role can run its own statements, and is refused the others'."""

import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from databases import Database
from outboxkit import queries
from outboxkit.leases import LEASE_LOST

SCRIPT = Path(__file__).parents[3] / "deploy" / "sql" / "roles.sql"

SWEEPS = {"sweep_expired_leases", "sweep_stranded", "sweep_finished_jobs", "sweep_replayed_letters", "sweep_records"}
PROCESSES = {"record_process", "forget_process", "read_mode", "readiness"}
WORKER = SWEEPS | PROCESSES | {
    "claim_by_ids", "claim_due", "read_states", "complete_attempts", "end_attempt", "give_back", "heartbeat", "lost_leases",
}  # fmt: skip
RELAY = SWEEPS | PROCESSES | {
    "claim_triggers", "ack_triggers", "retry_triggers", "give_back_triggers", "bury_trigger", "next_due", "job_exists",
    "publish_mode", "record_stats", "count_due", "over_age", "hand_over_triggers",
}  # fmt: skip
WEB = {"cancel_job", "read_mode", "readiness"}
OWNER = {"replay_dead_letter"}  # an operator's, until the admin API has it
STATEMENTS = {"web": WEB, "relay": RELAY, "worker": WORKER}

ENQUEUE = b"select outboxkit.enqueue_job('K')"
COMPLETE = "complete_attempt"
REFUSED = {
    "web": {"claim_due", "complete_attempts", "bury_trigger", "publish_mode", "sweep_finished_jobs"},
    "relay": {COMPLETE},
    "worker": {"publish_mode", "record_stats"},
}

_ONE = timedelta(seconds=1)
PARAMETERS: dict[str, Any] = {
    "ids": [], "kinds": [], "max_attempts": [], "attempts": [], "results": [], "progress": [], "claims": [], "delays": [],
    "counted": [], "errors": [], "paused": [], "modes": [], "outcomes": [], "triggers": [], "latencies": [],
    "excluded": [], "only": None, "job_ids": [], "found": [], "waiting": [],
    "early": _ONE, "lease": _ONE, "overdue": _ONE, "longest": _ONE, "after": _ONE, "keep": _ONE, "fresh": _ONE,
    "delay": _ONE, "horizon": _ONE, "ahead": _ONE,
    "slots": 1, "batch": 1, "rescues": 1, "attempt": 1, "final": False, "status": None, "pid": 1, "result": None,
    "worker": uuid4(), "process": uuid4(), "relay": uuid4(), "id": uuid4(), "job_id": uuid4(),
    "mode": "db", "problems": "[]", "details": "{}", "reason": "", "error": "", "role": "", "host": "", "version": "",
    "actor": "",
}  # fmt: skip
NUMBERED = {"bury_trigger": {"id": 1, "claims": 1, "counted": 1}}


@pytest.fixture
def granted(database: Database, psql: Path) -> Iterator[dict[str, str]]:
    """Three fresh roles without any right, then roles.sql run for them."""
    names = {role: f"{role}_{uuid4().hex[:12]}" for role in STATEMENTS}
    with database.sync() as connection:
        for name in names.values():
            connection.execute(sql.SQL("create role {}").format(sql.Identifier(name)))
        variables = [argument for role, name in names.items() for argument in ("-v", f"{role}={name}")]
        subprocess.run([psql, database.url, "-qX", *variables, "-f", SCRIPT], check=True)
        yield names
        for name in names.values():
            connection.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))


def allowed(database: Database, role: str, name: str) -> bool:
    """Whether Postgres lets this role run the statement; what it did is rolled back."""
    statement = ENQUEUE if name == "enqueue" else queries.load(name)
    with database.sync(autocommit=False) as connection:
        connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        try:
            connection.execute(statement, {**PARAMETERS, **NUMBERED.get(name, {})})
        except psycopg.errors.InsufficientPrivilege:
            return False
        except psycopg.Error as error:
            if error.sqlstate != LEASE_LOST:  # then it ran, and found no lease
                raise
        finally:
            connection.rollback()
    return True


def test_each_role_does_its_job(database: Database, granted: dict[str, str]) -> None:
    """Every statement a role's code runs is granted to it."""
    denied = {
        (role, name) for role in STATEMENTS for name in STATEMENTS[role] if not allowed(database, granted[role], name)
    }
    assert denied == set()
    assert allowed(database, granted["worker"], COMPLETE)
    assert {role: allowed(database, name, "enqueue") for role, name in granted.items()} == {
        "web": True, "relay": False, "worker": True,
    }  # fmt: skip


def test_each_role_is_refused_the_rest(database: Database, granted: dict[str, str]) -> None:
    """What is another role's business is refused by Postgres itself."""
    wrongly = {(role, name) for role in REFUSED for name in REFUSED[role] if allowed(database, granted[role], name)}
    assert wrongly == set()


def test_every_statement_belongs_to_somebody() -> None:
    """A new file in queries/ must be granted to the role that runs it, or this test asks whose it is."""
    files = {path.stem for path in Path(queries.__file__).parent.glob("*.sql")}
    assert files == WEB | RELAY | WORKER | OWNER | {COMPLETE, "enqueue_job", "enqueue_jobs"}
