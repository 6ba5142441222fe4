"""What a relay did about an answer, as it stands in the tables, held against the action that the document gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from contract.counting import count
from contract.relay.cases import Case
from relaying import Tables

# Failures that a row has had before: its backoff is the longest.
EARLIER = 10
MOST_ATTEMPTS = 100


@dataclass(frozen=True)
class Pace:
    """A relay's backoff, in seconds."""

    base: float
    longest: float

    def environ(self) -> dict[str, str]:
        """For the relay's settings."""
        return {
            "RELAY_BACKOFF_BASE": str(self.base),
            "RELAY_BACKOFF_MAX": str(self.longest),
            "RELAY_MAX_ATTEMPTS": str(MOST_ATTEMPTS),
        }


SLOW = Pace(600, 86400)
"""Nothing that is tried again comes due while a test lasts."""
QUICK = Pace(1, 1)
"""For what has to wait anyhow: little jitter hides how long."""


def pace(case: Case) -> Pace:
    """The backoff that shows most of what the relay did about the answer."""
    return QUICK if case.wait[0] >= 30 else SLOW


@dataclass(frozen=True)
class Seen:
    """What the tables say of one job. `at` is the database's clock, in seconds since 1970, as is `due`."""

    at: float
    job: Any
    row: Any
    letters: list[Any]

    @property
    def attempts(self) -> int:
        """Failures counted against the trigger."""
        return int(self.row[0])

    @property
    def due(self) -> float:
        """When the trigger is due."""
        return float(self.row[1])

    @property
    def error(self) -> str | None:
        """What the trigger's last delivery came to."""
        return None if self.row[2] is None else str(self.row[2])


SEE = """
select extract(epoch from clock_timestamp())::float8,
       (select to_jsonb(j) from outboxkit.jobs j where j.id = wanted.id),
       (select jsonb_agg(jsonb_build_array(attempts, extract(epoch from due_at), last_error))
        from outboxkit.outbox o where o.job_id = wanted.id),
       (select jsonb_agg(jsonb_build_array(stage, reason, attempts, last_status, last_error))
        from outboxkit.dead_letters d where d.job_id = wanted.id)
from unnest(%s::uuid[]) with ordinality as wanted (id, place) order by place
"""


async def see(db: Tables, *jobs: UUID) -> list[Seen]:
    """Look at the jobs' rows, in one statement."""
    found = []
    for at, job, rows, letters in await db.rows(SEE, list(jobs)):
        assert rows is None or len(rows) == 1
        found.append(Seen(at, job, rows[0] if rows else None, [tuple(letter) for letter in letters or []]))
    return found


def hold(case: Case, before: Seen, after: Seen, *, pace: Pace) -> None:
    """Fail unless the relay did what the document says, and nothing else. A refusal is taken to be believed."""
    count(f"relay: answers, reaction {case.action}")
    REACTIONS[case.action](case, before, after, pace)


def _acked(_: Case, before: Seen, after: Seen, __: Pace) -> None:
    assert after.row is None
    assert after.letters == []
    assert after.job == before.job


def _dead(case: Case, before: Seen, after: Seen, _: Pace) -> None:
    assert after.row is None
    [(*letter, error)] = after.letters
    assert letter == ["trigger", case.slug, EARLIER + 1, case.status]
    assert error.startswith(case.says)
    if before.job is None:
        assert after.job is None
        return
    assert after.job["state"] == "failed"
    assert [error["reason"] for error in after.job["errors"]] == [case.slug]
    changed = {name for name in after.job if after.job[name] != before.job[name]}
    assert changed == {"state", "errors", "finished_at"}


def _kept(case: Case, before: Seen, after: Seen, pace: Pace, *, counted: int, at_least: float = 0) -> None:
    assert after.row is not None
    assert after.letters == []
    assert after.job == before.job
    assert after.attempts == EARLIER + counted
    assert after.error
    assert case.says in after.error
    least, most = max(at_least, case.wait[0]), max(at_least, case.wait[1])
    assert before.at + least <= after.due <= after.at + most + pace.longest


def _retried(case: Case, before: Seen, after: Seen, pace: Pace) -> None:
    _kept(case, before, after, pace, counted=1)


def _postponed(case: Case, before: Seen, after: Seen, pace: Pace) -> None:
    _kept(case, before, after, pace, counted=0)


def _blamed_on_the_endpoint(case: Case, before: Seen, after: Seen, pace: Pace) -> None:
    # The next probe is to find another row first.
    _kept(case, before, after, pace, counted=0, at_least=pace.base)
    assert "test-secret" not in (after.error or "")


REACTIONS = {
    "ack": _acked,
    "dead-letter": _dead,
    "retry": _retried,
    "retry-then": _postponed,
    "slow-down": _postponed,
    "endpoint-fault": _blamed_on_the_endpoint,
}
